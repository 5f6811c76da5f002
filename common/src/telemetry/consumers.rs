//! Whether what receives messages can receive them: a state per consumer, with what the broker said.
//!
//! A client tells each error once, and an idle consumer receives nothing, so an error stands until something disproves
//! it: a message, the client's own statistics (it is in its group and reads), or both after it was made anew; where another
//! client may come back for its place, only time does. What the statistics say themselves only they disprove: a message
//! tells nothing of the partitions that it does not come from. One that says nothing at all is not asked for messages.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::env::Env;

/// What keeps a consumer from receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong, in plain words.
    pub problem: &'static str,
    /// What an operator does about it.
    pub advice: &'static str,
    /// How its end shows.
    pub heals: Heals,
}

/// How the end of a trouble shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heals {
    /// The consumer is in its group again.
    ByItself,
    /// A consumer that is made anew does not meet it: being in the group proves nothing, or the client is of no more use.
    Anew,
    /// One that is made anew and stays well: it may have taken another's place, which takes it back.
    Lasting,
}

/// How a client stands, by its statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is in its group, and reads the partitions that it has there.
    Receives,
    /// It waits for the broker.
    Waits,
    /// It waits for itself, or for what a broker does not answer: it does not begin to read a partition that it has, or does
    /// not end with one that it gives back. That is soon over, or never.
    Stuck,
}

/// A consumer as it is reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConsumerReport {
    /// `inbox` receives the other service's events, `acks` the answers to this service's own, `observer` its own events
    /// where another program sends them, `view` a view's messages.
    pub consumer: &'static str,
    /// What it receives from.
    pub topic: String,
    /// The group that it is a member of.
    pub group: String,
    /// Whether it can receive.
    #[serde(flatten)]
    pub status: ConsumerStatus,
}

/// Whether a consumer can receive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ConsumerStatus {
    /// Not known yet: it has not joined its group.
    #[default]
    Unknown,
    /// It is in its group and reads, or a message came and nothing is known against it.
    Up,
    /// It receives nothing, or not from all of its partitions.
    Down {
        /// Since when.
        #[schema(value_type = String, format = DateTime)]
        since: Timestamp,
        /// What is wrong.
        problem: &'static str,
        /// What to do.
        advice: &'static str,
        /// What the broker or the client said last.
        reason: Option<String>,
    },
}

impl ConsumerReport {
    /// What keeps it from receiving, in one sentence; none: nothing is known to.
    pub fn fault(&self) -> Option<String> {
        let ConsumerStatus::Down { problem, advice, reason, .. } = &self.status else {
            return None;
        };
        let said = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        Some(format!("{problem}{said}; {advice}"))
    }
}

/// What is known of one consumer; cheap to clone, all clones share it.
#[derive(Debug, Clone)]
pub struct ConsumerState(Arc<Member>);

#[derive(Debug)]
struct Member {
    consumer: &'static str,
    topic: String,
    group: String,
    env: Env,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    status: ConsumerStatus,
    /// How the end of a trouble would show that nothing has disproved yet.
    unproven: Option<Heals>,
    /// What only time proves the end of, and what was said of it.
    comes_back: Option<(Trouble, String)>,
    /// Since when its statistics say that it does not receive.
    apart: Option<Timestamp>,
    /// Since when they say that it is stuck.
    stuck: Option<Timestamp>,
    /// What they say against it, if that is no rebalance any more.
    verdict: Option<Trouble>,
    /// What the client said last of a fault that passes by itself.
    said: Option<String>,
    /// Looks in a row at which it was in its group and read, with no trouble since.
    well: u32,
    /// Since when it has been so.
    well_since: Option<Timestamp>,
    /// When it said something last of whether it receives.
    seen: Option<Timestamp>,
    /// Which client's word counts: one that was replaced may still speak.
    client: u32,
    /// When it was made anew last, and how often since it was well for a while.
    renewed: Option<(Timestamp, u32)>,
}

/// Not receiving for less than this is a rebalance, or a broker that restarts.
const JOINING: Duration = Duration::from_secs(15);

/// Looks in a row that prove that a consumer is well; errors come sooner than a second look.
const PROOF: u32 = 2;

