//! Makes backlogs: changes as product-service makes them, by its own functions, with nobody who sends their events.

use anyhow::{Context, Result, ensure};
use common::db::Conn;
use common::env::Env;
use common::telemetry::Spans;
use engine::outbox::Outbox;
use indicatif::ProgressBar;
use product_service::inventory::{
    AdjustmentLines, BatchMode, ChangeError, ProductLines, WriteContext, adjust_batch, put_batch,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::changes::{Change, Changes, REASON, REFERENCE, product, sku};
use crate::backlog::tidy;
use crate::bench::options::Options;
use crate::bench::parts::Server;
use crate::place::Scratch;
use crate::progress::progress_bar;

/// Changes of one transaction: as many as a request may have.
const BATCH: usize = 1_000;

/// Of an event, as a service has them.
pub(in crate::bench) const ATTEMPTS: i32 = 5;

/// What appends events to a service's database.
pub(in crate::bench) struct Pile {
    env: Env,
    outbox: Outbox,
    changes: Changes,
}

impl Pile {
    /// One that adjusts by `changes`.
    pub(in crate::bench) fn new(changes: Changes) -> Self {
        let env = Env::system();
        let outbox = Outbox::new(env.clone(), ATTEMPTS, Spans::off(env.clone()));
        Self { env, outbox, changes }
    }

    /// Puts the first `products` in: an event for each.
    pub(in crate::bench) fn put(
        &self,
        conn: &mut Conn,
        products: u32,
        bar: &ProgressBar,
    ) -> Result<()> {
        let lines: Vec<Value> = (0..products).map(product).collect();
        for chunk in lines.chunks(BATCH) {
            let (lines, context) = (lines_of::<ProductLines>(chunk)?, self.context());
            let outcomes = conn
                .transaction(|conn| put_batch(conn, &context, &BatchMode::Replace, lines, false))?;
            let accepted = outcomes.iter().all(|(_, outcome)| outcome.is_ok());
            ensure!(accepted, "a product was refused: {outcomes:?}");
            bar.inc(chunk.len() as u64);
        }
        Ok(())
    }

    /// Adjusts products that are there: `events` times, an event for each.
    pub(in crate::bench) fn adjust(
        &mut self,
        conn: &mut Conn,
        events: usize,
        bar: &ProgressBar,
    ) -> Result<()> {
        let mut left = events;
        while left > 0 {
            let count = left.min(BATCH);
            let lines: Vec<Value> = (0..count).map(|_| adjustment(self.changes.draw())).collect();
            let (lines, context) = (lines_of::<AdjustmentLines>(&lines)?, self.context());
            let outcomes = conn.transaction(|conn| -> Result<_, ChangeError> {
                adjust_batch(conn, &context, lines)
            })?;
            let accepted = outcomes.iter().all(|(_, outcome)| outcome.is_ok());
            ensure!(accepted, "an adjustment was refused: {outcomes:?}");
            bar.inc(count as u64);
            left -= count;
        }
        Ok(())
    }

    fn context(&self) -> WriteContext {
        WriteContext { outbox: self.outbox.clone(), now: self.env.now(), traceparent: None }
    }
}

/// A database with so many PENDING events, to be copied.
pub(in crate::bench) fn make_backlog<'a>(
    server: &'a Server,
    options: &Options,
    events: usize,
) -> Result<Scratch<'a>> {
    let backlog = server.of_backlog.make_with(product_service::SERVICE.migrations)?;
    put_backlog(&mut backlog.connect()?, options, events)?;
    Ok(backlog)
}

/// Puts so many PENDING events into a database that has none.
pub(in crate::bench) fn put_backlog(
    conn: &mut Conn,
    options: &Options,
    events: usize,
) -> Result<()> {
    let Options { products, seed, .. } = *options;
    let products = products.min(u32::try_from(events)?);
    let mut pile = Pile::new(Changes::of(products, seed));
    let bar = progress_bar(format!("making a backlog of {events} events"), events);
    pile.put(conn, products, &bar)?;
    pile.adjust(conn, events - products as usize, &bar)?;
    // As it is where a backlog is older than a minute.
    tidy(conn)?;
    bar.finish_and_clear();
    Ok(())
}

/// The lines of a batch, read as those of a request are.
fn lines_of<T: DeserializeOwned>(lines: &[Value]) -> Result<T> {
    serde_json::from_value(Value::Array(lines.to_vec())).context("a line is not understood")
}

fn adjustment(Change { product, delta }: Change) -> Value {
    json!({ "sku": sku(product), "delta": delta, "reason": REASON, "reference": REFERENCE })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::on;
    use common::schema::{outbox_event, outbox_pending};
    use diesel::prelude::*;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;

    use super::*;

    on_every_database!(std::convert::identity => each_change_is_a_version_and_a_pending_event);

    async fn each_change_is_a_version_and_a_pending_event(database: TestDatabase) {
        let db = database.open(product_service::SERVICE.migrations);
        let mut pile = Pile::new(Changes::of(3, 1));
        let (events, pending, newest): (i64, i64, Option<i64>) = db
            .write::<_, common::db::DbError>(move |conn| {
                let bar = ProgressBar::hidden();
                pile.put(conn, 3, &bar).unwrap();
                pile.adjust(conn, 1_002, &bar).unwrap();
                assert_eq!(bar.position(), 1_005);
                Ok(on!(conn, c => (
                    outbox_event::table.count().get_result(c)?,
                    outbox_pending::table.count().get_result(c)?,
                    outbox_event::table
                        .select(diesel::dsl::max(outbox_event::version))
                        .first(c)?,
                )))
            })
            .await
            .unwrap();
        assert_eq!((events, pending), (1_005, 1_005));
        // Three products share 1,002 changes after their first versions.
        assert!(newest.is_some_and(|version| version > 1_002 / 3), "{newest:?}");
    }
}
