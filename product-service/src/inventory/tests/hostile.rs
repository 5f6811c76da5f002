//! Requests that nobody should send.

use std::time::Duration;

use actix_web::FromRequest;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::rt::System;
use actix_web::test::TestRequest;
use actix_web::web::Bytes;
use common::http::{Problem, ProblemResult, StrictJson};
use serde::de::DeserializeOwned;
use serde_json::Value;
use stockloop_tests::fuzz::{self, Input, Target};
use stockloop_tests::http::TestResponse;
use stockloop_tests::on_every_database;
use tokio::time::timeout;

use super::product_fixture::{ProductFixture, content};
use crate::inventory::{Adjustment, AdjustmentBatch, ProductBatch, ProductContent};

/// How long one request may take.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn any_body_is_read_or_refused() {
    let system = System::new();
    fuzz::apart(Target::Bodies, |input| {
        let body = Bytes::from(input.bytes());
        system.block_on(async {
            assert_told(read::<ProductContent>(&body).await);
            assert_told(read::<Adjustment>(&body).await);
            assert_told(read::<AdjustmentBatch>(&body).await);
            if let Some(batch) = assert_told(read::<ProductBatch>(&body).await)
                && let Err((field, _)) = batch.mode()
            {
                assert!(["reason", "reference"].contains(&field), "{field}");
            }
        });
    });
}

async fn read<T: DeserializeOwned + 'static>(body: &Bytes) -> ProblemResult<T> {
    let request = TestRequest::put().insert_header((CONTENT_TYPE, "application/json"));
    let (request, mut payload) = request.set_payload(body.clone()).to_http_parts();
    let read = StrictJson::<T>::from_request(&request, &mut payload).await?;
    assert_eq!(read.bytes, *body);
    Ok(read.value)
}

fn assert_told<T>(read: Result<T, Problem>) -> Option<T> {
    read.inspect_err(|problem| {
        assert!(matches!(problem.status, 400 | 413 | 422), "{problem:?}");
        assert!(!problem.detail.is_empty(), "{problem:?}");
    })
    .ok()
}

on_every_database!(&ProductFixture::new => no_request_is_the_services_fault);

async fn no_request_is_the_services_fault(fixture: &ProductFixture) {
    fixture.stock("TEA", 5).await;
    for input in fuzz::inputs_of(Target::Requests) {
        // What no HTTP server takes for a request does not come this far.
        let Some(request) = request_of(&input) else { continue };
        let answer = timeout(LONGEST, fixture.call(request)).await;
        let answer = answer.unwrap_or_else(|_late| panic!("there is no answer to {input:?}"));
        assert_answered(&answer, &input);
    }
    let events = fixture.events().await.len();
    assert_eq!(fixture.put("GOOD", &[], content(1)).await.status, 201);
    assert_eq!(fixture.events().await.len(), events + 1, "the others go on");
}

/// The request that an input is: method and address, headers, an empty line, and the body.
fn request_of(input: &Input) -> Option<TestRequest> {
    let (head, body) = input.head_and_body();
    let (first, headers) = head.split_first()?;
    let (method, address) = std::str::from_utf8(first).ok()?.split_once(' ')?;
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    if !address.starts_with('/') || address.parse::<Uri>().is_err() {
        return None;
    }
    let mut request = TestRequest::with_uri(address).method(method);
    for line in headers {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.append_header((name, value));
    }
    Some(request.set_payload(body.unwrap_or_default()))
}

#[track_caller]
fn assert_answered(answer: &TestResponse, input: &Input) {
    let status = answer.status.as_u16();
    assert!(status < 500, "{answer:?} to {input:?}");
    // Where there is no route, the service says so, which is not mounted here.
    if status >= 400 && answer.body != Value::Null {
        let body = &answer.body;
        assert_eq!(answer.header("content-type"), "application/problem+json", "{input:?}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
        assert_eq!(body["status"], status);
    }
}
