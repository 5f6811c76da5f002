//! The way of spans to a collector: OTLP over HTTP, from a bounded queue, by one task.
//!
//! Whatever the collector does, nobody waits for it: what the queue can't hold, or the collector does not take, is
//! dropped and counted, and that is logged once until it works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::collector_client::{CollectorClient, Failure};
use crate::config::TraceSettings;
use crate::env::Env;
use crate::http_client::http_client;

/// Spans that wait at the most.
const QUEUE: usize = 8_192;
/// Spans of one request at the most.
const BATCH: usize = 512;
/// How long a batch that is not full waits for more.
const LINGER: Duration = Duration::from_millis(500);
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where spans wait for their way out.
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// Puts a span in, if there is room.
    pub(super) fn put(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What takes spans to a collector.
pub struct Collector {
    spans: mpsc::Receiver<SpanData>,
    lost: Arc<AtomicU64>,
    exporter: SpanExporter,
    failure: Failure,
    is_failing: bool,
}

impl Collector {
    /// The way to the collector that `settings` name; `None`: they name none.
    pub(super) fn new(
        settings: &TraceSettings,
        service: &str,
        env: &Env,
    ) -> anyhow::Result<Option<(Queue, Self)>> {
        let ratio = settings.sample_ratio;
        ensure!((0.0..=1.0).contains(&ratio), "trace.sample_ratio = {ratio}: it goes from 0 to 1");
        let url = settings.otlp_url.trim_end_matches('/');
        if url.is_empty() {
            return Ok(None);
        }
        ensure!(
            url.starts_with("https://") || url.starts_with("http://"),
            "trace.otlp_url = {url:?} is wrong: it begins with https://, or with http:// within your own network"
        );
        let http = http_client("trace", url, &settings.ca_file)?;
        let failure = Failure::default();
        let client = CollectorClient { http, timeout: TIMEOUT, failure: failure.clone() };
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{url}/v1/traces"))
            .with_timeout(TIMEOUT)
            .build()
            .with_context(|| format!("trace.otlp_url = {url:?} is wrong"))?;
        exporter.set_resource(&resource(service, env));
        let (sender, spans) = mpsc::channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        let queue = Queue { spans: sender, lost: Arc::clone(&lost) };
        Ok(Some((queue, Self { spans, lost, exporter, failure, is_failing: false })))
    }

    /// Takes spans out until `stop`, and then what is left as long as the collector takes it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = self.spans.recv_many(&mut batch, BATCH) => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = fill(&mut self.spans, &mut batch) => {}
            }
            self.send(std::mem::take(&mut batch)).await;
        }
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
            if batch.len() == BATCH && !self.send(std::mem::take(&mut batch)).await {
                return;
            }
        }
        self.send(batch).await;
    }

    /// Whether the collector took them.
    async fn send(&mut self, batch: Vec<SpanData>) -> bool {
        if batch.is_empty() {
            return true;
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        match self.exporter.export(batch).await {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(lost, "the collector takes spans again");
                } else if lost > 0 {
                    tracing::warn!(lost, "spans came faster than the collector takes them");
                }
            }
            Err(error) => {
                self.lost.fetch_add(count, Ordering::Relaxed);
                if !self.is_failing {
                    self.is_failing = true;
                    let cause = self.failure.take();
                    tracing::warn!(%error, cause, "spans can't be exported and are dropped until they can");
                }
            }
        }
        !self.is_failing
    }
}

async fn fill(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    let full = async {
        while batch.len() < BATCH && spans.recv_many(batch, BATCH - batch.len()).await > 0 {}
    };
    // Time that runs out is a batch that is not full.
    let _ = tokio::time::timeout(LINGER, full).await;
}

fn resource(service: &str, env: &Env) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.namespace", "stockloop"),
            KeyValue::new("service.name", service.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", env.event_id().to_string()),
        ])
        .build()
}
