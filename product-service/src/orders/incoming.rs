//! Commands as they arrive, read and checked.

use std::collections::BTreeMap;

use common::event::Event;
use common::http::Object;
use common::inventory::Sku;
use common::orders::{CANCELLED, OrderCancelled, OrderId, OrderPlaced, PLACED};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Why a command can't be carried out, whatever happens: its sender has to send another one.
#[derive(Debug, Error)]
pub(super) enum InvalidCommand {
    #[error("the event type {0:?} is not one of the orders'")]
    Type(String),
    #[error("the data is not what {event_type} carries: {source}")]
    Data { event_type: String, source: serde_json::Error },
    #[error("the message's key is {key:?}, but its data is about the order {id}")]
    Key { key: String, id: OrderId },
    #[error("an order has at least one line")]
    Empty,
    #[error("the quantity of {sku} is {quantity}, but an order takes 1 or more of each product")]
    Quantity { sku: Sku, quantity: i64 },
    #[error("the quantities of {0} add up to more than 64 bits hold")]
    TooMuch(Sku),
}

/// What a command asks of the stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StockRequest {
    /// These pieces of these products, all or none.
    Take(BTreeMap<Sku, i64>),
    /// The order is cancelled: what it took is to go back.
    Return,
}

/// A command that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) order: OrderId,
    pub(super) request: StockRequest,
    pub(super) traceparent: Option<String>,
}

impl Command {
    /// The command that `event` carries.
    pub(super) fn read(event: &Event) -> Result<Self, InvalidCommand> {
        let (order, request) = match event.event_type.as_str() {
            name if name == PLACED.name => {
                let placed: OrderPlaced = data(event)?;
                (placed.order_id, StockRequest::Take(quantities(placed)?))
            }
            name if name == CANCELLED.name => {
                let cancelled: OrderCancelled = data(event)?;
                (cancelled.order_id, StockRequest::Return)
            }
            other => return Err(InvalidCommand::Type(other.to_owned())),
        };
        if order.to_string() != event.key {
            return Err(InvalidCommand::Key { key: event.key.clone(), id: order });
        }
        Ok(Self { order, request, traceparent: event.traceparent.clone() })
    }
}

/// Whether `event` carries a command that can be carried out.
///
/// # Errors
/// Why not.
pub fn check_command(event: &Event) -> Result<(), String> {
    Command::read(event).map(drop).map_err(|error| error.to_string())
}

fn data<T: DeserializeOwned>(event: &Event) -> Result<T, InvalidCommand> {
    let read: Result<Object<T>, _> = serde_json::from_slice(&event.data);
    let event_type = || event.event_type.clone();
    read.map(|object| object.0)
        .map_err(|source| InvalidCommand::Data { event_type: event_type(), source })
}

fn quantities(placed: OrderPlaced) -> Result<BTreeMap<Sku, i64>, InvalidCommand> {
    if placed.lines.is_empty() {
        return Err(InvalidCommand::Empty);
    }
    let mut wanted: BTreeMap<Sku, i64> = BTreeMap::new();
    for line in placed.lines {
        if line.quantity < 1 {
            return Err(InvalidCommand::Quantity { sku: line.sku, quantity: line.quantity });
        }
        let sum = wanted.get(&line.sku).copied().unwrap_or(0).checked_add(line.quantity);
        let Some(sum) = sum else { return Err(InvalidCommand::TooMuch(line.sku)) };
        wanted.insert(line.sku, sum);
    }
    Ok(wanted)
}
