//! The events of all products in the order of their versions, each with what is noted of its cause.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::adjustments::Adjustments;
use super::state::{ChangedBy, State};
use crate::check::reader::{PAGE, of_ids};
use crate::check::rows::{AdjustmentRow, DeductionRow};

/// An event of a product, with what is noted of its cause.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) row: EventRow,
    pub(super) state: Result<State, String>,
    pub(super) adjustment: Option<AdjustmentRow>,
    pub(super) deduction: Option<DeductionRow>,
}

impl Step {
    /// The state, if it is of the version and the product that the event says.
    pub(super) fn own_state(&self) -> Option<&State> {
        let is_own = |state: &&State| {
            state.version == self.row.version
                && state.sku.as_ref().is_none_or(|sku| *sku == self.row.key)
        };
        self.state.as_ref().ok().filter(is_own)
    }

    /// What changed the stock, as far as the event says.
    pub(super) fn changed_by(&self) -> ChangedBy {
        self.state.as_ref().map_or(ChangedBy::Unknown, State::changed_by)
    }

    /// The order that changed the stock, if one did.
    fn order(&self) -> Option<EventId> {
        match self.changed_by() {
            ChangedBy::Placed(order) | ChangedBy::Cancelled(order) => Some(order),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, QueryableByName)]
pub(super) struct EventRow {
    #[diesel(sql_type = EventIdSql)]
    pub(super) id: EventId,
    #[diesel(sql_type = Text)]
    pub(super) event_type: String,
    #[diesel(sql_type = Text)]
    pub(super) key: String,
    #[diesel(sql_type = BigInt)]
    pub(super) version: i64,
    #[diesel(sql_type = Text)]
    pub(super) payload: String,
    #[diesel(sql_type = BigInt)]
    pub(super) created_us: Timestamp,
}

/// Where the walk over the events of all products is: key, version and id.
pub(super) type Place = (String, i64, EventId);

/// The events behind a place, with what is noted of their causes.
pub(super) fn steps(
    conn: &mut Conn,
    (key, version, id): &Place,
    adjustments: &mut Adjustments,
) -> QueryResult<Vec<Step>> {
    let sql = "SELECT id, event_type, key, version, payload, created_us FROM outbox_event \
               WHERE kind = 0 AND (key, version, id) > ($1, $2, $3) \
               ORDER BY key, version, id LIMIT $4";
    let rows: Vec<EventRow> = on!(&mut *conn, c => sql_query(sql)
        .bind::<Text, _>(key)
        .bind::<BigInt, _>(*version)
        .bind::<EventIdSql, _>(*id)
        .bind::<BigInt, _>(PAGE)
        .load(c))?;
    let step = |row: EventRow| {
        let state = State::read(&row.payload).map_err(|error| error.to_string());
        Step { row, state, adjustment: None, deduction: None }
    };
    let mut steps: Vec<Step> = rows.into_iter().map(step).collect();
    adjustments.find(conn, &mut steps)?;
    find_deductions(conn, &mut steps)?;
    Ok(steps)
}

fn find_deductions(conn: &mut Conn, steps: &mut [Step]) -> QueryResult<()> {
    let orders: BTreeSet<EventId> = steps.iter().filter_map(Step::order).collect();
    let orders: Vec<EventId> = orders.into_iter().collect();
    if orders.is_empty() {
        return Ok(());
    }
    let sql = "SELECT order_id, sku, quantity, version, returned_version \
               FROM order_deduction WHERE order_id {in}";
    let rows: Vec<DeductionRow> = of_ids(conn, sql, &orders)?;
    let rows: BTreeMap<(EventId, String), DeductionRow> =
        rows.into_iter().map(|row| ((row.order_id, row.sku.clone()), row)).collect();
    for step in steps {
        let order = step.order();
        step.deduction = order.and_then(|order| rows.get(&(order, step.row.key.clone()))).cloned();
    }
    Ok(())
}
