//! Request bodies: of limited size, within a limited time; JSON of the declared type, without unknown fields. Errors name the
//! field.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use serde_path_to_error::{Path, Segment};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::{Connection, Problem, ProblemResult};

/// A body with more bytes counts as a large one.
const LARGE: usize = 64 << 10;

/// Large bodies that may come at the same time: what they take of the memory is bounded, however many connections there are.
const LARGE_AT_ONCE: usize = 64;

/// For how much longer a connection is left to a client whose body is late: long enough for the answer that says so.
const FOR_THE_ANSWER: Duration = Duration::from_secs(2);

/// How large a body may be, and how long it may take to come; put into the app's data by the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyLimit {
    bytes: usize,
    within: Duration,
    large: Arc<Semaphore>,
}

impl BodyLimit {
    /// Up to so many bytes, within so long.
    pub fn new(bytes: usize, within: Duration) -> Self {
        Self { bytes, within, large: Arc::new(Semaphore::new(LARGE_AT_ONCE)) }
    }
}

impl Default for BodyLimit {
    fn default() -> Self {
        Self::new(1 << 20, Duration::from_secs(30))
    }
}

/// A JSON body and its bytes (an `Idempotency-Key` is bound to them).
#[derive(Debug)]
pub struct StrictJson<T> {
    /// What it says.
    pub value: T,
    /// What was sent.
    pub bytes: web::Bytes,
}

impl<T: DeserializeOwned + 'static> FromRequest for StrictJson<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request);
        let bytes = read_body(request, payload);
        Box::pin(async move {
            if !is_json {
                return Err(Problem::unsupported_media_type());
            }
            let bytes = bytes.await?;
            let value = parse(&bytes)?;
            Ok(Self { value, bytes })
        })
    }
}

/// A [`StrictJson`] that may be left out: then it is the type's default.
#[derive(Debug)]
pub struct OptionalJson<T>(pub StrictJson<T>);

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalJson<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request);
        let bytes = read_body(request, payload);
        Box::pin(async move {
            let bytes = bytes.await?;
            let value = match bytes.is_empty() {
                true => T::default(),
                false if is_json => parse(&bytes)?,
                false => return Err(Problem::unsupported_media_type()),
            };
            Ok(Self(StrictJson { value, bytes }))
        })
    }
}

fn is_json(request: &HttpRequest) -> bool {
    request.headers().contains_key(CONTENT_TYPE)
        && request.content_type().eq_ignore_ascii_case("application/json")
}

/// The body, as far as it is as large as it may be and comes in time.
pub fn read_body(
    request: &HttpRequest,
    payload: &mut Payload,
) -> LocalBoxFuture<'static, ProblemResult<web::Bytes>> {
    let limit = request.app_data::<web::Data<BodyLimit>>();
    let limit = limit.map_or_else(BodyLimit::default, |limit| limit.get_ref().clone());
    let turn = request.conn_data::<Connection>().map(Connection::turn);
    let body = web::Payload::from_request(request, payload).into_inner();
    Box::pin(async move {
        let body = body.map_err(|error| Problem::malformed(error.to_string()))?;
        turn.iter()
            .for_each(|turn| turn.client_within(limit.within.saturating_add(FOR_THE_ANSWER)));
        let read = timeout(limit.within, limit.read(body)).await;
        turn.iter().for_each(|turn| turn.service());
        read.unwrap_or_else(|_late| Err(Problem::body_late(limit.within)))
    })
}

