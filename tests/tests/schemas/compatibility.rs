//! Each schema of today, held against that of the last release in docs/schemas/released.
//!
//! Messages outlive a release: they lie in topics, and what was never answered is sent again from the outbox as it was
//! written. So the readers of today read old messages; and while instances of two releases run, readers of the last one
//! read new messages. Both hold if a schema only ever gets optional fields and values of `x-extensible-enum`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{add, array, in_folder, object, present, resolved};

/// How it ends where old messages would not pass a new schema.
const BACKWARD: &str = "new readers would refuse or misread old messages";

/// How it ends where new messages would not pass an old schema.
const FORWARD: &str = "old readers would refuse or misread new messages";

/// What `new` breaks of `old`, each in words.
fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison { old, new, found: Vec::new() };
    comparison.schemas("", old, new);
    comparison.found
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    found: Vec<String>,
}

impl Comparison<'_> {
    fn tell(&mut self, at: &str, what: &str, whom: &str) {
        let at = if at.is_empty() { "the data" } else { at };
        self.found.push(format!("{at}: {what}: {whom}"));
    }

    fn schemas(&mut self, at: &str, old: &Value, new: &Value) {
        let (old, new) = (resolved(self.old, old), resolved(self.new, new));
        let both = object(&old).chain(object(&new)).map(|(keyword, _)| keyword.as_str());
        for keyword in both.collect::<BTreeSet<_>>() {
            let (was, is) = (&old[keyword], &new[keyword]);
            match keyword {
                "title" | "description" | "examples" | "deprecated" | "$comment" | "$defs" => {}
                "properties" => self.fields(at, was, is),
                "required" => self.required(at, &old, &new),
                "type" => self.values(at, "the type", &types(was), &types(is)),
                "x-extensible-enum" => self.open_values(at, was, is),
                "enum" if was.is_array() && is.is_array() => {
                    self.values(at, "the value", &texts(was), &texts(is));
                }
                "items" | "additionalProperties" if was.is_object() && is.is_object() => {
                    self.schemas(&format!("{at}[]"), was, is);
                }
                "propertyNames" if was.is_object() && is.is_object() => {
                    self.schemas(&format!("the keys of {at}"), was, is);
                }
                "anyOf" if was.is_array() && is.is_array() => self.alternatives(at, was, is),
                "minimum" | "minLength" | "minItems" | "maximum" | "maxLength" | "maxItems"
                    if !was.is_f64() && !is.is_f64() =>
                {
                    self.bound(at, keyword, &old, &new);
                }
                _ => self.keyword(at, keyword, was, is),
            }
        }
    }

    fn fields(&mut self, at: &str, was: &Value, is: &Value) {
        for (name, field) in object(was) {
            let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            match is.get(name) {
                Some(new) => self.schemas(&at, field, new),
                None => {
                    self.tell(&at, "the field is gone", BACKWARD);
                    self.tell(&at, "the field is gone", FORWARD);
                }
            }
        }
    }

    fn required(&mut self, at: &str, old: &Value, new: &Value) {
        let (was, is) = (texts(&old["required"]), texts(&new["required"]));
        for name in is.difference(&was) {
            self.tell(at, &format!("{name} is required now, and was not always there"), BACKWARD);
        }
        for name in was.difference(&is) {
            self.tell(at, &format!("{name} was required, and may be missing now"), FORWARD);
        }
    }

    fn values(&mut self, at: &str, what: &str, was: &BTreeSet<String>, is: &BTreeSet<String>) {
        for value in was.difference(is) {
            self.tell(at, &format!("{what} {value} is gone"), BACKWARD);
        }
        for value in is.difference(was) {
            self.tell(at, &format!("{what} {value} is new"), FORWARD);
        }
    }

    /// Readers bear values that they don't know, so more of them break nothing.
    fn open_values(&mut self, at: &str, was: &Value, is: &Value) {
        for value in texts(was).difference(&texts(is)) {
            self.tell(at, &format!("the value {value} is gone"), BACKWARD);
        }
    }

    fn alternatives(&mut self, at: &str, was: &Value, is: &Value) {
        let (before, now) = (array(was).count(), array(is).count());
        if now != before {
            let whom = if now < before { BACKWARD } else { FORWARD };
            self.tell(at, &format!("it has {now} alternatives, and had {before}"), whom);
        }
        for (n, (was, is)) in array(was).zip(array(is)).enumerate() {
            self.schemas(&format!("{at}({n})"), was, is);
        }
    }

    fn bound(&mut self, at: &str, keyword: &str, old: &Value, new: &Value) {
        let (before, now) = (limit(old, keyword), limit(new, keyword));
        let is_narrower = if keyword.starts_with("min") { now > before } else { now < before };
        if before != now {
            let whom = if is_narrower { BACKWARD } else { FORWARD };
            let what = format!("{keyword} was {} and is {}", old[keyword], new[keyword]);
            self.tell(at, &what, whom);
        }
    }

    /// One that limits what may be said, in a way that can't be compared.
    fn keyword(&mut self, at: &str, keyword: &str, was: &Value, is: &Value) {
        if was == is {
            return;
        }
        let what = format!("{keyword} was {was} and is {is}");
        if !is.is_null() {
            self.tell(at, &what, BACKWARD);
        }
        if !was.is_null() {
            self.tell(at, &what, FORWARD);
        }
    }
}

