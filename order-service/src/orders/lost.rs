//! Commands whose effect the owner of the stock has lost: which of them still matter, and how they are sent again.
//!
//! A lost placing matters while its order is CONFIRMED: nothing was taken for it. One that is being cancelled is made right
//! by that. A lost cancellation matters only where the owner still has the deduction, so not if the placing is lost, too.
//! The owner knows orders by their ids, so what is sent again has no second effect.

use std::collections::{BTreeMap, BTreeSet};

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventType, NewEvent};
use common::ids::EventId;
use common::orders::{CANCELLED, OrderId, PLACED};
use common::signals::Signals;
use diesel::QueryResult;
use diesel::result::Error;
use engine::lost::{Commander, Judgement, LostCommand, newest_lost};
use engine::outbox::Outbox;

use super::model::{self, OrderChanges, OrderRow};
use super::{Cancellation, OrderStatus, Placement, reservation};

/// What order-service knows of its commands.
pub struct OrdersCommander {
    outbox: Outbox,
    signals: Signals,
}

impl OrdersCommander {
    /// Puts what is sent again into `outbox`, and tells changes to `signals`.
    pub fn new(outbox: Outbox, signals: Signals) -> Self {
        Self { outbox, signals }
    }
}

impl std::fmt::Debug for OrdersCommander {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OrdersCommander")
    }
}

impl Commander for OrdersCommander {
    fn is_command(&self, event_type: &str) -> bool {
        event_type == PLACED.name || event_type == CANCELLED.name
    }

    fn judge(&self, conn: &mut Conn, lost: &[LostCommand]) -> QueryResult<Vec<Judgement>> {
        let orders = locked(conn, lost)?;
        let keys: BTreeSet<&str> = lost.iter().map(|command| command.key.as_str()).collect();
        let untaken = newest_lost(conn, &keys, PLACED.name)?;
        let judged = lost.iter().map(|command| {
            let order = order_of(command).and_then(|id| orders.get(&id));
            match is_placing(command) {
                true => placing(order),
                false => cancellation(order, untaken.contains(&command.key)),
            }
        });
        Ok(judged.collect())
    }

    fn send_again(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        lost: &[LostCommand],
        note: &str,
    ) -> QueryResult<Vec<EventId>> {
        let mut orders = locked(conn, lost)?;
        let (mut steps, mut placed) = (Vec::new(), BTreeSet::new());
        for command in lost {
            let row = order_of(command).and_then(|id| orders.get_mut(&id));
            let row = row.ok_or(Error::NotFound)?;
            let what = if is_placing(command) {
                row.placement = Placement::Open;
                placed.insert(row.id);
                "placing sent again"
            } else {
                row.cancellation = Some(Cancellation::Open);
                "cancellation sent again"
            };
            steps.push(row.step(now, what, Some(note)));
            self.signals.touch(&row.id.to_string());
        }
        let mut lines = model::lines(conn, &placed)?;
        for line in &mut lines {
            (line.version, line.reason, line.detail) = (None, None, None);
        }
        let rows = orders.into_values().collect();
        model::save(conn, &OrderChanges { rows, steps, lines: lines.clone() })?;
        reservation::renew(conn, &placed, &lines)?;
        self.outbox.append(conn, lost.iter().map(event).collect())
    }

    fn accept(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        lost: &[LostCommand],
        note: &str,
    ) -> QueryResult<()> {
        let mut orders = locked(conn, lost)?;
        let mut steps = Vec::new();
        for command in lost {
            // One that is no longer kept has no timeline.
            let Some(row) = order_of(command).and_then(|id| orders.get_mut(&id)) else { continue };
            let what = match is_placing(command) {
                true => "lost deduction made good by hand",
                false => "lost return made good by hand",
            };
            steps.push(row.step(now, what, Some(note)));
            self.signals.touch(&row.id.to_string());
        }
        let rows = orders.into_values().collect();
        model::save(conn, &OrderChanges { rows, steps, ..OrderChanges::default() })
    }
}

fn placing(order: Option<&OrderRow>) -> Judgement {
    match order {
        None => Judgement::NotKept,
        Some(row) if row.status == OrderStatus::Confirmed => Judgement::Matters,
        Some(row) => Judgement::Obsolete(format!("the order is {}", row.status)),
    }
}

fn cancellation(order: Option<&OrderRow>, untaken: bool) -> Judgement {
    match order {
        _ if untaken => Judgement::Obsolete(
            "the order's placing is lost as well, so there is nothing to give back".to_owned(),
        ),
        None => Judgement::NotKept,
        Some(row) if row.placement == Placement::Rejected => Judgement::Obsolete(
            "the order was refused, so there is nothing to give back".to_owned(),
        ),
        Some(_) => Judgement::Matters,
    }
}

fn is_placing(command: &LostCommand) -> bool {
    command.event_type == PLACED.name
}

fn order_of(command: &LostCommand) -> Option<OrderId> {
    command.key.parse().ok()
}

fn locked(conn: &mut Conn, lost: &[LostCommand]) -> QueryResult<BTreeMap<OrderId, OrderRow>> {
    let ids: BTreeSet<OrderId> = lost.iter().filter_map(order_of).collect();
    let ids: Vec<OrderId> = ids.into_iter().collect();
    Ok(model::lock(conn, &ids)?.into_iter().map(|row| (row.id, row)).collect())
}

/// The same command as a new event.
fn event(command: &LostCommand) -> NewEvent {
    let event_type: EventType = if is_placing(command) { PLACED } else { CANCELLED };
    NewEvent {
        event_type,
        key: command.key.clone(),
        version: 0,
        payload: command.payload.clone(),
        traceparent: None,
    }
}
