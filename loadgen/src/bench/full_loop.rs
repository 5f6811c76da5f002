//! A backlog until every event of it went through the whole loop.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use common::ids::EventId;
use indicatif::ProgressBar;

use super::block_on;
use super::limits::Produced;
use super::options::{Files, LoopOptions, Relay, parsed};
use super::pair::{Backlogs, Both, Pair};
use super::parts::Running;
use super::report::{Bench, Case, CaseRow, Round, What, in_turn, title};
use super::time::Time;
use crate::progress::turns_bar;

/// Measures how fast a backlog goes through the whole loop: sent, applied by order-service, answered and settled.
///
/// Both services are child processes with their ordinary settings, each with a database of its own. While the relay is
/// paused, as an operator pauses it, the service's own functions make the backlog in its database. Then the pause is ended,
/// and the time counts from the first event's being handed to the producer until all of them are PROCESSED. How many are is
/// read from the service's own count, every 5 ms.
///
/// p50 and p99 are of single events, from being handed to the producer until their answers are settled; the rest of their
/// time they wait for their turn. producer/s is what the broker takes: the first 50,000 of the same messages, by the
/// project's own producer, into a topic that nobody reads. All of that takes turns, round by round; figures are medians of
/// the rounds, spread is the slowest and the fastest of them. CPU s is what each service used meanwhile, peak MB the most
/// memory that it has had.
///
/// With --relay external, Debezium sends instead, in a Kafka Connect that is started once. No pause reaches it, so its connector is
/// stopped while the backlog is made, and times count from when it took an event from the log.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench loop --quick
  stockloop-loadgen bench loop --events 20000 --events 100000 --relay table
  stockloop-loadgen bench loop --broker kafka --json loop.json
  stockloop-loadgen bench loop --broker kafka --relay both,external")]
pub(super) struct Arguments {
    /// Events of the backlog; may be given several times [default: 50000, with --quick 20000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: Vec<u32>,
    #[command(flatten)]
    both: LoopOptions,
}

impl Arguments {
    /// The ordinary ones, with these options.
    pub(super) fn of(both: LoopOptions) -> Result<Self> {
        Ok(Self { both, ..parsed(&[])? })
    }

    fn events(&self) -> Vec<usize> {
        self.both.options.sizes(&self.events, &[50_000], &[20_000])
    }
}

impl Bench for Arguments {
    type Line = CaseRow;

    fn files(&self) -> &Files {
        &self.both.options.files
    }

    fn title(&self) -> String {
        title("a backlog until it is PROCESSED", &self.both.options)
    }

    fn limit(&self) -> Duration {
        self.both.options.limit()
    }

    fn measure(&self, time: &Time) -> Result<Vec<CaseRow>> {
        let (options, both) = (&self.both.options, Both::start(&self.both)?);
        let pair = Pair::start(&both, options)?;
        let mut bench = LoopBench { backlogs: Backlogs::of(pair, options) };
        bench.measure(&self.events(), &options.relays(), options.rounds(), time)
    }
}

/// What is measured, and what on.
struct LoopBench<'a> {
    backlogs: Backlogs<'a>,
}

impl LoopBench<'_> {
    /// All cases, round by round.
    fn measure(
        &mut self,
        sizes: &[usize],
        relays: &[Relay],
        rounds: usize,
        time: &Time,
    ) -> Result<Vec<CaseRow>> {
        let what = |(events, relay): (&usize, &Relay)| What {
            events: Some(*events),
            ..What::new("loop", *relay)
        };
        // Of one relay all at once, so that the service is started as seldom as can be.
        let pairs = relays.iter().flat_map(|relay| sizes.iter().map(move |size| (size, relay)));
        let mut cases: Vec<Case> = pairs.map(what).map(Case::of).collect();
        let bar = turns_bar(1 + rounds * cases.len());
        bar.set_message("warming up");
        let (least, first) = (sizes.iter().min(), relays.first());
        let (least, first) = least.zip(first).context("there is nothing to measure")?;
        self.round(*least, *first, &bar)?;
        for round in time.rounds(1, 0, rounds) {
            let number = round + 1;
            for case in in_turn(&mut cases, round) {
                let What { relay, events, .. } = case.what;
                let events = events.unwrap_or_default();
                bar.set_message(format!("round {number}/{rounds}, {events} events, relay {relay}"));
                case.rounds.push(self.round(events, relay, &bar)?);
            }
        }
        bar.finish_and_clear();
        Ok(cases.iter().map(CaseRow::of).collect())
    }

    /// One backlog with one relay, then the producer alone.
    fn round(&mut self, events: usize, relay: Relay, bar: &ProgressBar) -> Result<Round> {
        self.backlogs.run(&Running::with(relay))?;
        let after = self.backlogs.pile_up(events)?;
        let produced = self.produced(after)?;
        let round = self.backlogs.work_off(events, after)?;
        let limit_per_s = Some(block_on(produced.rate())?);
        bar.inc(1);
        Ok(Round { limit_per_s, ..round })
    }

    fn produced(&mut self, after: EventId) -> Result<Produced> {
        let settings = self.backlogs.pair.kafka();
        let Pair { topics, of_owner, .. } = &mut self.backlogs.pair;
        Produced::of(of_owner, after, &settings, &topics.limit)
    }
}
