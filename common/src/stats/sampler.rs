//! Counts taken beside the requests: a step that a timer repeats, and the newest result for whoever asks.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use diesel::dsl::count;
use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::{Conn, Db, DbError};
use crate::env::Env;
use crate::ids::EventId;
use crate::inbox::{dead_letter, quarantine};
use crate::on;
use crate::schema::{alert, counter, mail, outbox_event, outbox_open};

/// The name in `counter` that settling adds to, one for each event that becomes PROCESSED.
pub const PROCESSED_COUNTER: &str = "outbox.processed";

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
    /// Events that were answered for good, ever: also those that retention removed since.
    pub processed: i64,
    /// The oldest event that is PENDING or SENT: how far the loop is behind.
    pub oldest: Option<Oldest>,
    /// Alerts that are not closed.
    pub alerts_open: i64,
    /// Mails that have not left.
    pub mails_unsent: i64,
    /// Messages that could not be read and wait for a person.
    pub dead_letters: i64,
    /// Keys in quarantine.
    pub quarantined: i64,
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

impl Sample {
    /// How long to wait before the next sample, so that counting a large backlog does not slow its drain.
    pub fn rest(&self) -> Duration {
        self.took.saturating_mul(REST_FACTOR).max(SHORTEST_REST)
    }

    /// How long the oldest unacknowledged event has waited; zero when there is none.
    pub fn oldest_age(&self) -> Duration {
        self.oldest.as_ref().map_or(Duration::ZERO, |oldest| self.as_of.since(oldest.since))
    }

    fn take(conn: &mut Conn, as_of: Timestamp) -> QueryResult<Self> {
        let begun = Instant::now();
        let (pending, sent, exhausted, resolved) = open_counts(conn)?;
        let oldest = oldest(conn)?;
        let alerts_open = on!(conn, c => alert::table
            .filter(alert::closed_us.is_null())
            .count()
            .get_result(c))?;
        let mails_unsent = on!(conn, c => mail::table
            .filter(mail::sent_us.is_null())
            .count()
            .get_result(c))?;
        let dead_letters = dead_letter::count_waiting(conn)?;
        Ok(Self {
            as_of,
            pending,
            sent,
            exhausted,
            resolved,
            processed: processed(conn)?,
            oldest,
            alerts_open,
            mails_unsent,
            dead_letters,
            quarantined: quarantine::count(conn)?,
            took: begun.elapsed(),
        })
    }
}

/// PENDING, SENT, EXHAUSTED and resolved, in one walk over the open rows.
fn open_counts(conn: &mut Conn) -> QueryResult<(i64, i64, i64, i64)> {
    use outbox_open::{id, resolved_us, status};
    on!(conn, c => outbox_open::table
        .select((
            count(id).aggregate_filter(status.eq(0_i16)),
            count(id).aggregate_filter(status.eq(1_i16)),
            count(id).aggregate_filter(status.eq(2_i16).and(resolved_us.is_null())),
            count(id).aggregate_filter(status.eq(2_i16).and(resolved_us.is_not_null())),
        ))
        .get_result(c))
}

fn oldest(conn: &mut Conn) -> QueryResult<Option<Oldest>> {
    let id: Option<EventId> = on!(conn, c => outbox_open::table
        .filter(outbox_open::status.lt(2_i16))
        .order(outbox_open::id)
        .select(outbox_open::id)
        .first(c)
        .optional())?;
    let Some(id) = id else { return Ok(None) };
    let event: Option<(String, Timestamp)> = on!(conn, c => outbox_event::table
        .find(id)
        .select((outbox_event::key, outbox_event::created_us))
        .first(c)
        .optional())?;
    Ok(event.map(|(key, since)| Oldest { id, key, since }))
}

/// The slots are summed here: the databases' sum of a BIGINT is of another type in each.
fn processed(conn: &mut Conn) -> QueryResult<i64> {
    let slots: Vec<i64> = on!(conn, c => counter::table
        .filter(counter::name.eq(PROCESSED_COUNTER))
        .select(counter::value)
        .load(c))?;
    Ok(slots.into_iter().fold(0, i64::saturating_add))
}

/// Takes samples and keeps the newest one; cheap to clone, all clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sampler {
    newest: Arc<RwLock<Option<Arc<Sample>>>>,
    first: Arc<tokio::sync::Mutex<()>>,
}

impl Sampler {
    /// Takes a sample and keeps it; a timer repeats this, pausing for [`Sample::rest`].
    ///
    /// # Errors
    /// When the database can't be read; the sample before stays, and its `as_of` tells its age.
    pub async fn run_once(&self, db: &Db, env: &Env) -> Result<Arc<Sample>, DbError> {
        let as_of = env.now();
        let sample = db.read(move |conn| Sample::take(conn, as_of).map_err(DbError::from)).await?;
        let sample = Arc::new(sample);
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        *newest = Some(Arc::clone(&sample));
        Ok(sample)
    }

    /// The newest sample, if one was taken yet.
    pub fn newest(&self) -> Option<Arc<Sample>> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest sample, or the first one, which is then taken now, once for all who ask.
    ///
    /// # Errors
    /// When there is none yet and the database can't be read.
    pub async fn newest_or_first(&self, db: &Db, env: &Env) -> Result<Arc<Sample>, DbError> {
        if let Some(sample) = self.newest() {
            return Ok(sample);
        }
        let _alone = self.first.lock().await;
        match self.newest() {
            Some(sample) => Ok(sample),
            None => self.run_once(db, env).await,
        }
    }
}
