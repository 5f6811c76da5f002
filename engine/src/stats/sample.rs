//! One sample: what is in the tables at one moment, each statement bounded or walking only what is open.

use std::time::{Duration, Instant};

use common::clock::Timestamp;
use common::copy_state;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{
    bulk_job, counter, dead_letter, mail, outbox_event, outbox_failed, outbox_pending, outbox_sent,
    relay_pause, verification, webhook,
};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt};
use serde::Serialize;
use utoipa::ToSchema;

use super::consumers;
use super::latency::Latencies;
use super::sampler::Rates;
use crate::alerts::{AlertKind, SILENCED, is_open};
use crate::counters;
use crate::inbox::quarantine;
use crate::outbox::{self, SlotState, slot_state};
use crate::verify::State;
use crate::views::{self, ViewLag};

/// The shortest pause between two samples.
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// How many times its own duration a sampler rests: it takes 5 % of one connection at the most.
const REST_FACTOR: u32 = 19;

/// The counts at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When they were taken.
    pub as_of: Timestamp,
    /// How long that took.
    pub took: Duration,
    /// Events that wait to be sent.
    pub pending: i64,
    /// Events that the broker has, without an answer yet.
    pub sent: i64,
    /// Events that wait for a person.
    pub exhausted: i64,
    /// EXHAUSTED events that a person or a newer version resolved.
    pub resolved: i64,
    /// What was counted over the database's life.
    pub totals: Totals,
    /// How fast those grew over the last minute; `None` until there are two samples.
    pub rates: Option<Rates>,
    /// The oldest event that is PENDING or SENT: how far the loop is behind.
    pub oldest: Option<Oldest>,
    /// How long events took lately.
    pub latencies: Latencies,
    /// Who reads the outgoing topic, and how far each is.
    pub consumers: Vec<ConsumerSample>,
    /// Who relays, and what it leaves alone.
    pub relay: RelayState,
    /// Alerts that are not closed.
    pub alerts: AlertCounts,
    /// Mails that have not left.
    pub mails_unsent: i64,
    /// Why one of those has not.
    pub mail_error: Option<String>,
    /// Calls to the webhook that have not arrived.
    pub webhooks_unsent: i64,
    /// Messages that could not be read and that nobody has dealt with.
    pub dead_letters: i64,
    /// Keys in quarantine.
    pub quarantined: i64,
    /// Bulk jobs that wait or run.
    pub jobs_open: i64,
    /// Of each consumer, the newest verification of all keys that came to a verdict.
    pub verified: Vec<Verified>,
    /// Whether the copy of another service's states here is complete, where there is one.
    pub copy_complete: Option<bool>,
    /// Whether this database came back from a backup, and nobody has begun to mend that: whether its
    /// alert is open.
    pub database_behind: bool,
    /// Whether the messages of a view can't be answered: whether its alert is open.
    pub view_unanswered: bool,
    /// What keeps the database's log for the relay, if anything does.
    pub log_slot: Option<SlotState>,
    /// How far the copies of views are, whose topics were looked at lately.
    pub views: Vec<ViewLag>,
}

/// How far one consumer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerSample {
    /// Who.
    pub name: String,
    /// Whether events wait for its answers.
    pub required: bool,
    /// Events that it failed, and has not taken since; at most 10,000.
    pub failed: i64,
    /// The partitions that were ever sent to.
    pub partitions: Vec<Partition>,
}

/// Events that a consumer failed are counted up to this.
pub(super) const MANY_FAILED: i64 = 10_000;

impl ConsumerSample {
    /// Events that were sent, and that it has not answered.
    pub fn waiting(&self) -> i64 {
        self.partitions.iter().map(|partition| partition.waiting).sum()
    }
}

/// What is known of a copy since it was verified last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = verification)]
pub struct Verified {
    /// Its number.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub seq: i64,
    /// Whose copy.
    pub consumer: String,
    /// When it began: what was committed before was compared.
    #[diesel(column_name = started_us)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// The owner's keys that were compared.
    pub keys: i64,
    /// Keys that differed.
    pub differences: i64,
    /// Keys whose events were open at its end.
    pub waiting: i64,
}

fn as_text<S: serde::Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Counts that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events that were ever committed.
    pub committed: i64,
    /// Attempts that the broker confirmed.
    pub sent: i64,
    /// Events that were answered for good: also those that retention removed since.
    pub processed: i64,
    /// Attempts that failed.
    pub failed: i64,
}

/// The oldest event that the loop still has to close.
#[derive(Debug, Clone, PartialEq)]
pub struct Oldest {
    /// Which.
    pub id: EventId,
    /// What it is about.
    pub key: String,
    /// When it was committed.
    pub since: Timestamp,
}

/// How far the consumer is in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Partition {
    /// Which.
    pub partition: i32,
    /// Events that were sent to it and are not answered.
    pub waiting: i64,
    /// When the oldest of those was sent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_sent_at: Option<Timestamp>,
    /// When an answer came from it last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_ack_at: Option<Timestamp>,
    /// Since when it gives no answers, if it does not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub silent_since: Option<Timestamp>,
}

