//! A backlog until the broker has all of it, beside the broker's and the database's part alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use common::ids::EventId;
use engine::counters;

use super::block_on;
use super::limits::{Produced, RelayAlone};
use super::load::{make_backlog, put_backlog};
use super::looks::{Counting, sent_per_s};
use super::options::{Files, Options, Relay, parsed};
use super::parts::{CONNECT, Parts, Server, Service};
use super::report::{Bench, Case, CaseRow, Round, What, in_turn, title};
use super::time::Time;
use crate::backlog::checkpoint;
use crate::place::Scratch;
use crate::programs::{OWNER, program};
use crate::progress::turns_bar;

/// Measures how fast product-service sends a backlog that it finds when it starts.
///
/// The backlog is made once, by the service's own functions: products, their changes and a PENDING event for each, in a
/// database of its own. Every measurement has a copy of that, and new topics. Then product-service is started on it, as a
/// child process. Nobody answers, and what may be in flight is not limited, so only sending is measured: from the moment at
/// which the first event was handed to the producer until all of them are SENT. How many are is read from the service's own
/// count, every 5 ms.
///
/// producer/s is what the broker takes: the same messages (50,000 at the most), by the project's own producer, with no
/// service and no database. The share is service/s divided by it. SQL/s is what the database takes: the relay's own
/// statements on the same rows, one after the other on one connection, with no broker. All of that takes turns, round by
/// round; figures are medians of the rounds, spread is the slowest and the fastest of them. CPU s is what the process used
/// from its start until all was SENT, peak MB the most memory that it had.
///
/// The relays differ in where they find what is committed while they run; a backlog is read from the table by both. Their order
/// turns from round to round. With --relay external, Debezium sends instead, in a Kafka Connect that is started once: it has a
/// new database each time, in which the backlog is made while its connector is stopped, since the log has nothing of a copy. The
/// time begins when it takes the first event from the log.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench drain --quick
  stockloop-loadgen bench drain --events 100000 --events 1000000 --relay table --minutes 20
  stockloop-loadgen bench drain --broker kafka --json drain.json
  stockloop-loadgen bench drain --broker kafka --relay both,external
  stockloop-loadgen bench drain --database postgres://postgres@localhost/postgres --relay table,log")]
pub(super) struct Arguments {
    /// Events of the backlog; may be given several times [default: 50000 and 200000, with --quick 50000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: Vec<u32>,
    #[command(flatten)]
    options: Options,
}

impl Arguments {
    /// The ordinary ones, with these options.
    pub(super) fn of(options: Options) -> Result<Self> {
        Ok(Self { options, ..parsed(&[])? })
    }

    fn events(&self) -> Vec<usize> {
        self.options.sizes(&self.events, &[50_000, 200_000], &[50_000])
    }
}

impl Bench for Arguments {
    type Line = CaseRow;

    fn files(&self) -> &Files {
        &self.options.files
    }

    fn title(&self) -> String {
        title("a backlog until it is SENT", &self.options)
    }

    fn limit(&self) -> Duration {
        self.options.limit()
    }

    fn measure(&self, time: &Time) -> Result<Vec<CaseRow>> {
        let options = &self.options;
        let named = Server::named_by(options)?;
        let program = program(OWNER, options.product_service.as_deref())?;
        let parts = Parts::start(options, named)?;
        let bench = DrainBench { options, program, parts, time };
        let (mut cases, sizes) = (Vec::new(), self.events());
        for (number, events) in sizes.iter().enumerate() {
            let (warm_ups, parts) = (usize::from(number == 0), sizes.len() - number);
            cases.extend(bench.drain_all(*events, warm_ups, parts)?);
        }
        Ok(cases.iter().map(CaseRow::of).collect())
    }
}

/// What is measured, and what on.
struct DrainBench<'a> {
    options: &'a Options,
    program: PathBuf,
    parts: Parts,
    time: &'a Time,
}

