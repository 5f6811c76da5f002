//! What is counted and measured beside the requests, for whoever looks: operators, charts, `/metrics`.
//!
//! A [`Sampler`] takes a [`Sample`] now and then and keeps the newest; nobody else counts. [`Trend`] writes one of
//! them about every ten seconds, and [`chart`] draws what was written.

mod chart;
mod consumers;
mod gauges;
mod latency;
mod sample;
mod sampler;
mod trend;

pub use chart::{Chart, ChartError, chart};
pub use gauges::SampleGauges;
pub use latency::{Latencies, Quantiles};
pub use sample::{
    AlertCounts, ConsumerSample, Instance, Oldest, Partition, Pause, RelayState, Sample, Totals,
    Verified,
};
pub use sampler::{Rates, Sampler};
pub use trend::{Trend, TrendOutcome, TrendPoint, Window, points};
