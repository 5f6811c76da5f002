//! `/metrics`: counters that the engine's parts increment, and gauges from the newest sample, for Prometheus.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::plain_text::{self, PLAIN_TEXT};
use crate::http::{Problem, ProblemResult};

/// The media type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From an idle loop's milliseconds to a backlog's minutes, in seconds.
const LATENCIES: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

/// From a route that only looks into memory to one that waits for the database, in seconds.
const REQUESTS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

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

/// A message of the topic of the service's own events that is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignMessage {
    /// It names an event of this service that its database does not know.
    UnknownEvent,
    /// It is another service's, or no event at all.
    NotOurs,
}

impl ForeignMessage {
    const fn label(self) -> Label {
        match self {
            Self::UnknownEvent => [("reason", "unknown_event")],
            Self::NotOurs => [("reason", "not_ours")],
        }
    }
}

/// A kind of message whose signature is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedMessage {
    /// An event of another service.
    Event,
    /// Answers to this service's events.
    Ack,
}

/// What the signature of a message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureOutcome {
    /// It fits, with a key that is taken.
    Valid,
    /// There is none.
    Missing,
    /// It names a key that is not known.
    UnknownKey,
    /// It does not fit, or can't be read.
    Wrong,
}

/// What was looked at, and what it came to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignatureLabels {
    message: &'static str,
    outcome: &'static str,
}

impl SignatureLabels {
    const fn of(message: SignedMessage, outcome: SignatureOutcome) -> Self {
        let message = match message {
            SignedMessage::Event => "event",
            SignedMessage::Ack => "ack",
        };
        let outcome = match outcome {
            SignatureOutcome::Valid => "valid",
            SignatureOutcome::Missing => "missing",
            SignatureOutcome::UnknownKey => "unknown_key",
            SignatureOutcome::Wrong => "wrong",
        };
        Self { message, outcome }
    }
}

impl SignedMessage {
    const ALL: [Self; 2] = [Self::Event, Self::Ack];
}

impl SignatureOutcome {
    const ALL: [Self; 4] = [Self::Valid, Self::Missing, Self::UnknownKey, Self::Wrong];
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByConsumer {
    consumer: String,
}

/// Who answered, and what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SettledLabels {
    consumer: String,
    outcome: &'static str,
}

/// A kind of request: few, since routes are patterns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) route: String,
    pub(super) status: &'static str,
}

type Histograms<S> = Family<S, Histogram, fn() -> Histogram>;

fn latencies() -> Histogram {
    Histogram::new(LATENCIES)
}

fn requests() -> Histogram {
    Histogram::new(REQUESTS)
}

/// The service's metrics; cheap to clone, all clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    consumer: String,
    relay_sent: Counter,
    relay_sent_by_log: Counter,
    settled: Family<SettledLabels, Counter>,
    acks_ignored: Family<Label, Counter>,
    observed_foreign: Family<Label, Counter>,
    inbox_events: Family<Label, Counter>,
    signatures: Family<SignatureLabels, Counter>,
    mails_sent: Counter,
    mail_recipients_refused: Counter,
    commit_to_sent: Histogram,
    commit_to_ack: Histogram,
    commit_to_applied: Histogram,
    requests: Histograms<Request>,
}

