//! Options that select events, and points of time.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use common::clock::Timestamp;
use serde_json::{Map, Value, json};

use super::client::Query;

/// The heading of these options in `--help`.
pub(super) const FILTER_HEADING: &str = "Which events";

const STATUSES: [&str; 4] = ["PENDING", "SENT", "EXHAUSTED", "PROCESSED"];

/// A moment as people write it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// A point of time.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl Moment {
    /// Reads `2026-01-31T12:00:00Z`, or `2h` for two hours ago.
    ///
    /// # Errors
    /// What it has to look like.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        let ago = humantime::parse_duration(text).map(Self::Ago);
        ago.map_err(|_| "write 2026-01-31T12:00:00Z, or 2h for two hours ago".to_owned())
    }

    /// The point of time, seen from `now`.
    pub(crate) fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.before(ago),
        }
    }
}

/// Which events.
#[derive(Debug, Clone, Args)]
pub(super) struct EventFilter {
    /// PENDING, SENT, EXHAUSTED (gave up) or PROCESSED (arrived).
    #[arg(long, help_heading = FILTER_HEADING, ignore_case = true, hide_possible_values = true,
          value_parser = PossibleValuesParser::new(STATUSES))]
    status: Option<String>,
    /// Only resolved EXHAUSTED events (true), or only those that wait for a person (false).
    #[arg(long, help_heading = FILTER_HEADING, value_name = "BOOL", hide_possible_values = true)]
    resolved: Option<bool>,
    /// With this SKU or order id.
    #[arg(long, help_heading = FILTER_HEADING)]
    key: Option<String>,
    /// Of this type, such as stockloop.inventory.changed.
    #[arg(long = "type", help_heading = FILTER_HEADING, value_name = "TYPE")]
    event_type: Option<String>,
    /// Whose last error is of this class, as listed by `errors`.
    #[arg(long, help_heading = FILTER_HEADING, value_name = "CLASS")]
    error_class: Option<String>,
    /// With at least this many attempts.
    #[arg(long, help_heading = FILTER_HEADING, value_name = "N")]
    min_attempts: Option<u32>,
    /// Created longer ago than this, such as 10m.
    #[arg(long, help_heading = FILTER_HEADING, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Created after a time: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, help_heading = FILTER_HEADING, value_name = "TIME", value_parser = Moment::parse)]
    created_after: Option<Moment>,
    /// With this event id, SKU or order id.
    #[arg(long, help_heading = FILTER_HEADING, value_name = "TEXT")]
    q: Option<String>,
}

impl EventFilter {
    /// Whether it lets everything through.
    pub(super) fn is_empty(&self) -> bool {
        self.fields(Timestamp::default()).is_empty()
    }

    /// As parameters of a list.
    pub(super) fn query(&self, now: Timestamp) -> Query {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let fields = self.fields(now);
        fields
            .iter()
            .fold(Query::default(), |query, (name, value)| query.and(name, Some(text(value))))
    }

    /// As the selection of a job: events that wait for a person, unless a status is asked for.
    pub(super) fn selection(&self, now: Timestamp) -> Value {
        let mut fields = self.fields(now);
        if self.status.is_none() {
            fields.insert("status".to_owned(), json!("EXHAUSTED"));
            fields.entry("resolved").or_insert(json!(false));
        }
        json!({ "filter": fields })
    }

    fn fields(&self, now: Timestamp) -> Map<String, Value> {
        let status = self.status.as_deref().map(str::to_uppercase);
        let seconds = self.older_than.map(|age| age.as_secs());
        let after = self.created_after.map(|moment| moment.seen_from(now));
        let all = [
            ("status", json!(status)),
            ("resolved", json!(self.resolved)),
            ("key", json!(self.key)),
            ("type", json!(self.event_type)),
            ("error_class", json!(self.error_class)),
            ("min_attempts", json!(self.min_attempts)),
            ("older_than_seconds", json!(seconds)),
            ("created_after", json!(after)),
            ("q", json!(self.q)),
        ];
        let given = all.into_iter().filter(|(_, value)| !value.is_null());
        given.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
