//! Gathers open alerts into messages: one transaction fixes what each message says and under which id.
//!
//! A message lists the first alerts and counts the others, by kind and cause: however many events give up at once, few
//! messages tell of all.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use common::clock::Timestamp;
use common::db::{Conn, Db, json_list};
use common::env::Env;
use common::on;
use common::schema::{alert, outbox_event};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Text};
use diesel::{QueryResult, sql_query};

use super::groups;
use super::outgoing::{Channel, DeliveryChannel, Gathered, MessageIdentity, News, Number};
use super::render::Item;
use super::silences::SILENCED;

/// At most this many alerts are listed by one message, whatever the settings say: it has to be readable.
const LONGEST: usize = 1_000;
/// At most this many alerts in one message, counted ones too: one transaction locks and writes all of them.
pub(super) const MOST: usize = 10_000;
/// Further alerts are counted up to here, so that a flood of them costs no long count.
pub(super) const FURTHER: i64 = 1_000;

/// The step from alerts to messages.
#[derive(Debug)]
pub(super) struct Digest<W> {
    pub(super) delivery: Arc<W>,
    /// How long the oldest alert waits for others.
    pub(super) delay: Duration,
    /// At most this many alerts are listed by one message.
    pub(super) size: usize,
    /// At most this many alerts in one message.
    pub(super) most: usize,
    /// Whether it is told that alerts are over.
    pub(super) tell_when_over: bool,
}

impl<W> Clone for Digest<W> {
    fn clone(&self) -> Self {
        Self { delivery: Arc::clone(&self.delivery), ..*self }
    }
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DigestOutcome {
    /// Messages written.
    pub messages: usize,
    /// Alerts in them.
    pub alerts: usize,
    /// How long the oldest alert still waits for others, if that is why it is in no message.
    pub next_in: Option<Duration>,
}

/// Alerts to be gathered at the start of a step.
#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    /// When it was raised, or closed if that is the news.
    #[diesel(sql_type = BigInt)]
    since_us: Timestamp,
}

/// An alert that goes into a message.
#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    /// Whether it is about one event, and not about what hinders many.
    #[diesel(sql_type = Bool)]
    is_of_event: bool,
}

impl News {
    /// When what is told happened.
    pub(super) const fn since(self) -> &'static str {
        match self {
            Self::Raised => "a.created_us",
            Self::Over => "a.closed_us",
        }
    }

    /// What says where an alert stands in the order.
    const fn place(self) -> &'static str {
        match self {
            Self::Raised => "a.seq",
            Self::Over => "a.closed_us",
        }
    }

    /// The order in which alerts are gathered.
    const fn order(self) -> &'static str {
        match self {
            Self::Raised => "a.seq",
            Self::Over => "a.closed_us, a.seq",
        }
    }
}

impl<W: DeliveryChannel> Digest<W> {
    /// Writes the messages for what waits now, once the oldest alert has waited for the digest's delay. Where a clock more than
    /// a minute ahead of this one raised that, nothing waits: nobody knows since when it does.
    ///
    /// More alerts than one message takes go into further messages of the same step. Several instances may run it
    /// at once: no alert gets into two messages of the same news. A silenced alert is left until its silence ends.
    ///
    /// # Errors
    /// When the database fails; what was not committed is done by the next step.
    pub(super) async fn run_once(&self, db: &Db, env: &Env) -> anyhow::Result<DigestOutcome> {
        let mut outcome = DigestOutcome::default();
        if self.delivery.wants_alerts() {
            self.tell(db, env, News::Raised, &mut outcome).await?;
            if self.tell_when_over {
                self.tell(db, env, News::Over, &mut outcome).await?;
            }
        }
        Ok(outcome)
    }

