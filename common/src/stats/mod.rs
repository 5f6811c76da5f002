//! What is counted and measured beside the requests, for whoever looks: operators, charts, `/metrics`.
//!
//! A [`Sampler`] takes a [`Sample`] now and then and keeps the newest; nobody else counts. [`Trend`] writes one of
//! them about every ten seconds, and [`chart`] draws what was written.

mod chart;
mod latency;
mod sample;
mod sampler;
mod trend;

pub use chart::{Chart, ChartError, chart};
pub use latency::{Latencies, Quantiles};
pub use sample::{AlertCounts, Instance, Oldest, Partition, Pause, RelayState, Sample, Totals};
pub use sampler::{Rates, Sampler};
pub use trend::{Trend, TrendOutcome, TrendPoint, Window, points};

/// The name in `counter` that settling adds to, one for each event that becomes PROCESSED.
pub const PROCESSED_COUNTER: &str = "outbox.processed";
/// The name in `counter` that the relay adds to, one for each attempt that the broker confirmed.
pub const SENT_COUNTER: &str = "outbox.sent";
/// The name in `counter` for attempts that failed: answered FAILED, overdue, or refused by the producer.
pub const FAILED_COUNTER: &str = "outbox.failed";
