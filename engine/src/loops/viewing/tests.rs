//! What an earlier setting has left.
#![allow(clippy::unwrap_used, reason = "tests")]

use common::config::Settings;
use common::db::{DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;
use tokio_util::sync::CancellationToken;

use crate::alerts::{AlertKind, NewAlert, is_open, raise};
use crate::worker::Tasks;
use crate::{Engine, Hooks};

const DEFAULTS: &str = include_str!("../../../../order-service/order-service.toml");

on_every_database!(std::convert::identity =>
    an_alert_is_closed_where_nobody_is_answered_any_more,
);

async fn an_alert_is_closed_where_nobody_is_answered_any_more(database: TestDatabase) {
    let db = database.open(&[ENGINE_MIGRATIONS]);
    let settings = Settings::load(DEFAULTS, None).unwrap();
    let (url, hooks) = ("http://127.0.0.1:8082", |_: &_| Hooks::sends_only());
    let (engine, loops) = Engine::with_database(db, settings, Env::system(), url, hooks).unwrap();
    let alert = NewAlert::not_answered("order-service", "purchases", "acks", "it may not");
    let now = engine.env.now();
    let raised = engine.db.write::<_, DbError>(move |conn| Ok(raise(conn, now, alert)?));
    assert!(raised.await.unwrap());

    let stop = CancellationToken::new();
    let tasks = Tasks::new(engine.log_span(), engine.loops.clone(), stop.clone());
    loops.start_viewing(&stop, &tasks).unwrap();
    tasks.close();
    tasks.wait().await;
    let kind = AlertKind::NotAnswered;
    let is_open = engine.db.read::<_, DbError>(move |conn| Ok(is_open(conn, kind, None)?));
    assert!(!is_open.await.unwrap());
}
