//! Instances on one PostgreSQL: what one of them commits, the others hear.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use common::config::Settings;
use common::db::{Db, ENGINE_MIGRATIONS};
use common::env::Env;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use stockloop_tests::database::{self, TestDatabase};
use stockloop_tests::poll::eventually;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::CHANNEL;
use crate::outbox::{release, renew};
use crate::worker::Tasks;
use crate::{Engine, Hooks};

/// Long enough for a busy machine; nothing here has a sweep that would hide that nobody was told.
const DEADLINE: Duration = Duration::from_secs(30);

const DEFAULTS: &str = include_str!("../../../../product-service/product-service.toml");

/// An instance of which only this runs: it tells the others, and its test hears what it hears.
struct TestInstance {
    engine: Engine,
    name: &'static str,
    stop: CancellationToken,
    tasks: Tasks,
}

impl TestInstance {
    fn new(db: &Db, name: &'static str) -> Self {
        let settings = Settings::load(DEFAULTS, None).unwrap();
        let (url, hooks) = ("http://127.0.0.1:8081", |_: &_| Hooks::sends_only());
        let (engine, _loops) =
            Engine::with_database(db.clone(), settings, Env::system(), url, hooks).unwrap();
        engine.outbox.neighbours().set_others(true);
        let stop = CancellationToken::new();
        let tasks = Tasks::new(engine.log_span(), engine.loops.clone(), stop.clone());
        Self { engine, name, stop, tasks }
    }

    fn tells(&self) {
        self.tasks.spawn(self.engine.clone().tell_loop(self.name.to_owned(), self.stop.clone()));
    }

    /// What it hears, once it listens.
    async fn hears(&self) -> mpsc::UnboundedReceiver<()> {
        let (heard, mut hears) = mpsc::unbounded_channel();
        let told = move || _ = heard.send(());
        let name = self.name.to_owned();
        self.tasks.spawn(self.engine.clone().hear_loop(name, self.stop.clone(), told));
        // It looks once when it listens.
        next(&mut hears).await;
        hears
    }

    async fn is_woken(&self) {
        let woken = self.engine.outbox.notify().notified();
        tokio::time::timeout(DEADLINE, woken).await.expect("its relay is woken");
    }

    async fn ends(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(DEADLINE, self.tasks.wait()).await.expect("it ends");
    }
}

async fn next(hears: &mut mpsc::UnboundedReceiver<()>) {
    tokio::time::timeout(DEADLINE, hears.recv()).await.expect("it hears").expect("it lives")
}

/// A PostgreSQL database, if there is one.
fn database() -> Option<Db> {
    Some(TestDatabase::postgres()?.open(&[ENGINE_MIGRATIONS]))
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// A number about the connections that listen.
async fn listening(db: &Db, what: &str) -> i64 {
    let sql = format!(
        "SELECT {what} AS n FROM pg_stat_activity \
         WHERE datname = current_database() AND query = 'LISTEN {CHANNEL}'"
    );
    let count = db.read(move |conn| {
        let row: Count = on!(conn, c => sql_query(sql).get_result(c))?;
        Ok::<_, common::db::DbError>(row.n)
    });
    count.await.unwrap()
}

#[actix_web::test]
async fn a_commit_wakes_the_relay_of_another_instance() {
    let Some(db) = database() else { return };
    let [one, two] = ["one", "two"].map(|name| TestInstance::new(&db, name));
    for instance in [&one, &two] {
        instance.engine.start_neighbours(instance.name, &instance.stop, &instance.tasks);
        // It looks once when it listens.
        instance.is_woken().await;
    }
    one.engine.outbox.wake();
    one.is_woken().await;
    two.is_woken().await;
    two.engine.outbox.neighbours().tell();
    one.is_woken().await;
    one.ends().await;
    two.ends().await;
}

#[actix_web::test]
async fn an_instance_hears_the_others_and_not_itself() {
    let Some(db) = database() else { return };
    let [one, two] = ["one", "two"].map(|name| TestInstance::new(&db, name));
    one.tells();
    two.tells();
    let (mut one_hears, mut two_hears) = (one.hears().await, two.hears().await);
    one.engine.outbox.neighbours().tell();
    next(&mut two_hears).await;
    two.engine.outbox.neighbours().tell();
    next(&mut one_hears).await;
    // Its own word came before that one.
    assert!(one_hears.try_recv().is_err());
    one.ends().await;
    two.ends().await;
}

#[actix_web::test]
async fn an_instance_that_is_alone_tells_nothing_and_holds_no_connection() {
    let Some(db) = database() else { return };
    let [one, two] = ["one", "two"].map(|name| TestInstance::new(&db, name));
    one.tells();
    let mut hears = two.hears().await;
    let neighbours = one.engine.outbox.neighbours();
    neighbours.set_others(false);
    neighbours.tell();
    neighbours.set_others(true);
    neighbours.tell();
    next(&mut hears).await;
    assert!(hears.try_recv().is_err(), "one word only");
    assert_eq!(listening(&db, "count(*)").await, 1);
    two.engine.outbox.neighbours().set_others(false);
    eventually("no connection that listens", DEADLINE, async || {
        let count = listening(&db, "count(*)").await;
        if count == 0 { Ok(()) } else { Err(count) }
    })
    .await;
    two.engine.outbox.neighbours().set_others(true);
    // It listens again.
    next(&mut hears).await;
    one.ends().await;
    two.ends().await;
}

#[actix_web::test]
async fn a_broken_connection_is_made_anew() {
    let Some(db) = database() else { return };
    let [one, two] = ["one", "two"].map(|name| TestInstance::new(&db, name));
    one.tells();
    let mut hears = two.hears().await;
    assert_eq!(listening(&db, "sum(pg_terminate_backend(pid)::int)::bigint").await, 1);
    // Something may have been missed.
    next(&mut hears).await;
    one.engine.outbox.neighbours().tell();
    next(&mut hears).await;
    one.ends().await;
    two.ends().await;
}

#[actix_web::test]
async fn the_switch_keeps_it_from_listening() {
    let Some(db) = database() else { return };
    let one = TestInstance::new(&db, "one");
    assert!(one.engine.can_listen());
    let off = Settings { outbox: off(), ..(*one.engine.settings).clone() };
    assert!(!Engine { settings: off.into(), ..one.engine.clone() }.can_listen());
    let file = TestDatabase::sqlite();
    let embedded = Engine { db: database::open(&file.url()), ..one.engine.clone() };
    assert!(!embedded.can_listen());
}

fn off() -> common::config::OutboxSettings {
    common::config::OutboxSettings {
        notify: false,
        ..Settings::load(DEFAULTS, None).unwrap().outbox
    }
}

#[actix_web::test]
async fn leases_tell_who_lives() {
    let Some(db) = database() else { return };
    let lease = Duration::from_secs(60);
    assert!(!renew(&db, "one", lease).await.unwrap().others);
    assert!(renew(&db, "two", lease).await.unwrap().others);
    assert!(renew(&db, "one", lease).await.unwrap().others);
    release(&db, "two").await.unwrap();
    assert!(!renew(&db, "one", lease).await.unwrap().others);
}
