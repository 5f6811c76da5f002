//! Backlogs that both services work off while somebody looks.

use anyhow::{Context, Result, ensure};
use common::env::Env;
use common::ids::EventId;
use engine::counters;
use engine::outbox::pause::{self, EVERYTHING};
use indicatif::ProgressBar;

use super::Pair;
use crate::backlog::{checkpoint, pause_relays};
use crate::bench::load::{Changes, Pile};
use crate::bench::looks::{Counted, Counting, Passage, passages, wait_until_placed};
use crate::bench::options::Options;
use crate::bench::parts::Running;
use crate::bench::report::Round;

/// Both services, and what makes backlogs for them.
pub(in crate::bench) struct Backlogs<'a> {
    pub(in crate::bench) pair: Pair<'a>,
    pile: Pile,
    /// For changes that are no part of a backlog.
    single: Changes,
}

impl<'a> Backlogs<'a> {
    /// For the products that were put into `pair`.
    pub(in crate::bench) fn of(pair: Pair<'a>, options: &Options) -> Self {
        let changes = |seed| Changes::of(options.products, seed);
        let pile = Pile::new(changes(options.seed));
        let single = changes(options.seed.wrapping_add(1));
        Self { pair, pile, single }
    }

    /// Sees to it that product-service runs like this, and that a change goes through the whole loop.
    pub(in crate::bench) fn run(&mut self, running: &Running) -> Result<()> {
        self.pair.run(running)?;
        self.pair.go_round(&mut self.single)
    }

    /// Pauses the relay, of whatever program it is, and makes a backlog; returns what is below all of its events' ids.
    pub(in crate::bench) fn pile_up(&mut self, events: usize) -> Result<EventId> {
        self.pair.stop_external()?;
        let conn = &mut self.pair.of_owner;
        pause_relays(conn, EVERYTHING, Env::system().now())?;
        let after = EventId::first_at(Env::system().now());
        self.pile.adjust(conn, events, &ProgressBar::hidden())?;
        checkpoint(conn)?;
        Ok(after)
    }

    /// Ends the pause, and measures until all events of the backlog behind `after` are PROCESSED.
    pub(in crate::bench) fn work_off(&mut self, events: usize, after: EventId) -> Result<Round> {
        self.work_off_seen(events, after, |_| Ok(())).map(|(round, _)| round)
    }

    /// The same, and what `see` sees just before the pause ends, and once all is PROCESSED.
    pub(in crate::bench) fn work_off_seen<T>(
        &mut self,
        events: usize,
        after: EventId,
        see: impl Fn(&mut Pair) -> Result<T>,
    ) -> Result<(Round, [T; 2])> {
        let at_first = see(&mut self.pair)?;
        let before = self.pair.used()?;
        let processed = self.process(events);
        let processed = self.pair.with_logs(processed)?;
        let used = self.pair.used_since(&before)?;
        let at_last = see(&mut self.pair)?;
        if self.pair.is_external() {
            wait_until_placed(&mut self.pair.of_owner, after)?;
        }
        let passages = passages(&mut self.pair.of_owner, after)?;
        ensure!(
            passages.len() == events,
            "{} of {events} events are PROCESSED: the figures mean nothing",
            passages.len()
        );
        let first = passages.iter().filter_map(|passage| passage.sent()).min();
        let took = processed.at.since(first.context("no event was sent")?).as_secs_f64();
        let took_ms: Vec<f64> = passages.into_iter().filter_map(Passage::took_ms).collect();
        let rate_per_s = Some(events as f64 / took);
        // Both databases are on one server.
        let wal_bytes_per_event = Some(processed.wal_bytes_per_event);
        let round = Round { rate_per_s, wal_bytes_per_event, used, ..Round::of_times(took_ms) };
        Ok((round, [at_first, at_last]))
    }

    /// Ends the pause and waits until all is PROCESSED.
    fn process(&mut self, events: usize) -> Result<Counted> {
        let counting = Counting::begin(&mut self.pair.of_owner, counters::PROCESSED, events)?;
        // The relay finds that within a second, by its sweep.
        pause::end(&mut self.pair.of_owner, EVERYTHING)?;
        self.pair.resume_external()?;
        counting.end(&mut self.pair.of_owner)
    }
}
