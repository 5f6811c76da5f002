//! Spans: what each step of a trace did and how long it took.
//!
//! A step is written down when it is over, in one piece: no context follows the code around, and where nothing is
//! exported, or a trace is not sampled, nothing is made at all. Names and attributes are those of OpenTelemetry's
//! conventions for HTTP and for messaging.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::otlp::{Collector, Queue};
use crate::clock::Timestamp;
use crate::config::TraceSettings;
use crate::env::Env;
use crate::ids::EventId;
use crate::trace_context::TraceContext;

/// Where a service's steps are written down; cheap to clone.
#[derive(Clone)]
pub struct Spans {
    env: Env,
    recorder: Option<Arc<Recorder>>,
}

/// What is there only when spans are exported.
struct Recorder {
    queue: Queue,
    ratio: f64,
    scope: InstrumentationScope,
}

/// What happened to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was given to the broker.
    Send,
    /// Its consumer applied it, or refused to.
    Process,
    /// Its sender took the answer.
    Settle,
}

/// Which delivery of which event.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The event.
    pub id: EventId,
    /// What it is about.
    pub key: String,
    /// Which of its attempts.
    pub attempt: i32,
    /// The topic that its message is on.
    pub topic: String,
    /// The partition, if it is known.
    pub partition: Option<i32>,
}

/// A step under way.
pub struct Span {
    own: TraceContext,
    parent: Option<TraceContext>,
    kind: SpanKind,
    name: Cow<'static, str>,
    began: Timestamp,
    attributes: Vec<KeyValue>,
}

impl Spans {
    /// Nothing is written down; traces still have ids.
    pub fn off(env: Env) -> Self {
        Self { env, recorder: None }
    }

    /// What `settings` ask for, with the collector's side of it, if there is one.
    ///
    /// # Errors
    /// Which setting is wrong.
    pub fn new(
        settings: &TraceSettings,
        service: &str,
        env: Env,
    ) -> anyhow::Result<(Self, Option<Collector>)> {
        let Some((queue, collector)) = Collector::new(settings, service, &env)? else {
            return Ok((Self::off(env), None));
        };
        let scope = InstrumentationScope::builder("stockloop")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let recorder = Recorder { queue, ratio: settings.sample_ratio, scope };
        Ok((Self { env, recorder: Some(Arc::new(recorder)) }, Some(collector)))
    }

    /// A new trace, sampled as often as was asked for.
    pub fn root(&self) -> TraceContext {
        let sampled =
            self.recorder.as_ref().is_some_and(|recorder| self.env.chance() < recorder.ratio);
        TraceContext::root(&self.env, sampled)
    }

    /// The `traceparent` of an event that nobody's request caused.
    pub fn rooted(&self, traceparent: Option<String>) -> String {
        traceparent.unwrap_or_else(|| self.root().to_string())
    }

    /// Begins a step of the trace that `traceparent` names, if it is recorded: what comes of it then goes below it.
    pub fn begin(
        &self,
        step: Step,
        traceparent: &mut Option<String>,
        about: impl FnOnce() -> Delivery,
    ) -> Option<Span> {
        self.recorder.as_ref()?;
        let parent: TraceContext = traceparent.as_deref()?.parse().ok()?;
        if !parent.sampled {
            return None;
        }
        let own = parent.child(&self.env);
        *traceparent = Some(own.to_string());
        Some(Span {
            own,
            parent: Some(parent),
            kind: step.kind(),
            began: self.env.now(),
            ..step.describe(own, about())
        })
    }

    /// Begins the handling of a request: in the trace that it names, or in a new one.
    pub(super) fn begin_request(&self, named: Option<TraceContext>) -> Result<Span, TraceContext> {
        let around = named.unwrap_or_else(|| self.root());
        if self.recorder.is_none() || !around.sampled {
            return Err(around);
        }
        let own = if named.is_some() { around.child(&self.env) } else { around };
        Ok(Span {
            own,
            parent: named,
            kind: SpanKind::Server,
            name: Cow::Borrowed("HTTP"),
            began: self.env.now(),
            attributes: Vec::new(),
        })
    }

    /// Writes a step down; `failure` says why it failed, if it did.
    pub fn end(&self, span: Span, failure: Option<&str>) {
        let Some(recorder) = &self.recorder else { return };
        let status = match failure {
            Some(why) => Status::error(why.to_owned()),
            None => Status::Unset,
        };
        recorder.queue.put(SpanData {
            span_context: span_context(span.own),
            parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| parent.span.into()),
            parent_span_is_remote: span.parent.is_some(),
            span_kind: span.kind,
            name: span.name,
            start_time: system_time(span.began),
            end_time: system_time(self.env.now().max(span.began)),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: recorder.scope.clone(),
        });
    }
}

impl Span {
    /// Where it is in its trace.
    pub fn context(&self) -> TraceContext {
        self.own
    }

    /// Adds what became known meanwhile.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(name, value));
        self
    }

    /// Names it.
    #[must_use]
    pub(super) fn named(mut self, name: String) -> Self {
        self.name = Cow::Owned(name);
        self
    }

    /// It began earlier than it was thought of.
    #[must_use]
    pub fn since(mut self, began: Timestamp) -> Self {
        self.began = began;
        self
    }
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Process => "process",
            Self::Settle => "settle",
        }
    }

    const fn kind(self) -> SpanKind {
        match self {
            Self::Send => SpanKind::Producer,
            Self::Process | Self::Settle => SpanKind::Consumer,
        }
    }

    fn describe(self, own: TraceContext, about: Delivery) -> Span {
        // To settle is to process an answer; the convention's own `settle` is what a client says to its broker.
        let operation = if self == Self::Send { "send" } else { "process" };
        let mut attributes = vec![
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.type", operation),
            KeyValue::new("messaging.operation.name", self.name()),
            KeyValue::new("messaging.message.id", about.id.to_string()),
            KeyValue::new("messaging.kafka.message.key", about.key),
            KeyValue::new("stockloop.attempt", i64::from(about.attempt)),
        ];
        let name = format!("{} {}", self.name(), about.topic);
        attributes.push(KeyValue::new("messaging.destination.name", about.topic));
        let partition = about.partition.map(|partition| partition.to_string());
        attributes.extend(
            partition
                .map(|partition| KeyValue::new("messaging.destination.partition.id", partition)),
        );
        Span {
            own,
            parent: None,
            kind: self.kind(),
            name: Cow::Owned(name),
            began: Timestamp::from_micros(0),
            attributes,
        }
    }
}

fn span_context(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from(context.trace),
        SpanId::from(context.span),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    )
}

fn system_time(at: Timestamp) -> SystemTime {
    let micros = u64::try_from(at.micros()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}
