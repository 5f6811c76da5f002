//! What a database takes of the loop: each step by the functions that the services call, with no service and no broker.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::limits::Statements;
use super::options::{Files, Minutes, Options, parsed};
use super::parts::Server;
use super::report::{Bench, StepRow, reservations};
use super::time::Time;
use crate::progress::turns_bar;

/// Measures what PostgreSQL has to do for each step of the loop, with no service and no broker.
///
/// The steps are done one after the other, for all events at once, each by the functions that the services call for it, on
/// one connection, and with transactions as large as a service makes them where there is enough to do:
///
/// change: products' stock is adjusted, 1,000 adjustments in a transaction, each with its event;
/// send: the relay reads the events, 1,000 in a page, and notes them as SENT;
/// apply: order-service applies them to its copy, 1,000 in a transaction;
/// settle: product-service settles the answers, 4,000 in a transaction.
///
/// "all" is all four together. Each step begins after VACUUM ANALYZE and a checkpoint of both databases, which are made anew
/// for each round. SQL/s are events a second, WAL B/event the bytes by which the server's log grew for each event, images of
/// whole pages included. Figures are medians of the rounds, spread is the slowest and the fastest of them.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench sql-limit --quick
  stockloop-loadgen bench sql-limit --events 20000,200000 --products 100000 --minutes 20
  stockloop-loadgen bench sql-limit --json sql.json")]
pub(super) struct Arguments {
    /// Measure on the server of this database, whose user may make databases and checkpoints; the benchmark's are made
    /// beside it, named after it with _stockloop_ and more behind. They are removed at the end, also where it is interrupted,
    /// and what a run left that was killed at the start [default: a server that is started]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Events of each step; may be given several times [default: 50000, with --quick 20000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    events: Vec<u32>,
    /// Rounds, in each of which everything is measured once [default: 3, with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Products that change, at random
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    products: u32,
    #[command(flatten)]
    minutes: Minutes,
    /// Take a minute instead of some, for a first look
    #[arg(long)]
    quick: bool,
    /// Where the random products and changes begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    files: Files,
}

impl Arguments {
    /// The ordinary ones, with these options.
    pub(super) fn of(options: Options) -> Result<Self> {
        Ok(Self {
            rounds: options.asked_rounds(),
            database: options.database,
            products: options.products,
            minutes: options.minutes,
            quick: options.quick,
            seed: options.seed,
            ..parsed(&[])?
        })
    }

    fn events(&self) -> Vec<usize> {
        match self.events.as_slice() {
            [] if self.quick => vec![20_000],
            [] => vec![50_000],
            said => said.iter().map(|events| *events as usize).collect(),
        }
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 }).into()
    }
}

impl Bench for Arguments {
    type Line = StepRow;

    fn files(&self) -> &Files {
        &self.files
    }

    fn title(&self) -> String {
        let (rounds, reservations) = (self.rounds(), reservations(self.database.is_none()));
        format!("the statements of the loop alone, {rounds} round(s){reservations}")
    }

    fn limit(&self) -> Duration {
        self.minutes.limit(self.quick)
    }

    fn measure(&self, time: &Time) -> Result<Vec<StepRow>> {
        let named = self.database.as_deref().map(Server::named).transpose()?;
        // As for the benchmarks of the services: what a log holds for those who read it is in the figures.
        let server = named.map_or_else(Server::start_logical, Ok)?;
        let (mut rows, sizes) = (Vec::new(), self.events());
        for (number, events) in sizes.iter().enumerate() {
            let bar = turns_bar(self.rounds());
            let mut rounds = Vec::new();
            for _ in time.rounds(sizes.len() - number, 0, self.rounds()) {
                bar.set_message(format!("the statements of {events} events"));
                let statements = Statements::on(&server, self.products, self.seed)?;
                rounds.push(statements.measure(*events)?);
                bar.inc(1);
            }
            bar.finish_and_clear();
            rows.extend(StepRow::all(*events, &rounds));
        }
        Ok(rows)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_fewer_for_a_first_look_unless_they_are_said() {
        let events = |words: &[&str]| parsed::<Arguments>(words).unwrap().events();
        assert_eq!((events(&[]), events(&["--quick"])), (vec![50_000], vec![20_000]));
        assert_eq!(events(&["--quick", "--events", "5,7"]), [5, 7]);
    }
}