/// How long a consumer that is up may say nothing, though its client speaks every few seconds to whoever asks.
const SILENT: Duration = Duration::from_secs(30);

/// How long a trouble lasts before the consumer is made anew; doubled each time, up to [`RENEW_AT_LAST`].
const RENEW_FIRST: Duration = Duration::from_secs(10);
const RENEW_AT_LAST: Duration = Duration::from_secs(60);

const APART: Trouble = Trouble {
    problem: "it is not in its group, or reads not all of its partitions",
    advice: "check the broker that coordinates the group, and the leaders of the topic's partitions",
    heals: Heals::ByItself,
};

const STUCK: Trouble = Trouble {
    problem: "it does not begin to read all of its partitions, or does not end with one that it gives back",
    advice: "it is made anew by itself; if it comes again, check the broker that coordinates the group",
    heals: Heals::Anew,
};

const BUSY: Trouble = Trouble {
    problem: "it is at one batch all the time",
    advice: "look for what that batch waits for: the database, a lock, or the broker that takes no answers",
    heals: Heals::ByItself,
};

impl ConsumerState {
    /// A consumer of `topic` in `group`, of which nothing is known yet.
    pub fn new(consumer: &'static str, topic: &str, group: &str, env: Env) -> Self {
        let (topic, group, known) = (topic.to_owned(), group.to_owned(), Mutex::default());
        Self(Arc::new(Member { consumer, topic, group, env, known }))
    }

