//! What this service owns, for whoever compares a copy with it, and how its states are sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventRow, NewEvent};
use common::inventory::{COLLECTION, Cause, CauseKind, FIELDS, Sku};
use common::on;
use diesel::prelude::*;
use engine::outbox::kept_version_at;
use engine::resync::{Resend, ResendKey, Resent, ResyncKind, Walked, Which};
use engine::verify::{Keys, Owner, Replica, Row, Select, Value};

use super::history::SINCE;
use super::{PastState, Product, events, model};
use crate::retention;
use crate::schema::product;

/// The inventory, as its copies are verified against it.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnedInventory;

/// No counting leads to a greater version: one that a copy has was written there by hand.
const GREATEST: i64 = i64::MAX / 2;

/// Rows that one look for keys walks over.
const WALKED: i64 = 5_000;

/// As it is stored: what somebody wrote by hand need not be a SKU.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = product)]
struct StoredProduct {
    sku: String,
    description: String,
    quantity: i64,
    unit_price_minor: i64,
    allow_backorder: bool,
    removed: bool,
    version: i64,
    updated_us: Timestamp,
}

impl Replica for OwnedInventory {
    fn collection(&self) -> &'static str {
        COLLECTION
    }

    fn fields(&self) -> &'static [&'static str] {
        &FIELDS
    }

    fn rows(&self, conn: &mut Conn, select: &Select<'_>) -> QueryResult<Vec<Row>> {
        let rows = stored(conn, select)?;
        rows.into_iter().map(|row| row.read(select.fields)).collect()
    }

    fn forgotten_since(&self, _conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
        // What goes here is noted by its version; see `forgotten_version`.
        Ok(None)
    }
}

impl Owner for OwnedInventory {
    fn key_after(&self, conn: &mut Conn, after: &str, skip: i64) -> QueryResult<Option<String>> {
        let key = product::table
            .filter(product::sku.gt(after))
            .order(product::sku)
            .offset(skip)
            .limit(1)
            .select(product::sku);
        on!(conn, c => key.first(c).optional())
    }

    fn forgotten_version(&self, conn: &mut Conn) -> QueryResult<i64> {
        Ok(retention::first_version(conn)? - 1)
    }

    fn again(&self, kept: &EventRow, reason: Option<&str>) -> QueryResult<NewEvent> {
        let product = PastState::of(kept.clone())?.product;
        let cause = Cause {
            kind: CauseKind::Replay,
            reason: reason.map(str::to_owned),
            reference: Some(kept.id.to_string()),
        };
        events::event(&product, cause, None)
    }

    fn kept_before(
        &self,
        conn: &mut Conn,
        key: &str,
        moment: Timestamp,
    ) -> QueryResult<Option<i64>> {
        kept_version_at(conn, key, moment.before(Duration::from_micros(1)), SINCE)
    }

    fn next_keys(
        &self,
        conn: &mut Conn,
        after: &str,
        which: &Which,
        limit: i64,
    ) -> QueryResult<Walked> {
        let prefix = which.prefix.as_deref().unwrap_or_default();
        let rows = product::table
            .filter(product::sku.gt(after).and(product::sku.ge(prefix)))
            .order(product::sku)
            .limit(WALKED)
            .select((product::sku, product::updated_us));
        let rows: Vec<(String, Timestamp)> = on!(conn, c => rows.load(c))?;
        let is_last = i64::try_from(rows.len()).unwrap_or(i64::MAX) < WALKED;
        let mut walked =
            Walked { cursor: rows.last().map(|(sku, _)| sku.clone()), ..Walked::default() };
        for (sku, updated) in rows {
            if !sku.starts_with(prefix) {
                return Ok(Walked { cursor: None, ..walked });
            }
            if i64::try_from(walked.keys.len()).unwrap_or(i64::MAX) == limit {
                walked.cursor = walked.keys.last().cloned();
                return Ok(walked);
            }
            if which.changed_since.is_none_or(|since| updated >= since) {
                walked.keys.push(sku);
            }
        }
        Ok(Walked { cursor: walked.cursor.filter(|_| !is_last), ..walked })
    }

