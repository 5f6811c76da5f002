//! Alerts as operators see them, and acknowledging them.

use std::collections::HashMap;
use std::str::FromStr;

use common::clock::Timestamp;
use common::db::Conn;
use common::event::Status;
use common::ids::EventId;
use common::on;
use common::schema::{alert, mail, outbox_event, outbox_open, webhook};
use diesel::QueryResult;
use diesel::prelude::*;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::AlertError;
use super::mail::from_json;
use super::model::AlertKind;
use super::recipients::{self, MailProgress, MailRecipient, RecipientRow};
use super::silences::{self, Silence};
use crate::audit::Actor;

/// The state of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Nobody has acknowledged it yet.
    Open,
    /// Somebody has; its cause is still there.
    Acknowledged,
    /// Its cause is gone.
    Closed,
}

impl FromStr for AlertState {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "open" => Ok(Self::Open),
            "acknowledged" => Ok(Self::Acknowledged),
            "closed" => Ok(Self::Closed),
            _ => Err("use open, acknowledged or closed"),
        }
    }
}

/// An alert, and how far its mail and its call have got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alert {
    /// Its number, which grows; a string in JSON.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub seq: i64,
    /// Its state.
    pub state: AlertState,
    /// Such as `exhausted`.
    pub kind: String,
    /// What is wrong, in a few words.
    pub subject: String,
    /// The event that it is about; none for silent partitions.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub event_id: Option<EventId>,
    /// That event's `ce_type`.
    pub event_type: Option<String>,
    /// That event's key.
    pub key: Option<String>,
    /// The epoch of that event.
    pub epoch: Option<i64>,
    /// The version of that event; 0 for commands.
    pub version: Option<i64>,
    /// The attempt that was the last.
    pub attempt: Option<i32>,
    /// What that attempt failed with.
    pub error: Option<String>,
    /// When it was raised.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was acknowledged first.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub acknowledged_at: Option<Timestamp>,
    /// Who did.
    pub acknowledged_by: Option<String>,
    /// When it was closed; none: it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<Timestamp>,
    /// Why it was closed, such as `processed` or `superseded`.
    pub closed_because: Option<String>,
    /// Until when it is silenced; none: it is closed, or no silence covers it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub silenced_until: Option<Timestamp>,
    /// The mail that told that it was raised; none while it waits for its digest or its silence to end, if it was closed before,
    /// or if there are no recipients.
    pub mail: Option<AlertMail>,
    /// The webhook call that told the same; none as for `mail`.
    pub webhook: Option<AlertWebhook>,
}

/// How far a webhook call has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlertWebhook {
    /// Its `webhook-id`, the same for every try.
    pub delivery_id: String,
    /// Tries that failed.
    pub tries: i32,
    /// When the receiver accepted it; none while it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
    /// When it is tried next; none once it was sent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    /// What the last try failed with; none once it was sent.
    pub last_error: Option<String>,
}

/// An alert with its event and its silences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlertDetail {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// The event that it is about, while that is kept.
    pub event: Option<AlertEvent>,
    /// The silences that cover it now.
    pub silences: Vec<Silence>,
}

/// The event of an alert, and where to find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlertEvent {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: EventId,
    /// Its status now, such as `EXHAUSTED`.
    pub status: &'static str,
    /// The page of it.
    pub page: String,
    /// The same for programs.
    pub api: String,
}

/// How far a mail has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlertMail {
    /// Its Message-ID, the same for every try.
    pub message_id: String,
    /// How far it has got with all recipients.
    pub state: MailProgress,
    /// Its recipients.
    pub recipients: Vec<String>,
    /// How far it has got with each of them.
    pub recipient_states: Vec<MailRecipient>,
    /// Tries that failed.
    pub tries: i32,
    /// When the mail server accepted it; none while it waits, and if every recipient was refused.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
    /// When it is tried next; none once nobody is left to try.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    /// What the last try failed with, or who was refused for good; none once everybody has it.
    pub last_error: Option<String>,
}

fn as_text<S: Serializer>(seq: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(seq)
}

/// Which alerts to list.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Only those that are not closed, or only closed ones.
    pub open: Option<bool>,
    /// Only those in this state.
    pub state: Option<AlertState>,
    /// Only this kind.
    pub kind: Option<AlertKind>,
    /// Only those of this key.
    pub key: Option<String>,
    /// Only those of this event.
    pub event_id: Option<EventId>,
    /// Only those that this mail tells of.
    pub mail: Option<i64>,
    /// Only those that this call tells of.
    pub webhook: Option<i64>,
}

