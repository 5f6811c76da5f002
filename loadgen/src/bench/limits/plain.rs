//! What PostgreSQL does with a transaction per adjustment on plain connections, and no service.
//!
//! As pgbench would run them: each client is a thread with a connection of its own and statements that are prepared
//! once. It is what a service would do that groups nothing: the measured one lets adjustments that arrive together share
//! a transaction, so it may do more than this. Rows are those of a service, in a database of their own, so that no relay
//! reads what is written here.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use common::env::Env;
use common::event::NewEvent;
use common::inventory::{Cause, CauseKind};
use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, SmallInt, Text, Uuid as SqlUuid};
use engine::outbox::shard_of;
use product_service::inventory::{Product, event};

use super::AS_A_SERVICE;
use crate::bench::load::{
    ATTEMPTS, Change, Changes, DESCRIPTION, Figures, Load, OPENING, PRICE_MINOR, REASON, REFERENCE,
    sku,
};
use crate::place::Scratch;
use crate::statement::Statement;

// What product-service sends for one adjustment that came alone, in this order; BEGIN and COMMIT are around it. A row is
// given as values where the service has arrays.
const LOCK_PRODUCT: &str = "
    SELECT sku, description, quantity, unit_price_minor, allow_backorder, removed, version, updated_us
    FROM product WHERE sku = {} FOR UPDATE";
const UPDATE_PRODUCT: &str = "
    UPDATE product SET quantity = {}, version = {}, updated_us = {} WHERE sku = {}";
const INSERT_ADJUSTMENT: &str = "
    INSERT INTO adjustment (sku, delta, quantity, version, reason, reference, at_us)
    VALUES ({}, {}, {}, {}, {}, {}, {})";
const APPEND_EVENT: &str = "
    WITH event AS (
        INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, traceparent, created_us)
        VALUES ({}, {}, {}, {}, (SELECT epoch FROM service_state), {}, {}, {}, {}))
    INSERT INTO outbox_pending (id, shard, attempt_limit, due_us, size)
    VALUES ({}, {}, {}, {}, {})";

/// The columns of [`LOCK_PRODUCT`].
type ProductSql = (Text, Text, BigInt, BigInt, Bool, Bool, BigInt, BigInt);

/// As long as the one of every event is.
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A database with a service's tables, and products.
pub(in crate::bench) struct Limit {
    url: String,
    env: Env,
}

impl Limit {
    /// On a database that has the tables and no rows yet.
    pub(in crate::bench) fn on(database: &Scratch<'_>, products: u32) -> Result<Self> {
        let limit = Self { url: database.url(), env: Env::system() };
        let now = limit.env.now().micros();
        limit.connect()?.batch_execute(&format!(
            "INSERT INTO product (sku, description, quantity, unit_price_minor, allow_backorder, removed, version, updated_us) \
             SELECT 'BENCH-' || lpad(n::text, 7, '0'), '{DESCRIPTION}', {OPENING}, {PRICE_MINOR}, true, false, 1, {now} \
             FROM generate_series(0, {products} - 1) AS n"
        ))?;
        Ok(limit)
    }

    /// Lets all clients of `load` adjust stock.
    pub(in crate::bench) fn measure(&self, load: &Load) -> Result<Figures> {
        let clients = load.by_client().map(|changes| self.client(changes));
        let clients: Vec<PlainClient> = clients.collect::<Result<_>>()?;
        let (began, time) = (Instant::now(), load.time);
        let work = |client: PlainClient| thread::spawn(move || client.adjust_for(began, time));
        let working: Vec<JoinHandle<Result<Vec<f64>>>> = clients.into_iter().map(work).collect();
        let mut latencies = Vec::new();
        for thread in working {
            let ended = thread.join().map_err(|_| anyhow!("a client of the limit broke off"))?;
            latencies.extend(ended.context("the statements of an adjustment failed")?);
        }
        Figures::of(latencies, began.elapsed())
    }

