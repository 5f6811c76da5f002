//! Messages to operators, on any channel: a row is fixed before its first try, claimed by one instance per try,
//! and kept until it has left.

use std::sync::Arc;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::env::Env;
use common::ids::EventId;
use common::on;
use common::retry::Backoff;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::{OptionalExtension, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use serde::Serialize;
use utoipa::ToSchema;

use super::digest::{Digest, DigestOutcome, MOST};
use super::groups::Group;
use super::render::Item;
use super::sender::{Sender, SenderOutcome};

/// A delivery channel; each has a table of its own, with the same columns for what is common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Mails.
    Mail,
    /// Webhook calls.
    Webhook,
}

impl Channel {
    /// As it is called in logs; also the table of its messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook",
        }
    }

    /// The column that its receiver knows a message by.
    const fn id(self) -> &'static str {
        match self {
            Self::Mail => "message_id",
            Self::Webhook => "delivery_id",
        }
    }

    /// The column of an alert that names the message with `news` of it.
    pub(super) const fn column(self, news: News) -> &'static str {
        match (self, news) {
            (Self::Mail, News::Raised) => "mail_seq",
            (Self::Mail, News::Over) => "over_mail_seq",
            (Self::Webhook, News::Raised) => "webhook_seq",
            (Self::Webhook, News::Over) => "over_webhook_seq",
        }
    }
}

/// What a message tells of its alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// That they were raised, and are open.
    Raised,
    /// That they are closed, after an earlier message told that they were raised.
    Over,
}

/// What one message tells.
#[derive(Debug, Clone)]
pub(super) struct Gathered {
    pub(super) news: News,
    /// The alerts that it tells one by one: what hinders many events, then what is about one, by their numbers.
    pub(super) listed: Vec<Item>,
    /// The other alerts that it tells, by kind and cause, the largest groups first.
    pub(super) counted: Vec<Group>,
    /// How many more wait for the next message, counted up to just above `FURTHER`.
    pub(super) further: i64,
}

/// What one channel does in its own manner.
pub(super) trait DeliveryChannel: Send + Sync + 'static {
    /// Which channel it is.
    const CHANNEL: Channel;
    /// A message as it was fixed.
    type Message: Send + Sync + 'static;
    /// What the receiver said to one try.
    type Receipt: Send + 'static;

    /// Whether there are recipients: if not, no alert is gathered.
    fn wants_alerts(&self) -> bool;

    /// Whether messages can leave: if not, they wait.
    fn can_send(&self) -> bool;

    /// Fixes a message with what was gathered. Returns its number.
    ///
    /// # Errors
    /// When it can't be written.
    fn write(
        &self,
        conn: &mut Conn,
        identity: MessageIdentity,
        gathered: &Gathered,
    ) -> anyhow::Result<i64>;

    /// The message of this number.
    ///
    /// # Errors
    /// When the statement fails.
    fn find(conn: &mut Conn, seq: i64) -> QueryResult<Self::Message>;

    /// By what its receiver knows the message.
    fn id(message: &Self::Message) -> &str;

    /// One try, at the moment `now`.
    fn send(
        &self,
        message: &Self::Message,
        now: Timestamp,
    ) -> impl Future<Output = anyhow::Result<Self::Receipt>> + Send;

    /// Notes what the receiver said, and what that makes of message number `seq`.
    ///
    /// # Errors
    /// When a statement fails.
    fn note(
        conn: &mut Conn,
        seq: i64,
        receipt: &Self::Receipt,
        now: Timestamp,
    ) -> QueryResult<Noted>;
}

/// What a try that got through has made of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) progress: Progress,
    /// Recipients that refused it for good in this try.
    pub(super) refused: usize,
    /// Who has not got it, and why.
    pub(super) error: Option<String>,
}

/// How far a message has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nobody is left to try, and somebody has it.
    Sent,
    /// Nobody is left to try, since all refused it for good.
    Refused,
    /// Somebody is to be tried again.
    Left,
}

/// What makes a message recognisable, whatever it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageIdentity {
    pub(super) id: EventId,
    pub(super) now: Timestamp,
}

