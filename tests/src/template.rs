//! Databases that are brought up to date once per test process, for tests to begin with copies of.
//!
//! To bring one up to date takes longer than most tests do, and what comes of it is the same each time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fs, ptr};

use common::db::{Db, EmbeddedMigrations, MigrationSet};
use diesel::sql_types::Text;
use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};

use crate::postgres::PostgresServer;
use crate::{database, scratch};

/// What was made, by where the migrations in it lie: a file has others than a server's database.
static TEMPLATES: Mutex<BTreeMap<Vec<usize>, String>> = Mutex::new(BTreeMap::new());

/// Makes the file `path`, which is not there yet, with the schema of `sets`.
pub(crate) fn copy_file(sets: &[MigrationSet], path: &Path) {
    let template = kept(sets.iter().map(|set| set.sqlite), || {
        let folder = scratch::folder("template").expect("there is a scratch folder");
        let [source, whole] = ["source.db", "template.db"]
            .map(|name| folder.join(name).to_string_lossy().into_owned());
        // Stays open: who closes a file last locks it for a moment.
        let _db = migrated(&format!("sqlite:{source}"), sets);
        let mut conn = SqliteConnection::establish(&source).expect("a template can be opened");
        // One file, whatever lies in the log beside the other one.
        sql_query("VACUUM INTO ?")
            .bind::<Text, _>(whole.as_str())
            .execute(&mut conn)
            .expect("a template can be written");
        whole
    });
    fs::copy(template, path).expect("a template can be copied");
}

/// Makes a database of the shared `server` with the schema of `sets`, and returns its URL.
pub(crate) fn copy_on(server: &PostgresServer, sets: &[MigrationSet]) -> String {
    let template = kept(sets.iter().map(|set| set.postgres), || {
        let url = server.database("template");
        // Closed again: a server copies nothing that somebody is connected to.
        drop(migrated(&url, sets));
        let (_, name) = url.rsplit_once('/').expect("a URL names its database");
        name.to_owned()
    });
    server.database_with("test", &format!("TEMPLATE \"{template}\""))
}

/// The template with `migrations`; whoever asks for it first makes it, and others wait meanwhile.
fn kept(
    migrations: impl Iterator<Item = &'static EmbeddedMigrations>,
    make: impl FnOnce() -> String,
) -> String {
    let key = migrations.map(|set| ptr::from_ref(set).addr()).collect();
    let mut templates = TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
    templates.entry(key).or_insert_with(make).clone()
}

fn migrated(url: &str, sets: &[MigrationSet]) -> Db {
    let db = database::open(url);
    db.migrate(sets).expect("a test's database can be migrated");
    db
}
