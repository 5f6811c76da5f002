//! `/metrics`: counters that the engine's parts increment, and gauges from the newest sample, for Prometheus.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::http::{Problem, ProblemResult};
use crate::stats::{Sample, Sampler};

/// The media type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From an idle loop's milliseconds to a backlog's minutes, in seconds.
const LATENCIES: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

/// One label and its value.
type Label = [(&'static str, &'static str); 1];

/// Why an ack changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoredAck {
    /// It names an event that is not there.
    UnknownEvent,
    /// It comes from a consumer that is not the configured one.
    ForeignConsumer,
}

impl IgnoredAck {
    const ALL: [Self; 2] = [Self::UnknownEvent, Self::ForeignConsumer];

    const fn label(self) -> Label {
        match self {
            Self::UnknownEvent => [("reason", "unknown_event")],
            Self::ForeignConsumer => [("reason", "foreign_consumer")],
        }
    }
}

/// The service's metrics; cheap to clone, all clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    relay_sent: Counter,
    settled: Family<Label, Counter>,
    acks_ignored: Family<Label, Counter>,
    inbox_events: Family<Label, Counter>,
    mails_sent: Counter,
    commit_to_ack: Histogram,
    commit_to_applied: Histogram,
}

impl Metrics {
    /// Metrics from zero, with the gauges of what `sampler` takes.
    pub fn new(sampler: Sampler) -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("stockloop"),
            relay_sent: Counter::default(),
            settled: Family::default(),
            acks_ignored: Family::default(),
            inbox_events: Family::default(),
            mails_sent: Counter::default(),
            commit_to_ack: Histogram::new(LATENCIES),
            commit_to_applied: Histogram::new(LATENCIES),
        };
        // What is known to be counted shows as 0 from the start, so that a first increase is seen as one.
        for reason in IgnoredAck::ALL {
            drop(inner.acks_ignored.get_or_create(&reason.label()));
        }
        inner.register(sampler);
        Self(Arc::new(inner))
    }

    /// `count` events were confirmed by the broker.
    pub fn relay_sent(&self, count: u64) {
        self.0.relay_sent.inc_by(count);
    }

    /// `count` answers changed the state of their event; `outcome` as in the ack, such as `SUCCESS`.
    pub fn settled(&self, outcome: &'static str, count: u64) {
        self.0.settled.get_or_create(&[("outcome", outcome)]).inc_by(count);
    }

    /// `count` answers were put aside.
    pub fn acks_ignored(&self, reason: IgnoredAck, count: u64) {
        self.0.acks_ignored.get_or_create(&reason.label()).inc_by(count);
    }

    /// `count` events came in and were answered with `outcome`, such as `SUCCESS`.
    pub fn inbox_events(&self, outcome: &'static str, count: u64) {
        self.0.inbox_events.get_or_create(&[("outcome", outcome)]).inc_by(count);
    }

    /// `count` mails left.
    pub fn mails_sent(&self, count: u64) {
        self.0.mails_sent.inc_by(count);
    }

    /// An event was settled this long after its commit.
    pub fn commit_to_ack(&self, latency: Duration) {
        self.0.commit_to_ack.observe(latency.as_secs_f64());
    }

    /// An event was applied to the copy this long after its commit, by both machines' clocks.
    pub fn commit_to_applied(&self, latency: Duration) {
        self.0.commit_to_applied.observe(latency.as_secs_f64());
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// When one can't be written, which would be a flaw of this program.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Inner {
    fn register(&mut self, sampler: Sampler) {
        let registry = &mut self.registry;
        registry.register_collector(Box::new(SampleGauges(sampler)));
        registry.register(
            "relay_sent",
            "Events that the broker confirmed",
            self.relay_sent.clone(),
        );
        registry.register(
            "settled",
            "Answers that changed the state of their event",
            self.settled.clone(),
        );
        registry.register("acks_ignored", "Answers that were put aside", self.acks_ignored.clone());
        registry.register(
            "inbox_events",
            "Events that came in, by the answer given",
            self.inbox_events.clone(),
        );
        registry.register("mails_sent", "Mails that left", self.mails_sent.clone());
        registry.register_with_unit(
            "commit_to_ack",
            "From the commit of a change to its settlement",
            Unit::Seconds,
            self.commit_to_ack.clone(),
        );
        registry.register_with_unit(
            "commit_to_applied",
            "From the commit of a change to its being in the copy, by both clocks",
            Unit::Seconds,
            self.commit_to_applied.clone(),
        );
    }
}

/// Shows the newest sample at each scrape; nothing before the first, rather than a false 0.
#[derive(Debug)]
struct SampleGauges(Sampler);

impl Collector for SampleGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(sample) = self.0.newest() else {
            return Ok(());
        };
        let events = encoder.encode_descriptor(
            "outbox_events",
            "Events by status; RESOLVED ones are EXHAUSTED, but wait for nobody",
            None,
            MetricType::Gauge,
        )?;
        encode_events(&sample, events)?;
        for (name, help, value) in plain_gauges(&sample) {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        for (name, help, value) in time_gauges(&sample) {
            let unit = Some(&Unit::Seconds);
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

fn encode_events(
    sample: &Sample,
    mut events: prometheus_client::encoding::MetricEncoder<'_>,
) -> Result<(), fmt::Error> {
    let by_status = [
        ("PENDING", sample.pending),
        ("SENT", sample.sent),
        ("EXHAUSTED", sample.exhausted),
        ("RESOLVED", sample.resolved),
        ("PROCESSED", sample.processed),
    ];
    for (status, count) in by_status {
        let labels: Label = [("status", status)];
        ConstGauge::new(count).encode(events.encode_family(&labels)?)?;
    }
    Ok(())
}

fn plain_gauges(sample: &Sample) -> [(&'static str, &'static str, i64); 4] {
    [
        ("alerts_open", "Alerts that are not closed", sample.alerts_open),
        ("mails_unsent", "Mails that have not left", sample.mails_unsent),
        ("dead_letters", "Messages that could not be read", sample.dead_letters),
        ("quarantined_keys", "Keys in quarantine", sample.quarantined),
    ]
}

fn time_gauges(sample: &Sample) -> [(&'static str, &'static str, f64); 2] {
    [
        (
            "outbox_oldest_unacknowledged",
            "How long the oldest PENDING or SENT event has waited; 0 when there is none",
            sample.oldest_age().as_secs_f64(),
        ),
        (
            "sample_timestamp",
            "When the gauges were sampled, since 1970",
            Duration::from_micros(u64::try_from(sample.as_of.micros()).unwrap_or(0)).as_secs_f64(),
        ),
    ]
}

pub(super) async fn show(metrics: Data<Metrics>) -> ProblemResult<HttpResponse> {
    let text = metrics.render().map_err(|error| Problem::internal(&error))?;
    Ok(HttpResponse::Ok().content_type(OPEN_METRICS).body(text))
}