    fn resend(&self, conn: &mut Conn, resend: &Resend<'_>) -> QueryResult<Resent> {
        let mut resent = Resent::default();
        let mut wanted: BTreeMap<Sku, Option<i64>> = BTreeMap::new();
        for ResendKey { key, above } in resend.keys {
            match (Sku::parse(key.as_str()), above) {
                (Ok(_), Some(above)) if *above > GREATEST => {
                    let why = format!(
                        "the copy has the version {above}, which no event brought: delete its row there"
                    );
                    resent.skipped.push((key.clone(), why));
                }
                (Ok(sku), above) => _ = wanted.insert(sku, *above),
                (Err(error), _) => {
                    let why = format!("no event can name it ({error}): delete its row in the copy");
                    resent.skipped.push((key.clone(), why));
                }
            }
        }
        let unknown = insert_tombstones(conn, &wanted, resend.now)?;
        let skus: Vec<&str> = wanted.keys().map(Sku::as_str).collect();
        let mut products = model::lock_all(conn, &skus)?;
        let mut raised = Vec::new();
        for product in &mut products {
            let above = wanted.remove(&product.sku).flatten();
            if let Some(above) = above.filter(|above| *above >= product.version) {
                product.version = above.saturating_add(1);
                raised.push(&*product);
            }
        }
        model::update_stock(conn, &raised)?;
        resent.skipped.extend(unknown);
        for product in &products {
            resent.events.push(events::event(product, cause(resend), None)?);
        }
        Ok(resent)
    }
}

/// Puts tombstones where a copy has what is not known here; the others that are not known are returned.
fn insert_tombstones(
    conn: &mut Conn,
    wanted: &BTreeMap<Sku, Option<i64>>,
    now: Timestamp,
) -> QueryResult<Vec<(String, String)>> {
    let skus: Vec<&str> = wanted.keys().map(Sku::as_str).collect();
    let known: BTreeSet<Sku> =
        model::lock_all(conn, &skus)?.into_iter().map(|product| product.sku).collect();
    let first = retention::first_version(conn)?;
    let mut unknown = Vec::new();
    for (sku, above) in wanted.iter().filter(|(sku, _)| !known.contains(*sku)) {
        match above {
            Some(above) => {
                let version = above.saturating_add(1).max(first);
                // Whoever put it in meanwhile has its row, which is locked next.
                model::insert(conn, &Product::unknown(sku, version, now))?;
            }
            None => unknown.push((sku.as_str().to_owned(), "there is no such product".to_owned())),
        }
    }
    Ok(unknown)
}

fn cause(resend: &Resend<'_>) -> Cause {
    let kind = match resend.kind {
        ResyncKind::Repair => CauseKind::Repair,
        ResyncKind::Resync | ResyncKind::Restored => CauseKind::Resync,
        ResyncKind::Bootstrap => CauseKind::Bootstrap,
        ResyncKind::Replay => CauseKind::Replay,
    };
    Cause { kind, reason: resend.reason.map(str::to_owned), reference: None }
}

impl Product {
    /// The tombstone of a product that was never here, but in a copy.
    fn unknown(sku: &Sku, version: i64, now: Timestamp) -> Self {
        Self {
            sku: sku.clone(),
            description: String::new(),
            quantity: 0,
            unit_price_minor: 0,
            allow_backorder: false,
            removed: true,
            version,
            updated_us: now,
        }
    }
}

fn stored(conn: &mut Conn, select: &Select<'_>) -> QueryResult<Vec<StoredProduct>> {
    use product as p;
    on!(conn, c => {
        let mut rows = p::table.into_boxed();
        match select.keys {
            Keys::Named(keys) => rows = rows.filter(p::sku.eq_any(keys)),
            Keys::Between(after, up_to) => {
                let known = p::removed.eq(false).or(p::updated_us.ge(select.tombstones_since));
                rows = rows.filter(known);
                if let Some(after) = after {
                    rows = rows.filter(p::sku.gt(after));
                }
                if let Some(up_to) = up_to {
                    rows = rows.filter(p::sku.le(up_to));
                }
            }
        }
        rows.order(p::sku).limit(select.limit).select(StoredProduct::as_select()).load(c)
    })
}

impl StoredProduct {
    fn read(self, fields: &[String]) -> QueryResult<Row> {
        let head = (self.sku, None, self.version, self.removed);
        Row::new(head, fields, |field| match field {
            "description" => Some(Value::Text(&self.description)),
            "quantity" => Some(Value::Number(self.quantity)),
            "unit_price_minor" => Some(Value::Number(self.unit_price_minor)),
            "allow_backorder" => Some(Value::Flag(self.allow_backorder)),
            "updated_at" => Some(Value::Number(self.updated_us.micros())),
            _ => None,
        })
    }
}