impl BodyLimit {
    async fn read(&self, mut body: web::Payload) -> ProblemResult<web::Bytes> {
        let (mut bytes, mut room) = (web::BytesMut::new(), None);
        while let Some(part) = body.next().await {
            let part =
                part.map_err(|error| Problem::malformed(format!("the body ended early: {error}")))?;
            let length = bytes.len() + part.len();
            if length > self.bytes {
                return Err(Problem::too_large(self.bytes));
            }
            if length > LARGE && room.is_none() {
                room = Some(self.room().await?);
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }

    /// Room for a large body, as soon as there is some: many that come quickly only wait for each other.
    async fn room(&self) -> ProblemResult<SemaphorePermit<'_>> {
        let room = timeout(self.within / 4, self.large.acquire()).await;
        room.ok().and_then(Result::ok).ok_or_else(too_many_large)
    }
}

fn too_many_large() -> Problem {
    Problem::unavailable(format!(
        "{LARGE_AT_ONCE} bodies of more than {LARGE} bytes are on their way already; try again shortly"
    ))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().clone();
        let cause = error.into_inner();
        if !cause.is_data() {
            return serde_json::from_slice(bytes).map_or_else(
                |_| Problem::malformed(format!("the body is not JSON: {cause}")),
                |body| Problem::invalid(field_of(&path.to_string(), ""), one_of::<T>(body, &path)),
            );
        }
        let reason = cause.to_string();
        Problem::invalid(field_of(&path.to_string(), &reason), reason)
    })?;
    json.end().map_err(|error| Problem::malformed(format!("the body is not JSON: {error}")))?;
    match holds_nul(bytes) {
        true => Err(nul_in(bytes)),
        false => Ok(value),
    }
}

/// Whether a text in this JSON holds U+0000: not every database can store that. It can only be there as an escape.
fn holds_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(place) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = rest.get(place..).unwrap_or_default();
        if escape.starts_with(br"\u0000") {
            return true;
        }
        // What is escaped may be a backslash itself.
        rest = escape.get(2..).unwrap_or_default();
    }
    false
}

fn nul_in(json: &[u8]) -> Problem {
    let body: Value = serde_json::from_slice(json).unwrap_or_default();
    let place = place_of_nul(&body).unwrap_or_default();
    Problem::invalid(place, "it holds U+0000, which no text here may; leave that out")
}