impl Metrics {
    /// Metrics from zero, about the answers of `consumer`, with what `gauges` show at each scrape.
    pub fn new(consumer: &str, gauges: Box<dyn Collector>) -> Self {
        let mut registry = Registry::with_prefix("stockloop");
        let by_consumer = ByConsumer { consumer: consumer.to_owned() };
        let acked: Histograms<ByConsumer> = Family::new_with_constructor(latencies);
        let applied: Histograms<ByConsumer> = Family::new_with_constructor(latencies);
        let inner = Inner {
            consumer: by_consumer.consumer.clone(),
            relay_sent: Counter::default(),
            relay_sent_by_log: Counter::default(),
            settled: Family::default(),
            acks_ignored: Family::default(),
            observed_foreign: Family::default(),
            inbox_events: Family::default(),
            signatures: Family::default(),
            mails_sent: Counter::default(),
            mail_recipients_refused: Counter::default(),
            commit_to_sent: latencies(),
            // Only the configured consumer's answers settle, so there is one of each.
            commit_to_ack: acked.get_or_create_owned(&by_consumer),
            commit_to_applied: applied.get_or_create_owned(&by_consumer),
            requests: Family::new_with_constructor(requests),
            registry: Registry::default(),
        };
        // What is known to be counted shows as 0 from the start, so that a first increase is seen as one.
        for reason in IgnoredAck::ALL {
            drop(inner.acks_ignored.get_or_create(&reason.label()));
        }
        for message in SignedMessage::ALL {
            for outcome in SignatureOutcome::ALL {
                let labels = SignatureLabels::of(message, outcome);
                drop(inner.signatures.get_or_create(&labels));
            }
        }
        inner.register_counters(&mut registry);
        inner.register_latencies(&mut registry, acked, applied);
        registry.register_collector(gauges);
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// `count` events were confirmed by the broker, of which `by_log` came by the database's log.
    pub fn relay_sent(&self, count: u64, by_log: u64) {
        self.0.relay_sent.inc_by(count);
        self.0.relay_sent_by_log.inc_by(by_log);
    }

    /// `count` answers changed the state of their event; `outcome` is `success`, `rejected` or
    /// `failed`.
    pub fn settled(&self, outcome: &'static str, count: u64) {
        let answer = SettledLabels { consumer: self.0.consumer.clone(), outcome };
        self.0.settled.get_or_create(&answer).inc_by(count);
    }

    /// `count` answers were put aside.
    pub fn acks_ignored(&self, reason: IgnoredAck, count: u64) {
        self.0.acks_ignored.get_or_create(&reason.label()).inc_by(count);
    }

    /// `count` messages were seen on the topic of the service's own events that are none of them.
    pub fn observed_foreign(&self, reason: ForeignMessage, count: u64) {
        self.0.observed_foreign.get_or_create(&reason.label()).inc_by(count);
    }

    /// `count` events came in and were answered with `outcome`: `success`, `rejected`, `failed`, or
    /// `unreadable` for what went to the dead letters.
    pub fn inbox_events(&self, outcome: &'static str, count: u64) {
        self.0.inbox_events.get_or_create(&[("outcome", outcome)]).inc_by(count);
    }

    /// The signatures of `count` messages came to `outcome`.
    pub fn signatures(&self, message: SignedMessage, outcome: SignatureOutcome, count: u64) {
        self.0.signatures.get_or_create(&SignatureLabels::of(message, outcome)).inc_by(count);
    }

    /// `count` mails left.
    pub fn mails_sent(&self, count: u64) {
        self.0.mails_sent.inc_by(count);
    }

    /// `count` recipients of mails were refused for good.
    pub fn mail_recipients_refused(&self, count: u64) {
        self.0.mail_recipients_refused.inc_by(count);
    }

    /// An event was sent for the first time this long after its commit.
    pub fn commit_to_sent(&self, latency: Duration) {
        self.0.commit_to_sent.observe(latency.as_secs_f64());
    }

    /// An event was settled this long after its commit.
    pub fn commit_to_ack(&self, latency: Duration) {
        self.0.commit_to_ack.observe(latency.as_secs_f64());
    }

    /// An event was applied to the copy this long after its commit, by both machines' clocks.
    pub fn commit_to_applied(&self, latency: Duration) {
        self.0.commit_to_applied.observe(latency.as_secs_f64());
    }

    /// A request was answered after this long; a stream when it began.
    pub(super) fn answered(&self, request: &Request, latency: Duration) {
        self.0.requests.get_or_create(request).observe(latency.as_secs_f64());
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
    fn register_counters(&self, registry: &mut Registry) {
        registry.register(
            "relay_sent",
            "Attempts that the broker confirmed",
            self.relay_sent.clone(),
        );
        registry.register(
            "relay_sent_by_log",
            "Attempts that the broker confirmed, of events that came by the database's log",
            self.relay_sent_by_log.clone(),
        );
        registry.register(
            "settled",
            "Answers that changed the state of their event",
            self.settled.clone(),
        );
        registry.register("acks_ignored", "Answers that were put aside", self.acks_ignored.clone());
        registry.register(
            "observed_foreign",
            "Messages on the topic of the service's own events that are none of them",
            self.observed_foreign.clone(),
        );
        registry.register(
            "inbox_events",
            "Events that came in, by the answer given",
            self.inbox_events.clone(),
        );
        registry.register(
            "signatures",
            "Messages whose signature was looked at, by what it came to",
            self.signatures.clone(),
        );
        registry.register("mails_sent", "Mails that left", self.mails_sent.clone());
        registry.register(
            "mail_recipients_refused",
            "Recipients that the mail server refused for good",
            self.mail_recipients_refused.clone(),
        );
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program that runs", build);
    }

    fn register_latencies(
        &self,
        registry: &mut Registry,
        acked: Histograms<ByConsumer>,
        applied: Histograms<ByConsumer>,
    ) {
        registry.register_with_unit(
            "commit_to_sent",
            "From the commit of a change to its first attempt, if the broker confirmed that",
            Unit::Seconds,
            self.commit_to_sent.clone(),
        );
        registry.register_with_unit(
            "commit_to_ack",
            "From the commit of a change to its settlement",
            Unit::Seconds,
            acked,
        );
        registry.register_with_unit(
            "commit_to_applied",
            "From the commit of a change to its being in the copy, by both clocks",
            Unit::Seconds,
            applied,
        );
        registry.register_with_unit(
            "http_request_duration",
            "From a request to the head of its answer, by the pattern of its route",
            Unit::Seconds,
            self.requests.clone(),
        );
    }
}

/// Everything that is counted and measured, for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((
        status = 200,
        description = "OpenMetrics text; to clients that accept only text/plain, Prometheus' older text",
        content((String = "application/openmetrics-text"), (String = "text/plain"))
    ))
)]
pub(super) async fn show(
    request: HttpRequest,
    metrics: Data<Metrics>,
) -> ProblemResult<HttpResponse> {
    let text = metrics.render().map_err(|error| Problem::internal(&error))?;
    if plain_text::is_wanted(request.headers()) {
        return Ok(HttpResponse::Ok().content_type(PLAIN_TEXT).body(plain_text::of(&text)));
    }
    Ok(HttpResponse::Ok().content_type(OPEN_METRICS).body(text))
}
