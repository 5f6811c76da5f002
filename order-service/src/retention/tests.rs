//! A year of orders and products, and what comes late after it, on every database.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use common::config::Settings;
use common::db::{Conn, DbError};
use common::event::Event;
use common::ids::EventId;
use common::on;
use diesel::prelude::*;
use engine::batch::BatchError;
use engine::inbox::{Handler, HandlerOutcome};
use engine::kafka::Verdict;
use engine::retention::{Retention, run_once, run_own_once};
use serde_json::{Value, json};
use stockloop_tests::on_every_database;

use super::forget;
use crate::inventory::InventoryHandler;
use crate::orders::tests::orders_fixture::{OrdersFixture, deducted, refused};
use crate::schema::{order_line, order_step, orders, product_copy, reservation};

on_every_database!(&OrdersFixture::new =>
    a_year_leaves_what_is_young_and_what_is_under_way,
    an_older_state_does_not_bring_a_forgotten_product_back,
);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn settings() -> Settings {
    let mut settings = Settings::load(crate::SERVICE.defaults, None).unwrap();
    settings.retention.orders = DAY * 60;
    settings.retention.removed_products = DAY * 40;
    settings
}

/// The same product as `event` leaves it, removed one version later.
fn removed(event: &Event, id: EventId) -> Event {
    let mut data: Value = serde_json::from_slice(&event.data).unwrap();
    let version = data["version"].as_i64().unwrap();
    (data["removed"], data["version"]) = (json!(true), json!(version + 1));
    Event {
        id,
        event_type: "stockloop.inventory.removed".to_owned(),
        data: serde_json::to_vec(&data).unwrap(),
        ..event.clone()
    }
}

impl OrdersFixture {
    async fn forget(&self, settings: &Settings) {
        let limits = Retention::of(settings, self.orders.env.now());
        while run_once(&self.orders.db, limits).await.unwrap() > 0 {}
        while run_own_once(&self.orders.db, limits, forget).await.unwrap() > 0 {}
    }

    /// How many orders, lines, copies and reservations there are.
    async fn rows(&self) -> [i64; 4] {
        let count = |conn: &mut Conn| {
            on!(conn, c => Ok::<_, DbError>([
                orders::table.count().get_result(c)?,
                order_line::table.count().get_result(c)?,
                product_copy::table.count().get_result(c)?,
                reservation::table.count().get_result(c)?,
            ]))
        };
        self.orders.db.read(count).await.unwrap()
    }

    /// What the handler makes of one event.
    async fn outcome(&self, event: Event) -> HandlerOutcome {
        let now = self.orders.env.now();
        let apply = move |conn: &mut Conn| InventoryHandler.apply(conn, now, &[event]);
        self.write::<_, BatchError>(apply).await.remove(0)
    }

    /// An order of one piece that is confirmed; `version` is the product's after it.
    async fn confirmed(&self, version: i64) {
        let id = self.placed(&[("A", 1)]).await;
        let command = self.commands().await.pop().unwrap();
        self.answer(&command, Verdict::Success, deducted(&[("A", version)])).await;
        self.arrive(vec![self.state("A", version, 10_000 - version, Some(&id))]).await;
        assert_eq!(self.status(&id).await, "CONFIRMED");
    }
}

async fn a_year_leaves_what_is_young_and_what_is_under_way(fixture: &OrdersFixture) {
    let settings = settings();
    fixture.stock("A", 10_000).await;
    let open = fixture.placed(&[("A", 1)]).await;
    let refusal = fixture.placed(&[("A", 2)]).await;
    let command = fixture.commands().await.pop().unwrap();
    fixture.answer(&command, Verdict::Rejected, refused("A")).await;
    let mut version = 1;
    for day in 0..365 {
        version += 1;
        fixture.confirmed(version).await;
        let came = fixture.state(&format!("D{day}"), 1, 5, None);
        let went = removed(&came, fixture.orders.env.event_id());
        fixture.arrive(vec![came]).await;
        fixture.arrive(vec![went]).await;
        fixture.clock.advance(DAY);
        fixture.forget(&settings).await;
    }
    assert_eq!(fixture.rows().await, [60 + 1, 60 + 1, 40 + 1, 1]);
    assert_eq!(fixture.status(&open).await, "PENDING");
    assert_eq!(fixture.get(&format!("/orders/{refusal}")).await.status, 404);
    let steps: i64 = fixture
        .write(|conn| {
            on!(conn, c => order_step::table.count().get_result(c)).map_err(DbError::from)
        })
        .await;
    assert_eq!(steps, 60 * 2 + 1);
    assert_eq!(fixture.copy("A").await, (10_000 - version, 1, 10_000 - version - 1));
}

async fn an_older_state_does_not_bring_a_forgotten_product_back(fixture: &OrdersFixture) {
    let settings = settings();
    let came = fixture.state("TEA", 1, 5, None);
    let late = fixture.state("TEA", 2, 4, None);
    let went = removed(&late, fixture.orders.env.event_id());
    fixture.arrive(vec![came, went.clone()]).await;
    fixture.stock("MUG", 3).await;
    let older = fixture.state("MUG", 1, 3, None);
    fixture.clock.advance(DAY * 39);
    fixture.forget(&settings).await;
    assert_eq!(fixture.rows().await[2], 2, "the tombstone is young");
    fixture.clock.advance(DAY * 2);
    fixture.forget(&settings).await;
    assert_eq!(fixture.rows().await[2], 1);
    match fixture.outcome(late).await {
        HandlerOutcome::Failed { error, retryable: false } => {
            assert!(error.contains("retention.removed_products"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.rows().await[2], 1);
    // What is there is as ever, also for an event of that age.
    assert!(matches!(fixture.outcome(older).await, HandlerOutcome::Success { .. }));
    // The removal itself may come again, and what is put in from now on arrives.
    assert!(matches!(fixture.outcome(went).await, HandlerOutcome::Success { .. }));
    let again = fixture.state("TEA", 4, 7, None);
    assert!(matches!(fixture.outcome(again).await, HandlerOutcome::Success { .. }));
    assert_eq!(fixture.copy("TEA").await, (7, 0, 7));
}
