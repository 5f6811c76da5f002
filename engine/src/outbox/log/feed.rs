//! What the log has brought and the relay has not dealt with: bounded, and in order by shard.

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::store::DueRow;

/// Events that wait here at the most.
const MAX_EVENTS: usize = 20_000;

/// Bytes of their payloads at the most; a larger event passes alone.
const MAX_BYTES: usize = 16 << 20;

/// How long a shard that can't be sent may take the room of others before its events are left to the table.
const LEFT_AFTER: Duration = Duration::from_millis(250);

/// How long events that can't be sent may keep a mark from being passed: the table waits for it with what it has.
const MARK_WAITS: Duration = Duration::from_secs(3);

/// The stretch of the log between two marks that an event came in; they count up.
type Stretch = u64;

/// What the reader of the log and the relay have in common; cheap to clone.
#[derive(Clone, Default)]
pub(in crate::outbox) struct LogFeed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when events were taken out.
    freed: Notify,
}

#[derive(Default)]
struct State {
    /// Counts the times that all began anew: what belongs to an earlier one is not known here any more.
    session: u64,
    phase: Phase,
    shards: BTreeMap<i16, Waiting>,
    events: usize,
    bytes: usize,
    stretches: Stretches,
    passed: Mark,
}

/// How far the log has become the way of what is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Phase {
    /// The table has everything.
    #[default]
    Unread,
    /// A mark of this session came, so what is new comes, too; the table goes on until it is told where to end.
    Ready,
    /// What had ended by then is the table's, and what was appended later comes by the log.
    Followed(Ended),
}

/// Which events the table has, of those that were never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::outbox) enum TablesShare {
    /// All.
    All,
    /// All, but the log is about to take over: the next read has to [`LogFeed::follow`] from its snapshot on, in this
    /// session.
    Last(u64),
    /// Those of these transactions.
    Of(Ended),
}

/// The events of one shard.
#[derive(Default)]
struct Waiting {
    rows: VecDeque<(Stretch, DueRow)>,
    /// Since when none of them could be sent.
    blocked: Option<Instant>,
}

/// A place in the log, written by this service, with the transactions that had ended by then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where it is in the log.
    pub(super) lsn: u64,
    /// What lies before it.
    pub(super) before: Ended,
}

/// Transactions that have ended: all below `xmax` but for those in `running`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::outbox) struct Ended {
    /// The oldest that still runs, or `xmax`.
    pub(in crate::outbox) xmin: i64,
    /// The first that had not begun.
    pub(in crate::outbox) xmax: i64,
    /// Those in between that still run.
    pub(in crate::outbox) running: Vec<i64>,
}

impl Ended {
    /// How many there are. Of two snapshots of one server, the later one has all of the earlier one, so this orders them.
    fn count(&self) -> i64 {
        self.xmax.saturating_sub(i64::try_from(self.running.len()).unwrap_or(i64::MAX))
    }

    /// Whether the transaction with this number is one of them.
    pub(in crate::outbox) fn has(&self, transaction: i64) -> bool {
        transaction < self.xmax && !self.running.contains(&transaction)
    }
}

impl FromStr for Ended {
    type Err = ();

    /// As PostgreSQL writes a `pg_snapshot`: `xmin:xmax:xip,xip`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(());
        let (xmin, xmax) = (number()?, number()?);
        let running = parts.next().ok_or(())?.split(',').filter(|xid| !xid.is_empty());
        let running = running.map(|xid| xid.parse().map_err(|_| ())).collect::<Result<_, ()>>()?;
        Ok(Self { xmin, xmax, running })
    }
}

/// Events that were taken to be sent.
#[derive(Debug, Default)]
pub(in crate::outbox) struct Taken {
    /// In the order of the log by shard.
    pub(in crate::outbox) rows: Vec<DueRow>,
    /// Where each came from.
    pub(in crate::outbox) places: Vec<Place>,
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::outbox) struct Place {
    session: u64,
    stretch: Stretch,
}

impl LogFeed {
    /// What waits is the table's, and so is all that comes, until the log is followed again.
    pub(super) fn stop_following(&self) {
        let mut state = self.lock();
        *state = State { session: state.session + 1, ..State::default() };
        drop(state);
        self.0.freed.notify_one();
    }

    /// Whether the log brings what is new.
    pub(in crate::outbox) fn is_followed(&self) -> bool {
        matches!(self.lock().phase, Phase::Followed(_))
    }

    /// Whether it does, or is about to.
    pub(super) fn is_read(&self) -> bool {
        self.lock().phase != Phase::Unread
    }