impl DrainBench<'_> {
    /// All relays on a backlog of so many events, round by round; `parts` are still to come, this one too.
    fn drain_all(&self, events: usize, warm_ups: usize, parts: usize) -> Result<Vec<Case>> {
        let backlog = make_backlog(&self.parts.server, self.options, events)?;
        let produced = self.produced(&backlog)?;
        let (relays, rounds) = (self.options.relays(), self.options.rounds());
        let what = |relay: &Relay| What { events: Some(events), ..What::new("drain", *relay) };
        let mut cases: Vec<Case> = relays.iter().map(what).map(Case::of).collect();
        let bar = turns_bar((warm_ups + rounds) * (cases.len() + 2));
        for round in self.time.rounds(parts, warm_ups, rounds) {
            let mut done = Vec::new();
            for case in in_turn(&mut cases, round) {
                bar.set_message(format!("draining {events} events, relay {}", case.what.relay));
                let drained = match case.what.relay {
                    Relay::External => self.drain_by_another(events)?,
                    relay => self.drain(&backlog, events, relay)?,
                };
                done.push((case, drained));
                bar.inc(1);
            }
            bar.set_message("the producer alone");
            let limit_per_s = Some(block_on(produced.rate())?);
            bar.inc(1);
            bar.set_message("the statements alone");
            let sql_per_s = Some(RelayAlone::rate(&self.parts.server, &backlog, events)?);
            bar.inc(1);
            // What came before everything was warm does not count.
            for (case, drained) in done.into_iter().filter(|_| round >= warm_ups) {
                case.rounds.push(Round { limit_per_s, sql_per_s, ..drained });
            }
        }
        bar.finish_and_clear();
        Ok(cases)
    }

    fn produced(&self, backlog: &Scratch<'_>) -> Result<Produced> {
        let topics = self.parts.broker.new_topics()?;
        let settings = self.parts.broker.settings_for(&topics);
        Produced::of(&mut backlog.connect()?, EventId::NIL, &settings, &topics.limit)
    }

    /// One measurement, on a copy of `backlog`.
    fn drain(&self, backlog: &Scratch<'_>, events: usize, relay: Relay) -> Result<Round> {
        let database = self.parts.server.of_service.make_like(backlog)?;
        let topics = self.parts.broker.new_topics()?;
        let settings = topics.to_drain(events, relay);
        let mut conn = database.connect()?;
        checkpoint(&mut conn)?;
        let counting = Counting::begin(&mut conn, counters::SENT, events)?;
        let broker = &self.parts.broker;
        let mut service = Service::start_with(&self.program, &database.url(), broker, &settings)?;
        let sent = counting.end(&mut conn).with_context(|| service.log_tail())?;
        let used = BTreeMap::from([(OWNER, service.used()?)]);
        let rate_per_s = sent_per_s(&mut conn, events, sent.at)?;
        if relay == Relay::Log {
            // It may be after the backlog was sent; without it, the other relay was measured.
            service.wait_until_it_follows_the_log()?;
        }
        service.end()?;
        Ok(Round { used, ..Round::of_rate(rate_per_s, sent.wal_bytes_per_event) })
    }

    /// The same of a backlog that lies in the log of a new database, sent by Debezium; SENT is what the service has seen.
    fn drain_by_another(&self, events: usize) -> Result<Round> {
        let connect = self.parts.connect.as_ref().context("Kafka Connect was not started")?;
        let database =
            self.parts.server.of_service.make_with(product_service::SERVICE.migrations)?;
        let topics = self.parts.broker.new_topics()?;
        let mut conn = database.connect()?;
        let connector = connect.read(&mut conn, &database.url(), &topics)?;
        connector.stop(&mut conn)?;
        put_backlog(&mut conn, self.options, events)?;
        let settings = topics.to_drain(events, Relay::External);
        let broker = &self.parts.broker;
        let service = Service::start_with(&self.program, &database.url(), broker, &settings)?;
        let before = connector.used()?;
        let counting = Counting::begin(&mut conn, counters::SENT, events)?;
        connector.resume()?;
        let sent = counting.end(&mut conn).with_context(|| service.log_tail())?;
        let programs = [(OWNER, service.used()?), (CONNECT, connector.used()?.since(before))];
        let used = BTreeMap::from(programs);
        let rate_per_s = sent_per_s(&mut conn, events, sent.at)?;
        connector.end(&mut conn)?;
        service.end()?;
        Ok(Round { used, ..Round::of_rate(rate_per_s, sent.wal_bytes_per_event) })
    }
}
