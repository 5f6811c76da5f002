//! Alerts as operators see them.

use diesel::QueryResult;
use diesel::prelude::*;
use serde::{Serialize, Serializer};

use super::model::AlertKind;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::ids::EventId;
use crate::on;
use crate::schema::{alert, mail};

/// An alert and how far its mail has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its number, which grows; a string in JSON.
    #[serde(serialize_with = "as_text")]
    pub seq: i64,
    /// Such as `exhausted`: a name of [`AlertKind`].
    pub kind: String,
    /// What is wrong, in a few words.
    pub subject: String,
    /// The event that it is about; none for a silence.
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
    pub created_at: Timestamp,
    /// When it was closed; none: it is open.
    pub closed_at: Option<Timestamp>,
    /// Why it was closed, such as `processed` or `superseded`.
    pub closed_because: Option<String>,
    /// The mail that lists it; none while it waits for its digest, if it was closed before, or if there is nobody
    /// to mail to.
    pub mail: Option<AlertMail>,
}

/// How far a mail has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertMail {
    /// Its Message-ID, the same for every try.
    pub message_id: String,
    /// Whom it goes to.
    pub recipients: Vec<String>,
    /// Tries that failed.
    pub tries: i32,
    /// When the mail server took it over; none while it waits.
    pub sent_at: Option<Timestamp>,
    /// When it is tried next; none once it left.
    pub due_at: Option<Timestamp>,
    /// What the last try failed with; none once it left.
    pub last_error: Option<String>,
}

fn as_text<S: Serializer>(seq: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(seq)
}

/// Which alerts to list.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Only open ones, or only closed ones.
    pub open: Option<bool>,
    /// Only this kind.
    pub kind: Option<AlertKind>,
    /// Only those of this event.
    pub event_id: Option<EventId>,
}

/// Up to `limit` alerts that `filter` lets through, newest first, from the one that follows number `after` on.
///
/// # Errors
/// When the statement fails.
pub fn list(
    conn: &mut Conn,
    filter: &AlertFilter,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<Alert>> {
    let rows: Vec<(AlertRow, Option<MailPart>)> = on!(conn, c => {
        let mut alerts = alert::table
            .left_join(mail::table.on(alert::mail_seq.eq(mail::seq.nullable())))
            .filter(alert::seq.lt(after.unwrap_or(i64::MAX)))
            .into_boxed();
        alerts = match filter.open {
            Some(true) => alerts.filter(alert::closed_us.is_null()),
            Some(false) => alerts.filter(alert::closed_us.is_not_null()),
            None => alerts,
        };
        if let Some(kind) = filter.kind {
            alerts = alerts.filter(alert::kind.eq(kind.name()));
        }
        if let Some(event) = filter.event_id {
            alerts = alerts.filter(alert::event_id.eq(event));
        }
        alerts
            .order(alert::seq.desc())
            .limit(limit)
            .select((AlertRow::as_select(), Option::<MailPart>::as_select()))
            .load(c)
    })?;
    Ok(rows.into_iter().map(Alert::from).collect())
}

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
    closed_us: Option<Timestamp>,
    closed_because: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = mail)]
struct MailPart {
    message_id: String,
    recipients: String,
    tries: i32,
    due_us: Timestamp,
    sent_us: Option<Timestamp>,
    last_error: Option<String>,
}

impl From<(AlertRow, Option<MailPart>)> for Alert {
    fn from((row, mail): (AlertRow, Option<MailPart>)) -> Self {
        Self {
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
            closed_at: row.closed_us,
            closed_because: row.closed_because,
            mail: mail.map(AlertMail::from),
        }
    }
}

impl From<MailPart> for AlertMail {
    fn from(mail: MailPart) -> Self {
        Self {
            message_id: mail.message_id,
            recipients: serde_json::from_str(&mail.recipients).unwrap_or_default(),
            tries: mail.tries,
            sent_at: mail.sent_us,
            due_at: mail.sent_us.is_none().then_some(mail.due_us),
            last_error: mail.last_error,
        }
    }
}
