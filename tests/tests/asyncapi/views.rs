//! What the document says of the views' topics, held against the statements of deploy/flink, the topics that are
//! made, and what order-service reads.

use std::collections::{BTreeMap, BTreeSet};

use common::config::Settings;
use common::purchases::LastPurchases;
use common::view_topics::{FEEDS, TABLES};
use jsonschema::Validator;
use rdkafka::Message;
use rdkafka::message::{Headers, OwnedMessage};
use serde_json::{Value, json};
use stockloop_tests::flink::FILES;

use super::AsyncApi;
use crate::system::text;

/// Checks all messages of a topic that the document has as `channel`.
pub(crate) fn assert_described(channel: &str, messages: &[OwnedMessage]) {
    let validator = ViewValidator::of(&AsyncApi::read(), channel);
    assert!(!messages.is_empty(), "{channel}");
    for message in messages {
        let headers = message.headers().map_or(0, Headers::count);
        assert_eq!(headers, 0, "{channel}: {message:?}");
        let value: Option<Value> =
            message.payload().map(|value| serde_json::from_slice(value).expect("JSON"));
        if let Err(error) = validator.check(&validator.key_of(message), value.as_ref()) {
            panic!("{channel}: {error}");
        }
    }
}

impl AsyncApi {
    /// The only message of a view's channel.
    fn only_message<'a>(&'a self, channel: &'a Value) -> &'a Value {
        let messages: Vec<&Value> = values(&channel["messages"]).collect();
        let [message] = messages[..] else { panic!("one message was expected: {messages:?}") };
        self.follow(message)
    }

    /// The message of the view on this topic.
    fn message_on(&self, topic: &str) -> &Value {
        let found = self.channels(true).find(|(_, channel)| channel["address"] == topic);
        self.only_message(found.unwrap_or_else(|| panic!("no channel is {topic}")).1)
    }

    /// Names and types of an object's fields.
    fn fields(&self, schema: &Value) -> BTreeMap<String, String> {
        let fields = schema["properties"].as_object().expect("an object").iter();
        fields.map(|(name, field)| (name.clone(), type_of(self.follow(field)))).collect()
    }

    /// All names that a value has, at whatever depth.
    fn names(&self, schema: &Value) -> BTreeSet<String> {
        let schema = self.follow(schema);
        let fields = schema["properties"].as_object().into_iter().flatten();
        let below = fields.flat_map(|(name, field)| {
            let mut names = self.names(field);
            names.insert(name.clone());
            names
        });
        let items = schema.get("items").map(|items| self.names(items));
        below.chain(items.into_iter().flatten()).collect()
    }
}

/// The type of a field, whether or not it may be null.
fn type_of(schema: &Value) -> String {
    match &schema["type"] {
        Value::Array(types) => text(&types[0]),
        one => text(one),
    }
}

fn values(object: &Value) -> impl Iterator<Item = &Value> {
    object.as_object().into_iter().flatten().map(|(_, value)| value)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn names_in(value: &Value) -> BTreeSet<String> {
    array(value).iter().map(text).collect()
}

/// What key and value of a view's messages have to be.
struct ViewValidator {
    key: Validator,
    value: Validator,
    has_json_key: bool,
}

impl ViewValidator {
    fn of(document: &AsyncApi, channel: &str) -> Self {
        let message = document.only_message(&document.document["channels"][channel]);
        let key = &message["bindings"]["kafka"]["key"];
        Self {
            key: document.validator(key),
            value: document.validator(&message["payload"]),
            has_json_key: key["type"] == "object",
        }
    }

    /// A message without a value says that its key is gone.
    fn check(&self, key: &Value, value: Option<&Value>) -> Result<(), String> {
        let parts = [("key", &self.key, Some(key)), ("value", &self.value, value)];
        for (part, validator, value) in parts {
            let Some(value) = value else { continue };
            validator.validate(value).map_err(|error| {
                format!("{part} at {}: {error}\n{value}", error.instance_path())
            })?;
        }
        Ok(())
    }

    fn key_of(&self, message: &OwnedMessage) -> Value {
        match message.key() {
            None => Value::Null,
            Some(key) if self.has_json_key => serde_json::from_slice(key).expect("JSON"),
            Some(key) => json!(String::from_utf8_lossy(key)),
        }
    }
}

/// A table of the statements, which is a topic.
struct Table {
    file: &'static str,
    name: &'static str,
    /// Names and types of what the value holds.
    columns: Vec<(&'static str, &'static str)>,
    key: Vec<&'static str>,
    options: BTreeMap<&'static str, &'static str>,
}

fn tables() -> Vec<Table> {
    let of_file = |(file, sql): (&'static str, &'static str)| {
        let statements = sql.split("\nCREATE TABLE ").skip(1);
        statements.map(move |statement| Table::read(file, statement))
    };
    FILES.into_iter().flat_map(of_file).collect()
}

impl Table {
    /// Reads what stands behind `CREATE TABLE`.
    fn read(file: &'static str, statement: &'static str) -> Self {
        let (name, rest) = statement.split_once(" (\n").expect("columns");
        let (columns, rest) = rest.split_once("\n) WITH (\n").expect("options");
        let (options, _) = rest.split_once("\n);").expect("an end");
        let key = lines(columns).find_map(|line| line.strip_prefix("PRIMARY KEY ("));
        let key = key.and_then(|key| key.split_once(')')).map(|(names, _)| names.split(", "));
        let option = |line: &'static str| line.trim_matches('\'').split_once("' = '");
        Self {
            file,
            name,
            columns: lines(columns).filter_map(column).collect(),
            key: key.into_iter().flatten().map(|name| name.trim_matches('`')).collect(),
            options: lines(options).filter_map(option).collect(),
        }
    }

    /// Those of its columns that are in the key, or all.
    fn fields(&self, of_key: bool) -> BTreeMap<String, String> {
        let columns = self.columns.iter().filter(|(name, _)| !of_key || self.key.contains(name));
        columns.map(|(name, sql)| ((*name).to_owned(), json_type(sql).to_owned())).collect()
    }
}