impl MessageIdentity {
    pub(super) fn now(env: &Env) -> Self {
        Self { id: env.event_id(), now: env.now() }
    }
}

/// How a channel is paced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long the oldest alert waits for others.
    pub(super) delay: Duration,
    /// At most this many alerts are listed by one message.
    pub(super) size: usize,
    /// Whether it is told that alerts are over.
    pub(super) tell_when_over: bool,
    /// How long one try may take.
    pub(super) timeout: Duration,
    /// The pauses between tries.
    pub(super) backoff: Backoff,
}

/// One channel, from alerts to sent messages; cheap to clone.
#[derive(Debug)]
pub(super) struct Outgoing<W> {
    pub(super) delivery: Arc<W>,
    pub(super) digest: Digest<W>,
    pub(super) sender: Sender<W>,
}

impl<W> Clone for Outgoing<W> {
    fn clone(&self) -> Self {
        let (delivery, digest, sender) =
            (Arc::clone(&self.delivery), self.digest.clone(), self.sender.clone());
        Self { delivery, digest, sender }
    }
}

/// What one step of a channel did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutgoingOutcome {
    /// Gathering.
    pub digest: DigestOutcome,
    /// Sending.
    pub sender: SenderOutcome,
}

impl<W: DeliveryChannel> Outgoing<W> {
    pub(super) fn new(delivery: W, pace: Pace) -> Self {
        let delivery = Arc::new(delivery);
        Self {
            digest: Digest {
                delivery: Arc::clone(&delivery),
                delay: pace.delay,
                size: pace.size,
                most: MOST,
                tell_when_over: pace.tell_when_over,
            },
            sender: Sender {
                delivery: Arc::clone(&delivery),
                timeout: pace.timeout,
                backoff: pace.backoff,
            },
            delivery,
        }
    }
}

/// A message that is taken for one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub(super) struct Claim {
    #[diesel(sql_type = BigInt)]
    pub(super) seq: i64,
    /// Tries that failed.
    #[diesel(sql_type = Integer)]
    pub(super) tries: i32,
    #[diesel(sql_type = BigInt)]
    due_us: Timestamp,
}

/// Takes the message that is due longest for one try, which may last for `hold`.
///
/// Nothing is locked meanwhile: the message is due again after `hold`, should its holder die. When another
/// instance was faster, the next one is looked at. No message waits until after `latest`, unless a clock that ran ahead and
/// was set right has said so: then it is due, too.
pub(super) fn claim(
    conn: &mut Conn,
    channel: Channel,
    now: Timestamp,
    latest: Timestamp,
    hold: Duration,
) -> QueryResult<Option<Claim>> {
    let table = channel.name();
    let due = format!(
        "SELECT seq, tries, due_us FROM {table} \
         WHERE sent_us IS NULL AND (due_us <= $1 OR due_us > $2) \
         ORDER BY due_us, seq LIMIT 1"
    );
    let take = format!(
        "UPDATE {table} SET due_us = $1 WHERE seq = $2 AND due_us = $3 AND sent_us IS NULL"
    );
    loop {
        let found: Option<Claim> = on!(conn, c => sql_query(due.as_str())
            .bind::<BigInt, _>(now)
            .bind::<BigInt, _>(latest)
            .get_result(c)
            .optional())?;
        let Some(found) = found else { return Ok(None) };
        let taken = on!(conn, c => sql_query(take.as_str())
            .bind::<BigInt, _>(now.after(hold))
            .bind::<BigInt, _>(found.seq)
            .bind::<BigInt, _>(found.due_us)
            .execute(c))?;
        if taken == 1 {
            return Ok(Some(found));
        }
    }
}

/// Notes that nobody is left to try; `error` says who refused the message.
pub(super) fn mark_done(
    conn: &mut Conn,
    channel: Channel,
    seq: i64,
    now: Timestamp,
    error: Option<&str>,
) -> QueryResult<usize> {
    let done = format!(
        "UPDATE {} SET sent_us = $1, last_error = $2 WHERE seq = $3 AND sent_us IS NULL",
        channel.name()
    );
    on!(conn, c => sql_query(done)
        .bind::<BigInt, _>(now)
        .bind::<Nullable<Text>, _>(error)
        .bind::<BigInt, _>(seq)
        .execute(c))
}

