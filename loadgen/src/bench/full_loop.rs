//! A backlog until every event of it went through the whole loop.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use common::env::Env;
use common::ids::EventId;
use engine::counters;
use engine::outbox::pause::{self, EVERYTHING, PauseRow};
use indicatif::ProgressBar;

use super::block_on;
use super::broker::Broker;
use super::changes::Changes;
use super::looks::{Passage, counted, passages, wait_until_counted};
use super::options::Options;
use super::pair::{Pair, Programs};
use super::pile::Pile;
use super::produced::Produced;
use super::relays::Relay;
use super::runs::{self, Case, Round, Row};
use super::server::Server;
use crate::backlog::checkpoint;
use crate::progress::turns_bar;
use crate::report::quantile;

/// Measures how fast a backlog goes through the whole loop: sent, applied by order-service, answered and settled.
///
/// Both services are child processes with their ordinary settings, each with a database of its own. While the relay is
/// paused, as an operator pauses it, the service's own functions make the backlog in its database. Then the pause is ended,
/// and the time counts from the first event's being handed to the producer until all of them are PROCESSED. How many are is
/// read from the service's own count, every 5 ms.
///
/// p50 and p99 are of single events, from being handed to the producer until their answers are settled; the rest of their
/// time they wait for their turn. producer/s is what the broker takes: the same messages, by the project's own producer, into
/// a topic that nobody reads. All of that takes turns, round by round; figures are medians of the rounds, spread is the
/// slowest and the fastest of them. CPU s is what each service used meanwhile, peak MB the most memory that it has had.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench loop --quick
  stockloop-loadgen bench loop --events 20000 --events 100000 --relay table
  stockloop-loadgen bench loop --broker kafka --json loop.json")]
pub(super) struct Arguments {
    /// Events of the backlog; may be given several times [default: 50000, with --quick 20000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: Vec<u32>,
    /// The program of order-service [default: order-service beside this program]
    #[arg(long, value_name = "PATH")]
    order_service: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl Arguments {
    /// The ordinary ones, with these options.
    pub(super) fn of(options: Options, order_service: Option<PathBuf>) -> Self {
        Self { events: Vec::new(), order_service, options }
    }

    fn events(&self) -> Vec<usize> {
        let events: Vec<usize> = self.events.iter().map(|events| *events as usize).collect();
        match (events.is_empty(), self.options.quick) {
            (false, _) => events,
            (true, true) => vec![20_000],
            (true, false) => vec![50_000],
        }
    }
}

/// Measures, prints the table and writes the file.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let rows = measure(arguments)?;
    runs::tell(&title(arguments), &rows, &arguments.options)
}

/// What the table is called.
pub(super) fn title(arguments: &Arguments) -> String {
    arguments.options.title("a backlog until it is PROCESSED")
}

/// Measures on parts that are started for it, or named.
pub(super) fn measure(arguments: &Arguments) -> Result<Vec<Row>> {
    let Arguments { options, order_service, .. } = arguments;
    let named = options.named_server()?;
    let programs = Programs::find(options, order_service.as_deref())?;
    let server = named.map_or_else(Server::start_logical, Ok)?;
    let broker = Broker::start(options.broker)?;
    let relays = options.relays();
    let first = *relays.first().context("there is no --relay")?;
    let pair = Pair::start(&programs, &server, &broker, options, first)?;
    let changes = |seed| Changes::of(pair.products(), seed);
    let (pile, single) = (Pile::new(changes(options.seed)), changes(options.seed.wrapping_add(1)));
    let mut bench = LoopBench { broker: &broker, pair, pile, single };
    bench.measure(&arguments.events(), &relays, options.rounds())
}

/// What is measured, and what on.
struct LoopBench<'a> {
    broker: &'a Broker,
    pair: Pair<'a>,
    pile: Pile,
    /// For changes that are no part of a backlog.
    single: Changes,
}

