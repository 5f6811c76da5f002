//! Messages on the copy: a batch is folded to the last message of each customer and written set-based.

use std::collections::BTreeMap;

use common::clock::Timestamp;
use common::db::Conn;
use diesel::QueryResult;
use diesel::result::Error;
use engine::kafka::Record;
use engine::views::{Place, Refused, View, ViewEntry, ViewMessage};

use super::incoming::Arrival;
use super::model::{self, CustomerPurchases};

/// Copies what customers bought last.
#[derive(Debug, Clone, Copy, Default)]
pub struct PurchasesView;

impl View for PurchasesView {
    fn write<'a>(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        messages: &[ViewMessage<'a>],
    ) -> QueryResult<Vec<Refused<'a>>> {
        let mut last: BTreeMap<String, (Place, CustomerPurchases)> = BTreeMap::new();
        let mut refused = Vec::new();
        for message in messages {
            let record = message.record;
            match Arrival::read(record.key.as_deref(), record.payload.as_deref()) {
                Ok(arrival) => keep_later(&mut last, message.place, row(message, arrival, now)?),
                Err(error) => refused.push(Refused { record, reason: error.to_string() }),
            }
        }
        let rows: Vec<&CustomerPurchases> = last.values().map(|(_, row)| row).collect();
        if !rows.is_empty() {
            model::upsert(conn, &rows)?;
        }
        Ok(refused)
    }

    fn refusal(&self, record: &Record) -> Option<String> {
        let read = Arrival::read(record.key.as_deref(), record.payload.as_deref());
        read.err().map(|error| error.to_string())
    }

    fn find(&self, conn: &mut Conn, key: &str) -> QueryResult<Option<ViewEntry>> {
        Ok(model::find(conn, key)?.and_then(CustomerPurchases::into_entry))
    }
}

fn keep_later(
    last: &mut BTreeMap<String, (Place, CustomerPurchases)>,
    place: Place,
    row: CustomerPurchases,
) {
    if last.get(&row.customer).is_none_or(|(before, _)| *before < place) {
        last.insert(row.customer.clone(), (place, row));
    }
}

fn row(
    message: &ViewMessage<'_>,
    arrival: Arrival,
    now: Timestamp,
) -> QueryResult<CustomerPurchases> {
    let Arrival { customer, version, purchases } = arrival;
    let written = purchases.as_ref().map(serde_json::to_string).transpose();
    Ok(CustomerPurchases {
        customer,
        version,
        purchases: written.map_err(|error| Error::SerializationError(Box::new(error)))?,
        begun_us: message.place.begun,
        partition: message.record.partition,
        message_offset: message.place.offset,
        written_us: message.record.timestamp.unwrap_or(now),
        stored_us: now,
    })
}