/// Notes that a try failed and when the next one may be.
pub(super) fn mark_failed(
    conn: &mut Conn,
    channel: Channel,
    seq: i64,
    due: Timestamp,
    error: &str,
) -> QueryResult<usize> {
    let failed = format!(
        "UPDATE {} SET tries = tries + 1, due_us = $1, last_error = $2 \
         WHERE seq = $3 AND sent_us IS NULL",
        channel.name()
    );
    on!(conn, c => sql_query(failed)
        .bind::<BigInt, _>(due)
        .bind::<Text, _>(error)
        .bind::<BigInt, _>(seq)
        .execute(c))
}

#[derive(QueryableByName)]
pub(super) struct Number {
    #[diesel(sql_type = BigInt)]
    pub(super) number: i64,
}

/// Messages of a channel that have not left.
///
/// # Errors
/// When the statement fails.
pub fn count_waiting(conn: &mut Conn, channel: Channel) -> QueryResult<i64> {
    let waiting =
        format!("SELECT count(*) AS number FROM {} WHERE sent_us IS NULL", channel.name());
    on!(conn, c => sql_query(waiting).get_result::<Number>(c)).map(|found| found.number)
}

/// How far a message has got, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delivery {
    /// Its number, which grows.
    pub seq: String,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Tries that failed.
    pub tries: i32,
    /// When its receiver accepted it; none while it waits, and if every recipient refused it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
    /// When it is tried next; none once nobody is left to try.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    /// What the last try failed with, or who refused it for good; none once everybody has it.
    pub last_error: Option<String>,
    /// How many alerts it tells of that are still kept; a test tells of none.
    pub alerts: i64,
}

/// A message's row, as far as the channels have it in common.
#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    created_us: Timestamp,
    #[diesel(sql_type = Integer)]
    tries: i32,
    #[diesel(sql_type = BigInt)]
    due_us: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    sent_us: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
    #[diesel(sql_type = BigInt)]
    alerts: i64,
}

/// Up to `limit` messages with their numbers and ids, newest first, that come after number `after` in that order;
/// `waiting`: only those that have not left, or only those that have.
pub(super) fn states(
    conn: &mut Conn,
    channel: Channel,
    waiting: Option<bool>,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<(i64, String, Delivery)>> {
    let (table, id) = (channel.name(), channel.id());
    let (raised, over) = (channel.column(News::Raised), channel.column(News::Over));
    let which = match waiting {
        Some(true) => "AND m.sent_us IS NULL",
        Some(false) => "AND m.sent_us IS NOT NULL",
        None => "",
    };
    let page = format!(
        "SELECT m.seq, m.{id} AS id, m.created_us, m.tries, m.due_us, m.sent_us, m.last_error, \
         (SELECT count(*) FROM alert a WHERE a.{raised} = m.seq) \
         + (SELECT count(*) FROM alert a WHERE a.{over} = m.seq) AS alerts \
         FROM {table} m WHERE m.seq < $1 {which} ORDER BY m.seq DESC LIMIT $2"
    );
    let rows: Vec<StateRow> = on!(conn, c => sql_query(page)
        .bind::<BigInt, _>(after.unwrap_or(i64::MAX))
        .bind::<BigInt, _>(limit)
        .load(c))?;
    Ok(rows.into_iter().map(|row| (row.seq, row.id.clone(), row.into())).collect())
}

impl From<StateRow> for Delivery {
    fn from(row: StateRow) -> Self {
        Self {
            seq: row.seq.to_string(),
            created_at: row.created_us,
            tries: row.tries,
            sent_at: row.sent_us,
            due_at: row.sent_us.is_none().then_some(row.due_us),
            last_error: row.last_error,
            alerts: row.alerts,
        }
    }
}