/// The relay, over all instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct RelayState {
    /// Why nothing is sent, if a person paused it.
    pub paused: Option<Pause>,
    /// Keys that are paused individually.
    pub keys_paused: i64,
    /// The instances that are alive.
    pub instances: Vec<Instance>,
}

/// A pause of the whole relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pause {
    /// Why.
    pub reason: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Who did it.
    pub by: String,
}

/// An instance that relays, with the shards that it holds; by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = OverviewInstance)]
pub struct Instance {
    /// Its name, new at each start.
    pub owner: String,
    /// How many of the 64 shards it holds.
    pub shards: i64,
    /// When it counts as dead unless it renews its lease before.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Alerts that are not closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct AlertCounts {
    /// All of them.
    #[diesel(sql_type = BigInt)]
    pub open: i64,
    /// Those of them that somebody has taken note of.
    #[diesel(sql_type = BigInt)]
    pub acknowledged: i64,
    /// Those of them that a silence covers now.
    #[diesel(sql_type = BigInt)]
    pub silenced: i64,
}

impl Sample {
    /// How long to wait before the next sample, so that counting a large backlog does not slow its drain.
    pub fn rest(&self) -> Duration {
        self.took.saturating_mul(REST_FACTOR).max(SHORTEST_REST)
    }

    /// How long the oldest unacknowledged event has waited; zero when there is none.
    pub fn oldest_age(&self) -> Duration {
        self.oldest.as_ref().map_or(Duration::ZERO, |oldest| self.as_of.since(oldest.since))
    }

    /// How long the oldest event that was sent to `partition` has waited for its answer.
    pub fn lag_of(&self, partition: &Partition) -> Duration {
        partition.oldest_sent_at.map_or(Duration::ZERO, |sent| self.as_of.since(sent))
    }

    /// How far the slowest required consumer is behind, in its slowest partition.
    pub fn lag(&self) -> Duration {
        let required = self.consumers.iter().filter(|one| one.required);
        required.map(|one| self.lag_of_consumer(one)).max().unwrap_or_default()
    }

    /// How far one consumer is behind, in its slowest partition.
    pub fn lag_of_consumer(&self, consumer: &ConsumerSample) -> Duration {
        let lags = consumer.partitions.iter().map(|partition| self.lag_of(partition));
        lags.max().unwrap_or_default()
    }

    /// Events whose attempts the loop still has to close.
    pub fn waiting(&self) -> i64 {
        self.pending + self.sent
    }

    pub(super) fn take(
        conn: &mut Conn,
        topic: &str,
        first: &str,
        as_of: Timestamp,
    ) -> QueryResult<Self> {
        let begun = Instant::now();
        let open = walk(conn)?;
        let consumers = consumers::sample(conn, topic, first, &open)?;
        let counted = totals(conn)?;
        let sum = |status, resolved| {
            let fits = |group: &&Group| group.status == status && group.resolved == resolved;
            open.iter().filter(fits).map(|group| group.events).sum::<i64>()
        };
        let all: i64 = open.iter().map(|group| group.events).sum();
        Ok(Self {
            as_of,
            pending: sum(0, false),
            sent: sum(1, false),
            exhausted: sum(2, false),
            resolved: sum(2, true),
            totals: Totals { committed: counted.committed + counted.processed + all, ..counted },
            rates: None,
            oldest: oldest(conn)?,
            latencies: Latencies::take(conn)?,
            relay: relay(conn)?,
            alerts: alerts(conn, as_of)?,
            mails_unsent: mails_unsent(conn)?,
            mail_error: mail_error(conn)?,
            webhooks_unsent: on!(conn, c => webhook::table
                .filter(webhook::sent_us.is_null())
                .count()
                .get_result(c))?,
            dead_letters: on!(conn, c => dead_letter::table
                .filter(dead_letter::state.eq(0_i16))
                .count()
                .get_result(c))?,
            quarantined: quarantine::count(conn)?,
            jobs_open: on!(conn, c => bulk_job::table
                .filter(bulk_job::state.lt(2_i16))
                .count()
                .get_result(c))?,
            verified: verified(conn, &consumers)?,
            consumers,
            database_behind: is_open(conn, AlertKind::DatabaseBehind, None)?,
            view_unanswered: is_open(conn, AlertKind::NotAnswered, None)?,
            log_slot: slot_state(conn)?,
            views: views::lags(conn, as_of)?,
            copy_complete: copy_state::read(conn)?.map(|copy| copy.is_complete()),
            took: begun.elapsed(),
        })
    }
}

/// Open rows that are alike.
#[derive(Debug, QueryableByName)]
pub(super) struct Group {
    #[diesel(sql_type = SmallInt)]
    status: i16,
    #[diesel(sql_type = Nullable<Integer>)]
    pub(super) partition: Option<i32>,
    #[diesel(sql_type = Bool)]
    resolved: bool,
    #[diesel(sql_type = BigInt)]
    pub(super) events: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) oldest_us: Option<Timestamp>,
}

