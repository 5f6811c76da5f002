//! The steps of a verification.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::db::{Db, DbError};
use common::env::Env;
use common::retry::Backoff;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::compare::{Compared, Comparison};
use super::judge::Verdict;
use super::look::{Looked, look};
use super::model::{self, Finding, KeyFinding, NewVerification, SCHEDULED, State, Verification};
use super::open::Asked;
use super::outcome;
use super::replica::Owner;
use super::side::{Local, Side, SideError};
use super::terms::{surely_known, terms};
use super::wire::{MAX_STATES, Terms};
use crate::outbox::Outbox;

/// Differences that are listed; a verification ends when it has found so many.
pub const MAX_DIFFERENCES: i64 = 100_000;

/// Undecided keys, after which no further ranges are compared until those are looked at.
const MANY_UNDECIDED: i64 = 5_000;

/// Keys of a range at first, at least and at the most: it grows as long as a step is short.
const FIRST: i64 = 1_000;
const LARGEST: i64 = 1 << 18;

/// How long a step should take: a range that took longer is followed by a smaller one.
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_millis(600);

/// The longest rest between two steps.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Pauses between looks at a key that moves.
pub(super) const LOOKS: Backoff =
    Backoff { base: Duration::from_millis(100), max: Duration::from_secs(5) };

/// The pause before a consumer that gives no answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Compares consumers with what this service owns; cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    /// The service's database.
    pub db: Db,
    /// Time and chance.
    pub env: Env,
    /// What this service is called.
    pub service: String,
    /// The consumer that the settings name first.
    pub first: String,
    /// The topic that its events go to.
    pub topic: String,
    /// What it owns.
    pub owner: Arc<dyn Owner>,
    /// How long removed keys are known for sure.
    pub tombstones: Duration,
    /// How long moving keys, and a consumer without answers, are looked at again.
    pub patience: Duration,
    /// Names this instance.
    pub holder: String,
    /// How many keys the next range has.
    pub(crate) size: Arc<AtomicI64>,
    pub(crate) woken: Arc<Notify>,
    pub(crate) hurried: Arc<Notify>,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Whether there was a verification to work on; there may be more to do then.
    pub worked: bool,
    /// How long to rest before the next one.
    pub rest: Duration,
    /// Whether a verification has ended with it: alerts may be raised or closed.
    pub ended: bool,
}

impl Step {
    const NONE: Self = Self { worked: false, rest: Duration::ZERO, ended: false };
}

/// What a step found, to be written at once.
#[derive(Default)]
struct Found {
    noted: Vec<KeyFinding>,
    equal: Vec<String>,
}

impl Verifier {
    /// A verifier of `owner`'s keys in `db`.
    pub fn new(db: &Db, env: &Env, service: &str, owner: Arc<dyn Owner>) -> Self {
        Self {
            db: db.clone(),
            env: env.clone(),
            service: service.to_owned(),
            first: String::new(),
            topic: String::new(),
            owner,
            tombstones: Duration::from_secs(365 * 24 * 60 * 60),
            patience: Duration::from_secs(30),
            holder: env.event_id().to_string(),
            size: Arc::new(AtomicI64::new(FIRST)),
            woken: Arc::default(),
            hurried: Arc::default(),
        }
    }

    /// Tells the background that a verification was committed, which does not wait for the rest of another one.
    pub fn wake(&self) {
        self.woken.notify_one();
        self.hurried.notify_one();
    }

    /// The same for one that nobody waits for: a rest goes on.
    pub fn wake_idle(&self) {
        self.woken.notify_one();
    }

    /// What else [`Verifier::wake`] notifies: the clock does not end a rest.
    pub fn hurry(&self) -> &Arc<Notify> {
        &self.hurried
    }

    /// What [`Verifier::wake`] notifies.
    pub fn notify(&self) -> &Arc<Notify> {
        &self.woken
    }

