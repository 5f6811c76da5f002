//! The bounds of a schema are those of its reader: what lies at one is read, what lies beyond is refused, and so the
//! other way round.

use common::clock::Timestamp;
use common::ids::EventId;
use common::trace_context::TraceContext;
use jsonschema::{Draft, Validator};
use order_service::orders::Customer;
use product_service::inventory::{Description, Price};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{READERS, Reader, array, collect, present, resolved};

/// Where a reader bears more than services write: where it is, the keyword that refuses it, and whether a service could
/// write a value that lies there.
///
/// All else that a schema refuses has to be refused by its reader, too.
type Borne = (&'static str, &'static str, fn(&Value) -> bool);

const BORNE: [Borne; 16] = [
    // What requests may bring in: the copy keeps all that it is told.
    ("/description", "maxLength", can_be_asked_for::<Description>),
    ("/unit_price_minor", "minimum", can_be_asked_for::<Price>),
    // The owner of the stock does not look at it.
    ("/customer", "minLength", can_be_asked_for::<Customer>),
    ("/customer", "maxLength", can_be_asked_for::<Customer>),
    // Events have one spelling of each moment; readers take any of RFC 3339.
    ("/updated_at", "pattern", is_moment),
    ("/placed_at", "pattern", is_moment),
    ("/cancelled_at", "pattern", is_moment),
    // Here any is meant, but a space for the T, or U+2212 for the minus, is RFC 3339 to few.
    ("/processed_at", "pattern", is_moment),
    // Readers also take UUIDs without hyphens, in braces, and as URNs.
    ("/order_id", "pattern", is_id),
    ("/event_id", "pattern", is_id),
    // Noise counts as no trace, as W3C asks.
    ("/traceparent", "pattern", is_trace),
    // Numbers that only compare: one that no message had answers none.
    ("/attempt", "minimum", |value| is_at_least(value, 1)),
    ("/partition", "minimum", |value| is_at_least(value, 0)),
    ("/offset", "minimum", |value| is_at_least(value, 0)),
    ("/epoch", "minimum", |value| is_at_least(value, 1)),
    ("/versions/85123A", "minimum", |value| is_at_least(value, 1)),
];

fn can_be_asked_for<T: DeserializeOwned>(value: &Value) -> bool {
    serde_json::from_value::<T>(value.clone()).is_ok()
}

fn is_moment(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        text.parse::<Timestamp>().is_ok_and(|moment| moment.to_string() == text)
    })
}

fn is_id(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.parse::<EventId>().is_ok_and(|id| id.to_string() == text))
}

fn is_trace(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<TraceContext>().is_ok())
}

fn is_at_least(value: &Value, least: i64) -> bool {
    value.as_i64().is_some_and(|number| number >= least)
}

