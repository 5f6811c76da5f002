//! A year of changes and orders, and what is asked after it, on every database.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use common::config::Settings;
use common::db::{Conn, DbError};
use common::on;
use diesel::prelude::*;
use engine::kafka::Verdict;
use engine::retention::{Retention, run_own_once};
use serde_json::Value;
use stockloop_tests::on_every_database;

use super::forget;
use crate::inventory::tests::product_fixture::{content, delta};
use crate::orders::tests::stock_fixture::StockFixture;
use crate::schema::{order_deduction, order_record};

on_every_database!(&StockFixture::new =>
    a_year_leaves_what_is_young,
    an_order_that_was_forgotten_is_not_carried_out_again,
    a_product_that_was_forgotten_goes_on_above_its_versions,
);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn settings() -> Settings {
    let mut settings = Settings::load(crate::SERVICE.defaults, None).unwrap();
    settings.retention.adjustments = DAY * 90;
    settings.retention.orders = DAY * 60;
    settings.retention.removed_products = DAY * 40;
    settings
}

impl StockFixture {
    async fn forget(&self, settings: &Settings) {
        let inventory = &self.products.inventory;
        let limits = Retention::of(settings, inventory.env.now());
        while run_own_once(&inventory.db, limits, forget).await.unwrap() > 0 {}
    }

    /// Puts a product in and removes it again; the version that it was put in with.
    async fn come_and_go(&self, sku: &str) -> i64 {
        let put = self.products.put(sku, &[], content(3)).await;
        assert!(put.status.is_success(), "{put:?}");
        assert!(self.products.delete(sku, &[]).await.status.is_success());
        put.body["version"].as_i64().unwrap()
    }

    /// How many orders are known, and how many lines of them.
    async fn known_orders(&self) -> (i64, i64) {
        let count = |conn: &mut Conn| {
            on!(conn, c => Ok::<_, DbError>((
                order_record::table.count().get_result(c)?,
                order_deduction::table.count().get_result(c)?,
            )))
        };
        self.products.inventory.db.read(count).await.unwrap()
    }
}

async fn a_year_leaves_what_is_young(fixture: &StockFixture) {
    let settings = settings();
    fixture.products.stock("A", 10_000).await;
    for day in 0..365 {
        assert!(fixture.products.adjust("A", &[], delta(-1)).await.status.is_success());
        fixture.come_and_go(&format!("D{day}")).await;
        let order = fixture.id();
        assert_eq!(fixture.one(fixture.placed(order, &[("A", 1)])).await.0, Verdict::Success);
        if day % 3 == 0 {
            assert_eq!(fixture.one(fixture.cancelled(order)).await.0, Verdict::Success);
        }
        fixture.products.clock.advance(DAY);
        fixture.forget(&settings).await;
    }
    assert_eq!(fixture.products.adjustments().await.len(), 90);
    assert_eq!(fixture.known_orders().await, (60, 60));
    let rows = fixture.products.rows().await;
    assert_eq!(rows.iter().filter(|row| row.removed).count(), 40);
    let left: Vec<&str> =
        rows.iter().filter(|row| !row.removed).map(|row| row.sku.as_str()).collect();
    assert_eq!(left, ["A"]);
    assert_eq!(fixture.stock("A").await.0, 10_000 - 365 - 365 + 122);
}

async fn an_order_that_was_forgotten_is_not_carried_out_again(fixture: &StockFixture) {
    let settings = settings();
    fixture.products.stock("A", 10).await;
    let old = fixture.id();
    let command = fixture.placed(old, &[("A", 3)]);
    assert_eq!(fixture.one(command).await.0, Verdict::Success);
    fixture.products.clock.advance(DAY * 59);
    let young = fixture.id();
    assert_eq!(fixture.one(fixture.placed(young, &[("A", 2)])).await.0, Verdict::Success);
    fixture.forget(&settings).await;
    assert_eq!(fixture.known_orders().await, (2, 2));
    fixture.products.clock.advance(DAY * 2);
    fixture.forget(&settings).await;
    assert_eq!(fixture.known_orders().await, (1, 1));
    // Whatever comes of it again finds neither its row nor, by now, its id in the inbox.
    for late in [fixture.placed(old, &[("A", 3)]), fixture.cancelled(old)] {
        let (verdict, error, result) = fixture.one(late).await;
        assert_eq!((verdict, result), (Verdict::Failed, Value::Null));
        assert!(error.contains("retention.orders"), "{error}");
    }
    // A longer retention from now on does not bring back what is gone.
    let mut longer = settings.clone();
    longer.retention.orders = DAY * 600;
    fixture.forget(&longer).await;
    assert_eq!(fixture.one(fixture.placed(old, &[("A", 3)])).await.0, Verdict::Failed);
    let again = fixture.one(fixture.placed(young, &[("A", 2)])).await;
    assert_eq!((again.0, &*again.1), (Verdict::Success, "duplicate"));
    assert_eq!(fixture.stock("A").await.0, 5);
}

async fn a_product_that_was_forgotten_goes_on_above_its_versions(fixture: &StockFixture) {
    let settings = settings();
    fixture.products.stock("TEA", 1).await;
    for quantity in 2..=6 {
        fixture.products.put("TEA", &[], content(quantity)).await;
    }
    assert!(fixture.products.delete("TEA", &[]).await.status.is_success());
    fixture.products.clock.advance(DAY * 39);
    assert_eq!(fixture.come_and_go("MUG").await, 1);
    fixture.forget(&settings).await;
    assert_eq!(fixture.products.rows().await.len(), 2, "both are tombstones still");
    fixture.products.clock.advance(DAY * 2);
    fixture.forget(&settings).await;
    assert_eq!(fixture.products.rows().await.len(), 1);
    fixture.products.stock("TEA", 1).await;
    assert_eq!(fixture.stock("TEA").await, (1, 8), "its tombstone had version 7");
    // One that has its tombstone still goes on from that.
    assert_eq!(fixture.come_and_go("MUG").await, 3);
}