    /// Puts down the verification that the schedule asks for, unless one of that consumer is under way.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn schedule(&self, consumer: &str, share: i32) -> Result<Option<i64>, DbError> {
        let new = NewVerification {
            consumer: consumer.to_owned(),
            keys_of: None,
            share,
            state: State::Waiting,
            created_us: self.env.now(),
            created_by: "the schedule".to_owned(),
            created_via: SCHEDULED.to_owned(),
        };
        self.db.write(move |conn| Ok(model::insert(conn, &new)?)).await
    }

    /// Makes one step of the verification that is next, asking whom `side_of` knows under the consumer's name.
    ///
    /// # Errors
    /// When the own database fails; nothing of the step is kept then. What a consumer does not answer is no error of a
    /// step, and ends the verification as unknown once patience is over.
    pub async fn run_once<'a, C: Side + 'a>(
        &self,
        side_of: impl Fn(&str) -> Option<&'a C>,
    ) -> Result<Step, DbError> {
        let holder = self.holder.clone();
        let (now, began) = (self.env.now(), Instant::now());
        let taken =
            self.db.write::<_, DbError>(move |conn| Ok(model::take(conn, &holder, now)?)).await?;
        let Some(mut row) = taken else { return Ok(Step::NONE) };
        row.started_us = row.started_us.or(Some(now));
        let mut found = Found::default();
        let advanced = match side_of(&row.consumer) {
            Some(consumer) => self.advance(&mut row, consumer, &mut found).await,
            None => Err(SideError::Nowhere(row.consumer.clone())),
        };
        let rest = match advanced {
            Ok(rest) => {
                row.answered_us = Some(self.env.now());
                rest.max(rest_after(began.elapsed(), row.share))
            }
            Err(SideError::Database(error)) => return Err(error),
            Err(SideError::Away { .. }) if self.is_patient(&row) => {
                // It may be that so much can't be read in time.
                let size = self.size.load(Ordering::Relaxed);
                self.size.store((size / 2).max(FIRST), Ordering::Relaxed);
                ASK_AGAIN
            }
            Err(error) => {
                row.state = State::Unknown;
                row.reason = Some(error.to_string());
                Duration::ZERO
            }
        };
        let ended = !row.state.is_open();
        self.save(row, found, rest).await?;
        Ok(Step { worked: true, rest, ended })
    }

    fn is_patient(&self, row: &Verification) -> bool {
        let heard = row.answered_us.max(row.started_us).unwrap_or(row.created_us);
        self.env.now().since(heard) < self.patience
    }

    /// Goes on where the verification is; returns how long there is nothing to do.
    async fn advance<C: Side>(
        &self,
        row: &mut Verification,
        consumer: &C,
        found: &mut Found,
    ) -> Result<Duration, SideError> {
        let local = self.local();
        let terms = terms(&local, consumer).await?;
        if row.state == State::Waiting {
            row.state = State::Comparing;
        }
        match row.state {
            State::Comparing if self.undecided(row.seq).await? < MANY_UNDECIDED => {
                match row.keys_of {
                    None => self.compare(row, consumer, &local, &terms, found).await?,
                    Some(earlier) => self.take_over(row, earlier).await?,
                }
                Ok(Duration::ZERO)
            }
            _ => self.look_again(row, consumer, &local, &terms, found).await,
        }
    }

    /// Compares the next range.
    async fn compare<C: Side>(
        &self,
        row: &mut Verification,
        consumer: &C,
        local: &Local,
        terms: &Terms,
        found: &mut Found,
    ) -> Result<(), SideError> {
        let (size, began) = (self.size.load(Ordering::Relaxed), Instant::now());
        let epoch = self.db.read(|conn| Ok::<_, DbError>(Outbox::epoch(conn)?)).await?;
        let comparison = Comparison { owner: &self.owner, local, consumer, terms, epoch };
        let Compared { up_to, keys, differing } =
            comparison.next(row.cursor.as_deref(), size).await?;
        self.adapt(size, began.elapsed());
        let looked = look(&self.owner, local, consumer, terms, &self.asked(row), differing).await?;
        self.sort(row, looked, &[], found);
        row.keys += keys;
        match up_to {
            Some(up_to) => row.cursor = Some(up_to),
            None => self.end_comparing(row),
        }
        Ok(())
    }

    fn adapt(&self, size: i64, took: Duration) {
        let next = match took {
            took if took < SHORT => size.saturating_mul(2).min(LARGEST),
            took if took > LONG => (size / 2).max(FIRST),
            _ => size,
        };
        self.size.store(next, Ordering::Relaxed);
    }

    /// Lists some of the differences of an earlier verification.
    async fn take_over(&self, row: &mut Verification, earlier: i64) -> Result<(), DbError> {
        let (seq, after, now) = (row.seq, row.cursor.clone().unwrap_or_default(), self.env.now());
        let limit = i64::try_from(MAX_STATES).unwrap_or(i64::MAX);
        let listed = self.db.write::<_, DbError>(move |conn| {
            Ok(model::take_over(conn, seq, earlier, &after, limit, now)?)
        });
        match listed.await? {
            Some(last) => row.cursor = Some(last),
            None => self.end_comparing(row),
        }
        Ok(())
    }

    fn end_comparing(&self, row: &mut Verification) {
        row.state = State::LookingAgain;
        row.compared_us = Some(self.env.now());
    }

    /// Looks again at the keys that are due; ends the verification when none is left.
    async fn look_again<C: Side>(
        &self,
        row: &mut Verification,
        consumer: &C,
        local: &Local,
        terms: &Terms,
        found: &mut Found,
    ) -> Result<Duration, SideError> {
        let due = self.due(row.seq).await?;
        let all_compared = row.state == State::LookingAgain;
        if due.is_empty() && all_compared && self.undecided(row.seq).await? == 0 {
            row.state = State::Equal;
            return Ok(Duration::ZERO);
        }
        let keys: Vec<String> = due.iter().map(|one| one.key.clone()).collect();
        let rest = if keys.is_empty() { LOOKS.base } else { Duration::ZERO };
        let looked = look(&self.owner, local, consumer, terms, &self.asked(row), keys).await?;
        if row.keys_of.is_some() {
            row.keys += i64::try_from(due.iter().filter(|one| one.looks == 0).count()).unwrap_or(0);
        }
        self.sort(row, looked, &due, found);
        Ok(rest)
    }

    /// Sorts what was looked at into what is equal, what differs, and what has to be looked at again.
    fn sort(
        &self,
        row: &mut Verification,
        looked: Vec<Looked>,
        earlier: &[KeyFinding],
        found: &mut Found,
    ) {
        let now = self.env.now();
        for one in looked {
            let early = earlier.iter().find(|early| early.key == one.key);
            let looks = early.map_or(0, |early| early.looks) + 1;
            let found_us = early.map_or(now, |early| early.found_us);
            let (finding, due_us) = match one.verdict {
                Verdict::Equal => {
                    found.equal.push(one.key);
                    continue;
                }
                // Its event stays open, or it never stands still: that is all there is to be said of it.
                Verdict::Moving if now.since(found_us) >= self.patience => {
                    row.waiting += 1;
                    (Finding::Waiting, now)
                }
                Verdict::Moving => {
                    let pause = LOOKS.delay(looks.unsigned_abs(), self.env.chance());
                    (Finding::Moving, now.after(pause))
                }
                Verdict::Differs(difference) => {
                    row.differences += 1;
                    (difference.into(), now)
                }
            };
            found.noted.push(one.finding(row.seq, finding, looks, due_us, found_us));
        }
        if row.differences >= MAX_DIFFERENCES {
            row.cut = true;
            row.state = State::Equal;
        }
    }

    async fn due(&self, seq: i64) -> Result<Vec<KeyFinding>, DbError> {
        let (now, limit) = (self.env.now(), i64::try_from(MAX_STATES).unwrap_or(i64::MAX));
        self.db.read(move |conn| Ok(model::due(conn, seq, now, limit)?)).await
    }

    async fn undecided(&self, seq: i64) -> Result<i64, DbError> {
        self.db.read(move |conn| Ok(model::undecided(conn, seq, MANY_UNDECIDED)?)).await
    }

    fn asked(&self, row: &Verification) -> Asked {
        let (consumer, topic) = (row.consumer.clone(), self.topic.clone());
        Asked { consumer, topic, now: self.env.now() }
    }

    fn local(&self) -> Local {
        let since = surely_known(self.env.now(), self.tombstones);
        Local::of(&self.service, &self.db, self.owner.clone(), since)
    }

    /// Writes what a step found, and its end if it has come, in one transaction.
    async fn save(
        &self,
        mut row: Verification,
        found: Found,
        rest: Duration,
    ) -> Result<(), DbError> {
        let (holder, now, service) = (self.holder.clone(), self.env.now(), self.service.clone());
        let key = (row.consumer != self.first).then(|| row.consumer.clone());
        let is_over = !row.state.is_open();
        let saved = self.db.write::<_, DbError>(move |conn| {
            model::forget(conn, row.seq, found.equal.iter().map(String::as_str))?;
            model::note(conn, &found.noted)?;
            if is_over {
                row.ended_us = Some(now);
                let waiting = model::leave_waiting(conn, row.seq)?;
                row.waiting += i64::try_from(waiting).unwrap_or(i64::MAX);
                if row.state == State::Equal {
                    (row.state, row.reason) = outcome::verdict(&row);
                }
            }
            if !model::save(conn, &row, &holder)? {
                // Cancelled, or taken by another instance: what was found goes with it.
                return Err(DbError::Query(diesel::result::Error::RollbackTransaction));
            }
            match is_over {
                true => outcome::tell(conn, &service, &row, key.as_deref(), now)?,
                false => model::rest(conn, row.seq, &holder, rest)?,
            }
            Ok(row)
        });
        match saved.await {
            Ok(row) if is_over => {
                let Verification { seq, consumer, keys, differences, waiting, .. } = &row;
                let (state, reason) = (row.state.name(), row.reason.as_deref());
                tracing::info!(
                    seq,
                    consumer,
                    state,
                    keys,
                    differences,
                    waiting,
                    reason,
                    "verified"
                );
                Ok(())
            }
            Ok(_) | Err(DbError::Query(diesel::result::Error::RollbackTransaction)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// How long to rest after `took`, to work for `share` thousandths of the time.
fn rest_after(took: Duration, share: i32) -> Duration {
    let share = f64::from(share.clamp(1, 1_000)) / 1_000.0;
    took.mul_f64(1.0 / share - 1.0).min(LONGEST_REST)
}