    async fn tell(
        &self,
        db: &Db,
        env: &Env,
        news: News,
        outcome: &mut DigestOutcome,
    ) -> anyhow::Result<()> {
        let now = env.now();
        let ends = db
            .read::<_, anyhow::Error>(move |conn| {
                Ok(conn.read_by_index(|conn| ends(conn, W::CHANNEL, news, now))?)
            })
            .await;
        let Some((oldest, last)) = ends.context("waiting alerts can't be read")? else {
            return Ok(());
        };
        let due = oldest.after(self.delay);
        if now < due && due <= now.latest(self.delay) {
            let wait = due.since(now);
            outcome.next_in = Some(outcome.next_in.map_or(wait, |other| other.min(wait)));
            return Ok(());
        }
        loop {
            let taken = self.write_one(db, env, news, last).await?;
            outcome.messages += usize::from(taken > 0);
            outcome.alerts += taken;
            if taken < self.most {
                return Ok(());
            }
        }
    }

    async fn write_one(&self, db: &Db, env: &Env, news: News, last: i64) -> anyhow::Result<usize> {
        let (digest, identity) = (self.clone(), MessageIdentity::now(env));
        // The few that wait are found by their index, however many are closed or silenced.
        db.write_by_index(move |conn| digest.write_message(conn, identity, news, last))
            .await
            .context("a digest can't be written")
    }

    fn write_message(
        &self,
        conn: &mut Conn,
        identity: MessageIdentity,
        news: News,
        last: i64,
    ) -> anyhow::Result<usize> {
        let (now, channel) = (identity.now, W::CHANNEL);
        let waiting = ungathered(channel, news);
        let taken = lock(conn, &waiting, news, now, last, i64::try_from(self.most)?)?;
        if taken.is_empty() {
            return Ok(0);
        }
        let seqs: Vec<i64> = taken.iter().map(|alert| alert.seq).collect();
        let (listed, counted) = split(taken, self.size.clamp(1, LONGEST));
        let gathered = Gathered {
            news,
            listed: load(conn, &listed)?,
            counted: groups::load(conn, news, &counted)?,
            further: further(conn, &waiting, now, i64::try_from(seqs.len())?)?,
        };
        let message = self.delivery.write(conn, identity, &gathered)?;
        let assigned = assign(conn, channel, news, &seqs, message)?;
        ensure!(assigned == seqs.len(), "alerts went into another message meanwhile");
        Ok(assigned)
    }
}

/// Those that a message lists, at most `size`, and those that it counts: what hinders many events is listed before
/// single ones are.
fn split(mut taken: Vec<Taken>, size: usize) -> (Vec<i64>, Vec<i64>) {
    taken.sort_by_key(|alert| alert.is_of_event);
    let mut listed: Vec<i64> = taken.into_iter().map(|alert| alert.seq).collect();
    let counted = listed.split_off(size.min(listed.len()));
    (listed, counted)
}

/// Alerts that the channel has no message with this news of, apart from those silenced at the moment `$1`.
fn ungathered(channel: Channel, news: News) -> String {
    let column = channel.column(news);
    match news {
        News::Raised => format!(
            "FROM alert a WHERE a.closed_us IS NULL AND a.{column} IS NULL AND NOT {SILENCED}"
        ),
        News::Over => format!(
            "FROM alert a WHERE a.closed_us IS NOT NULL AND a.{raised} IS NOT NULL \
             AND a.{column} IS NULL \
             AND a.closed_us >= (SELECT over_told_from_us FROM service_state) \
             AND EXISTS ({reached}) AND NOT {SILENCED}",
            raised = channel.column(News::Raised),
            reached = reached(channel),
        ),
    }
}

/// The message that told that alert `a` was raised, once somebody has it.
const fn reached(channel: Channel) -> &'static str {
    match channel {
        Channel::Mail => {
            "SELECT 1 FROM mail m WHERE m.seq = a.mail_seq AND m.sent_us IS NOT NULL \
             AND (EXISTS (SELECT 1 FROM mail_recipient r \
                          WHERE r.mail_seq = m.seq AND r.refused_us IS NULL) \
                  OR NOT EXISTS (SELECT 1 FROM mail_recipient r WHERE r.mail_seq = m.seq))"
        }
        Channel::Webhook => {
            "SELECT 1 FROM webhook m WHERE m.seq = a.webhook_seq AND m.sent_us IS NOT NULL"
        }
    }
}

