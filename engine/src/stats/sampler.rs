//! Samples taken beside the requests: a step that a timer repeats, and the newest result for whoever asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use common::config::KafkaSettings;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::sample::{Sample, Totals};

/// What rates are taken over.
const RATES_OVER: Duration = Duration::from_secs(60);

/// How fast things go, per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Rates {
    /// Events that were committed: what comes in.
    pub committed: f64,
    /// Attempts that the broker confirmed.
    pub sent: f64,
    /// Events that were answered for good: what goes out.
    pub acknowledged: f64,
    /// Attempts that failed.
    pub failed: f64,
    /// The seconds that these are taken over.
    pub over_seconds: f64,
}

impl Rates {
    /// How fast counts grew from `before` to `after`; counts that went back did not grow.
    pub(super) fn between(before: (Timestamp, Totals), after: (Timestamp, Totals)) -> Option<Self> {
        let over_seconds = after.0.since(before.0).as_secs_f64();
        let rate = |count: fn(&Totals) -> i64| {
            let grown = count(&after.1).saturating_sub(count(&before.1)).max(0);
            // Exact below 2^53.
            grown as f64 / over_seconds
        };
        (over_seconds > 0.0).then(|| Self {
            committed: rate(|totals| totals.committed),
            sent: rate(|totals| totals.sent),
            acknowledged: rate(|totals| totals.processed),
            failed: rate(|totals| totals.failed),
            over_seconds,
        })
    }
}

/// Takes samples and keeps the newest one; cheap to clone, all clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sampler(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    topic: String,
    consumer: String,
    newest: watch::Sender<Option<Arc<Sample>>>,
    /// The totals of the last minute, oldest first.
    past: Mutex<VecDeque<(Timestamp, Totals)>>,
    first: tokio::sync::Mutex<()>,
}

impl Sampler {
    /// A sampler that knows the outgoing topic and who consumes it first.
    pub fn new(kafka: &KafkaSettings) -> Self {
        Self(Arc::new(Inner {
            topic: kafka.outbound_topic.clone(),
            consumer: kafka.outbound_consumer.clone(),
            ..Inner::default()
        }))
    }

    /// The topic whose partitions are sampled.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The consumer that the settings name.
    pub fn consumer(&self) -> &str {
        &self.0.consumer
    }

    /// Takes a sample and keeps it; a timer repeats this, pausing for [`Sample::rest`].
    ///
    /// # Errors
    /// When the database can't be read; the sample before stays, and its `as_of` tells its age.
    pub async fn run_once(&self, db: &Db, env: &Env) -> Result<Arc<Sample>, DbError> {
        let (as_of, topic, first) = (env.now(), self.0.topic.clone(), self.0.consumer.clone());
        let take =
            move |conn: &mut Conn| Ok::<_, DbError>(Sample::take(conn, &topic, &first, as_of)?);
        let mut sample = db.read(take).await?;
        sample.rates = self.remember(as_of, &mut sample.totals);
        let sample = Arc::new(sample);
        self.0.newest.send_replace(Some(Arc::clone(&sample)));
        Ok(sample)
    }

    fn remember(&self, as_of: Timestamp, totals: &mut Totals) -> Option<Rates> {
        let mut past = self.0.past.lock().unwrap_or_else(PoisonError::into_inner);
        // It is a sum of two statements, between which events are settled: it must not go back for that.
        let before = past.back().map_or(0, |(_, before)| before.committed);
        totals.committed = totals.committed.max(before);
        past.push_back((as_of, *totals));
        while past.len() > 2 && past.front().is_some_and(|(at, _)| as_of.since(*at) > RATES_OVER) {
            past.pop_front();
        }
        Rates::between(*past.front()?, (as_of, *totals))
    }

    /// The newest sample, if one was taken yet.
    pub fn newest(&self) -> Option<Arc<Sample>> {
        self.0.newest.borrow().clone()
    }

    /// Hears of each new sample from now on, unless about `limit` listen already.
    pub fn follow(&self, limit: usize) -> Option<watch::Receiver<Option<Arc<Sample>>>> {
        (self.0.newest.receiver_count() < limit).then(|| self.0.newest.subscribe())
    }

    /// The newest sample, or the first one, which is then taken now, once for all who ask.
    ///
    /// # Errors
    /// When there is none yet and the database can't be read.
    pub async fn newest_or_first(&self, db: &Db, env: &Env) -> Result<Arc<Sample>, DbError> {
        if let Some(sample) = self.newest() {
            return Ok(sample);
        }
        let _alone = self.0.first.lock().await;
        match self.newest() {
            Some(sample) => Ok(sample),
            None => self.run_once(db, env).await,
        }
    }
}