impl Alert {
    /// What is wrong, with what it is about.
    pub fn headline(&self) -> String {
        match &self.key {
            Some(key) if self.kind == AlertKind::Exhausted.name() => {
                format!("{key} {}", self.subject)
            }
            Some(key) => format!("{key}: {}", self.subject),
            None => self.subject.clone(),
        }
    }
}

/// Up to `limit` alerts that `filter` lets through, newest first, from the one that follows number `after` on.
///
/// # Errors
/// When a statement fails.
pub fn list(
    conn: &mut Conn,
    now: Timestamp,
    filter: &AlertFilter,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<Alert>> {
    let rows: Vec<ListedColumns> = on!(&mut *conn, c => {
        let mut alerts = alert::table
            .left_join(mail::table.on(alert::mail_seq.eq(mail::seq.nullable())))
            .left_join(webhook::table.on(alert::webhook_seq.eq(webhook::seq.nullable())))
            .filter(alert::seq.lt(after.unwrap_or(i64::MAX)))
            .into_boxed();
        alerts = match filter.open {
            Some(true) => alerts.filter(alert::closed_us.is_null()),
            Some(false) => alerts.filter(alert::closed_us.is_not_null()),
            None => alerts,
        };
        alerts = match filter.state {
            Some(AlertState::Open) => alerts
                .filter(alert::closed_us.is_null())
                .filter(alert::acknowledged_us.is_null()),
            Some(AlertState::Acknowledged) => alerts
                .filter(alert::closed_us.is_null())
                .filter(alert::acknowledged_us.is_not_null()),
            Some(AlertState::Closed) => alerts.filter(alert::closed_us.is_not_null()),
            None => alerts,
        };
        if let Some(kind) = filter.kind {
            alerts = alerts.filter(alert::kind.eq(kind.name()));
        }
        if let Some(key) = &filter.key {
            alerts = alerts.filter(alert::key.eq(key));
        }
        if let Some(event) = filter.event_id {
            alerts = alerts.filter(alert::event_id.eq(event));
        }
        if let Some(mail) = filter.mail {
            alerts = alerts.filter(alert::mail_seq.eq(mail).or(alert::over_mail_seq.eq(mail)));
        }
        if let Some(webhook) = filter.webhook {
            let over = alert::over_webhook_seq.eq(webhook);
            alerts = alerts.filter(alert::webhook_seq.eq(webhook).or(over));
        }
        alerts
            .order(alert::seq.desc())
            .limit(limit)
            .select((
                AlertRow::as_select(),
                Option::<MailPart>::as_select(),
                Option::<WebhookPart>::as_select(),
            ))
            .load(c)
    })?;
    let seqs: Vec<i64> = rows.iter().map(|(row, ..)| row.seq).collect();
    let silenced = silences::silenced_until(conn, now, &seqs)?;
    let mut mails: Vec<i64> =
        rows.iter().filter_map(|(_, mail, _)| mail.as_ref().map(|mail| mail.seq)).collect();
    mails.dedup();
    let recipients = recipients::of_mails(conn, &mails)?;
    Ok(rows.into_iter().map(|row| shown(row, &silenced, &recipients)).collect())
}

/// The alert of this number, with its event and its silences.
///
/// # Errors
/// When there is none.
pub fn find(conn: &mut Conn, now: Timestamp, seq: i64) -> Result<AlertDetail, AlertError> {
    // The first one before the next number is this one, unless it is missing.
    let found = list(conn, now, &AlertFilter::default(), Some(seq.saturating_add(1)), 1)?;
    let alert =
        found.into_iter().find(|alert| alert.seq == seq).ok_or(AlertError::UnknownAlert(seq))?;
    let covering = silences::covering(conn, now, seq)?;
    let silences = covering.into_iter().map(|silence| silence.shown(now)).collect();
    let event = match alert.event_id {
        Some(id) => status(conn, id)?.map(|status| event_of(id, status)),
        None => None,
    };
    Ok(AlertDetail { alert, event, silences })
}

/// None: the event is no longer kept.
fn status(conn: &mut Conn, id: EventId) -> QueryResult<Option<Status>> {
    // Open first: an event that is settled in between is then called open, never unknown.
    let open: Option<Status> = on!(&mut *conn, c => outbox_open::table
        .find(id)
        .select(outbox_open::status)
        .first(c)
        .optional())?;
    let known: Option<EventId> = on!(conn, c => outbox_event::table
        .find(id)
        .select(outbox_event::id)
        .first(c)
        .optional())?;
    Ok(known.map(|_| open.unwrap_or(Status::Processed)))
}

fn event_of(id: EventId, status: Status) -> AlertEvent {
    AlertEvent {
        id,
        status: status.name(),
        page: format!("/admin/events/{id}"),
        api: format!("/api/admin/v1/events/{id}"),
    }
}

/// Acknowledges an alert for `by`, and answers with it; the first acknowledgement stays.
///
/// # Errors
/// When there is none of that number, or it is closed.
pub fn acknowledge(
    conn: &mut Conn,
    now: Timestamp,
    seq: i64,
    by: &Actor,
) -> Result<AlertDetail, AlertError> {
    let open = alert::table
        .find(seq)
        .filter(alert::closed_us.is_null())
        .filter(alert::acknowledged_us.is_null());
    let taken = on!(&mut *conn, c => diesel::update(open)
        .set((alert::acknowledged_us.eq(now), alert::acknowledged_by.eq(&by.name)))
        .execute(c))?;
    if taken > 0 {
        by.note(conn, now, "alert.acknowledge", Some(&seq.to_string()), None)?;
    }
    let detail = find(conn, now, seq)?;
    match detail.alert.state {
        AlertState::Closed => Err(AlertError::Closed(seq)),
        _ => Ok(detail),
    }
}

type ListedColumns = (AlertRow, Option<MailPart>, Option<WebhookPart>);

#[derive(Queryable, Selectable)]
#[diesel(table_name = alert)]
struct AlertRow {
    seq: i64,
    kind: String,
    subject: String,
    event_id: Option<EventId>,
    event_type: Option<String>,
    key: Option<String>,
    epoch: Option<i64>,
    version: Option<i64>,
    attempt: Option<i32>,
    error: Option<String>,
    created_us: Timestamp,
    acknowledged_us: Option<Timestamp>,
    acknowledged_by: Option<String>,
    closed_us: Option<Timestamp>,
    closed_because: Option<String>,
}

impl AlertRow {
    fn state(&self) -> AlertState {
        match (self.closed_us, self.acknowledged_us) {
            (Some(_), _) => AlertState::Closed,
            (None, Some(_)) => AlertState::Acknowledged,
            (None, None) => AlertState::Open,
        }
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = mail)]
struct MailPart {
    seq: i64,
    message_id: String,
    recipients: String,
    tries: i32,
    due_us: Timestamp,
    sent_us: Option<Timestamp>,
    last_error: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = webhook)]
