//! Request bodies: JSON of the declared type, of limited size, without unknown fields; errors name the field.

use std::fmt;
use std::marker::PhantomData;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};
use futures::future::LocalBoxFuture;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use serde_path_to_error::{Path, Segment};

use super::Problem;

/// How large a body may be; put into the app's data by the service.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

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
        let bytes = read(request, payload);
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
        let bytes = read(request, payload);
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

/// The body, up to the allowed size.
fn read(
    request: &HttpRequest,
    payload: &mut Payload,
) -> LocalBoxFuture<'static, Result<web::Bytes, Problem>> {
    let limit = request.app_data::<web::Data<BodyLimit>>().map_or(1 << 20, |limit| limit.0);
    let body = web::Payload::from_request(request, payload).into_inner();
    Box::pin(async move {
        let body = body.map_err(|error| Problem::malformed(error.to_string()))?;
        match body.to_bytes_limited(limit).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(Problem::malformed(format!("the body ended early: {error}"))),
            Err(_too_large) => Err(Problem::too_large(limit)),
        }
    })
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
    Ok(value)
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