/// Where the first text with U+0000 is, such as `lines[3].sku`; empty for the whole.
fn place_of_nul(body: &Value) -> Option<String> {
    match body {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            place_of_nul(item).map(|place| within(&format!("[{index}]"), &place))
        }),
        Value::Object(fields) => {
            fields.iter().find_map(|(name, value)| match name.contains('\0') {
                true => Some(String::new()),
                false => place_of_nul(value).map(|place| within(name, &place)),
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn within(outer: &str, inner: &str) -> String {
    let dot = if inner.is_empty() || inner.starts_with('[') { "" } else { "." };
    format!("{outer}{dot}{inner}")
}

/// What is wrong with a body that is JSON where reading it as `T` met none: no alternative is given at `path`, or several.
fn one_of<T: DeserializeOwned>(mut body: Value, path: &Path) -> String {
    let place = path.iter().try_fold(&mut body, |place, segment| match segment {
        Segment::Map { key } | Segment::Enum { variant: key } => place.get_mut(key),
        Segment::Seq { index } => place.get_mut(index),
        Segment::Unknown => None,
    });
    // serde tells the names of alternatives only where it meets another one.
    if let Some(place) = place {
        *place = json!({ "": null });
    }
    let error = T::deserialize(body).err().map(|error| error.to_string()).unwrap_or_default();
    match error.split_once(", expected ") {
        Some((_, names)) => {
            let names = names.strip_prefix("one of ").unwrap_or(names);
            format!("give exactly one of these here: {names}")
        }
        None => "give exactly one of the alternatives here".to_owned(),
    }
}

/// The field at fault: where reading stopped, and for one that is missing or there twice, its own name.
fn field_of(path: &str, reason: &str) -> String {
    let path = if path == "." { "" } else { path };
    let named = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| reason.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    match named {
        None => path.to_owned(),
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
    }
}

/// A struct read from a JSON object only: serde by itself takes an array of the fields' values as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use futures::{Stream, stream};

    use super::*;

    /// What comes of a body of these parts.
    async fn read(
        limit: &BodyLimit,
        parts: impl Stream<Item = &'static [u8]> + 'static,
    ) -> ProblemResult<web::Bytes> {
        let request = TestRequest::default().app_data(web::Data::new(limit.clone()));
        let parts = parts.map(|part| Ok::<_, PayloadError>(web::Bytes::from_static(part)));
        let mut payload: Payload = Payload::Stream { payload: Box::pin(parts) };
        read_body(&request.to_http_request(), &mut payload).await
    }

    fn told(read: ProblemResult<web::Bytes>) -> (u16, String) {
        let problem = read.unwrap_err();
        (problem.status, problem.kind)
    }

    #[actix_web::test]
    async fn a_body_has_a_size_and_a_time() {
        let limit = BodyLimit::new(4, Duration::from_secs(60));
        let parts = |parts: &'static [&'static [u8]]| stream::iter(parts.iter().copied());
        assert_eq!(read(&limit, parts(&[b"fo", b"ur"])).await.unwrap(), "four");
        assert_eq!(read(&limit, parts(&[])).await.unwrap(), "");
        let too_large = (413, "urn:stockloop:problem:too-large".to_owned());
        assert_eq!(told(read(&limit, parts(&[b"fou", b"rs"])).await), too_large);
        let endless = stream::repeat::<&[u8]>(b"more");
        assert_eq!(told(read(&limit, endless).await), too_large);
        let limit = BodyLimit::new(4, Duration::from_millis(10));
        let slow = parts(&[b"one"]).chain(stream::pending());
        let late = (408, "urn:stockloop:problem:body-late".to_owned());
        assert_eq!(told(read(&limit, slow).await), late);
    }

    #[test]
    fn a_text_with_nul_is_refused_by_its_place() {
        let parse = |json: &str| super::parse::<BTreeMap<String, Value>>(json.as_bytes());
        for json in [r#"{"a":"\\u0000"}"#, r#"{"a":"\u0001"}"#, r#"{"a":"\\"}"#, r#"{"u0000":1}"#] {
            assert!(parse(json).is_ok(), "{json}");
        }
        for (json, place) in [
            (r#"{"a":"\u0000"}"#, "a"),
            (r#"{"a":"\\\u00001"}"#, "a"),
            (r#"{"a":[1,{"b":[[""],["x\u0000"]]}]}"#, "a[1].b[1][0]"),
            (r#"{"a":{"b\u0000":1}}"#, "a"),
            (r#"{"\u0000":1}"#, ""),
        ] {
            let problem = parse(json).unwrap_err();
            let field = problem.field.clone().unwrap_or_default();
            assert_eq!((problem.status, field.as_str()), (422, place), "{json}");
            assert!(problem.detail.contains("U+0000"), "{problem}");
        }
    }

    /// A body that is just too large to need no room.
    fn large() -> impl Stream<Item = &'static [u8]> {
        static PART: [u8; LARGE] = [b'x'; LARGE];
        stream::iter([&PART[..], b"x"])
    }

    #[actix_web::test]
    async fn no_more_large_bodies_come_at_once_than_there_is_room_for() {
        let limit = BodyLimit::new(1 << 20, Duration::from_millis(40));
        let room = limit.large.acquire_many(LARGE_AT_ONCE as u32).await.unwrap();
        let busy = (503, "urn:stockloop:problem:unavailable".to_owned());
        assert_eq!(told(read(&limit, large()).await), busy);
        assert_eq!(read(&limit, large().take(1)).await.unwrap().len(), LARGE);
        drop(room);
        assert_eq!(read(&limit, large()).await.unwrap().len(), LARGE + 1);
        assert_eq!(limit.large.available_permits(), LARGE_AT_ONCE);
    }

    #[actix_web::test]
    async fn a_large_body_waits_for_room() {
        let limit = BodyLimit::new(1 << 20, Duration::from_secs(240));
        let room = limit.large.acquire_many(LARGE_AT_ONCE as u32).await.unwrap();
        let (body, ()) = tokio::join!(read(&limit, large()), async { drop(room) });
        assert_eq!(body.unwrap().len(), LARGE + 1);
    }
}
