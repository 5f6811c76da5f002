//! An owner and a sender of commands that do nothing: what is asked of them is what the routes are tried with.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventRow, NewEvent};
use common::ids::EventId;
use common::inventory::CHANGED;
use diesel::QueryResult;
use engine::kafka::Record;
use engine::lost::{Commander, Judgement, LostCommand};
use engine::resync::{Resend, ResendKey, Resent, Walked, Which};
use engine::verify::{Keys, Owner, Replica, Row, Select, Value};
use engine::views::{Refused, View, ViewEntry, ViewMessage};
use serde_json::json;

/// A key that the shelf has at its seventh version, for those who ask for it by name.
pub(super) const SEVENTH: &str = "SEVENTH";

/// An owner of nothing else yet: that is enough to be asked about.
pub(super) struct Shelf;

/// A view that nothing is made of: it has the customer 17850, and NOBODY without a purchase.
impl View for Shelf {
    fn write<'a>(
        &self,
        _: &mut Conn,
        _: Timestamp,
        _: &[ViewMessage<'a>],
    ) -> QueryResult<Vec<Refused<'a>>> {
        Ok(Vec::new())
    }

    fn refusal(&self, _: &Record) -> Option<String> {
        None
    }

    fn find(&self, _: &mut Conn, key: &str) -> QueryResult<Option<ViewEntry>> {
        let purchases = match key {
            "17850" => json!([
                {"sold_at": "2010-12-01T08:26:00.000000Z", "channel": "<b>till</b>", "sale_id": "536365",
                    "pieces": 6, "total_minor": 1_530,
                    "lines": [{"sku": "85123A", "quantity": 6, "unit_price_minor": 255}]},
                {"sold_at": "2010-11-30T10:00:00.000000Z", "channel": "web", "sale_id": "o\u{200b}1",
                    "pieces": 1_000, "total_minor": null,
                    "lines": [{"sku": "TEA", "quantity": 1_000, "unit_price_minor": null}]},
            ]),
            "NOBODY" => json!([]),
            _ => return Ok(None),
        };
        let (written_at, stored_at) =
            (Timestamp::from_micros(1_000_000), Timestamp::from_micros(2_000_000));
        Ok(Some(ViewEntry { value: purchases.to_string(), written_at, stored_at }))
    }
}

impl Replica for Shelf {
    fn collection(&self) -> &'static str {
        "shelf"
    }

    fn fields(&self) -> &'static [&'static str] {
        &[]
    }

    fn rows(&self, _: &mut Conn, select: &Select<'_>) -> QueryResult<Vec<Row>> {
        let named = match select.keys {
            Keys::Named(keys) => keys.iter().find(|key| *key == SEVENTH),
            Keys::Between(..) => None,
        };
        let row = |key: &String| {
            Row::new((key.clone(), None, 7, false), select.fields, |_| Some(Value::Number(7)))
        };
        named.map(row).into_iter().collect()
    }

    fn forgotten_since(&self, _: &mut Conn) -> QueryResult<Option<Timestamp>> {
        Ok(None)
    }
}

impl Owner for Shelf {
    fn key_after(&self, _: &mut Conn, _: &str, _: i64) -> QueryResult<Option<String>> {
        Ok(None)
    }

    fn forgotten_version(&self, _: &mut Conn) -> QueryResult<i64> {
        Ok(0)
    }

    /// Everything is left as it is.
    fn resend(&self, _: &mut Conn, resend: &Resend<'_>) -> QueryResult<Resent> {
        let why = |key: &ResendKey| (key.key.clone(), "never heard of".to_owned());
        Ok(Resent { events: Vec::new(), skipped: resend.keys.iter().map(why).collect() })
    }

    fn again(&self, kept: &EventRow, _: Option<&str>) -> QueryResult<NewEvent> {
        Ok(NewEvent {
            event_type: CHANGED,
            key: kept.key.clone(),
            version: kept.version,
            payload: kept.payload.clone(),
            traceparent: None,
        })
    }

    fn kept_before(&self, _: &mut Conn, _: &str, _: Timestamp) -> QueryResult<Option<i64>> {
        Ok(None)
    }

    fn next_keys(&self, _: &mut Conn, _: &str, _: &Which, _: i64) -> QueryResult<Walked> {
        Ok(Walked::default())
    }
}

/// Finds what it is told to be obsolete to be so, and names what it sends again by the old ids.
#[derive(Debug)]
pub(super) struct ShelfCommander;

impl Commander for ShelfCommander {
    fn is_command(&self, event_type: &str) -> bool {
        event_type == "command"
    }

    fn judge(&self, _: &mut Conn, lost: &[LostCommand]) -> QueryResult<Vec<Judgement>> {
        let judge = |command: &LostCommand| match command.key.as_str() {
            "obsolete" => Judgement::Obsolete("it is over".to_owned()),
            _ => Judgement::Matters,
        };
        Ok(lost.iter().map(judge).collect())
    }

    fn send_again(
        &self,
        _: &mut Conn,
        _: Timestamp,
        lost: &[LostCommand],
        _: &str,
    ) -> QueryResult<Vec<EventId>> {
        Ok(lost.iter().map(|command| command.event_id).collect())
    }

    fn accept(&self, _: &mut Conn, _: Timestamp, _: &[LostCommand], _: &str) -> QueryResult<()> {
        Ok(())
    }
}
