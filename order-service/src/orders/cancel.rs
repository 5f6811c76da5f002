//! Cancelling: the command goes out whatever the order's placing has come to; the owner makes it right.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::NewEvent;
use common::orders::{CANCELLED, OrderCancelled, OrderId};
use diesel::QueryResult;
use diesel::result::Error;
use thiserror::Error;

use super::model::{self, Order, OrderChanges, OrderRow, OrderStepRow};
use super::{CancelOrder, Cancellation, OrderStatus, Reason, WriteContext};

/// Why an order is not cancelled; nothing is written.
#[derive(Debug, Error)]
pub enum CancelError {
    /// There is no such order.
    #[error("there is no order {0}")]
    Unknown(OrderId),
    /// There is nothing left to cancel.
    #[error("the order {id} is {status}, so there is nothing to cancel")]
    Final {
        /// Which.
        id: OrderId,
        /// What it is.
        status: OrderStatus,
    },
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] Error),
}

/// Asks for an order to be cancelled: CANCELLING until the owner has answered. Asked before, it stays as it is.
///
/// # Errors
/// Refused when there is no such order, or it is REJECTED or CANCELLED.
pub fn cancel(
    conn: &mut Conn,
    context: &WriteContext,
    id: OrderId,
    body: &CancelOrder,
) -> Result<Order, CancelError> {
    let locked = model::lock(conn, &[id])?.into_iter().next();
    let mut row = locked.ok_or(CancelError::Unknown(id))?;
    if row.status.is_final() {
        return Err(CancelError::Final { id, status: row.status });
    }
    if row.cancellation.is_none() {
        let reason = body.reason.as_ref().map(Reason::as_str);
        let step = begin(&mut row, context.now, reason);
        let event = event(&row, reason, context.now, context.traceparent.clone())?;
        let changes =
            OrderChanges { rows: vec![row], steps: vec![step], ..OrderChanges::default() };
        model::save(conn, &changes)?;
        context.outbox.append(conn, vec![event])?;
        context.signals.touch(&id.to_string());
    }
    model::find(conn, id)?.ok_or(CancelError::Unknown(id))
}

/// The order as it is once its cancellation is on its way.
pub(super) fn begin(row: &mut OrderRow, now: Timestamp, reason: Option<&str>) -> OrderStepRow {
    row.cancellation = Some(Cancellation::Open);
    row.step(now, "cancellation requested", reason)
}

/// The command of an order that is to be cancelled.
pub(super) fn event(
    row: &OrderRow,
    reason: Option<&str>,
    now: Timestamp,
    traceparent: Option<String>,
) -> QueryResult<NewEvent> {
    let cancelled =
        OrderCancelled { order_id: row.id, reason: reason.map(str::to_owned), cancelled_at: now };
    let payload = serde_json::to_string(&cancelled)
        .map_err(|error| Error::SerializationError(Box::new(error)))?;
    Ok(NewEvent {
        event_type: CANCELLED,
        key: row.id.to_string(),
        version: 0,
        payload,
        traceparent,
    })
}