    /// Which events are the table's, if they are PENDING.
    pub(in crate::outbox) fn of_the_table(&self) -> TablesShare {
        let state = self.lock();
        match &state.phase {
            Phase::Unread => TablesShare::All,
            Phase::Ready => TablesShare::Last(state.session),
            Phase::Followed(from) if from.count() > state.passed.before.count() => {
                TablesShare::Of(from.clone())
            }
            Phase::Followed(_) => TablesShare::Of(state.passed.before.clone()),
        }
    }

    /// What has `ended` is the table's, which has not looked at anything later, and what comes from now on is the log's;
    /// false if that is read no more, or in another session.
    pub(in crate::outbox) fn follow(&self, session: u64, ended: &Ended) -> bool {
        let mut state = self.lock();
        let is_ready = state.session == session && state.phase == Phase::Ready;
        if is_ready {
            state.leave_rows(|_, row| ended.has(row.tx));
            state.phase = Phase::Followed(ended.clone());
            state.pass();
        }
        is_ready
    }

    /// Up to where the log is not needed any more, if `received` is the last place that came.
    pub(super) fn passed(&self, received: u64) -> u64 {
        let state = self.lock();
        if state.stretches.is_empty() { received } else { state.passed.lsn }
    }

    /// Whether nothing waits.
    pub(in crate::outbox) fn is_empty(&self) -> bool {
        self.lock().events == 0
    }

