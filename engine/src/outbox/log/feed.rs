//! What the log has brought and the relay has not dealt with: bounded, and in order by shard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// Counts the sessions: what belongs to an earlier one is not known here any more.
    session: u64,
    attached: bool,
    shards: BTreeMap<i16, Waiting>,
    events: usize,
    bytes: usize,
    stretches: Stretches,
    /// The first stretch of which nothing can have been sent before this session.
    fresh_from: Option<Stretch>,
    passed: Mark,
}

/// The events of one shard.
#[derive(Default)]
struct Waiting {
    rows: VecDeque<(Stretch, DueRow)>,
    /// Since when none of them could be sent.
    blocked: Option<Instant>,
}

/// A place in the log, written by this service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// All that transactions below this one appended lies before it.
    pub(super) horizon: i64,
    /// Where it is in the log.
    pub(super) lsn: u64,
}

/// Events that were taken to be sent.
#[derive(Debug, Default)]
pub(in crate::outbox) struct Taken {
    /// In the order of the log by shard.
    pub(in crate::outbox) rows: Vec<DueRow>,
    /// Where each came from.
    pub(in crate::outbox) places: Vec<Place>,
    /// Whether some may have been sent in an earlier session.
    pub(in crate::outbox) may_be_sent: bool,
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::outbox) struct Place {
    session: u64,
    stretch: Stretch,
}

impl LogFeed {
    /// A session begins, with nothing in it.
    pub(super) fn attach(&self) -> u64 {
        let mut state = self.lock();
        *state = State { session: state.session + 1, attached: true, ..State::default() };
        state.session
    }

    /// The session is over: what waits is the table's.
    pub(super) fn detach(&self) {
        let mut state = self.lock();
        *state = State { session: state.session + 1, ..State::default() };
    }

    /// Whether the log is read.
    pub(in crate::outbox) fn is_attached(&self) -> bool {
        self.lock().attached
    }

    /// Below which transaction what is PENDING is the table's; `None`: all of it.
    pub(in crate::outbox) fn table_ends_at(&self) -> Option<i64> {
        let state = self.lock();
        state.attached.then_some(state.passed.horizon)
    }

    /// Up to where the log is not needed any more.
    pub(super) fn passed(&self) -> u64 {
        self.lock().passed.lsn
    }

    /// Whether nothing waits.
    pub(in crate::outbox) fn is_empty(&self) -> bool {
        self.lock().events == 0
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

    /// An event comes out of the log.
    pub(super) fn push(&self, row: DueRow) {
        let mut state = self.lock();
        let stretch = state.stretches.enter();
        state.events += 1;
        state.bytes += row.payload.len();
        state.shards.entry(row.shard).or_default().rows.push_back((stretch, row));
    }

    /// A mark comes out of the log; an `own` one was written in this session.
    pub(super) fn mark(&self, own: bool, mark: Mark) {
        let mut state = self.lock();
        let next = state.stretches.end(mark);
        if own {
            state.fresh_from.get_or_insert(next);
        }
        state.pass();
    }

    /// Takes up to `most` events of `shards`, in the order of these, as far as they `fit`.
    ///
    /// What is of no shard in `held` is left to whoever holds it, and so is what waits too long for room while others need it.
    pub(in crate::outbox) fn take(
        &self,
        held: &BTreeSet<i16>,
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
        state.leave_blocked(held);
        let fresh_from = state.fresh_from.unwrap_or(Stretch::MAX);
        taken.may_be_sent = taken.places.iter().any(|place| place.stretch < fresh_from);
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
        let mut kept = Self { may_be_sent: self.may_be_sent, ..Self::default() };
        let mut others = Vec::new();
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
    /// Leaves what is not held, and what has been blocked for long while there is need of room.
    fn leave_blocked(&mut self, held: &BTreeSet<i16>) {
        let is_half_full = 2 * self.events >= MAX_EVENTS || 2 * self.bytes >= MAX_BYTES;
        let now = Instant::now();
        let mut leave = Vec::new();
        for (shard, waiting) in
            self.shards.iter_mut().filter(|(_, waiting)| !waiting.rows.is_empty())
        {
            let since = *waiting.blocked.get_or_insert(now);
            let is_blocked = is_half_full && now.duration_since(since) > LEFT_AFTER;
            if !held.contains(shard) || is_blocked {
                leave.push(*shard);
            }
        }
        leave.into_iter().for_each(|shard| self.leave(shard));
        self.pass();
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

/// The stretches that are not passed, each with how many of its events are not dealt with, and the mark at its end.
#[derive(Default)]
struct Stretches {
    first: Stretch,
    open: VecDeque<(usize, Option<Mark>)>,
}

impl Stretches {
    /// An event enters the last one.
    fn enter(&mut self) -> Stretch {
        if self.open.back().is_none_or(|(_, mark)| mark.is_some()) {
            self.open.push_back((0, None));
        }
        if let Some((events, _)) = self.open.back_mut() {
            *events += 1;
        }
        self.first + self.open.len() as u64 - 1
    }

    /// The last one ends; returns the next.
    fn end(&mut self, mark: Mark) -> Stretch {
        match self.open.back_mut() {
            Some((_, end @ None)) => *end = Some(mark),
            _ => self.open.push_back((0, Some(mark))),
        }
        self.first + self.open.len() as u64
    }

    /// Events of `stretch` are dealt with.
    fn leave(&mut self, stretch: Stretch, events: usize) {
        let place = stretch.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some((open, _)) = place.and_then(|place| self.open.get_mut(place)) {
            *open = open.saturating_sub(events);
        }
    }

    /// Passes the first one, if it has ended and all in it is dealt with.
    fn pass(&mut self) -> Option<Mark> {
        let (0, Some(mark)) = *self.open.front()? else { return None };
        self.open.pop_front();
        self.first += 1;
        Some(mark)
    }
}
