//! A collector of traces: takes OTLP over HTTP and keeps every span.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use stockloop_tests::poll::eventually;

use super::DEADLINE;

/// A span as it came.
#[derive(Debug, Clone)]
pub(crate) struct CollectedSpan {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty: none.
    pub(crate) parent: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) failed: bool,
    pub(crate) started_ns: u64,
    pub(crate) ended_ns: u64,
}

/// The collector; it ends when dropped.
pub(crate) struct TraceCollector {
    pub(crate) url: String,
    port: u16,
    spans: Arc<Mutex<Vec<CollectedSpan>>>,
    server: ServerHandle,
}

impl TraceCollector {
    pub(crate) fn start() -> Self {
        let spans = Arc::<Mutex<Vec<CollectedSpan>>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (url, port) = (format!("http://{address}"), address.port());
        let kept = Arc::clone(&spans);
        let factory = move || {
            App::new()
                .app_data(web::PayloadConfig::new(16 << 20))
                .app_data(web::Data::from(Arc::clone(&kept)))
                .route("/v1/traces", web::post().to(collect))
        };
        let server = HttpServer::new(factory).workers(1).disable_signals();
        let server = server.listen(listener).expect("the collector listens").run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { url, port, spans, server: handle }
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<CollectedSpan> {
        self.spans.lock().expect("nobody panics with it").clone()
    }

    /// Waits for the one span that `wanted` describes.
    pub(crate) async fn wait_for_span(
        &self,
        what: &str,
        wanted: impl Fn(&CollectedSpan) -> bool,
    ) -> CollectedSpan {
        eventually(what, DEADLINE, async || {
            let spans = self.spans();
            let found: Vec<&CollectedSpan> = spans.iter().filter(|span| wanted(span)).collect();
            match found.as_slice() {
                [span] => Ok((*span).clone()),
                _ => Err(spans),
            }
        })
        .await
    }
}

impl Drop for TraceCollector {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

impl CollectedSpan {
    fn new(service: &str, span: Span) -> Self {
        Self {
            service: service.to_owned(),
            kind: span.kind(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            failed: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
            started_ns: span.start_time_unix_nano,
            ended_ns: span.end_time_unix_nano,
            attributes: attributes(span.attributes),
            name: span.name,
        }
    }

    /// An attribute that has to be there.
    #[track_caller]
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).unwrap_or_else(|| panic!("{self:?} has no {name}"))
    }
}

async fn collect(
    collected: web::Data<Mutex<Vec<CollectedSpan>>>,
    body: web::Bytes,
) -> HttpResponse {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP as protobuf");
    let mut collected = collected.lock().expect("nobody panics with it");
    for resource in request.resource_spans {
        let of_service = attributes(resource.resource.unwrap_or_default().attributes);
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        collected.extend(spans.map(|span| CollectedSpan::new(&of_service["service.name"], span)));
    }
    HttpResponse::Ok().content_type("application/x-protobuf").finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    list.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}
