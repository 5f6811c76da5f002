//! Gathers open alerts into messages: one transaction fixes what each message says and under which id.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::env::Env;
use common::on;
use common::schema::{alert, outbox_event};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::{QueryResult, sql_query};

use super::outgoing::{Channel, DeliveryChannel, MessageIdentity, Number};
use super::render::Item;
use super::silences::SILENCED;

/// At most this many alerts in one message, whatever the settings say: it has to be readable.
const LARGEST: usize = 1_000;
/// Further alerts are counted up to here, so that a flood of them costs no long count.
pub(super) const COUNTED: i64 = 1_000;

/// The step from alerts to messages.
#[derive(Debug)]
pub(super) struct Digest<W> {
    pub(super) delivery: Arc<W>,
    /// How long the oldest alert waits for others.
    pub(super) delay: Duration,
    /// At most this many alerts in one message.
    pub(super) size: usize,
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
    /// How long the oldest alert still waits for others, if that is why there is no message.
    pub next_in: Option<Duration>,
}

/// Alerts to be gathered at the start of a step.
#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = BigInt)]
    created_us: Timestamp,
}

impl<W: DeliveryChannel> Digest<W> {
    /// Writes the messages for what waits now, once the oldest alert has waited for the digest's delay.
    ///
    /// More alerts than one message lists go into further messages of the same step. Several instances may run it
    /// at once: no alert gets into two messages. A silenced alert is left until its silence ends.
    ///
    /// # Errors
    /// When the database fails; what was not committed is done by the next step.
    pub(super) async fn run_once(&self, db: &Db, env: &Env) -> anyhow::Result<DigestOutcome> {
        let mut outcome = DigestOutcome::default();
        if !self.delivery.wants_alerts() {
            return Ok(outcome);
        }
        let now = env.now();
        let ends = db
            .read::<_, anyhow::Error>(move |conn| {
                Ok(conn.read_by_index(|conn| ends(conn, W::CHANNEL, now))?)
            })
            .await;
        let Some((oldest, newest)) = ends.context("waiting alerts can't be read")? else {
            return Ok(outcome);
        };
        let due = oldest.after(self.delay);
        if now < due {
            outcome.next_in = Some(due.since(now));
            return Ok(outcome);
        }
        loop {
            let taken = self.write_one(db, env, newest).await?;
            outcome.messages += usize::from(taken > 0);
            outcome.alerts += taken;
            if taken < self.size() {
                return Ok(outcome);
            }
        }
    }

    fn size(&self) -> usize {
        self.size.clamp(1, LARGEST)
    }

    async fn write_one(&self, db: &Db, env: &Env, newest: i64) -> anyhow::Result<usize> {
        let (delivery, identity, size) =
            (Arc::clone(&self.delivery), MessageIdentity::now(env), self.size());
        db.write(move |conn| write_message(conn, &*delivery, identity, newest, size))
            .await
            .context("a digest can't be written")
    }
}

fn write_message<W: DeliveryChannel>(
    conn: &mut Conn,
    delivery: &W,
    identity: MessageIdentity,
    newest: i64,
    size: usize,
) -> anyhow::Result<usize> {
    let channel = W::CHANNEL;
    // The few that wait are found by their index, however many are closed or silenced.
    conn.plan_by_index()?;
    let seqs = lock(conn, channel, identity.now, newest, i64::try_from(size)?)?;
    if seqs.is_empty() {
        return Ok(0);
    }
    let items = load(conn, &seqs)?;
    let further = further(conn, channel, identity.now, i64::try_from(seqs.len())?)?;
    let message = delivery.write(conn, identity, &items, further)?;
    let taken = assign(conn, channel, &seqs, message)?;
    ensure!(taken == seqs.len(), "alerts went into another message meanwhile");
    Ok(taken)
}

/// Open alerts that the channel has no message of, apart from silenced ones, as of `$1`.
fn ungathered(channel: Channel) -> String {
    let column = channel.column();
    format!("FROM alert a WHERE a.closed_us IS NULL AND a.{column} IS NULL AND NOT {SILENCED}")
}

/// When the oldest one was raised, and the number of the newest one.
fn ends(
    conn: &mut Conn,
    channel: Channel,
    now: Timestamp,
) -> QueryResult<Option<(Timestamp, i64)>> {
    let mut end = |direction: &str| -> QueryResult<Option<Waiting>> {
        let first = format!(
            "SELECT a.seq, a.created_us {} ORDER BY a.seq {direction} LIMIT 1",
            ungathered(channel)
        );
        on!(&mut *conn, c => sql_query(first).bind::<BigInt, _>(now).get_result(c).optional())
    };
    let (oldest, newest) = (end("ASC")?, end("DESC")?);
    Ok(oldest.zip(newest).map(|(oldest, newest)| (oldest.created_us, newest.seq)))
}

/// The oldest ones, kept from other instances until the transaction ends.
fn lock(
    conn: &mut Conn,
    channel: Channel,
    now: Timestamp,
    newest: i64,
    size: i64,
) -> QueryResult<Vec<i64>> {
    // What another instance is putting into its message, or is closing, is not waited for; SQLite has one writing
    // transaction at a time.
    let skip = match conn {
        Conn::Pg(_) => " FOR UPDATE OF a SKIP LOCKED",
        Conn::Sqlite(_) => "",
    };
    let oldest = format!(
        "SELECT a.seq, a.created_us {} AND a.seq <= $2 ORDER BY a.seq LIMIT $3{skip}",
        ungathered(channel)
    );
    let found: Vec<Waiting> = on!(conn, c => sql_query(oldest)
        .bind::<BigInt, _>(now)
        .bind::<BigInt, _>(newest)
        .bind::<BigInt, _>(size)
        .load(c))?;
    Ok(found.into_iter().map(|row| row.seq).collect())
}

fn load(conn: &mut Conn, seqs: &[i64]) -> QueryResult<Vec<Item>> {
    let items = alert::table
        .left_join(outbox_event::table.on(alert::event_id.eq(outbox_event::id.nullable())))
        .filter(alert::seq.eq_any(seqs))
        .order(alert::seq)
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
        ));
    on!(conn, c => items.load(c))
}

/// How many more than the `taken` ones wait, counted up to one more than [`COUNTED`].
fn further(conn: &mut Conn, channel: Channel, now: Timestamp, taken: i64) -> QueryResult<i64> {
    let counted = format!(
        "SELECT count(*) AS number FROM (SELECT a.seq {} LIMIT $2) AS waiting",
        ungathered(channel)
    );
    let found: Number = on!(conn, c => sql_query(counted)
        .bind::<BigInt, _>(now)
        .bind::<BigInt, _>(COUNTED + 1 + taken)
        .get_result(c))?;
    Ok(found.number - taken)
}

fn assign(conn: &mut Conn, channel: Channel, seqs: &[i64], message: i64) -> QueryResult<usize> {
    let these = alert::table.filter(alert::seq.eq_any(seqs));
    on!(conn, c => match channel {
        Channel::Mail => diesel::update(these.filter(alert::mail_seq.is_null()))
            .set(alert::mail_seq.eq(message))
            .execute(c),
        Channel::Webhook => diesel::update(these.filter(alert::webhook_seq.is_null()))
            .set(alert::webhook_seq.eq(message))
            .execute(c),
    })
}
