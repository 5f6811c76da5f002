//! Events that go out and come in, how copies are compared, and what is kept of all that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::db::Url;

/// How events are sent and how long they are tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxSettings {
    /// Attempts before an event waits for a person.
    pub max_attempts: i32,
    /// Who sends events for the first time, and where it finds them.
    pub relay: RelayKind,
    /// Where the log is read, with `relay = "log"`: past a pooler. Empty: `database.url`.
    pub log_url: Url,
    /// Bytes of the log that its slot may be behind when it is taken up; with more, it is made anew, and the table is read.
    pub log_kept_bytes: u64,
    /// With `relay = "external"`, how long an event waits for that before this service sends it itself; 0: it never does.
    #[serde(with = "crate::duration")]
    pub external_takeover: Duration,
    /// Events that one relay step reads and sends at the most; four times as many of those that the log brings.
    pub batch: usize,
    /// Events sent and unanswered per partition at the most.
    pub in_flight_events: usize,
    /// Bytes sent and unanswered per partition at the most (the embedded broker keeps 5 MiB).
    pub in_flight_bytes: usize,
    /// How long an answer may take before the event can be overdue.
    #[serde(with = "crate::duration")]
    pub ack_timeout: Duration,
    /// How much later than an event something must have been sent whose answer proves that it was passed by.
    #[serde(with = "crate::duration")]
    pub ack_grace: Duration,
    /// The first pause before another attempt; it doubles each time.
    #[serde(with = "crate::duration")]
    pub backoff_base: Duration,
    /// The longest pause between attempts.
    #[serde(with = "crate::duration")]
    pub backoff_max: Duration,
    /// The first pause before the oldest event of a partition without answers is sent again; it doubles too.
    #[serde(with = "crate::duration")]
    pub probe_after: Duration,
    /// How long a relay's hold on its shards lasts without a heartbeat.
    #[serde(with = "crate::duration")]
    pub lease: Duration,
    /// When PENDING rows are looked for, as cron with seconds; commits wake the relay without it.
    pub sweep_cron: String,
    /// Whether a commit wakes the relays of other instances at once (PostgreSQL); else they wait for `sweep_cron`.
    pub notify: bool,
    /// When overdue events and silent partitions are looked for, as cron with seconds.
    pub watch_cron: String,
    /// How long PROCESSED events are kept.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
}

/// Who sends events for the first time, and where it finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayKind {
    /// The service itself, which asks the table for a page after the other.
    Table,
    /// The service itself. What commits is streamed to it from PostgreSQL's log; the table has the rest.
    Log,
    /// Another program, such as Debezium, which reads PostgreSQL's log. All further attempts are the service's.
    External,
}

impl RelayKind {
    /// Whether another program than the service sends events for the first time.
    pub const fn is_external(self) -> bool {
        matches!(self, Self::External)
    }
}

/// How events are applied.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboxSettings {
    /// Messages that one transaction applies at the most.
    pub batch: usize,
    /// How long a batch that is not full waits for more; a message that comes alone does not wait.
    #[serde(with = "crate::duration")]
    pub linger: Duration,
    /// How long the answers given are kept, so that a duplicate gets the same one.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
}

/// When and how copies are compared with what a service owns.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifySettings {
    /// When it is done by itself, as cron with seconds; empty: only when somebody asks.
    pub cron: String,
    /// The part of the time that it may work then, from 0.001 to 1.
    pub share: f64,
    /// How long an answer of a consumer may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// How long keys that move, and a consumer that does not answer, are looked at again.
    #[serde(with = "crate::duration")]
    pub patience: Duration,
    /// How long results are kept.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
    /// How long is kept which keys differed.
    #[serde(with = "crate::duration")]
    pub keys_retention: Duration,
}

impl VerifySettings {
    /// The part of the time that it may work, in thousandths.
    pub fn thousandths(&self) -> i32 {
        // Between 1 and 1,000 once the settings are checked.
        (self.share.clamp(0.001, 1.0) * 1_000.0).round() as i32
    }
}

/// How long is kept what nobody waits for any more; outbox, inbox, alerts and access say it of what is theirs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSettings {
    /// When old rows are looked for, as cron with seconds.
    pub cron: String,
    /// EXHAUSTED events that a person or a newer version resolved.
    #[serde(with = "crate::duration")]
    pub resolved_events: Duration,
    /// Dead letters that were replayed or discarded.
    #[serde(with = "crate::duration")]
    pub dead_letters: Duration,
    /// Adjustments of the stock, at product-service.
    #[serde(with = "crate::duration")]
    pub adjustments: Duration,
    /// Orders that ended, and at product-service what they took; at least a day and `inbox.retention`.
    #[serde(with = "crate::duration")]
    pub orders: Duration,
    /// What is left of removed products; at least a day and `inbox.retention`.
    #[serde(with = "crate::duration")]
    pub removed_products: Duration,
}
