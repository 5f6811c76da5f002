//! Calls of a webhook, after the Standard Webhooks specification (<https://www.standardwebhooks.com>): JSON, signed,
//! under an id that stays the same from try to try.

mod client;
mod signature;

use anyhow::{Context, ensure};
use client::Client;
use common::clock::Timestamp;
use common::config::{AlertSettings, WebhookSettings};
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::retry::Backoff;
use common::schema::webhook;
use common::tls::client_config;
use diesel::QueryResult;
use diesel::prelude::*;
use secrecy::ExposeSecret;
use serde::Serialize;
use signature::Key;
use utoipa::ToSchema;

use super::AlertError;
use super::groups::{self, Group};
use super::outgoing::{
    self, Channel, Delivery, DeliveryChannel, Gathered, MessageIdentity, News, Noted, Pace,
    Progress,
};
use super::render::{ERROR_CHARS, GROUPS, Item, Place};
use super::text::one_line;

/// The channel of webhook calls.
#[derive(Debug)]
pub(super) struct Webhooks {
    place: Place,
    /// None: it is off.
    receiver: Option<Receiver>,
}

#[derive(Debug)]
struct Receiver {
    client: Client,
    key: Key,
}

impl Webhooks {
    /// Checks the settings; calls nobody yet.
    ///
    /// # Errors
    /// Which setting is wrong and why.
    pub(super) fn new(place: Place, settings: &WebhookSettings) -> anyhow::Result<Self> {
        ensure!(
            !settings.timeout.is_zero(),
            "webhook.timeout is 0: no call could ever succeed; write 10s, for example"
        );
        let url = settings.url.trim();
        if url.is_empty() {
            return Ok(Self { place, receiver: None });
        }
        let secret = settings.secret.expose_secret();
        ensure!(
            !secret.is_empty(),
            "webhook.url is set, but webhook.secret is empty: its receiver could not verify the caller"
        );
        let key = Key::parse(secret).context("webhook.secret is wrong")?;
        let tls = client_config("webhook.ca_file", &settings.ca_file)?;
        let client = Client::new(url, tls).context("webhook.url is wrong")?;
        ensure!(
            settings.ca_file.is_empty() || client.is_encrypted(),
            "webhook.ca_file is set, but webhook.url does not begin with https://: nothing would be encrypted"
        );
        Ok(Self { place, receiver: Some(Receiver { client, key }) })
    }

    /// Stores a test call.
    ///
    /// # Errors
    /// When the webhook is off.
    pub(super) fn test(
        &self,
        conn: &mut Conn,
        identity: MessageIdentity,
        by: &str,
    ) -> Result<QueuedWebhook, AlertError> {
        if self.receiver.is_none() {
            return Err(AlertError::WebhookOff);
        }
        let data = TestData { service: &self.place.service, by };
        let body = body("stockloop.test", identity.now, &data)
            .map_err(|error| AlertError::NotWritten(error.to_string()))?;
        let seq = insert(conn, identity, body)?;
        Ok(QueuedWebhook { seq: seq.to_string(), delivery_id: delivery_id(identity) })
    }
}

/// A call as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = webhook)]
pub(super) struct WebhookRow {
    delivery_id: String,
    body: String,
}

impl DeliveryChannel for Webhooks {
    const CHANNEL: Channel = Channel::Webhook;
    type Message = WebhookRow;
    type Receipt = ();

    fn wants_alerts(&self) -> bool {
        self.receiver.is_some()
    }

    fn can_send(&self) -> bool {
        self.receiver.is_some()
    }

    fn write(
        &self,
        conn: &mut Conn,
        identity: MessageIdentity,
        gathered: &Gathered,
    ) -> anyhow::Result<i64> {
        let data = AlertsData::of(&self.place, gathered);
        let kind = match gathered.news {
            News::Raised => "stockloop.alert",
            News::Over => "stockloop.alert.closed",
        };
        Ok(insert(conn, identity, body(kind, identity.now, &data)?)?)
    }

    fn find(conn: &mut Conn, seq: i64) -> QueryResult<WebhookRow> {
        on!(conn, c => webhook::table.find(seq).select(WebhookRow::as_select()).first(c))
    }

    fn id(message: &WebhookRow) -> &str {
        &message.delivery_id
    }

    async fn send(&self, message: &WebhookRow, now: Timestamp) -> anyhow::Result<()> {
        let receiver = self.receiver.as_ref().context("webhook.url is empty")?;
        // Of the try, not of the message: receivers refuse what is minutes old, so that nobody can replay it.
        let seconds = (now.micros() / 1_000_000).to_string();
        let signature = receiver.key.sign(&message.delivery_id, &seconds, &message.body);
        let headers = [
            ("webhook-id", message.delivery_id.as_str()),
            ("webhook-timestamp", &seconds),
            ("webhook-signature", &signature),
        ];
        receiver.client.post(headers, message.body.clone()).await
    }

