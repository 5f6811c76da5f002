//! The way to the ack topic. Any partition of it will do for an answer, so one that gives trouble is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::retry::Backoff;
use tokio::time::Instant;

use crate::kafka::{Message, Offset, Producer, SendError};

/// What sends answers.
pub trait AckSender: Send + Sync + 'static {
    /// See [`Producer::send_all`].
    fn send_all(
        &self,
        messages: &[Message],
    ) -> impl Future<Output = Vec<Result<Offset, SendError>>> + Send;

    /// See [`Producer::leaders`]; it blocks nobody.
    ///
    /// # Errors
    /// Why the broker can't say.
    fn leaders(&self, topic: &str) -> impl Future<Output = Result<BTreeSet<i32>, String>> + Send;
}

impl AckSender for Producer {
    async fn send_all(&self, messages: &[Message]) -> Vec<Result<Offset, SendError>> {
        Producer::send_all(self, messages).await
    }

    async fn leaders(&self, topic: &str) -> Result<BTreeSet<i32>, String> {
        let (producer, topic) = (self.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || Producer::leaders(&producer, &topic)).await;
        asked.map_err(|error| error.to_string()).flatten()
    }
}

/// What sends to the ack topic, and which of its partitions are left alone.
pub struct AckRoutes<A = Producer> {
    sender: A,
    topic: String,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// When the broker was asked last.
    asked: Option<Instant>,
    /// When it was asked last, if it did not answer, and why.
    unanswered: Option<(Instant, String)>,
    /// Partitions that have a leader; none: not known, so the key decides.
    led: BTreeSet<i32>,
    /// Partitions that did not take answers: how often in a row, and how long they are left alone.
    avoided: BTreeMap<i32, (u32, Instant)>,
}

/// How old may be what is known of leaders.
const FRESH: Duration = Duration::from_secs(10);

/// How long a broker that did not answer is left alone: each question may take seconds.
const REST: Duration = Duration::from_secs(2);

/// How long a partition is left alone that has a leader and takes nothing all the same.
const AVOIDED: Backoff = Backoff { base: Duration::from_secs(30), max: Duration::from_secs(300) };

