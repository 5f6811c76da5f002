//! Mails: written as rows, listed, and handed to the transport.

use std::collections::HashMap;

use anyhow::Context;
use common::clock::Timestamp;
use common::config::{AlertSettings, MailSettings, MailTransport};
use common::db::{Conn, json_list};
use common::on;
use common::retry::Backoff;
use common::schema::mail;
use diesel::QueryResult;
use diesel::prelude::*;
use lettre::message::Mailbox;
use serde::Serialize;
use utoipa::ToSchema;

use super::AlertError;
use super::message;
use super::outgoing::{
    self, Channel, Delivery, DeliveryChannel, Gathered, MessageIdentity, Noted, Pace,
};
use super::recipients::{self, MailProgress, MailRecipient, RecipientRow, Verdicts};
use super::render::{self, Mail, Place};
use super::transport::Transport;

/// At most this many recipients of one test mail.
const TEST_RECIPIENTS: usize = 10;

/// A mail to be stored; nothing of it changes afterwards.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = mail)]
struct NewMail {
    /// With its angle brackets.
    message_id: String,
    /// A JSON array of addresses.
    recipients: String,
    subject: String,
    text: String,
    html: String,
    created_us: Timestamp,
    /// When it may be tried first.
    due_us: Timestamp,
}

/// A mail as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = mail)]
pub(super) struct MailRow {
    pub(super) message_id: String,
    pub(super) recipients: String,
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    pub(super) created_us: Timestamp,
}

/// A mail, and those who are still to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClaimedMail {
    row: MailRow,
    left: Vec<String>,
}

/// A mail as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MailState {
    /// How far it has got.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// Its Message-ID, the same for every try.
    pub message_id: String,
    /// How far it has got with all recipients.
    pub state: MailProgress,
    /// Its recipients.
    pub recipients: Vec<String>,
    /// How far it has got with each of them.
    pub recipient_states: Vec<MailRecipient>,
    /// Its subject.
    pub subject: String,
}

/// A test mail that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueuedMail {
    /// Its number in the list of mails.
    pub seq: String,
    /// Its Message-ID.
    pub message_id: String,
}

/// The channel of mails.
#[derive(Debug, Clone)]
pub(super) struct Mails {
    place: Place,
    /// Addresses of digests; none: no mail is written.
    recipients: Vec<String>,
    from: Mailbox,
    pub(super) transport: Transport,
}

impl Mails {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// Which setting is wrong and why.
    pub(super) fn new(
        place: Place,
        alerts: &AlertSettings,
        mail: &MailSettings,
    ) -> anyhow::Result<Self> {
        let from = message::address(&mail.from).context("mail.from is wrong")?;
        let transport = Transport::open(mail)?;
        if mail.transport == MailTransport::Off && !alerts.recipients.is_empty() {
            tracing::warn!(
                "mail.transport is off: mails to alerts.recipients wait in the database"
            );
        }
        for text in &alerts.recipients {
            message::address(text).context("alerts.recipients is wrong")?;
        }
        Ok(Self { place, recipients: alerts.recipients.clone(), from, transport })
    }

    /// Stores a test mail, to `to` or else to the recipients of digests.
    ///
    /// # Errors
    /// When mails are off or there are no recipients, and for what is not an address.
    pub(super) fn test(
        &self,
        conn: &mut Conn,
        identity: MessageIdentity,
        to: &[String],
        by: &str,
    ) -> Result<QueuedMail, AlertError> {
        if !self.can_send() {
            return Err(AlertError::MailOff);
        }
        let recipients = match to {
            [] => self.recipients.as_slice(),
            some => test_recipients(some)?,
        };
        if recipients.is_empty() {
            return Err(AlertError::NoRecipients);
        }
        let mail = render::test_mail(&self.place, by).map_err(not_written)?;
        let message_id = self.message_id(identity);
        let seq = self.insert(conn, identity, recipients, mail)?;
        Ok(QueuedMail { seq: seq.to_string(), message_id })
    }

    fn message_id(&self, identity: MessageIdentity) -> String {
        format!("<{}@{}>", identity.id, message_id_host(self.from.email.domain()))
    }

    fn insert(
        &self,
        conn: &mut Conn,
        identity: MessageIdentity,
        recipients: &[String],
        mail: Mail,
    ) -> QueryResult<i64> {
        let new = NewMail {
            message_id: self.message_id(identity),
            recipients: json_list(recipients)?,
            subject: mail.subject,
            text: mail.text,
            html: mail.html,
            created_us: identity.now,
            due_us: identity.now,
        };
        let seq: i64 = on!(&mut *conn, c => diesel::insert_into(mail::table)
            .values(&new)
            .returning(mail::seq)
            .get_result(c))?;
        recipients::insert(conn, seq, recipients)?;
        Ok(seq)
    }
}