/// Texts that some field takes and some field refuses, beside those that [`odd`] makes.
const TEXTS: &[&str] = &[
    "",
    "a",
    "a b",
    ".",
    "..",
    "...",
    ".a",
    "%2F",
    "📦",
    "a📦",
    "u\u{308}",
    // UUIDs in each spelling that a reader knows, and what is none.
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "01890A5D-AC96-774B-BCCE-B302099A8057",
    "00000000-0000-0000-0000-000000000000",
    "01890a5dac96774bbcceb302099a8057",
    "{01890a5d-ac96-774b-bcce-b302099a8057}",
    "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
    "01890a5d-ac96-774b-bcce-b302099a805",
    "01890a5d-ac96-774b-bcce-b302099a80577",
    "01890a5d-ac96-774b-bcceb-302099a8057",
    "01890a5d-ac96-774b-bcce-b302099a805g",
    // Traces, and noise.
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
    // Moments: days and times at their ends, fractions, offsets.
    "2026-01-05T12:00:00.123456Z",
    "2026-01-05T12:00:00.123456z",
    "2026-01-05t12:00:00.123456Z",
    "2026-01-05T12:00:00.12345Z",
    "2026-01-05T12:00:00.1234567Z",
    "2026-01-05T12:00:00.1Z",
    "2026-01-05T12:00:00.Z",
    "2026-01-05T12:00:00Z",
    "2026-01-05 12:00:00Z",
    "2026-01-05T12:00:00",
    "2026-01-05T12:00Z",
    "2026-01-05",
    "0000-01-01T00:00:00.000000Z",
    "9999-12-31T23:59:59.999999Z",
    "10000-01-01T00:00:00.000000Z",
    "2026-00-05T12:00:00.123456Z",
    "2026-13-05T12:00:00.123456Z",
    "2026-01-00T12:00:00.123456Z",
    "2026-01-32T12:00:00.123456Z",
    "2026-01-05T24:00:00.123456Z",
    "2026-01-05T12:60:00.123456Z",
    "2026-01-05T12:00:60.123456Z",
    "2026-01-05T12:00:61.123456Z",
    "2026-01-05T12:00:00.123456+23:59",
    "2026-01-05T12:00:00.123456-00:00",
    "2026-01-05T12:00:00.123456\u{2212}01:00",
    "2026-01-05T12:00:00.123456+24:00",
    "2026-01-05T12:00:00.123456+01:60",
    "2026-01-05T12:00:00.123456+0100",
    "2026-01-05T12:00:00.123456+01",
    "2026-01-05T12:00:00.123456Z\n",
];

/// Each control character, each white space, U+FFFD, and what stands beside them: alone, and at each place of a text.
fn odd() -> Vec<String> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || c == char::REPLACEMENT_CHARACTER;
    let beside = |c: char| u32::from(c).saturating_sub(1)..=u32::from(c) + 1;
    let odd = ('\0'..=char::MAX).filter(|c| is_odd(*c));
    let characters = odd.flat_map(beside).filter_map(char::from_u32);
    let placed = |c: char| [c.to_string(), format!("{c}a"), format!("a{c}"), format!("a{c}b")];
    characters.flat_map(placed).collect()
}

fn texts(schema: &Value, odd: &[String]) -> Vec<Value> {
    let mut all: Vec<Value> = TEXTS.iter().map(|text| json!(text)).collect();
    all.extend(odd.iter().map(|text| json!(text)));
    let bounds = ["minLength", "maxLength"].into_iter().filter_map(|bound| schema[bound].as_u64());
    for length in bounds.flat_map(|bound| [bound.saturating_sub(1), bound, bound + 1]) {
        let length = usize::try_from(length).expect("a length");
        // Characters count, not bytes, nor halves of a surrogate pair.
        all.extend(["a", "ß", "📦"].map(|character| json!(character.repeat(length))));
    }
    all
}

fn numbers(schema: &Value) -> Vec<Value> {
    let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
    let mut all =
        vec![json!(5.5), json!(1_u64 << 63), json!(2_f64.powi(70)), json!(-(2_f64.powi(70)))];
    all.extend([-1, 0, 1, least - 1, least, most, most + 1, i64::MIN, i64::MAX].map(Value::from));
    for bound in ["minimum", "maximum"].into_iter().filter_map(|bound| schema[bound].as_i64()) {
        let near = [bound.checked_sub(1), Some(bound), bound.checked_add(1)];
        all.extend(near.into_iter().flatten().map(Value::from));
    }
    all
}

/// An example with another value at one place.
struct Try {
    at: String,
    value: Value,
    data: Value,
}

impl Try {
    fn new(example: &Value, at: &str, value: Value) -> Self {
        let mut data = example.clone();
        *data.pointer_mut(at).expect("the place") = value.clone();
        Self { at: at.to_owned(), value, data }
    }
}