/// How far a schema lets values go. The format of a whole number says that much, whether it is written out or not.
fn limit(schema: &Value, keyword: &str) -> i128 {
    let (least, most) = match schema["format"].as_str() {
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Some("int64") => (i128::from(i64::MIN), i128::from(i64::MAX)),
        _ => (i128::MIN, i128::MAX),
    };
    let stated = &schema[keyword];
    let stated = stated.as_i64().map(i128::from).or(stated.as_u64().map(i128::from));
    match keyword.starts_with("min") {
        true => stated.map_or(least, |stated| stated.max(least)),
        false => stated.map_or(most, |stated| stated.min(most)),
    }
}

/// The types that a value may have; whole numbers are numbers too. All of them where nothing is said.
fn types(keyword: &Value) -> BTreeSet<String> {
    let all = ["array", "boolean", "integer", "null", "number", "object", "string"];
    match keyword {
        Value::Null => all.map(str::to_owned).into(),
        Value::String(one) => types(&json!([one])),
        several => {
            let mut several = texts(several);
            if several.contains("number") {
                several.insert("integer".to_owned());
            }
            several
        }
    }
}

fn texts(list: &Value) -> BTreeSet<String> {
    array(list).map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect()
}

/// What the schemas of the last release said wrongly, by the name of the definition, as it should have been said.
///
/// Here belongs only what was true of the last release: its services wrote nothing else, and its readers took all of
/// it. So nothing changes for a message, and a later change of the same words is told as any other. The next release
/// has the right words, and its commit empties this list.
fn corrections() -> Value {
    let id = "^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$";
    let space = r"\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
    let no_sku = format!(r"[\u0000-\u001f\u007f-\u009f\ufffd]|^[ {space}]|[ {space}]$|^\.\.?$");
    let date = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
    let moment = [date, r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z$"].concat();
    let any_moment = [
        date,
        r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?",
        "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
    ]
    .concat();
    json!({
        // Readers have always refused the rest, and no product had such a SKU.
        "sku": { "not": { "pattern": no_sku } },
        "versions": { "propertyNames": { "$ref": "#/$defs/sku" } },
        // Readers have always refused it, and requests can't bring it in.
        "snapshot": { "properties": { "description": { "pattern": r"^[^\u0000]*$" } } },
        // The format says the same, where validators look at formats.
        "orderId": { "pattern": id },
        "moment": { "pattern": moment },
        // The same of the id. And readers have always taken any moment of RFC 3339.
        "ack": {
            "properties": { "event_id": { "pattern": id }, "processed_at": { "pattern": any_moment } }
        },
        // A database begins with 1.
        "deduction": { "properties": { "epoch": { "minimum": 1 } } },
    })
}

fn corrected(schema: &Value, corrections: &Value) -> Value {
    let mut schema = schema.clone();
    for (name, correction) in object(corrections) {
        if let Some(definition) = schema.pointer_mut(&format!("/$defs/{name}")) {
            add(definition, correction.clone());
        }
    }
    schema
}

/// What today's schemas break of those of the last release, where these are read with `corrections`.
fn broken(corrections: &Value) -> Vec<String> {
    let (released, present) = (in_folder("docs/schemas/released"), present());
    assert!(!released.is_empty(), "docs/schemas/released has the schemas of the last release");
    let mut found = Vec::new();
    for (name, old) in &released {
        match present.get(name) {
            None => found.push(format!("{name}: the schema is gone, and its messages are not")),
            Some(new) => {
                let breaks = breaks(&corrected(old, corrections), new);
                found.extend(breaks.iter().map(|one| format!("{name}: {one}")));
            }
        }
    }
    found
}

#[test]
fn what_was_released_is_still_understood() {
    let found = broken(&corrections());
    assert!(
        found.is_empty(),
        "A new version may only add (docs/schemas/README.md):\n{}",
        found.join("\n")
    );
}

#[test]
fn each_correction_corrects() {
    let all = corrections();
    for (name, _) in object(&all) {
        let mut others = all.clone();
        others.as_object_mut().expect("an object").remove(name);
        assert_ne!(broken(&others), [""; 0], "the last release says {name} rightly: leave it out");
    }
}

/// A schema of today with `value` at `pointer`, where null stands for nothing.
fn changed(name: &str, pointer: &str, value: Value) -> (Value, Value) {
    let old = present()[name].clone();
    let mut new = old.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = new.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    let parent = parent.as_object_mut().expect("an object");
    match value {
        Value::Null => drop(parent.remove(key).unwrap_or_else(|| panic!("{pointer}"))),
        value => drop(parent.insert(key.to_owned(), value)),
    }
    (old, new)
}

#[test]
fn what_is_added_breaks_nothing() {
    let snapshot = "/$defs/snapshot/properties";
    let kinds = json!([
        "put",
        "adjustment",
        "removal",
        "order",
        "repair",
        "resync",
        "bootstrap",
        "replay",
        "gift",
        "other"
    ]);
    for (pointer, value) in [
        (format!("{snapshot}/colour"), json!({ "type": "string" })),
        ("/$defs/cause/properties/by".to_owned(), json!({ "type": "object", "required": ["x"] })),
        ("/$defs/cause/properties/kind/x-extensible-enum".to_owned(), kinds),
        (format!("{snapshot}/quantity/description"), json!("Other words.")),
        (format!("{snapshot}/quantity/deprecated"), json!(true)),
        // The format has the same bounds.
        (format!("{snapshot}/quantity/minimum"), json!(null)),
        (format!("{snapshot}/quantity/maximum"), json!(null)),
        ("/examples".to_owned(), json!([])),
    ] {
        let (old, new) = changed("stockloop.inventory.changed.v1", &pointer, value);
        assert_eq!(breaks(&old, &new), [""; 0], "{pointer}");
        assert_ne!(old, new);
    }
}

/// Each kind of break: of which schema, where, what is there then, and what is told.
#[test]
fn each_kind_of_break_is_told() {
    let [placed, acks, inventory] =
        ["stockloop.order.placed.v1", "stockloop.acks.v1", "stockloop.inventory.changed.v1"];
    let quantity = "/$defs/line/properties/quantity";
    let ack = "/$defs/ack/properties";
    let of_quantity = |keyword: &str| format!("{quantity}/{keyword}");
    let of_ack = |field: &str| format!("{ack}/{field}");
    let both: &[&str] = &[BACKWARD, FORWARD];
    let (backward, forward) = (&both[..1], &both[1..]);
    let line = |fields: &[&str]| json!(fields);
    for (schema, pointer, value, words, whom) in [
        (placed, "/properties/customer".into(), json!(null), "customer: the field is gone", both),
        (acks, of_ack("detail"), json!(null), "acks[].detail: the field is gone", both),
        (
            placed,
            "/$defs/line/required".into(),
            line(&["sku", "quantity", "colour"]),
            "lines[]: colour is required now",
            backward,
        ),
        (
            acks,
            "/$defs/ack/required".into(),
            line(&["event_id", "attempt", "outcome", "consumer", "processed_at", "partition"]),
            "acks[]: partition is required now",
            backward,
        ),
        (
            placed,
            "/$defs/line/required".into(),
            line(&["sku"]),
            "quantity was required, and may be missing",
            forward,
        ),
        (
            placed,
            of_quantity("type"),
            json!("number"),
            "lines[].quantity: the type number is new",
            forward,
        ),
        (placed, of_quantity("type"), json!(["integer", "null"]), "the type null is new", forward),
        (
            inventory,
            "/$defs/snapshot/properties/quantity/type".into(),
            json!("string"),
            "quantity: the type ",
            both,
        ),
        (placed, of_quantity("minimum"), json!(2), "minimum was 1 and is 2", backward),
        (placed, of_quantity("minimum"), json!(0), "minimum was 1 and is 0", forward),
        (placed, of_quantity("minimum"), json!(null), "minimum was 1 and is null", forward),
        (placed, of_quantity("minimum"), json!(0.5), "minimum was 1 and is 0.5", both),
        (placed, of_quantity("maximum"), json!(10), "and is 10", backward),
        (placed, of_quantity("maximum"), json!(i64::MAX - 1), "maximum was", backward),
        (placed, of_quantity("format"), json!("int32"), "format was", both),
        (
            placed,
            "/properties/customer/maxLength".into(),
            json!(100),
            "maxLength was 200 and is 100",
            backward,
        ),
        (
            placed,
            "/properties/customer/maxLength".into(),
            json!(300),
            "maxLength was 200 and is 300",
            forward,
        ),
        (
            acks,
            of_ack("outcome/enum"),
            json!(["SUCCESS", "FAILED"]),
            "outcome: the value REJECTED is gone",
            backward,
        ),
        (
            acks,
            of_ack("outcome/enum"),
            json!(["SUCCESS", "REJECTED", "FAILED", "LATER"]),
            "outcome: the value LATER is new",
            forward,
        ),
        (acks, of_ack("outcome/enum"), json!(null), "enum was", forward),
        (acks, of_ack("detail/enum"), json!(["applied"]), "enum was null", backward),
        (
            acks,
            of_ack("detail/x-extensible-enum"),
            json!(["applied", "duplicate"]),
            "detail: the value superseded is gone",
            backward,
        ),
        (acks, of_ack("retryable/default"), json!(true), "default was false and is true", both),
        (
            acks,
            of_ack("result/anyOf"),
            json!([{ "$ref": "#/$defs/deduction" }]),
            "it has 1 alternatives, and had 3",
            backward,
        ),
        (
            acks,
            "/$defs/versions/additionalProperties".into(),
            json!({ "type": "string" }),
            "versions[]: the type ",
            both,
        ),
        (
            acks,
            "/$defs/refusal/properties/lines".into(),
            json!(null),
            "acks[].result(1).lines: the field is gone",
            both,
        ),
        (
            acks,
            "/$defs/refusal/additionalProperties".into(),
            json!(false),
            "additionalProperties was null",
            backward,
        ),
        (
            inventory,
            "/properties/removed/const".into(),
            json!(true),
            "removed: const was false",
            both,
        ),
        (inventory, "/$defs/moment/pattern".into(), json!("^2"), "updated_at: pattern was", both),
        (placed, "/$defs/sku/not".into(), json!(null), "lines[].sku: not was", forward),
        (
            acks,
            "/$defs/versions/propertyNames".into(),
            json!(null),
            "versions: propertyNames was",
            forward,
        ),
        (
            acks,
            "/$defs/versions/propertyNames".into(),
            json!({ "maxLength": 5 }),
            "the keys of acks[].result(0).versions: ",
            both,
        ),
        (inventory, "/$id".into(), json!("urn:x"), "the data: $id was", both),
    ] {
        let (old, new) = changed(schema, &pointer, value);
        let found = breaks(&old, &new);
        let about = |one: &&String| one.contains(words);
        let told: Vec<&String> = found.iter().filter(about).collect();
        for one in both {
            let is_told = told.iter().any(|told| told.ends_with(one));
            assert_eq!(is_told, whom.contains(one), "{pointer}: {words}: {one}\n{found:#?}");
        }
    }
}