    /// How many events wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().events
    }

    /// Whether the reader has to wait for [`LogFeed::freed`].
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.events >= MAX_EVENTS || state.bytes >= MAX_BYTES
    }

    /// Waits until something was taken out since the last call.
    pub(super) async fn freed(&self) {
        self.0.freed.notified().await;
    }

    /// Events come out of the log. If that is not read yet, or was not when they were appended, the table has them.
    pub(super) fn push(&self, rows: impl IntoIterator<Item = DueRow>) {
        let mut state = self.lock();
        for row in rows {
            state.push(row);
        }
    }

    /// A mark of this session comes out of the log: from here on, it can be followed.
    pub(super) fn mark(&self, mark: Mark, now: Instant) {
        let mut state = self.lock();
        if state.phase == Phase::Unread {
            state.phase = Phase::Ready;
        }
        state.stretches.end(mark, now);
        state.pass();
    }

    /// Leaves to the table what is of no shard in `held`, what waits too long for room that others need, and what a mark
    /// has waited for too long.
    pub(in crate::outbox) fn tend(&self, held: &BTreeMap<i16, i64>, now: Instant) {
        let mut state = self.lock();
        let before = state.events;
        state.leave_blocked(held, now);
        if state.events < before {
            drop(state);
            self.0.freed.notify_one();
        }
    }

    /// Takes up to `most` events of `shards`, in the order of these, as far as they `fit`.
    pub(in crate::outbox) fn take(
        &self,
        shards: &[i16],
        most: usize,
        mut fits: impl FnMut(&DueRow) -> bool,
    ) -> Taken {
        let mut state = self.lock();
        let (mut taken, session) = (Taken::default(), state.session);
        for shard in shards {
            let Some(waiting) = state.shards.get_mut(shard) else { continue };
            let before = taken.rows.len();
            while taken.rows.len() < most
                && waiting.rows.front().is_some_and(|(_, row)| fits(row))
                && let Some((stretch, row)) = waiting.rows.pop_front()
            {
                taken.places.push(Place { session, stretch });
                taken.rows.push(row);
            }
            if taken.rows.len() > before || waiting.rows.is_empty() {
                waiting.blocked = None;
            }
        }
        let bytes: usize = taken.rows.iter().map(|row| row.payload.len()).sum();
        state.events -= taken.rows.len();
        state.bytes -= bytes;
        drop(state);
        self.0.freed.notify_one();
        taken
    }

    /// Everything that waits is the table's.
    pub(in crate::outbox) fn leave_all(&self) {
        let mut state = self.lock();
        let shards: Vec<i16> = state.shards.keys().copied().collect();
        shards.into_iter().for_each(|shard| state.leave(shard));
        state.pass();
        drop(state);
        self.0.freed.notify_one();
    }

    /// Events that were taken are dealt with: they are SENT, refused, or the table's.
    pub(in crate::outbox) fn finish(&self, places: impl IntoIterator<Item = Place>) {
        let mut state = self.lock();
        for place in places {
            if place.session == state.session {
                state.stretches.leave(place.stretch, 1);
            }
        }
        state.pass();
    }

    /// Events that were taken could not be sent, and wait again in front of all others of their shards.
    pub(in crate::outbox) fn put_back(
        &self,
        rows: impl DoubleEndedIterator<Item = (DueRow, Place)>,
    ) {
        let mut state = self.lock();
        for (row, place) in rows.rev() {
            if place.session == state.session {
                state.events += 1;
                state.bytes += row.payload.len();
                let waiting = state.shards.entry(row.shard).or_default();
                waiting.rows.push_front((place.stretch, row));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Those that `keep` says, and where the others came from.
    pub(in crate::outbox) fn split(self, keep: impl Fn(&DueRow) -> bool) -> (Self, Vec<Place>) {
        let (mut kept, mut others) = (Self::default(), Vec::new());
        for (row, place) in self.rows.into_iter().zip(self.places) {
            if keep(&row) {
                kept.rows.push(row);
                kept.places.push(place);
            } else {
                others.push(place);
            }
        }
        (kept, others)
    }
}

impl State {
    fn push(&mut self, row: DueRow) {
        match &self.phase {
            Phase::Unread => return,
            Phase::Followed(from) if from.has(row.tx) => return,
            Phase::Ready | Phase::Followed(_) => {}
        }
        let stretch = self.stretches.enter();
        self.events += 1;
        self.bytes += row.payload.len();
        self.shards.entry(row.shard).or_default().rows.push_back((stretch, row));
    }

    fn leave_blocked(&mut self, held: &BTreeMap<i16, i64>, now: Instant) {
        let is_half_full = 2 * self.events >= MAX_EVENTS || 2 * self.bytes >= MAX_BYTES;
        let mut leave = Vec::new();
        let waiting = self.shards.iter_mut().filter(|(_, waiting)| !waiting.rows.is_empty());
        for (shard, waiting) in waiting {
            let since = *waiting.blocked.get_or_insert(now);
            let is_blocked = is_half_full && now.duration_since(since) > LEFT_AFTER;
            if !held.contains_key(shard) || is_blocked {
                leave.push(*shard);
            }
        }
        leave.into_iter().for_each(|shard| self.leave(shard));
        if let Some(first) = self.stretches.waits_too_long(now) {
            self.leave_rows(|stretch, _| stretch <= first);
        }
        self.pass();
    }

    fn leave_rows(&mut self, which: impl Fn(Stretch, &DueRow) -> bool) {
        for waiting in self.shards.values_mut() {
            waiting.rows.retain(|(stretch, row)| {
                let is_left = which(*stretch, row);
                if is_left {
                    self.events -= 1;
                    self.bytes -= row.payload.len();
                    self.stretches.leave(*stretch, 1);
                }
                !is_left
            });
        }
    }

    fn leave(&mut self, shard: i16) {
        let Some(waiting) = self.shards.remove(&shard) else { return };
        for (stretch, row) in waiting.rows {
            self.events -= 1;
            self.bytes -= row.payload.len();
            self.stretches.leave(stretch, 1);
        }
    }

    fn pass(&mut self) {
        while let Some(mark) = self.stretches.pass() {
            self.passed = mark;
        }
    }
}

/// The stretches that are not passed.
#[derive(Default)]
struct Stretches {
    first: Stretch,
    open: VecDeque<Open>,
}

/// A stretch with how many of its events are not dealt with.
#[derive(Default)]
struct Open {
    events: usize,
    /// The mark at its end, and when that came.
    end: Option<(Mark, Instant)>,
}

impl Stretches {
    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// An event enters the last one.
    fn enter(&mut self) -> Stretch {
        if self.open.back().is_none_or(|last| last.end.is_some()) {
            self.open.push_back(Open::default());
        }
        if let Some(last) = self.open.back_mut() {
            last.events += 1;
        }
        self.first + self.open.len() as u64 - 1
    }

    /// The last one ends.
    fn end(&mut self, mark: Mark, now: Instant) {
        let end = Some((mark, now));
        match self.open.back_mut() {
            Some(last) if last.end.is_none() => last.end = end,
            _ => self.open.push_back(Open { events: 0, end }),
        }
    }

    /// Events of `stretch` are dealt with.
    fn leave(&mut self, stretch: Stretch, events: usize) {
        let place = stretch.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(open) = place.and_then(|place| self.open.get_mut(place)) {
            open.events = open.events.saturating_sub(events);
        }
    }

    /// The first one, if its end came long ago.
    fn waits_too_long(&self, now: Instant) -> Option<Stretch> {
        let (_, ended) = self.open.front()?.end.as_ref()?;
        (now.duration_since(*ended) > MARK_WAITS).then_some(self.first)
    }

    /// Passes the first one, if it has ended and all in it is dealt with.
    fn pass(&mut self) -> Option<Mark> {
        self.open.front().filter(|first| first.events == 0 && first.end.is_some())?;
        let (mark, _) = self.open.pop_front()?.end?;
        self.first += 1;
        Some(mark)
    }
}
