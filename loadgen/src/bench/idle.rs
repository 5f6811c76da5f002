//! Single changes while nothing else is going on: how long each takes to get through the loop.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::outbox_settled;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use indicatif::ProgressBar;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::load::{Changes, adjust, sku};
use super::looks::Arrivals;
use super::options::{Files, LoopOptions, Relay, parsed};
use super::pair::{Both, Pair};
use super::parts::{Client, Running};
use super::report::{Bench, Case, CaseRow, Round, What, in_turn, title};
use super::time::Time;
use super::wait::Wait;
use crate::progress::turns_bar;
use crate::statement::Statement;

/// Measures how long a single change takes through the loop while nothing else is going on.
///
/// Both services are child processes with their ordinary settings, each with a database of its own. Changes are posted one at
/// a time; the next one follows a random while after the one before was acknowledged, the same ones with the same --seed. Of
/// each it is measured:
///
/// answered: from the request until its answer is read;
/// message: from the event's making, in the change's transaction just before the commit, until a plain consumer of the topic
/// has its message;
/// visible: from the request until order-service's copy has the change;
/// acknowledged: from the request until product-service has settled it, which is PROCESSED.
///
/// The two databases are asked every 0.3 ms, by one prepared statement on a connection that is there: the last two are known
/// as well as that. p50 and p99 are the medians of the rounds, spread is the least and the greatest p50. CPU s is what each
/// service used for a round, the pauses included; peak MB the most memory that it has had.
///
/// With --relay external, Debezium sends instead, in a Kafka Connect that is started once. The time of its messages ends at
/// milliseconds, so message is up to one too long.
///
/// The embedded broker lets a consumer wait up to 20 ms for a message. For what a broker takes, say --broker kafka.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench idle --quick --broker kafka
  stockloop-loadgen bench idle --changes 1000 --pause-ms 5,15 --relay log
  stockloop-loadgen bench idle --broker kafka --json idle.json")]
pub(super) struct Arguments {
    /// Changes of one round [default: 400, with --quick 150]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    changes: Option<u32>,
    /// Milliseconds between a change and the next: the shortest and the longest pause
    #[arg(
        long,
        value_delimiter = ',',
        num_args = 1,
        value_name = "MIN,MAX",
        default_value = "20,60"
    )]
    pause_ms: Vec<u64>,
    #[command(flatten)]
    both: LoopOptions,
}

impl Arguments {
    /// The ordinary ones, with these options.
    pub(super) fn of(both: LoopOptions) -> Result<Self> {
        Ok(Self { both, ..parsed(&[])? })
    }

    fn changes(&self) -> usize {
        self.both.options.size(self.changes, 400, 150)
    }

    /// The shortest and the longest pause.
    fn pauses(&self) -> Result<(u64, u64)> {
        match *self.pause_ms.as_slice() {
            [shortest, longest] if shortest <= longest => Ok((shortest, longest)),
            _ => {
                anyhow::bail!("--pause-ms: write the shortest and the longest pause, such as 20,60")
            }
        }
    }
}

/// How often a database is asked, and how long a change may take.
const WAIT: Wait = Wait { look: Duration::from_micros(300), within: Duration::from_secs(60) };

/// Changes that do not count, before each round.
const WARM_UP: u32 = 20;

/// What the times end with.
const UNTIL: [&str; 4] = ["answered", "message", "visible", "acknowledged"];

impl Bench for Arguments {
    type Line = CaseRow;

    fn files(&self) -> &Files {
        &self.both.options.files
    }

    fn title(&self) -> String {
        title(&format!("{} single changes", self.changes()), &self.both.options)
    }

    fn limit(&self) -> Duration {
        self.both.options.limit()
    }

    fn measure(&self, time: &Time) -> Result<Vec<CaseRow>> {
        let pauses = self.pauses()?;
        let (options, both) = (&self.both.options, Both::start(&self.both)?);
        let pair = Pair::start(&both, options)?;
        let arrivals = Arrivals::start(&pair.kafka())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let changes = Changes::of(options.products, options.seed);
        let random = StdRng::seed_from_u64(options.seed);
        let mut bench = IdleBench { pair, arrivals, runtime, changes, random, pauses };
        bench.measure(&options.relays(), options.rounds(), self.changes(), time)
    }
}

/// What is measured, and what on.
struct IdleBench<'a> {
    arrivals: Arrivals,
    pair: Pair<'a>,
    runtime: Runtime,
    changes: Changes,
    random: StdRng,
    pauses: (u64, u64),
}

/// The new version of a product that was adjusted.
#[derive(Deserialize)]
struct Adjusted {
    version: i64,
}

