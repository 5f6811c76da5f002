//! What a schema calls required, optional, open, of a type or out of bounds is what the services' readers make of it.

mod bounds;

use common::clock::Timestamp;
use common::event::{Event, EventType};
use common::ids::EventId;
use common::inventory::{CHANGED, InventorySnapshot, REMOVED};
use common::orders::{CANCELLED, Deduction, OrderId, PLACED, Refusal, Return};
use engine::kafka::AckBatch;
use product_service::orders::check_command;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{array, object, present, resolved};

type Reader = fn(&Value) -> Result<(), String>;

/// Each schema, and each part that is read by itself, with its reader.
const READERS: [(&str, &str, Reader); 8] = [
    ("stockloop.inventory.changed.v1", "", |data| snapshot(CHANGED, data)),
    ("stockloop.inventory.removed.v1", "", |data| snapshot(REMOVED, data)),
    ("stockloop.order.placed.v1", "", |data| command(PLACED, data)),
    ("stockloop.order.cancelled.v1", "", |data| command(CANCELLED, data)),
    ("stockloop.acks.v1", "", read::<AckBatch>),
    ("stockloop.acks.v1", "/$defs/deduction", read::<Deduction>),
    ("stockloop.acks.v1", "/$defs/refusal", read::<Refusal>),
    ("stockloop.acks.v1", "/$defs/return", read::<Return>),
];

fn read<T: DeserializeOwned>(data: &Value) -> Result<(), String> {
    serde_json::from_str::<T>(&data.to_string()).map(drop).map_err(|error| error.to_string())
}

/// The message's key is the SKU, as far as there is one.
fn snapshot(event_type: EventType, data: &Value) -> Result<(), String> {
    let key = data["sku"].as_str().unwrap_or_default().to_owned();
    let read = InventorySnapshot::of(&event(event_type, key, data));
    read.map(drop).map_err(|error| error.to_string())
}

/// The message's key is the order's id in its usual spelling, as far as there is one.
fn command(event_type: EventType, data: &Value) -> Result<(), String> {
    let id = data["order_id"].as_str().unwrap_or_default();
    let key = id.parse::<OrderId>().map_or_else(|_| id.to_owned(), |id| id.to_string());
    check_command(&event(event_type, key, data))
}

fn event(event_type: EventType, key: String, data: &Value) -> Event {
    Event {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse::<EventId>().expect("an id"),
        event_type: event_type.name.to_owned(),
        key,
        epoch: 1,
        attempt: 1,
        time: Timestamp::from_micros(0),
        traceparent: None,
        data: data.to_string().into_bytes(),
    }
}

/// An example of a schema with one thing changed, and whether it can be read all the same.
struct Variation {
    what: String,
    data: Value,
    is_read: bool,
}

#[test]
fn readers_need_what_is_required_and_bear_what_may_be_added() {
    for (name, part, reader) in READERS {
        let document = &present()[name];
        let schema = document.pointer(part).expect("the part");
        let mut tried = 0;
        for example in array(&schema["examples"]) {
            assert_eq!(reader(example), Ok(()), "{name}{part}: {example}");
            for Variation { what, data, is_read } in variations(document, schema, example) {
                let outcome = reader(&data);
                assert_eq!(outcome.is_ok(), is_read, "{name}{part}: {what}: {outcome:?}\n{data}");
                tried += 1;
            }
        }
        assert!(tried > 5, "{name}{part}: its examples try little");
    }
    let read: Vec<&str> = READERS.iter().map(|(name, ..)| *name).collect();
    assert!(present().keys().all(|name| read.contains(&&**name)), "each schema has its reader");
}

/// So the variations come by all of them.
#[test]
fn each_field_is_in_an_example() {
    let present = present();
    let mut shown: Vec<(String, Value, Value)> = Vec::new();
    for (name, part, _) in READERS {
        let document = &present[name];
        let schema = document.pointer(part).expect("the part");
        for example in array(&schema["examples"]) {
            let mut places = Vec::new();
            collect(document, schema, example, "", &mut places);
            let place = |(at, schema): (String, Value)| {
                let value = example.pointer(&at).expect("the place").clone();
                (format!("{name}{part}{at}"), schema, value)
            };
            shown.extend(places.into_iter().map(place));
        }
    }
    for (at, schema, _) in &shown {
        for (field, _) in object(&schema["properties"]) {
            let mut alike = shown.iter().filter(|(_, other, _)| other == schema);
            let is_shown = alike.any(|(_, _, value)| value.get(field).is_some());
            assert!(is_shown, "{at}: no example has {field}");
        }
    }
}

fn variations(document: &Value, schema: &Value, example: &Value) -> Vec<Variation> {
    let mut places = Vec::new();
    collect(document, schema, example, "", &mut places);
    places.iter().flat_map(|(at, schema)| of_place(example, at, schema)).collect()
}

/// All places of a value that a schema tells of, with what it says there.
fn collect(
    document: &Value,
    schema: &Value,
    value: &Value,
    at: &str,
    places: &mut Vec<(String, Value)>,
) {
    let schema = resolved(document, schema);
    for (name, value) in object(value) {
        let known = schema["properties"].get(name);
        if let Some(inner) = known.or(schema.get("additionalProperties")) {
            collect(document, inner, value, &format!("{at}/{name}"), places);
        }
    }
    for (n, value) in array(value).enumerate() {
        collect(document, &schema["items"], value, &format!("{at}/{n}"), places);
    }
    places.push((at.to_owned(), schema));
}

fn of_place(example: &Value, at: &str, schema: &Value) -> Vec<Variation> {
    let with = |what: String, is_read: bool, change: &dyn Fn(&mut Value)| {
        let mut data = example.clone();
        change(data.pointer_mut(at).expect("the place"));
        Variation { what, data, is_read }
    };
    let mut all = Vec::new();
    if let Some(wrong) = of_another_type(schema) {
        all.push(with(format!("{at} is {wrong}"), false, &|place| *place = wrong.clone()));
    }
    if schema["enum"].is_array() {
        all.push(with(format!("{at} is new"), false, &|place| *place = json!("NEW")));
    }
    if schema["x-extensible-enum"].is_array() {
        all.push(with(format!("{at} is new"), true, &|place| *place = json!("new")));
    }
    if let Some(constant) = schema["const"].as_bool() {
        all.push(with(format!("{at} is another"), false, &|place| *place = json!(!constant)));
    }
    if schema["properties"].is_object() {
        let added = |place: &mut Value| place["since_later"] = json!([1]);
        all.push(with(format!("{at} has an unknown field"), true, &added));
    }
    for (field, _) in object(&schema["properties"]) {
        let required = array(&schema["required"]).any(|name| name == field);
        let gone = |place: &mut Value| {
            place.as_object_mut().expect("an object").remove(field);
        };
        all.push(with(format!("{at} lacks {field}"), !required, &gone));
    }
    all
}

fn of_another_type(schema: &Value) -> Option<Value> {
    match schema["type"].as_str()? {
        "string" | "object" => Some(json!(5)),
        _ => Some(json!("x")),
    }
}