    fn note(_: &mut Conn, _: i64, _: &(), _: Timestamp) -> QueryResult<Noted> {
        Ok(Noted { progress: Progress::Sent, refused: 0, error: None })
    }
}

/// How calls are paced: gathered as mails are.
pub(super) fn pace(alerts: &AlertSettings, webhook: &WebhookSettings) -> Pace {
    Pace {
        delay: alerts.digest_delay,
        size: alerts.digest_size,
        tell_when_over: alerts.tell_when_over,
        timeout: webhook.timeout,
        backoff: Backoff { base: webhook.retry_base, max: webhook.retry_max },
    }
}

#[derive(Serialize)]
struct Body<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Timestamp,
    data: &'a T,
}

#[derive(Serialize)]
struct TestData<'a> {
    service: &'a str,
    by: &'a str,
}

#[derive(Serialize)]
struct AlertsData<'a> {
    service: &'a str,
    alerts: Vec<AlertData<'a>>,
    /// Alerts that this call tells of as well, without listing them.
    counted: usize,
    /// Those by kind and cause, the largest groups first.
    groups: Vec<GroupData<'a>>,
    /// Alerts that wait for the next call, counted up to 1,001.
    further: i64,
}

impl<'a> AlertsData<'a> {
    fn of(place: &'a Place, gathered: &'a Gathered) -> Self {
        let Gathered { news, listed, counted, further } = gathered;
        let named = counted.iter().take(GROUPS);
        Self {
            service: &place.service,
            alerts: listed.iter().map(|item| AlertData::of(place, item)).collect(),
            counted: groups::alerts(counted),
            groups: named.map(|group| GroupData::of(place, *news, group)).collect(),
            further: *further,
        }
    }
}

#[derive(Serialize)]
struct AlertData<'a> {
    seq: String,
    kind: &'a str,
    subject: &'a str,
    event_id: Option<EventId>,
    event_type: Option<&'a str>,
    key: Option<&'a str>,
    version: Option<i64>,
    attempt: Option<i32>,
    error: Option<String>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_because: Option<&'a str>,
    /// The page where a person acts on it.
    url: String,
}

impl<'a> AlertData<'a> {
    fn of(place: &Place, item: &'a Item) -> Self {
        Self {
            seq: item.seq.to_string(),
            kind: &item.kind,
            subject: &item.subject,
            event_id: item.event_id,
            event_type: item.event_type.as_deref(),
            key: item.key.as_deref(),
            version: item.version,
            attempt: item.attempt,
            error: item.error.as_deref().map(|error| one_line(error, ERROR_CHARS)),
            created_at: item.raised,
            closed_at: item.closed,
            closed_because: item.closed_because.as_deref(),
            url: place.link(item),
        }
    }
}

#[derive(Serialize)]
struct GroupData<'a> {
    kind: &'a str,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_because: Option<&'a str>,
    /// When the first of them was raised, or closed.
    oldest_at: Timestamp,
    /// The page that lists what is like them.
    url: String,
}

impl<'a> GroupData<'a> {
    fn of(place: &Place, news: News, group: &'a Group) -> Self {
        let cause = group.cause.as_deref();
        Self {
            kind: &group.kind,
            count: group.alerts,
            error_class: cause.filter(|_| news == News::Raised),
            closed_because: cause.filter(|_| news == News::Over),
            oldest_at: group.oldest,
            url: place.list(news, group),
        }
    }
}

fn body<T: Serialize>(
    kind: &'static str,
    timestamp: Timestamp,
    data: &T,
) -> serde_json::Result<String> {
    serde_json::to_string(&Body { kind, timestamp, data })
}

fn delivery_id(identity: MessageIdentity) -> String {
    format!("msg_{}", identity.id)
}

fn insert(conn: &mut Conn, identity: MessageIdentity, body: String) -> QueryResult<i64> {
    let new = (
        webhook::delivery_id.eq(delivery_id(identity)),
        webhook::body.eq(body),
        webhook::created_us.eq(identity.now),
        webhook::due_us.eq(identity.now),
    );
    on!(conn, c => diesel::insert_into(webhook::table)
        .values(new)
        .returning(webhook::seq)
        .get_result(c))
}

/// A test call that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueuedWebhook {
    /// Its number in the list of calls.
    pub seq: String,
    /// Its `webhook-id`.
    pub delivery_id: String,
}

/// A webhook call as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WebhookState {
    /// How far it has got.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// Its `webhook-id`, the same for every try.
    pub delivery_id: String,
}

/// Up to `limit` calls, newest first, that come after number `after` in that order; `waiting`: only those that
/// have not left, or only those that have.
///
/// # Errors
/// When the statement fails.
pub fn list(
    conn: &mut Conn,
    waiting: Option<bool>,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<WebhookState>> {
    let states = outgoing::states(conn, Channel::Webhook, waiting, after, limit)?;
    let shown = |(_, delivery_id, delivery)| WebhookState { delivery, delivery_id };
    Ok(states.into_iter().map(shown).collect())
}
