//! The views of deploy/flink beside the demo: the same lines are played as a till's, and in the end each view has to say
//! what the lines and the services say.

mod expected;
mod flink;
mod jars;
mod java;
mod kafka;
mod reader;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use common::config::{KafkaSettings, Settings};
use common::env::Env;
use common::telemetry::BrokerState;
use common::view_topics::{DEAD, FEEDS, PURCHASES, SALES, STOCK_VALUE, TABLES, TILL};
use engine::kafka::Producer;
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::expected::Order;
use self::expected::Rows;
use self::kafka::OwnKafka;
use self::reader::Reader;
use super::client::Client;
use super::orders::PlacedOrders;
use crate::dataset::{Catalogue, Source};
use crate::stack::Stack;
use crate::{till, topics};

/// Differences of a view that are shown.
const SHOWN: usize = 10;

/// A view, and how its messages become rows that can be computed.
struct View {
    name: &'static str,
    /// What its rows are.
    noun: &'static str,
    topic: &'static str,
    rows: fn(Rows) -> Rows,
}

static VIEWS: [View; 4] = [
    View { name: "stock value", noun: "products", topic: STOCK_VALUE, rows: without_epochs },
    View { name: "purchases", noun: "customers", topic: PURCHASES, rows: |rows| rows },
    View { name: "sales", noun: "lines", topic: SALES, rows: expected::sales_of },
    View { name: "dead letters", noun: "lines", topic: DEAD, rows: by_message_key },
];

/// A view that was compared, row by row.
#[derive(Debug, Serialize)]
pub(crate) struct ComparedView {
    pub(crate) view: &'static str,
    /// Rows that it should have.
    pub(crate) compared: u64,
    pub(crate) equal: bool,
    /// Why there is nothing to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip)]
    pub(crate) noun: &'static str,
    /// The first rows that differ.
    #[serde(skip)]
    pub(crate) differences: Vec<String>,
}

impl ComparedView {
    /// All of them, of which nothing is known.
    pub(crate) fn unknown(error: &anyhow::Error) -> Self {
        let reason = Some(format!("{error:#}"));
        Self {
            view: "all",
            compared: 0,
            equal: false,
            reason,
            noun: "rows",
            differences: Vec::new(),
        }
    }
}

/// What the views need, at hand.
pub(crate) struct Views {
    jars: PathBuf,
    folder: PathBuf,
    kafka: Option<OwnKafka>,
    /// Behind the names of topics and groups.
    suffix: String,
}

impl Views {
    /// Fetches what is missing, and starts a broker where none is given.
    pub(crate) async fn prepare(
        brokers: Option<&str>,
        suffix: &str,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        java::ensure_compiler().await?;
        ensure_plain(&Settings::load(product_service::SERVICE.defaults, None)?.kafka)?;
        let jars = flink::jars().await?;
        let kafka = match brokers {
            Some(_) => None,
            None => Some(OwnKafka::start(&folder.join("kafka")).await?),
        };
        Ok(Self { jars, folder: folder.join("flink"), kafka, suffix: suffix.to_owned() })
    }

    /// The broker that was started.
    pub(crate) fn own_brokers(&self) -> Option<String> {
        self.kafka.as_ref().map(OwnKafka::brokers)
    }

    /// Plays the lines as a till's, lets Flink make the views, and compares them.
    pub(crate) async fn compare(
        &self,
        client: &Client,
        stack: &Stack,
        (source, limit): (&Source, Option<u64>),
        survey: &Catalogue,
        placed: &PlacedOrders,
    ) -> anyhow::Result<Vec<ComparedView>> {
        let kafka = &stack.product.engine().settings.kafka;
        println!("Playing the same lines as a till's.");
        topics::make(kafka, &self.suffix, &FEEDS, &TABLES).await?;
        let producer = Producer::new(kafka, "stockloop-demo", BrokerState::new(Env::system()))?;
        till::sell(source, limit, &self.own(TILL), producer).await?;
        let expected = expected(client, (source, limit), survey, placed).await?;
        println!("Starting Flink, and waiting until its views are current.");
        let mut flink = flink::start(&self.jars, &self.folder, kafka, &self.suffix).await?;
        let read = VIEWS.each_ref().map(|view| self.own(view.topic));
        let mut reader = Reader::new(kafka, &read)?;
        let rows = |reader: &Reader, view: &View| (view.rows)(reader.rows(&self.own(view.topic)));
        let is_done = |reader: &Reader| {
            VIEWS.iter().zip(&expected).all(|(view, expected)| rows(reader, view) == *expected)
        };
        if let Some(why) = reader.read(&mut flink, is_done).await? {
            println!("{why}");
        }
        println!("Flink has ended. At {} are {}.", kafka.brokers, read.join(", "));
        let views = VIEWS.iter().zip(&expected);
        Ok(views.map(|(view, expected)| view.compared(expected, &rows(&reader, view))).collect())
    }

    /// A topic that this run has for itself.
    fn own(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }
}

/// Flink would not know what the services are told of TLS and passwords.
fn ensure_plain(kafka: &KafkaSettings) -> anyhow::Result<()> {
    let secured = kafka.properties.keys().find(|name| {
        ["security", "sasl", "ssl"].iter().any(|beginning| name.starts_with(beginning))
    });
    ensure!(
        secured.is_none(),
        "--views takes no broker with TLS or SASL; unset kafka.properties.{}, and give another one with --brokers or none",
        secured.map(String::as_str).unwrap_or_default()
    );
    Ok(())
}

/// What each of [`VIEWS`] has to say.
async fn expected(
    client: &Client,
    (source, limit): (&Source, Option<u64>),
    survey: &Catalogue,
    placed: &PlacedOrders,
) -> anyhow::Result<[Rows; 4]> {
    let source = source.clone();
    let till = tokio::task::spawn_blocking(move || expected::till_lines(&source, limit));
    let till = till.await.context("reading the lines broke off")??;
    let mut orders = Vec::with_capacity(placed.ids.len());
    for id in &placed.ids {
        orders.push(client.order(id).await?);
    }
    let mut sales = till.sales;
    sales.extend(expected::web_sales(orders));
    let stock = expected::stock(client.inventory().await?, survey);
    Ok([stock, expected::purchases(&sales), expected::sales(&sales), till.dead])
}

/// product-service's list says nothing of epochs.
fn without_epochs(mut rows: Rows) -> Rows {
    for row in rows.values_mut() {
        if let Some(fields) = row.as_object_mut() {
            fields.remove("epoch");
        }
    }
    rows
}

fn by_message_key(rows: Rows) -> Rows {
    let key = |row: Value| row["message_key"].as_str().unwrap_or_default().to_owned();
    rows.into_values().map(|row| (key(row), Value::Bool(true))).collect()
}

impl View {
    fn compared(&self, expected: &Rows, found: &Rows) -> ComparedView {
        let mut keys: Vec<&String> = expected.keys().chain(found.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let differing = keys.into_iter().filter(|key| expected.get(*key) != found.get(*key));
        let differences: Vec<String> = differing
            .take(SHOWN)
            .map(|key| {
                format!("{key}: {} instead of {}", said(found.get(key)), said(expected.get(key)))
            })
            .collect();
        ComparedView {
            view: self.name,
            // What may be there several times is counted.
            compared: expected.values().map(|row| row.as_u64().unwrap_or(1)).sum(),
            equal: differences.is_empty(),
            reason: None,
            noun: self.noun,
            differences,
        }
    }
}

fn said(row: Option<&Value>) -> String {
    row.map_or_else(|| "nothing".to_owned(), Value::to_string)
}
