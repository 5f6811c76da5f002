//! What the copy holds, for whoever compares it with its source.

use common::clock::Timestamp;
use common::db::Conn;
use common::inventory::{COLLECTION, FIELDS};
use common::on;
use diesel::prelude::*;
use engine::verify::{Keys, Replica, Row, Select, Value};

use crate::retention;
use crate::schema::product_copy;

/// The copy of the inventory, as its owner verifies it.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopiedInventory;

/// As it is stored: what somebody wrote by hand need not be a SKU.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = product_copy)]
struct StoredCopy {
    sku: String,
    description: String,
    quantity: i64,
    unit_price_minor: i64,
    allow_backorder: bool,
    removed: bool,
    epoch: i64,
    version: i64,
    updated_us: Timestamp,
}

impl Replica for CopiedInventory {
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

    fn forgotten_since(&self, conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
        retention::removals_forgotten_up_to(conn)
    }
}

fn stored(conn: &mut Conn, select: &Select<'_>) -> QueryResult<Vec<StoredCopy>> {
    use product_copy as p;
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
        rows.order(p::sku).limit(select.limit).select(StoredCopy::as_select()).load(c)
    })
}

impl StoredCopy {
    fn read(self, fields: &[String]) -> QueryResult<Row> {
        let head = (self.sku, Some(self.epoch), self.version, self.removed);
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