/// Lines of a list without their commas; comments are left aside.
fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    let lines = text.lines().map(|line| line.trim().trim_end_matches(','));
    lines.filter(|line| !line.starts_with("--"))
}

/// A column that is in the value: neither computed nor beside it.
fn column(line: &'static str) -> Option<(&'static str, &'static str)> {
    let is_other = ["PRIMARY KEY", " METADATA", " AS "].iter().any(|words| line.contains(words));
    let (name, sql) = line.split_once(' ').filter(|_| !is_other)?;
    Some((name.trim_matches('`'), sql))
}

fn json_type(sql: &str) -> &'static str {
    match sql {
        "STRING" => "string",
        "BOOLEAN" => "boolean",
        "INT" | "BIGINT" | "DECIMAL(38, 0)" => "integer",
        other => panic!("what is {other} in JSON?"),
    }
}

fn statements(file: &str) -> &'static str {
    let found = FILES.into_iter().find(|(name, _)| *name == file);
    found.unwrap_or_else(|| panic!("there is no {file}")).1
}

#[test]
fn the_topics_are_those_of_the_statements() {
    let document = AsyncApi::read();
    let address = |channel: &Value| text(&channel["address"]);
    let of_views: BTreeSet<String> =
        document.channels(true).map(|(_, channel)| address(channel)).collect();
    let of_services = ["inventory", "orders", "orderAcks"]
        .map(|channel| address(&document.document["channels"][channel]));
    let described: BTreeSet<String> = of_views.into_iter().chain(of_services).collect();
    let topics: BTreeSet<String> =
        tables().iter().map(|table| table.options["topic"].to_owned()).collect();
    assert_eq!(described, topics);
}

#[test]
fn the_topics_are_described_as_they_are_made() {
    let document = AsyncApi::read();
    let described: BTreeMap<String, Value> = document
        .channels(true)
        .map(|(_, channel)| (text(&channel["address"]), channel["bindings"]["kafka"].clone()))
        .collect();
    // As the services' topics, which are held against the settings elsewhere.
    let feed = document.document["channels"]["inventory"]["bindings"]["kafka"].clone();
    let mut table = feed.clone();
    table["topicConfiguration"] = json!({ "cleanup.policy": ["compact"] });
    let feeds = FEEDS.map(|topic| (topic.to_owned(), feed.clone()));
    let tables = TABLES.map(|topic| (topic.to_owned(), table.clone()));
    let made: BTreeMap<String, Value> = feeds.into_iter().chain(tables).collect();
    assert_eq!(described, made);
}

#[test]
fn keys_and_values_are_as_the_statements_write_them() {
    let document = AsyncApi::read();
    let mut compared = 0;
    for table in tables().iter().filter(|table| table.options["connector"] == "upsert-kafka") {
        let place = format!("{} in {}", table.name, table.file);
        let message = document.message_on(table.options["topic"]);
        let key = &message["bindings"]["kafka"]["key"];
        match table.options["key.format"] {
            "json" => assert_eq!(document.fields(key), table.fields(true), "the key of {place}"),
            // The only column of the key, as text.
            raw => assert_eq!((raw, &key["type"]), ("raw", &json!("string")), "{place}"),
        }
        if table.options["value.format"] == "json" {
            let value = document.follow(&message["payload"]);
            let written = table.fields(false);
            assert_eq!(document.fields(value), written, "{place}");
            // Flink writes what is null, too.
            assert!(written.into_keys().eq(names_in(&value["required"])), "{place}");
            compared += 1;
        }
    }
    assert_eq!(compared, 5, "three say what the sales are");
}