impl IdleBench<'_> {
    /// All cases, round by round.
    fn measure(
        &mut self,
        relays: &[Relay],
        rounds: usize,
        changes: usize,
        time: &Time,
    ) -> Result<Vec<CaseRow>> {
        let case = |relay: Relay, until: &'static str| {
            Case::of(What { until: Some(until), ..What::new("idle", relay) })
        };
        let of = |relay: &Relay| (*relay, UNTIL.map(|until| case(*relay, until)));
        let mut cases: Vec<(Relay, [Case; 4])> = relays.iter().map(of).collect();
        let bar = turns_bar(rounds * cases.len() * changes);
        for round in time.rounds(1, 0, rounds) {
            let number = round + 1;
            for (relay, cases) in in_turn(&mut cases, round) {
                bar.set_message(format!("round {number}/{rounds}, relay {relay}"));
                let rounds = self.round(*relay, changes, &bar)?;
                for (case, round) in cases.iter_mut().zip(rounds) {
                    case.rounds.push(round);
                }
            }
        }
        bar.finish_and_clear();
        Ok(cases.iter().flat_map(|(_, cases)| cases).map(CaseRow::of).collect())
    }

    /// So many changes with one relay; a round for each of [`UNTIL`].
    fn round(&mut self, relay: Relay, changes: usize, bar: &ProgressBar) -> Result<[Round; 4]> {
        self.pair.run(&Running::with(relay))?;
        self.pair.go_round(&mut self.changes)?;
        let target = self.pair.target()?;
        let mut client = self.runtime.block_on(Client::connect(&target))?;
        for _ in 0..WARM_UP {
            self.change(&mut client)?;
        }
        let before = self.pair.used()?;
        let mut times: [Vec<f64>; 4] = Default::default();
        for _ in 0..changes {
            let (shortest, longest) = self.pauses;
            thread::sleep(Duration::from_millis(self.random.random_range(shortest..=longest)));
            for (times, took) in times.iter_mut().zip(self.change(&mut client)?) {
                times.push(took);
            }
            bar.inc(1);
        }
        let used = self.pair.used_since(&before)?;
        Ok(times.map(|times| Round { used: used.clone(), ..Round::of_times(times) }))
    }

    /// One change, until it is acknowledged; how long each of [`UNTIL`] took, in ms.
    fn change(&mut self, client: &mut Client) -> Result<[f64; 4]> {
        let changed = self.follow(client);
        self.pair.with_logs(changed)
    }

    fn follow(&mut self, client: &mut Client) -> Result<[f64; 4]> {
        let change = self.changes.draw();
        let sku = sku(change.product);
        let asked = Instant::now();
        let answer = self.runtime.block_on(adjust(client, change))?;
        let answered = ms_since(asked);
        let Adjusted { version } =
            serde_json::from_slice(&answer).context("the answer to an adjustment can't be read")?;
        let arrival = self.arrivals.wait_for(&sku, version)?;
        let Pair { of_copy, of_owner, .. } = &mut self.pair;
        let late =
            |what: &str| format!("version {version} of {sku} {what} after {:?}", WAIT.within);
        let is_copied = || -> Result<bool> { Ok(copied_version(of_copy, &sku)? >= version) };
        WAIT.until(is_copied, || late("is not in the copy"))?;
        let visible = ms_since(asked);
        WAIT.until(|| is_settled(of_owner, arrival.id), || late("is not settled"))?;
        Ok([answered, arrival.took_ms(), visible, ms_since(asked)])
    }
}

fn ms_since(moment: Instant) -> f64 {
    moment.elapsed().as_secs_f64() * 1e3
}

/// The version that order-service's copy has of a product; 0: none.
fn copied_version(conn: &mut Conn, sku: &str) -> Result<i64> {
    let Conn::Pg(c) = conn else { anyhow::bail!("the copy is not on PostgreSQL") };
    let version = Statement::<Pg, BigInt>::new("SELECT version FROM product_copy WHERE sku = {}")
        .bind::<Text, _>(sku)
        .get_result::<i64>(c)
        .optional()?;
    Ok(version.unwrap_or_default())
}

fn is_settled(conn: &mut Conn, id: EventId) -> Result<bool> {
    let found = outbox_settled::table.find(id).select(outbox_settled::attempt);
    let found: Option<i32> = on!(conn, c => found.first(c).optional())?;
    Ok(found.is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_pause_has_a_shortest_and_a_longest() {
        let pauses = |words: &[&str]| parsed::<Arguments>(words).unwrap().pauses();
        assert_eq!(pauses(&[]).unwrap(), (20, 60));
        assert_eq!(pauses(&["--pause-ms", "5,5"]).unwrap(), (5, 5));
        for wrong in ["5", "60,20", "1,2,3"] {
            let error = pauses(&["--pause-ms", wrong]).unwrap_err().to_string();
            assert!(error.contains("--pause-ms"), "{error}");
        }
    }
}
