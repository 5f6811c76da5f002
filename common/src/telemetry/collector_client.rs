//! What spans are sent with: it keeps why it failed, of which the exporter tells only that it did.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Response};
use opentelemetry_http::HttpError;
use tokio::time::timeout;

use crate::duration::written;
use crate::http_client::{HttpClient, root_cause};

/// More than a collector has to say.
const MAX_ANSWER: usize = 1 << 20;

/// Sends what the exporter has written.
#[derive(Debug)]
pub(super) struct CollectorClient {
    pub(super) http: HttpClient,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    pub(super) failure: Failure,
}

/// Why a request failed last; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<String>>>);

impl Failure {
    fn note(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }

    /// What was noted since this was asked the last time.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl opentelemetry_http::HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answered = timeout(self.timeout, self.exchange(request)).await;
        let answered = answered.unwrap_or_else(|_elapsed| {
            Err(format!("no answer within {}", written(self.timeout)).into())
        });
        answered.inspect_err(|error| self.failure.note(root_cause(&**error)))
    }
}

impl CollectorClient {
    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.http.request(request.map(Full::new)).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use opentelemetry_http::HttpClient as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::http_client::http_client;

    /// Longer than any test takes.
    const MINUTE: Duration = Duration::from_secs(60);

    /// What becomes of a request, and why it failed.
    async fn sent(listener: &TcpListener, timeout: Duration) -> (Option<Bytes>, Option<String>) {
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let http = http_client("trace", &url, "").unwrap();
        let client = CollectorClient { http, timeout, failure: Failure::default() };
        let request = Request::post(&url).body(Bytes::from_static(b"spans")).unwrap();
        let answer = client.send_bytes(request).await.map(Response::into_body);
        (answer.ok(), client.failure.take())
    }

    #[tokio::test]
    async fn an_answer_is_passed_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 4_096]).await.unwrap(), 0, "a request came");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await.unwrap();
            stream
        };
        let (sent, _open) = tokio::join!(sent(&listener, MINUTE), answer);
        assert_eq!(sent, (Some(Bytes::from_static(b"OK")), None));
    }

    #[tokio::test]
    async fn why_there_is_none_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = sent(&listener, Duration::from_millis(100)).await;
        assert_eq!(silent, (None, Some("no answer within 100ms".to_owned())));
        // A new one: the connection of before still waits at that one.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cut = async { drop(listener.accept().await.unwrap()) };
        let ((answer, why), ()) = tokio::join!(sent(&listener, MINUTE), cut);
        let is_of_time = why.as_ref().is_none_or(|why| why.contains("no answer within"));
        assert!(answer.is_none() && !is_of_time, "{answer:?} {why:?}");
    }
}
