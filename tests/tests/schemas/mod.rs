//! docs/schemas: whether they are sound, what the services' readers make of them, and what the last release promised.

mod compatibility;
mod readers;
mod released;

use std::collections::BTreeMap;
use std::path::Path;

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use uuid::Uuid;

/// The schemas of today, each by its file's name without the ending.
pub(crate) fn present() -> BTreeMap<String, Value> {
    in_folder("docs/schemas")
}

fn in_folder(folder: &str) -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let schemas = paths.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a file");
        let schema = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        (path.file_stem().expect("a name").to_string_lossy().into_owned(), schema)
    };
    schemas.map(read).collect()
}

/// Validates by `schema`, and by the formats that it names.
pub(crate) fn validator(draft: Draft, schema: &Value) -> Validator {
    jsonschema::options()
        .with_draft(draft)
        .with_format("uuid", |text: &str| Uuid::parse_str(text).is_ok())
        .should_validate_formats(true)
        .build(schema)
        .expect("the schemas are schemas")
}

/// Makes a schema refuse what it does not tell of: fields, and values of enumerations that readers know to grow.
///
/// Headers are put together from several and stay open.
pub(crate) fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") && map.contains_key("type") {
                map.entry("additionalProperties").or_insert(json!(false));
            }
            if let Some(values) = map.get("x-extensible-enum").cloned() {
                map.insert("enum".to_owned(), values);
            }
            for (_, value) in map.iter_mut().filter(|(key, _)| !key.ends_with("Headers")) {
                close(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// A schema of `document` with what its reference leads to, which what stands beside the reference adds to.
fn resolved(document: &Value, schema: &Value) -> Value {
    let Some(target) = schema["$ref"].as_str() else { return schema.clone() };
    let found = document.pointer(&target[1..]).unwrap_or_else(|| panic!("{target} leads nowhere"));
    let mut whole = resolved(document, found);
    let mut beside = schema.clone();
    beside.as_object_mut().expect("a schema").remove("$ref");
    add(&mut whole, beside);
    whole
}

fn add(to: &mut Value, more: Value) {
    match (to, more) {
        (Value::Object(to), Value::Object(more)) => {
            for (key, value) in more {
                add(to.entry(key).or_insert(Value::Null), value);
            }
        }
        (to, more) => *to = more,
    }
}

/// A keyword's object, empty if there is none.
fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[test]
fn each_is_a_schema_that_names_itself_and_fits_its_examples() {
    for (name, schema) in present() {
        jsonschema::draft202012::meta::validate(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert_eq!(schema["$id"], format!("urn:stockloop:schemas:{name}"));
        let mut closed = schema.clone();
        close(&mut closed);
        let validator = validator(Draft::Draft202012, &closed);
        assert!(array(&schema["examples"]).count() > 0, "{name} has no example");
        for example in array(&schema["examples"]) {
            validator.validate(example).unwrap_or_else(|e| panic!("{name}: {e}\n{example}"));
        }
    }
}

#[test]
fn everything_is_described() {
    for (name, schema) in present() {
        let defined = object(&schema["$defs"]).map(|(_, one)| one);
        for one in [&schema].into_iter().chain(defined) {
            let whole = resolved(&schema, one);
            assert!(whole["description"].is_string(), "{name}: {one}");
            for (field, inner) in object(&whole["properties"]) {
                let inner = resolved(&schema, inner);
                assert!(inner["description"].is_string(), "{name}: {field}");
            }
        }
    }
}

/// Each file is whole by itself, so that it can be given away alone; its copies say the same.
#[test]
fn a_definition_of_one_name_says_the_same_in_each_file() {
    let mut known: BTreeMap<String, (String, Value)> = BTreeMap::new();
    for (file, schema) in present() {
        for (name, definition) in object(&schema["$defs"]) {
            let first = known.entry(name.clone()).or_insert((file.clone(), definition.clone()));
            assert_eq!(&first.1, definition, "{name} in {} and in {file}", first.0);
        }
    }
}