/// Since when the oldest one waits, and the place of the last one.
fn ends(
    conn: &mut Conn,
    channel: Channel,
    news: News,
    now: Timestamp,
) -> QueryResult<Option<(Timestamp, i64)>> {
    let (since, place, waiting) = (news.since(), news.place(), ungathered(channel, news));
    let mut end = |direction: &str| -> QueryResult<Option<Waiting>> {
        let first = format!(
            "SELECT a.seq, {since} AS since_us {waiting} ORDER BY {place} {direction} LIMIT 1"
        );
        on!(&mut *conn, c => sql_query(first).bind::<BigInt, _>(now).get_result(c).optional())
    };
    let (oldest, newest) = (end("ASC")?, end("DESC")?);
    let last = |newest: Waiting| match news {
        News::Raised => newest.seq,
        News::Over => newest.since_us.micros(),
    };
    Ok(oldest.zip(newest).map(|(oldest, newest)| (oldest.since_us, last(newest))))
}

/// The oldest ones up to the place `last`, kept from other instances until the transaction ends.
fn lock(
    conn: &mut Conn,
    waiting: &str,
    news: News,
    now: Timestamp,
    last: i64,
    most: i64,
) -> QueryResult<Vec<Taken>> {
    // What another instance is putting into its message, or is closing, is not waited for; SQLite has one writing
    // transaction at a time.
    let skip = match conn {
        Conn::Pg(_) => " FOR UPDATE OF a SKIP LOCKED",
        Conn::Sqlite(_) => "",
    };
    let (place, order) = (news.place(), news.order());
    let oldest = format!(
        "SELECT a.seq, a.event_id IS NOT NULL AS is_of_event {waiting} AND {place} <= $2 \
         ORDER BY {order} LIMIT $3{skip}"
    );
    on!(conn, c => sql_query(oldest)
        .bind::<BigInt, _>(now)
        .bind::<BigInt, _>(last)
        .bind::<BigInt, _>(most)
        .load(c))
}

fn load(conn: &mut Conn, seqs: &[i64]) -> QueryResult<Vec<Item>> {
    let items = alert::table
        .left_join(outbox_event::table.on(alert::event_id.eq(outbox_event::id.nullable())))
        .filter(alert::seq.eq_any(seqs))
        .order((alert::event_id.is_not_null(), alert::seq))
        .select((
            alert::seq,
            alert::kind,
            alert::subject,
            alert::event_id,
            alert::event_kind,
            alert::event_type,
            alert::key,
            alert::version,
            alert::attempt,
            alert::error,
            alert::created_us,
            outbox_event::created_us.nullable(),
            alert::closed_us,
            alert::closed_because,
        ));
    on!(conn, c => items.load(c))
}

/// How many more than the `taken` ones wait, counted up to one more than [`FURTHER`].
fn further(conn: &mut Conn, waiting: &str, now: Timestamp, taken: i64) -> QueryResult<i64> {
    let counted =
        format!("SELECT count(*) AS number FROM (SELECT a.seq {waiting} LIMIT $2) AS waiting");
    let found: Number = on!(conn, c => sql_query(counted)
        .bind::<BigInt, _>(now)
        .bind::<BigInt, _>(FURTHER + 1 + taken)
        .get_result(c))?;
    // A silence may have begun since they were taken.
    Ok((found.number - taken).max(0))
}

/// Notes in which message the alerts `seqs` are; how many were in none before.
fn assign(
    conn: &mut Conn,
    channel: Channel,
    news: News,
    seqs: &[i64],
    message: i64,
) -> QueryResult<usize> {
    let column = channel.column(news);
    let told = format!("UPDATE alert SET {column} = $1 WHERE {column} IS NULL AND seq");
    match conn {
        Conn::Pg(c) => sql_query(format!("{told} = ANY($2)"))
            .bind::<BigInt, _>(message)
            .bind::<Array<BigInt>, _>(seqs)
            .execute(c),
        Conn::Sqlite(c) => sql_query(format!("{told} IN (SELECT value FROM json_each($2))"))
            .bind::<BigInt, _>(message)
            .bind::<Text, _>(json_list(seqs)?)
            .execute(c),
    }
}