impl DeliveryChannel for Mails {
    const CHANNEL: Channel = Channel::Mail;
    type Message = ClaimedMail;
    type Receipt = Verdicts;

    fn wants_alerts(&self) -> bool {
        !self.recipients.is_empty()
    }

    fn can_send(&self) -> bool {
        !matches!(self.transport, Transport::Off)
    }

    fn write(
        &self,
        conn: &mut Conn,
        identity: MessageIdentity,
        gathered: &Gathered,
    ) -> anyhow::Result<i64> {
        let mail = render::mail(&self.place, gathered)?;
        Ok(self.insert(conn, identity, &self.recipients, mail)?)
    }

    fn find(conn: &mut Conn, seq: i64) -> QueryResult<ClaimedMail> {
        let row: MailRow =
            on!(&mut *conn, c => mail::table.find(seq).select(MailRow::as_select()).first(c))?;
        let left = recipients::left(conn, seq, &from_json(&row.recipients))?;
        Ok(ClaimedMail { row, left })
    }

    fn id(message: &ClaimedMail) -> &str {
        &message.row.message_id
    }

    async fn send(&self, mail: &ClaimedMail, _now: Timestamp) -> anyhow::Result<Verdicts> {
        let message = message::build(&self.from, &mail.row)?;
        let envelope = message::envelope(&self.from, &mail.left)?;
        let verdicts = self.transport.send(&envelope, &message.formatted()).await?;
        Ok(mail.left.iter().cloned().zip(verdicts).collect())
    }

    fn note(conn: &mut Conn, seq: i64, verdicts: &Verdicts, now: Timestamp) -> QueryResult<Noted> {
        recipients::note(conn, seq, verdicts, now)
    }
}

/// How mails are paced.
pub(super) fn pace(alerts: &AlertSettings, mail: &MailSettings) -> Pace {
    Pace {
        delay: alerts.digest_delay,
        size: alerts.digest_size,
        tell_when_over: alerts.tell_when_over,
        timeout: mail.timeout,
        backoff: Backoff { base: mail.retry_base, max: mail.retry_max },
    }
}

/// Up to `limit` mails, newest first, that come after number `after` in that order; `waiting`: only those that
/// have not left, or only those that have.
///
/// # Errors
/// When a statement fails.
pub fn list(
    conn: &mut Conn,
    waiting: Option<bool>,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<MailState>> {
    let states = outgoing::states(conn, Channel::Mail, waiting, after, limit)?;
    let seqs: Vec<i64> = states.iter().map(|(seq, ..)| *seq).collect();
    let heads: Vec<(i64, String, String)> = on!(conn, c => mail::table
        .filter(mail::seq.eq_any(&seqs))
        .select((mail::seq, mail::recipients, mail::subject))
        .load(c))?;
    let mut heads: HashMap<i64, (String, String)> =
        heads.into_iter().map(|(seq, recipients, subject)| (seq, (recipients, subject))).collect();
    let mut rows = recipients::of_mails(conn, &seqs)?;
    let shown = |(seq, message_id, delivery): (i64, String, Delivery)| {
        let (recipients, subject) = heads.remove(&seq).unwrap_or_default();
        let rows = rows.remove(&seq).unwrap_or_default();
        state(delivery, message_id, from_json(&recipients), subject, rows)
    };
    Ok(states.into_iter().map(shown).collect())
}

fn state(
    mut delivery: Delivery,
    message_id: String,
    recipients: Vec<String>,
    subject: String,
    rows: Vec<RecipientRow>,
) -> MailState {
    let done = delivery.sent_at;
    let recipient_states = recipients::shown(rows, &recipients, done);
    let state = MailProgress::of(done.is_some(), &recipient_states);
    // What everybody refused is done, but it was not sent.
    delivery.sent_at = done.filter(|_| state != MailProgress::Failed);
    MailState { delivery, message_id, state, recipients, recipient_states, subject }
}

/// The addresses of a mail's row; none if somebody has spoilt it, which sending it tells.
pub(super) fn from_json(addresses: &str) -> Vec<String> {
    serde_json::from_str(addresses).unwrap_or_default()
}

fn not_written(error: impl std::fmt::Display) -> AlertError {
    AlertError::NotWritten(error.to_string())
}

fn test_recipients(addresses: &[String]) -> Result<&[String], AlertError> {
    if addresses.len() > TEST_RECIPIENTS {
        return Err(AlertError::TooManyRecipients(TEST_RECIPIENTS));
    }
    for (place, text) in addresses.iter().enumerate() {
        message::address(text)
            .map_err(|error| AlertError::BadAddress { place, reason: error.to_string() })?;
    }
    Ok(addresses)
}

/// A Message-ID is ASCII: an international domain is not put into it.
fn message_id_host(domain: &str) -> &str {
    match domain.is_ascii() {
        true => domain,
        false => "stockloop.invalid",
    }
}
