use common::db::{Backend, Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;

on_every_database!(std::convert::identity =>
    one_that_is_opened_is_up_to_date_and_nobody_elses,
    one_that_is_made_empty_is_brought_up_to_date_by_itself,
);

#[derive(QueryableByName)]
struct Epoch {
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

async fn epoch(db: &Db) -> i64 {
    let read = db.read(|conn| {
        let query = sql_query("SELECT epoch FROM service_state");
        Ok::<_, DbError>(on!(conn, c => query.get_result::<Epoch>(c))?.epoch)
    });
    read.await.unwrap()
}

/// Another database of the same kind.
fn another(db: &Db) -> TestDatabase {
    match db.backend() {
        Backend::Sqlite => TestDatabase::sqlite(),
        Backend::Postgres => TestDatabase::postgres().unwrap(),
    }
}

async fn one_that_is_opened_is_up_to_date_and_nobody_elses(database: TestDatabase) {
    let db = database.open(&[ENGINE_MIGRATIONS]);
    assert!(db.pending_migrations(&[ENGINE_MIGRATIONS]).unwrap().is_empty());
    let before = epoch(&db).await;
    let raise = |conn: &mut Conn| {
        conn.batch_execute("UPDATE service_state SET epoch = epoch + 1").map_err(DbError::from)
    };
    db.write(raise).await.unwrap();
    let other = another(&db);
    assert_eq!(epoch(&other.open(&[ENGINE_MIGRATIONS])).await, before);
    assert_eq!(epoch(&database.open(&[ENGINE_MIGRATIONS])).await, before + 1);
}

async fn one_that_is_made_empty_is_brought_up_to_date_by_itself(database: TestDatabase) {
    let db = database.open(&[]);
    let pending = db.pending_migrations(&[ENGINE_MIGRATIONS]).unwrap();
    assert!(!pending.is_empty());
    assert_eq!(db.migrate(&[ENGINE_MIGRATIONS]).unwrap(), pending);
}
