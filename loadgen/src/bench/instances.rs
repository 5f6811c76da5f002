//! One, two and four processes of product-service on one database: a backlog until it is SENT, and until it is PROCESSED.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use common::env::Env;
use engine::counters;
use engine::outbox::pause::{self, EVERYTHING};

use super::load::make_backlog;
use super::looks::{Counting, sent_per_s};
use super::options::{Files, LoopOptions, parsed};
use super::pair::{Backlogs, Both, Pair};
use super::parts::{
    Parts, Running, Service, log_tails, start_instances, used_by, wait_until_shared,
};
use super::report::{Bench, Case, CaseRow, Round, What, compared, title};
use super::time::Time;
use crate::backlog::{checkpoint, pause_relays};
use crate::place::Scratch;
use crate::programs::OWNER;
use crate::progress::turns_bar;

/// Measures what further instances of product-service add: one, two and four processes on one database.
///
/// SENT: a copy of the same backlog is drained as by bench drain, but by processes that run already. They are started while
/// everything is paused, as an operator pauses it, and have shared the shards before the pause is ended. PROCESSED: a backlog
/// goes through the whole loop as in bench loop, with one order-service. The ratio is to the first number of instances.
///
/// With the relay that reads the log, one instance sends and the others stand by: there, no gain is to be expected.
///
/// All of that takes turns, round by round; figures are medians of the rounds, spread is the slowest and the fastest of them.
/// CPU s is what each service used meanwhile, its processes together; peak MB the most memory that each has had, added up. All
/// of them share the processors of this machine.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench instances --quick --relay table
  stockloop-loadgen bench instances --instances 1,3 --events 100000
  stockloop-loadgen bench instances --broker kafka --json instances.json")]
pub(super) struct Arguments {
    /// How many processes [default: 1,2,4, with --quick 1,2]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=8))]
    instances: Vec<u32>,
    /// Events of each backlog [default: 50000, with --quick 20000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: Option<u32>,
    #[command(flatten)]
    both: LoopOptions,
}

impl Arguments {
    /// The ordinary ones, with these options.
    pub(super) fn of(both: LoopOptions) -> Result<Self> {
        Ok(Self { both, ..parsed(&[])? })
    }

    fn events(&self) -> usize {
        self.both.options.size(self.events, 50_000, 20_000)
    }

    /// Every relay with every number of instances.
    fn ways(&self) -> Vec<Running> {
        let options = &self.both.options;
        let numbers = options.sizes(&self.instances, &[1, 2, 4], &[1, 2]);
        let with = |relay| {
            let running = move |instances| Running { instances, ..Running::with(relay) };
            numbers.iter().copied().map(running)
        };
        options.relays().into_iter().flat_map(with).collect()
    }
}

impl Bench for Arguments {
    type Line = CaseRow;

    fn files(&self) -> &Files {
        &self.both.options.files
    }

    fn title(&self) -> String {
        title("a backlog with several instances of product-service", &self.both.options)
    }

    fn limit(&self) -> Duration {
        self.both.options.limit()
    }

    fn measure(&self, time: &Time) -> Result<Vec<CaseRow>> {
        self.both.options.refuse_external("instances")?;
        let both = Both::start(&self.both)?;
        let bench = InstancesBench { arguments: self, both: &both, time };
        let mut cases = bench.until_sent()?;
        cases.extend(bench.until_processed()?);
        Ok(compared(&cases))
    }
}

/// What is measured, and what on.
struct InstancesBench<'a> {
    arguments: &'a Arguments,
    both: &'a Both,
    time: &'a Time,
}

impl InstancesBench<'_> {
    fn until_sent(&self) -> Result<Vec<Case>> {
        let (options, events) = (&self.arguments.both.options, self.arguments.events());
        let backlog = make_backlog(&self.both.parts.server, options, events)?;
        self.in_turns("SENT", 2, |running| self.drain(&backlog, running))
    }

    fn until_processed(&self) -> Result<Vec<Case>> {
        let (options, events) = (&self.arguments.both.options, self.arguments.events());
        let pair = Pair::start(self.both, options)?;
        let mut backlogs = Backlogs::of(pair, options);
        self.in_turns("PROCESSED", 1, |running| {
            backlogs.run(running)?;
            let after = backlogs.pile_up(events)?;
            backlogs.work_off(events, after)
        })
    }

    /// Each way once in each round, after one time that does not count; `parts` are still to come, this one too.
    fn in_turns(
        &self,
        until: &'static str,
        parts: usize,
        mut measure: impl FnMut(&Running) -> Result<Round>,
    ) -> Result<Vec<Case>> {
        let (ways, rounds) = (self.arguments.ways(), self.arguments.both.options.rounds());
        let what = |running: &Running| What {
            instances: Some(running.instances),
            events: Some(self.arguments.events()),
            until: Some(until),
            ..What::new("instances", running.relay)
        };
        let mut cases: Vec<Case> = ways.iter().map(what).map(Case::of).collect();
        let bar = turns_bar(1 + rounds * ways.len());
        bar.set_message("warming up");
        measure(ways.first().context("there is nothing to measure")?)?;
        bar.inc(1);
        for _ in self.time.rounds(parts, 0, rounds) {
            for (running, case) in ways.iter().zip(&mut cases) {
                let Running { relay, instances, .. } = running;
                bar.set_message(format!("{instances} instance(s), relay {relay}, until {until}"));
                case.rounds.push(measure(running)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(cases)
    }

    /// A copy of `backlog`, drained by instances that run when it begins.
    fn drain(&self, backlog: &Scratch<'_>, running: &Running) -> Result<Round> {
        let Both { programs, parts: Parts { server, broker, .. } } = self.both;
        let events = self.arguments.events();
        let database = server.of_service.make_like(backlog)?;
        let topics = broker.new_topics()?;
        // Each instance has its part of the room.
        let settings = topics.to_drain(events * running.instances, running.relay);
        let mut conn = database.connect()?;
        pause_relays(&mut conn, EVERYTHING, Env::system().now())?;
        let (program, url) = (&programs.owner, database.url());
        let services = start_instances(program, &url, broker, &settings, running)?;
        wait_until_shared(&mut conn, running)?;
        checkpoint(&mut conn)?;
        let before = used_by(&services)?;
        let counting = Counting::begin(&mut conn, counters::SENT, events)?;
        pause::end(&mut conn, EVERYTHING)?;
        let sent = counting.end(&mut conn).with_context(|| log_tails(&services))?;
        let used = BTreeMap::from([(OWNER, used_by(&services)?.since(before))]);
        let rate_per_s = sent_per_s(&mut conn, events, sent.at)?;
        services.into_iter().try_for_each(Service::end)?;
        Ok(Round { used, ..Round::of_rate(rate_per_s, sent.wal_bytes_per_event) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::options::Relay;
    use super::*;

    #[test]
    fn every_relay_is_measured_with_every_number_of_instances() {
        let ways = |words: &[&str]| -> Vec<(Relay, usize)> {
            let arguments: Arguments = parsed(words).unwrap();
            arguments.ways().iter().map(|way| (way.relay, way.instances)).collect()
        };
        assert_eq!(ways(&["--relay", "table"]), [1, 2, 4].map(|many| (Relay::Table, many)));
        assert_eq!(ways(&["--quick"]), [(Relay::Table, 1), (Relay::Table, 2)]);
        let both = [(Relay::Table, 3), (Relay::Log, 3)];
        assert_eq!(ways(&["--instances", "3"]), both);
    }
}