#[test]
fn the_tills_columns_are_those_that_are_read() {
    let document = AsyncApi::read();
    let line = document.follow(&document.message_on("till.sales.v1")["payload"]);
    let paths = statements("till.sql").split("JSON_VALUE(line, '$").skip(1);
    let column = |path: &str| {
        let (path, _) = path.split_once("')").expect("an end");
        path.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
    };
    let read: BTreeSet<String> = paths.map(column).collect();
    let without = |all: BTreeSet<String>, name: &str| -> BTreeSet<String> {
        all.into_iter().filter(|one| one != name).collect()
    };
    assert_eq!(without(document.names(line), "Description"), read);
    assert_eq!(names_in(&line["required"]), without(read, "Customer ID"));
}

#[test]
fn purchases_are_as_they_are_written_and_read() {
    let document = AsyncApi::read();
    let message = document.message_on("stockloop.views.purchases.v1");
    let value = document.follow(&message["payload"]);
    let (names, _) = statements("purchases.sql").rsplit_once("\":").expect("names");
    let written = names.split("\":").filter_map(|before| before.rsplit('"').next());
    let written: BTreeSet<String> = written.map(str::to_owned).collect();
    assert_eq!(document.names(value), written);

    let example = &message["examples"][0]["payload"];
    let again = read(example.clone()).expect("order-service reads it");
    assert_eq!(serde_json::to_value(again).expect("JSON"), *example);
    let purchase = &value["properties"]["purchases"]["items"];
    let line = &purchase["properties"]["lines"]["items"];
    for (at, schema) in [("", value), ("/purchases/0", purchase), ("/purchases/0/lines/0", line)] {
        for (name, field) in schema["properties"].as_object().expect("an object") {
            let mut less = example.clone();
            let place = less.pointer_mut(at).and_then(Value::as_object_mut).expect("an object");
            place.remove(name).expect("the example has all");
            let may_be_null = field["type"].is_array();
            assert_eq!(read(less).is_ok(), may_be_null, "{at} without {name}");
        }
    }
}

fn read(value: Value) -> Result<LastPurchases, serde_json::Error> {
    serde_json::from_value(value)
}

#[test]
fn who_reads_and_who_writes_is_as_the_statements_say() {
    let document = AsyncApi::read();
    let operations = document.document["operations"].as_object().expect("operations");
    let group = |operation: &Value| operation["bindings"]["kafka"]["groupId"]["const"].clone();
    let mut described = BTreeSet::new();
    for (name, operation) in operations {
        let channel = document.follow(&operation["channel"]);
        for message in array(&operation["messages"]) {
            let message = document.follow(message);
            let is_there = values(&channel["messages"]).any(|one| document.follow(one) == message);
            assert!(is_there, "{name}: {message}");
        }
        if name.starts_with("views.") {
            let group = group(operation).as_str().map(str::to_owned);
            described.insert((text(&operation["action"]), text(&channel["address"]), group));
        }
    }
    let of_table = |table: &Table| {
        let group = table.options.get("properties.group.id").map(|group| (*group).to_owned());
        // A table without a group is only written.
        let action = if group.is_some() { "receive" } else { "send" };
        (action.to_owned(), table.options["topic"].to_owned(), group)
    };
    let done: BTreeSet<_> = tables().iter().map(of_table).collect();
    assert_eq!(described, done);
    let copy = &operations["order-service.receivePurchases"];
    assert_eq!(group(copy), format!("{}.views", order_service::SERVICE.name));
}

/// By default there is no copy, and the setting takes the topic.
#[test]
fn the_setting_names_the_topic_of_purchases() {
    let document = AsyncApi::read();
    let address = text(&document.document["channels"]["purchases"]["address"]);
    let topic = |defaults: &str| {
        Settings::load(defaults, None).expect("defaults are settings").views.purchases_topic
    };
    let defaults = order_service::SERVICE.defaults;
    assert_eq!(topic(defaults), "");
    let set = format!("purchases_topic = \"{address}\"");
    assert_eq!(topic(&defaults.replace("purchases_topic = \"\"", &set)), address);
}

#[test]
fn the_examples_of_views_are_as_the_document_says() {
    let document = AsyncApi::read();
    for (channel, content) in document.channels(true) {
        let (validator, message) =
            (ViewValidator::of(&document, channel), document.only_message(content));
        let keys = array(&message["bindings"]["kafka"]["key"]["examples"]);
        let examples = array(&message["examples"]);
        assert!(!keys.is_empty() && keys.len() == examples.len(), "{channel}");
        for (key, example) in keys.iter().zip(examples) {
            let value = &example["payload"];
            assert_eq!(validator.check(key, Some(value)), Ok(()), "{channel}");
            assert!(validator.check(&json!(5), Some(value)).is_err(), "{channel}: another key");
            let mut more = value.clone();
            more["coupon"] = json!("X");
            assert!(validator.check(key, Some(&more)).is_err(), "{channel}: an unknown field");
        }
    }
}