impl<A: AckSender> AckRoutes<A> {
    /// The partitions of `topic`, of which nothing is known yet.
    pub fn new(sender: A, topic: &str) -> Self {
        Self { sender, topic: topic.to_owned(), known: Mutex::default() }
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Sends answers, each to where [`AckRoutes::of`] says.
    pub(super) async fn send_all(&self, messages: &[Message]) -> Vec<Result<Offset, SendError>> {
        self.sender.send_all(messages).await
    }

    /// Asks the broker for leaders, if that was long ago: cheaper than to send to a partition that has none.
    pub(crate) async fn look(&self) {
        if !self.known().is_due(Instant::now()) {
            return;
        }
        let found = self.sender.leaders(&self.topic).await;
        let (now, mut known) = (Instant::now(), self.known());
        known.asked = Some(now);
        match found {
            Ok(led) => (known.led, known.unanswered) = (led, None),
            Err(error) => {
                // What was known serves until the broker answers.
                tracing::debug!(error, "leaders of the ack topic are not known");
                known.unanswered = Some((now, error));
            }
        }
    }

    /// Why answers are not taken: of a topic that is missing, `error` may only say that time is up.
    pub(super) fn explain(&self, error: &SendError) -> String {
        match &self.known().unanswered {
            Some((_, obstacle)) => format!("{obstacle}; {error}"),
            None => error.to_string(),
        }
    }

    /// Where the answers to partition `source` go; none: the key decides.
    pub(super) fn of(&self, source: i32) -> Option<i32> {
        self.known().route(source, Instant::now())
    }

    /// `partition` took answers.
    pub(super) fn took(&self, partition: Option<i32>) {
        if let Some(partition) = partition {
            self.known().avoided.remove(&partition);
        }
    }

    /// `partition` did not take answers, or not in time: others get them for a while.
    pub(super) fn refused(&self, partition: Option<i32>, chance: f64) {
        let mut known = self.known();
        // It may have lost its leader.
        known.asked = None;
        if let Some(partition) = partition {
            known.avoid(partition, Instant::now(), chance);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_due(&self, now: Instant) -> bool {
        let is_young = |at: Option<Instant>, age| at.is_some_and(|at| now.duration_since(at) < age);
        let unanswered = self.unanswered.as_ref().map(|(at, _)| *at);
        !is_young(self.asked, FRESH) && !is_young(unanswered, REST)
    }

    fn avoid(&mut self, partition: i32, now: Instant, chance: f64) {
        let failures = self.avoided.get(&partition).map_or(0, |(failures, _)| *failures) + 1;
        let until = now + AVOIDED.delay(failures, chance);
        self.avoided.insert(partition, (failures, until));
    }

    fn route(&self, source: i32, now: Instant) -> Option<i32> {
        let is_avoided = |one: &i32| self.avoided.get(one).is_some_and(|(_, until)| *until > now);
        let usable: Vec<i32> = self.led.iter().copied().filter(|one| !is_avoided(one)).collect();
        // With trouble everywhere, all are worth a try.
        let usable = if usable.is_empty() { self.led.iter().copied().collect() } else { usable };
        let place = usize::try_from(source).unwrap_or(0).checked_rem(usable.len())?;
        usable.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A broker that may have the topic.
    #[derive(Default)]
    struct MaybeMade(AtomicBool);

    impl AckSender for MaybeMade {
        async fn send_all(&self, _messages: &[Message]) -> Vec<Result<Offset, SendError>> {
            Vec::new()
        }

        async fn leaders(&self, topic: &str) -> Result<BTreeSet<i32>, String> {
            match self.0.load(Ordering::Relaxed) {
                true => Ok(BTreeSet::from([0])),
                false => Err(format!("the topic {topic} does not exist")),
            }
        }
    }

    #[tokio::test]
    async fn a_missing_topic_is_named_as_why_answers_are_not_taken() {
        let routes = AckRoutes::new(MaybeMade::default(), "acks");
        let error = SendError::Broker("time is up".to_owned());
        let alone = "the broker did not take it: time is up";
        assert_eq!(routes.explain(&error), alone, "nobody has asked yet");
        routes.look().await;
        assert_eq!(routes.explain(&error), format!("the topic acks does not exist; {alone}"));
        routes.sender.0.store(true, Ordering::Relaxed);
        routes.refused(None, 0.0);
        if let Some((asked, _)) = &mut routes.known().unanswered {
            *asked -= REST;
        }
        routes.look().await;
        assert_eq!(routes.explain(&error), alone);
    }

    fn routes(known: &Known, now: Instant) -> Vec<Option<i32>> {
        (0..4).map(|source| known.route(source, now)).collect()
    }

    #[test]
    fn answers_go_round_what_gives_trouble_and_come_back_after_a_while() {
        let now = Instant::now();
        let mut known = Known::default();
        assert_eq!(routes(&known, now), [None; 4], "the key decides");
        known.led = (0..4).collect();
        assert_eq!(routes(&known, now), [0, 1, 2, 3].map(Some));
        known.led.remove(&1);
        assert_eq!(routes(&known, now), [0, 2, 3, 0].map(Some), "one has no leader");
        known.avoid(2, now, 0.0);
        assert_eq!(routes(&known, now), [0, 3, 0, 3].map(Some));
        known.avoid(0, now, 0.0);
        known.avoid(3, now, 0.0);
        assert_eq!(routes(&known, now), [0, 2, 3, 0].map(Some), "all are troubled: none is better");
        known.avoided.remove(&0);
        assert_eq!(routes(&known, now), [0; 4].map(Some));
        let later = now + AVOIDED.max;
        assert_eq!(routes(&known, later), [0, 2, 3, 0].map(Some));
    }

    #[test]
    fn leaders_are_asked_for_at_once_where_one_is_lost_but_not_without_rest() {
        let now = Instant::now();
        let mut known = Known::default();
        assert!(known.is_due(now));
        known.asked = Some(now);
        assert!(!known.is_due(now + REST));
        assert!(known.is_due(now + FRESH));
        known.asked = None;
        assert!(known.is_due(now), "an answer was refused");
        known.unanswered = Some((now, "nobody answers".to_owned()));
        assert!(!known.is_due(now + REST / 2), "the broker may be away");
        assert!(known.is_due(now + REST));
    }

    #[test]
    fn what_fails_again_is_left_alone_for_longer() {
        let now = Instant::now();
        let mut known = Known { led: (0..2).collect(), ..Known::default() };
        known.avoid(1, now, 0.0);
        let later = now + Duration::from_secs(40);
        assert_eq!(known.route(1, later), Some(1));
        known.avoid(1, later, 0.0);
        assert_eq!(known.route(1, later + Duration::from_secs(40)), Some(0));
    }
}