impl LoopBench<'_> {
    /// All cases, round by round.
    fn measure(&mut self, sizes: &[usize], relays: &[Relay], rounds: usize) -> Result<Vec<Row>> {
        let case = |(events, relay): (&usize, &Relay)| Case {
            name: "loop",
            relay: *relay,
            events: Some(*events),
            until: None,
            rounds: Vec::new(),
        };
        // Of one relay all at once, so that the service is started as seldom as can be.
        let pairs = relays.iter().flat_map(|relay| sizes.iter().map(move |size| (size, relay)));
        let mut cases: Vec<Case> = pairs.map(case).collect();
        let bar = turns_bar(1 + rounds * cases.len());
        bar.set_message("warming up");
        let (least, first) = (sizes.iter().min(), relays.first());
        let (least, first) = least.zip(first).context("there is nothing to measure")?;
        self.round(*least, *first, &bar)?;
        for round in 1..=rounds {
            for case in &mut cases {
                let (events, relay) = (case.events.unwrap_or_default(), case.relay);
                bar.set_message(format!("round {round}/{rounds}, {events} events, relay {relay}"));
                case.rounds.push(self.round(events, relay, &bar)?);
            }
        }
        bar.finish_and_clear();
        Ok(cases.iter().map(Case::row).collect())
    }

    /// One backlog with one relay, then the producer alone.
    fn round(&mut self, events: usize, relay: Relay, bar: &ProgressBar) -> Result<Round> {
        self.pair.run_with(relay)?;
        self.pair.go_round(&mut self.single)?;
        let after = self.pile_up(events)?;
        let produced = self.produced(after)?;
        let before = self.pair.used()?;
        let processed = self.process(events);
        let ended = Env::system().now();
        self.pair.with_logs(processed)?;
        let used = self.pair.used_since(&before)?;
        let passages = passages(&mut self.pair.of_owner, after)?;
        ensure!(
            passages.len() == events,
            "{} of {events} events are PROCESSED: the figures mean nothing",
            passages.len()
        );
        let first = passages.iter().filter_map(|passage| passage.sent()).min();
        let took = ended.since(first.context("no event was sent")?).as_secs_f64();
        let took_ms: Vec<f64> = passages.into_iter().filter_map(Passage::took_ms).collect();
        let limit_per_s = Some(block_on(produced.rate())?);
        bar.inc(1);
        Ok(Round {
            rate_per_s: Some(events as f64 / took),
            limit_per_s,
            p50_ms: Some(quantile(took_ms.clone(), 0.5)),
            p99_ms: Some(quantile(took_ms, 0.99)),
            used,
            ..Round::default()
        })
    }

    /// Pauses the relay and makes a backlog; returns what is below all of its events' ids.
    fn pile_up(&mut self, events: usize) -> Result<EventId> {
        let (env, conn) = (Env::system(), &mut self.pair.of_owner);
        let (reason, by_whom) = ("measured".to_owned(), "loadgen".to_owned());
        let key = EVERYTHING.to_owned();
        pause::put(conn, &PauseRow { key, reason, since_us: env.now(), by_whom })?;
        let after = EventId::first_at(env.now());
        self.pile.adjust(conn, events, &ProgressBar::hidden())?;
        checkpoint(conn)?;
        Ok(after)
    }

    /// Ends the pause and waits until all is PROCESSED.
    fn process(&mut self, events: usize) -> Result<()> {
        let bar = ProgressBar::hidden();
        bar.set_length(events as u64);
        let conn = &mut self.pair.of_owner;
        let before = counted(conn, counters::PROCESSED)?;
        // The relay finds that within a second, by its sweep.
        pause::end(conn, EVERYTHING)?;
        wait_until_counted(conn, counters::PROCESSED, before, &bar)
    }

    fn produced(&mut self, after: EventId) -> Result<Produced> {
        let topics = &self.pair.topics;
        let settings = self.broker.settings_for(topics);
        Produced::of(&mut self.pair.of_owner, after, &settings, &topics.limit)
    }
}
