//! What a paced verification takes from the loop.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use common::clock::Timestamp;
use common::db::Conn;
use common::env::Env;
use common::on;
use common::schema::verification;
use diesel::dsl::exists;
use diesel::prelude::*;

use super::options::{Files, LoopOptions, Relay, parsed};
use super::pair::{Backlogs, Both, Pair};
use super::parts::Running;
use super::report::{Bench, Case, CaseRow, Round, What, compared, title};
use super::time::Time;
use super::wait::Wait;
use crate::progress::turns_bar;

/// Measures what a verification that paces itself takes from the loop beside it.
///
/// A backlog goes through the whole loop as in bench loop: by itself, and while product-service compares order-service's copy
/// with its own products, one verification after the other. Each may work for so much of the time as is set by default, one
/// hundredth; a new one is due each second. It has begun, and order-service has answered it, before the backlog is let go.
/// The ratio is to the loop by itself.
///
/// A verification reads all products on both sides, so say --products for as many as there are.
///
/// Both take turns, round by round; figures are medians of the rounds, spread is the slowest and the fastest of them. CPU s is
/// what each service used for one backlog, peak MB the most memory that it has had.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench verify --quick --relay table
  stockloop-loadgen bench verify --products 100000 --events 100000
  stockloop-loadgen bench verify --broker kafka --json verify.json")]
pub(super) struct Arguments {
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
}

/// What goes on beside the loop.
const BESIDE: [&str; 2] = ["nothing", "a verification"];

/// A verification is due each second; while one is under way, there is no other.
const ALWAYS: &str = "* * * * * *";

/// Until one has begun, and order-service has answered it.
const ANSWERING: Wait = Wait { look: Duration::from_millis(50), within: Duration::from_secs(60) };

impl Bench for Arguments {
    type Line = CaseRow;

    fn files(&self) -> &Files {
        &self.both.options.files
    }

    fn title(&self) -> String {
        let options = &self.both.options;
        let what = format!("a backlog beside the verification of {} products", options.products);
        title(&what, options)
    }

    fn limit(&self) -> Duration {
        self.both.options.limit()
    }

    fn measure(&self, time: &Time) -> Result<Vec<CaseRow>> {
        self.both.options.refuse_external("verify")?;
        let (options, both) = (&self.both.options, Both::start(&self.both)?);
        let pair = Pair::start(&both, options)?;
        let mut bench =
            VerifyBench { backlogs: Backlogs::of(pair, options), events: self.events() };
        bench.measure(&options.relays(), options.rounds(), time)
    }
}

/// What is measured, and what on.
struct VerifyBench<'a> {
    backlogs: Backlogs<'a>,
    events: usize,
}

impl VerifyBench<'_> {
    /// All cases, round by round.
    fn measure(&mut self, relays: &[Relay], rounds: usize, time: &Time) -> Result<Vec<CaseRow>> {
        let of = |relay: &Relay| {
            let what = What { events: Some(self.events), ..What::new("verify", *relay) };
            BESIDE.map(|beside| Case::of(What { beside: Some(beside), ..what }))
        };
        let mut cases: Vec<[Case; 2]> = relays.iter().map(of).collect();
        let bar = turns_bar(1 + rounds * relays.len() * BESIDE.len());
        bar.set_message("warming up");
        self.alone(*relays.first().context("there is nothing to measure")?)?;
        bar.inc(1);
        for round in time.rounds(1, 0, rounds) {
            let number = round + 1;
            for (relay, [alone, verified]) in relays.iter().zip(&mut cases) {
                bar.set_message(format!("round {number}/{rounds}, relay {relay}"));
                alone.rounds.push(self.alone(*relay)?);
                bar.inc(1);
                verified.rounds.push(self.verified(*relay)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(compared(&cases.into_iter().flatten().collect::<Vec<_>>()))
    }

    /// A backlog beside which nothing goes on.
    fn alone(&mut self, relay: Relay) -> Result<Round> {
        self.backlogs.run(&Running::with(relay))?;
        let after = self.backlogs.pile_up(self.events)?;
        self.backlogs.work_off(self.events, after)
    }

    /// One beside which the copy is verified.
    fn verified(&mut self, relay: Relay) -> Result<Round> {
        let settings = vec![
            ("STOCKLOOP__VERIFY__CRON", ALWAYS.to_owned()),
            ("STOCKLOOP__PEER__URL", self.backlogs.pair.copy_url()),
        ];
        let began = Env::system().now();
        self.backlogs.run(&Running { settings, ..Running::with(relay) })?;
        let after = self.backlogs.pile_up(self.events)?;
        let answered = wait_until_answered(&mut self.backlogs.pair.of_owner, began);
        self.backlogs.pair.with_logs(answered)?;
        self.backlogs.work_off(self.events, after)
    }
}

/// Waits until order-service has answered a verification after `began`.
fn wait_until_answered(conn: &mut Conn, began: Timestamp) -> Result<()> {
    let is_answered = || -> Result<bool> {
        let answered = verification::table.filter(verification::answered_us.gt(began));
        let answered = diesel::select(exists(answered.select(verification::seq)));
        Ok(on!(&mut *conn, c => answered.get_result(c))?)
    };
    let within = ANSWERING.within;
    ANSWERING.until(is_answered, || format!("no verification was answered within {within:?}"))
}