/// The open rows by status and, for SENT ones, by partition: the one walk of a sample.
fn walk(conn: &mut Conn) -> QueryResult<Vec<Group>> {
    let sql = "SELECT status, CASE WHEN status = 1 THEN partition END AS partition, \
                 status = 2 AND resolved_us IS NOT NULL AS resolved, \
                 count(*) AS events, min(sent_us) AS oldest_us \
               FROM outbox_open GROUP BY 1, 2, 3";
    on!(conn, c => sql_query(sql).load(c))
}

fn oldest(conn: &mut Conn) -> QueryResult<Option<Oldest>> {
    use {outbox_failed as f, outbox_pending as p, outbox_sent as s};
    let id: Option<EventId> = on!(&mut *conn, c => {
        let firsts = [
            p::table.order(p::id).select(p::id).first(c).optional()?,
            s::table.order(s::id).select(s::id).first(c).optional()?,
            f::table.filter(sql::<Bool>("status = 0")).order(f::id).select(f::id).first(c).optional()?,
        ];
        firsts.into_iter().flatten().min()
    });
    let Some(id) = id else { return Ok(None) };
    let event: Option<(String, Timestamp)> = on!(conn, c => outbox_event::table
        .find(id)
        .select((outbox_event::key, outbox_event::created_us))
        .first(c)
        .optional())?;
    Ok(event.map(|(key, since)| Oldest { id, key, since }))
}

/// The durable counts; of what was committed, only the events that retention removed unprocessed.
///
/// The slots are summed here: the databases' sum of a BIGINT is of another type in each.
fn totals(conn: &mut Conn) -> QueryResult<Totals> {
    let slots: Vec<(String, i64)> = on!(conn, c => counter::table
        .filter(counter::name.eq_any([
            counters::PROCESSED,
            counters::SENT,
            counters::FAILED,
            counters::FORGOTTEN,
        ]))
        .select((counter::name, counter::value))
        .load(c))?;
    let sum = |name| {
        let own = slots.iter().filter(|(slot, _)| slot == name).map(|(_, value)| *value);
        own.fold(0, i64::saturating_add)
    };
    Ok(Totals {
        committed: sum(counters::FORGOTTEN),
        sent: sum(counters::SENT),
        processed: sum(counters::PROCESSED),
        failed: sum(counters::FAILED),
    })
}

fn relay(conn: &mut Conn) -> QueryResult<RelayState> {
    let instance = |held: outbox::Instance| Instance {
        shards: i64::try_from(held.shards.len()).unwrap_or(i64::MAX),
        owner: held.owner,
        expires_at: held.expires_at,
    };
    let instances = outbox::instances(conn)?.into_iter().map(instance).collect();
    let paused: Option<(String, Timestamp, String)> = on!(conn, c => relay_pause::table
        .find("")
        .select((relay_pause::reason, relay_pause::since_us, relay_pause::by_whom))
        .first(c)
        .optional())?;
    Ok(RelayState {
        paused: paused.map(|(reason, since, by)| Pause { reason, since, by }),
        keys_paused: on!(conn, c => relay_pause::table
            .filter(relay_pause::key.ne(""))
            .count()
            .get_result(c))?,
        instances,
    })
}

fn alerts(conn: &mut Conn, now: Timestamp) -> QueryResult<AlertCounts> {
    let sql = format!(
        "SELECT count(*) AS open, count(a.acknowledged_us) AS acknowledged, \
           COALESCE(sum(CASE WHEN {SILENCED} THEN 1 ELSE 0 END), 0) AS silenced \
         FROM alert a WHERE a.closed_us IS NULL"
    );
    on!(conn, c => sql_query(sql).bind::<BigInt, _>(now).get_result(c))
}

fn mails_unsent(conn: &mut Conn) -> QueryResult<i64> {
    on!(conn, c => mail::table.filter(mail::sent_us.is_null()).count().get_result(c))
}

/// Of each consumer the newest, which is found by its index.
fn verified(conn: &mut Conn, consumers: &[ConsumerSample]) -> QueryResult<Vec<Verified>> {
    use verification as v;
    let mut all = Vec::with_capacity(consumers.len());
    for consumer in consumers {
        let verdicts = v::state.eq(State::Equal).or(v::state.eq(State::Different));
        let newest = v::table
            .filter(v::consumer.eq(&consumer.name).and(verdicts).and(v::keys_of.is_null()))
            .order(v::seq.desc());
        let newest: Option<Verified> =
            on!(&mut *conn, c => newest.select(Verified::as_select()).first(c).optional())?;
        all.extend(newest);
    }
    Ok(all)
}

/// What the mail that is due first failed of.
fn mail_error(conn: &mut Conn) -> QueryResult<Option<String>> {
    let error: Option<Option<String>> = on!(conn, c => mail::table
        .filter(mail::sent_us.is_null().and(mail::last_error.is_not_null()))
        .order(mail::due_us)
        .select(mail::last_error)
        .first(c)
        .optional())?;
    Ok(error.flatten())
}