    /// What it is for.
    pub fn consumer(&self) -> &'static str {
        self.0.consumer
    }

    /// What it receives from.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// What is known now: one that has said nothing for a while is not up any more.
    pub fn report(&self) -> ConsumerReport {
        let Member { consumer, topic, group, .. } = &*self.0;
        let (topic, group) = (topic.clone(), group.clone());
        let (now, mut known) = (self.0.env.now(), self.known());
        // A clock that was set back begins anew.
        known.seen = known.seen.map(|seen| seen.min(now));
        if known.status == ConsumerStatus::Up
            && let Some(seen) = known.seen
            && now.since(seen) >= SILENT
        {
            known.is_not_well();
            self.down(&mut known, seen, BUSY, None);
        }
        ConsumerReport { consumer, topic, group, status: known.status.clone() }
    }

    /// `client` met `trouble`, and said `said`.
    pub fn failed(&self, client: u32, trouble: Trouble, said: &str) {
        let mut known = self.known();
        if known.client == client {
            known.is_not_well();
            known.unproven = known.unproven.max(Some(trouble.heals));
            if trouble.heals == Heals::Lasting {
                known.comes_back = Some((trouble, said.to_owned()));
            }
            let now = self.0.env.now();
            self.down(&mut known, now, trouble, Some(said.to_owned()));
        }
    }

    /// `client` said something of a fault that passes by itself; it is told if it does not.
    pub fn heard(&self, client: u32, said: &str) {
        let mut known = self.known();
        if known.client == client {
            known.said = Some(said.to_owned());
        }
    }

    /// How `client` stands now.
    pub fn looked(&self, client: u32, standing: Standing) {
        let (now, mut known) = (self.0.env.now(), self.known());
        if known.client != client {
            return;
        }
        known.seen = Some(now);
        // A clock that was set back begins anew.
        let since = |noted: Option<Timestamp>| noted.map_or(now, |noted| noted.min(now));
        known.apart = (standing != Standing::Receives).then(|| since(known.apart));
        known.stuck = (standing == Standing::Stuck).then(|| since(known.stuck));
        known.verdict = known.verdict_at(now);
        if standing != Standing::Receives {
            known.is_not_well();
        } else if known.is_well(now) {
            self.up(&mut known);
        }
        // Until the first such look, what the client before met may go on.
        let is_known = known.verdict.is_some() || standing == Standing::Receives;
        if known.unproven.is_none() && is_known {
            self.tell_what_stands(&mut known, now);
        }
    }

    /// A message came.
    pub fn received(&self) {
        let (now, mut known) = (self.0.env.now(), self.known());
        known.seen = Some(now);
        if known.status == ConsumerStatus::Up {
            return;
        }
        known.unproven = known.unproven.filter(|heals| *heals == Heals::Lasting);
        if known.verdict.is_none() && known.comes_back.is_none() {
            self.up(&mut known);
        }
        if known.unproven.is_none() {
            self.tell_what_stands(&mut known, now);
        }
    }

    /// Tells what the statistics say against it, or else what only time proves the end of.
    fn tell_what_stands(&self, known: &mut Known, now: Timestamp) {
        if let Some(trouble) = known.verdict {
            let (since, said) = (known.apart.unwrap_or(now), known.said.clone());
            self.down(known, since, trouble, said);
        } else if let Some((trouble, said)) = known.comes_back.clone() {
            self.down(known, now, trouble, Some(said));
        }
    }

    /// The number of the client that is to take the place of the one that there is, when it is time for that.
    pub fn renew(&self) -> Option<u32> {
        let mut known = self.known();
        let ConsumerStatus::Down { since, .. } = known.status else { return None };
        let now = self.0.env.now();
        if known.heals() < Some(Heals::Anew) {
            return None;
        }
        let (last, times) = known.renewed.unwrap_or((since, 0));
        let pause = RENEW_FIRST.saturating_mul(1 << times.min(8)).min(RENEW_AT_LAST);
        // A clock that was set back begins anew.
        if last <= now && now.since(last) < pause {
            return None;
        }
        known.renewed = Some((now, times + 1));
        known.client += 1;
        // The new one meets it again, or it is over.
        (known.unproven, known.stuck) = (None, None);
        known.verdict = known.verdict.map(|_| APART);
        known.is_not_well();
        Some(known.client)
    }

    /// There is no such client; it is tried again.
    pub fn not_renewed(&self) {
        let mut known = self.known();
        let heals = if known.comes_back.is_some() { Heals::Lasting } else { Heals::Anew };
        known.unproven = known.unproven.max(Some(heals));
        // The old client stays, and its word counts again.
        known.client = known.client.saturating_sub(1);
    }

    fn down(&self, known: &mut Known, since: Timestamp, trouble: Trouble, reason: Option<String>) {
        let Trouble { problem, advice, .. } = trouble;
        let (since, is_news) = match known.status {
            ConsumerStatus::Down { since, problem: told, .. } => (since, told != problem),
            ConsumerStatus::Unknown | ConsumerStatus::Up => (since, true),
        };
        if is_news {
            let Member { consumer, topic, group, .. } = &*self.0;
            tracing::warn!(consumer, topic, group, problem, reason, advice, "not all is received");
        }
        known.status = ConsumerStatus::Down { since, problem, advice, reason };
    }

    fn up(&self, known: &mut Known) {
        if matches!(known.status, ConsumerStatus::Down { .. }) {
            let Member { consumer, topic, group, .. } = &*self.0;
            tracing::info!(consumer, topic, group, "messages are received again");
        }
        known.status = ConsumerStatus::Up;
        (known.unproven, known.comes_back, known.said) = (None, None, None);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// It is in its group and reads, at this look; returns whether that proves that its troubles are over.
    fn is_well(&mut self, now: Timestamp) -> bool {
        self.well += 1;
        // A clock that was set back begins anew.
        let since = self.well_since.filter(|since| *since <= now).unwrap_or(now);
        self.well_since = Some(since);
        if self.unproven >= Some(Heals::Anew) {
            return false;
        }
        let lasts = now.since(since) > RENEW_AT_LAST;
        if lasts {
            self.renewed = None;
        }
        if self.well < PROOF {
            return false;
        }
        self.unproven = None;
        lasts || self.comes_back.is_none()
    }

    /// What the statistics say against it once a look at `now` is noted.
    fn verdict_at(&self, now: Timestamp) -> Option<Trouble> {
        let lasts =
            |since: Option<Timestamp>| since.is_some_and(|since| now.since(since) >= JOINING);
        let trouble = if lasts(self.stuck) { STUCK } else { APART };
        lasts(self.apart).then_some(trouble)
    }

    /// How the end of what is wrong with it would show, if anything is.
    fn heals(&self) -> Option<Heals> {
        self.unproven.max(self.verdict.map(|trouble| trouble.heals))
    }

    fn is_not_well(&mut self) {
        self.well = 0;
        self.well_since = None;
    }
}

#[cfg(test)]
mod tests;