fn tries(document: &Value, schema: &Value, example: &Value, odd: &[String]) -> Vec<Try> {
    let mut places = Vec::new();
    collect(document, schema, example, "", &mut places);
    let mut all = Vec::new();
    for (at, schema) in &places {
        let values = match schema["type"].as_str() {
            Some("integer") => numbers(schema),
            Some("string") => texts(schema, odd),
            Some("array") => vec![json!([])],
            _ => Vec::new(),
        };
        all.extend(values.into_iter().map(|value| Try::new(example, at, value)));
        if schema["propertyNames"].is_object() {
            let names = texts(&resolved(document, &schema["propertyNames"]), odd);
            let names = names.iter().filter_map(Value::as_str);
            all.extend(names.map(|name| Try::new(example, at, json!({ name: 1 }))));
        }
    }
    all
}

/// What a schema, or a part of it, says without its formats: many validators take them for remarks.
fn validator(document: &Value, part: &str) -> Validator {
    let schema = match part {
        "" => document.clone(),
        part => json!({ "$ref": format!("#{part}"), "$defs": document["$defs"] }),
    };
    let options = jsonschema::options().with_draft(Draft::Draft202012);
    options.should_validate_formats(false).build(&schema).expect("the schemas are schemas")
}

#[test]
fn readers_have_the_bounds_of_their_schemas() {
    let odd = odd();
    let mut borne = [false; BORNE.len()];
    for (name, part, reader) in READERS {
        let document = &present()[name];
        let schema = document.pointer(part).expect("the part");
        let validator = validator(document, part);
        for example in array(&schema["examples"]) {
            for Try { at, value, data } in tries(document, schema, example, &odd) {
                let valid = validator.validate(&data);
                let refused = valid.err().map(|error| error.kind().keyword().to_owned());
                let read = reader(&data);
                let place = format!("{name}{part}: {at}: {value}");
                match (refused, read) {
                    (None, Ok(())) | (Some(_), Err(_)) => {}
                    (None, Err(error)) => panic!("{place}: the schema takes it: {error}"),
                    (Some(keyword), Ok(())) => {
                        let is_here = |one: &Borne| at.ends_with(one.0) && keyword == one.1;
                        let found = BORNE.iter().position(is_here);
                        let found = found.unwrap_or_else(|| panic!("{place}: {keyword}, but read"));
                        let (_, _, is_written) = BORNE[found];
                        assert!(!is_written(&value), "{place}: {keyword}, but written");
                        borne[found] = true;
                    }
                }
            }
        }
    }
    let unmet: Vec<(&str, &str)> = BORNE
        .iter()
        .zip(borne)
        .filter(|(_, is_met)| !is_met)
        .map(|((at, keyword, _), _)| (*at, *keyword))
        .collect();
    assert!(unmet.is_empty(), "readers do not bear this, so it is no exception: {unmet:?}");
}

/// What schemas have no words for, as their README says: they take it, and readers refuse it.
#[test]
fn what_no_schema_can_say_is_refused_all_the_same() {
    let [changed, placed, acks] =
        ["stockloop.inventory.changed.v1", "stockloop.order.placed.v1", "stockloop.acks.v1"];
    let line = |quantity: i64| json!({ "sku": "85123A", "quantity": quantity });
    for (name, at, value) in [
        (changed, "/quantity", json!(5.0)),
        (changed, "/quantity", json!(-0.0)),
        (changed, "/updated_at", json!("2026-02-30T12:00:00.123456Z")),
        (placed, "/lines/0/quantity", json!(5.0)),
        (placed, "/placed_at", json!("2025-02-29T12:00:00.123456Z")),
        (placed, "/lines", json!([line(i64::MAX), line(1)])),
        (acks, "/acks/0/attempt", json!(5.0)),
        (acks, "/acks/0/processed_at", json!("2026-04-31T12:00:00Z")),
    ] {
        let document = &present()[name];
        let reader = |(known, part, reader): &(&str, &str, Reader)| {
            (*known == name && part.is_empty()).then_some(*reader)
        };
        let reader = READERS.iter().find_map(reader).expect("its reader");
        let Try { data, .. } = Try::new(&document["examples"][0], at, value);
        assert!(validator(document, "").is_valid(&data), "{name}: now it can be said: {data}");
        assert!(reader(&data).is_err(), "{name}: it is read: {data}");
    }
}