    /// A client that has its statements prepared.
    fn client(&self, changes: Changes) -> Result<PlainClient> {
        let mut client = PlainClient { conn: self.connect()?, env: self.env.clone(), changes };
        client.adjust()?;
        Ok(client)
    }

    fn connect(&self) -> Result<PgConnection> {
        let mut conn = PgConnection::establish(&self.url)?;
        conn.batch_execute(AS_A_SERVICE)?;
        Ok(conn)
    }
}

/// A client without a service.
struct PlainClient {
    conn: PgConnection,
    env: Env,
    changes: Changes,
}

impl PlainClient {
    /// Adjusts stock until `time` after `began`; returns how long each adjustment took, in ms.
    fn adjust_for(mut self, began: Instant, time: Duration) -> Result<Vec<f64>> {
        let mut latencies = Vec::new();
        while began.elapsed() < time {
            let asked = Instant::now();
            self.adjust()?;
            latencies.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        Ok(latencies)
    }

    fn adjust(&mut self) -> Result<()> {
        let Self { conn, env, changes } = self;
        let Change { product, delta } = changes.draw();
        let sku = sku(product);
        conn.transaction(|conn| -> Result<()> {
            let before = lock_product(conn, &sku)?;
            let product = Product {
                quantity: before.quantity + delta,
                version: before.version + 1,
                updated_us: env.now().max(before.updated_us),
                ..before
            };
            update_product(conn, &product)?;
            insert_adjustment(conn, &product, delta)?;
            append_event(conn, env, &product)
        })
    }
}

fn lock_product(conn: &mut PgConnection, sku: &str) -> QueryResult<Product> {
    Statement::<Pg, ProductSql>::new(LOCK_PRODUCT).bind::<Text, _>(sku).get_result(conn)
}

fn update_product(conn: &mut PgConnection, product: &Product) -> QueryResult<usize> {
    Statement::<Pg>::new(UPDATE_PRODUCT)
        .bind::<BigInt, _>(product.quantity)
        .bind::<BigInt, _>(product.version)
        .bind::<BigInt, _>(product.updated_us)
        .bind::<Text, _>(product.sku.as_str())
        .execute(conn)
}

fn insert_adjustment(conn: &mut PgConnection, product: &Product, delta: i64) -> QueryResult<usize> {
    Statement::<Pg>::new(INSERT_ADJUSTMENT)
        .bind::<Text, _>(product.sku.as_str())
        .bind::<BigInt, _>(delta)
        .bind::<BigInt, _>(product.quantity)
        .bind::<BigInt, _>(product.version)
        .bind::<Text, _>(REASON)
        .bind::<Text, _>(REFERENCE)
        .bind::<BigInt, _>(product.updated_us)
        .execute(conn)
}

fn append_event(conn: &mut PgConnection, env: &Env, product: &Product) -> Result<()> {
    let cause = Cause {
        kind: CauseKind::Adjustment,
        reason: Some(REASON.to_owned()),
        reference: Some(REFERENCE.to_owned()),
    };
    let NewEvent { event_type, key, version, payload, .. } = event(product, cause, None)?;
    let (id, now, size) = (env.event_id().uuid(), env.now(), i32::try_from(payload.len())?);
    Statement::<Pg>::new(APPEND_EVENT)
        .bind::<SqlUuid, _>(id)
        .bind::<SmallInt, _>(event_type.kind.code())
        .bind::<Text, _>(event_type.name)
        .bind::<Text, _>(key.as_str())
        .bind::<BigInt, _>(version)
        .bind::<Text, _>(payload)
        .bind::<Text, _>(TRACEPARENT)
        .bind::<BigInt, _>(now)
        .bind::<SqlUuid, _>(id)
        .bind::<SmallInt, _>(shard_of(&key))
        .bind::<Integer, _>(ATTEMPTS)
        .bind::<BigInt, _>(now)
        .bind::<Integer, _>(size)
        .execute(conn)?;
    Ok(())
}