struct WebhookPart {
    delivery_id: String,
    tries: i32,
    due_us: Timestamp,
    sent_us: Option<Timestamp>,
    last_error: Option<String>,
}

fn shown(
    (row, mail, webhook): ListedColumns,
    silenced: &HashMap<i64, Timestamp>,
    recipients: &HashMap<i64, Vec<RecipientRow>>,
) -> Alert {
    let stored = |mail: &MailPart| recipients.get(&mail.seq).cloned().unwrap_or_default();
    Alert {
        state: row.state(),
        silenced_until: silenced.get(&row.seq).copied(),
        seq: row.seq,
        kind: row.kind,
        subject: row.subject,
        event_id: row.event_id,
        event_type: row.event_type,
        key: row.key,
        epoch: row.epoch,
        version: row.version,
        attempt: row.attempt,
        error: row.error,
        created_at: row.created_us,
        acknowledged_at: row.acknowledged_us,
        acknowledged_by: row.acknowledged_by,
        closed_at: row.closed_us,
        closed_because: row.closed_because,
        mail: mail.map(|mail| {
            let rows = stored(&mail);
            mail.shown(rows)
        }),
        webhook: webhook.map(AlertWebhook::from),
    }
}

impl MailPart {
    fn shown(self, rows: Vec<RecipientRow>) -> AlertMail {
        let recipients = from_json(&self.recipients);
        let recipient_states = recipients::shown(rows, &recipients, self.sent_us);
        let state = MailProgress::of(self.sent_us.is_some(), &recipient_states);
        AlertMail {
            message_id: self.message_id,
            state,
            recipients,
            recipient_states,
            tries: self.tries,
            sent_at: self.sent_us.filter(|_| state != MailProgress::Failed),
            due_at: self.sent_us.is_none().then_some(self.due_us),
            last_error: self.last_error,
        }
    }
}

impl From<WebhookPart> for AlertWebhook {
    fn from(call: WebhookPart) -> Self {
        Self {
            delivery_id: call.delivery_id,
            tries: call.tries,
            sent_at: call.sent_us,
            due_at: call.sent_us.is_none().then_some(call.due_us),
            last_error: call.last_error,
        }
    }
}
