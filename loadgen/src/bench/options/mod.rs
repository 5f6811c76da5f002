//! What people choose: [`Options`] are what the benchmarks of the loop are all told.

mod brokers;
mod files;
mod minutes;
mod relays;

use std::iter;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Command};

pub(super) use self::brokers::BrokerKind;
pub(super) use self::files::Files;
pub(super) use self::minutes::Minutes;
pub(super) use self::relays::Relay;
use self::relays::RelayChoice;
use crate::programs::Programs;

// No help of its own: it would take the place of the benchmark's.
#[derive(Debug, Clone, Args)]
pub(super) struct Options {
    /// Measure on the server of this database, whose user may make databases and checkpoints, and with the relay log has
    /// REPLICATION; that takes a free replication slot and WAL sender. The benchmark's databases are made beside it, named after
    /// it with _stockloop_ and more behind. They are removed at the end, also where it is interrupted, and what a run left that
    /// was killed at the start [default: a server that is started]
    #[arg(long, value_name = "URL")]
    pub(super) database: Option<String>,
    /// The program of product-service [default: product-service beside this program]
    #[arg(long, value_name = "PATH")]
    pub(super) product_service: Option<PathBuf>,
    /// The broker
    #[arg(long, value_enum, default_value = "embedded")]
    pub(super) broker: BrokerKind,
    /// Where product-service's relay finds events: measures each that is named [default: both, with --quick table]
    #[arg(long, value_enum, value_delimiter = ',')]
    relay: Vec<RelayChoice>,
    /// Rounds, in each of which everything is measured once [default: 3, with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Products that change, at random
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) products: u32,
    #[command(flatten)]
    pub(super) minutes: Minutes,
    /// Take a minute for each benchmark instead of some, for a first look
    #[arg(long)]
    pub(super) quick: bool,
    /// Where the random products and changes begin
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) files: Files,
}

// What the benchmarks of both services are told. No help of its own, either.
#[derive(Debug, Clone, Args)]
pub(super) struct LoopOptions {
    /// The program of order-service [default: order-service beside this program]
    #[arg(long, value_name = "PATH")]
    order_service: Option<PathBuf>,
    #[command(flatten)]
    pub(super) options: Options,
}

/// What a benchmark is told by these words of a command line, and ordinarily where they say nothing.
pub(super) fn parsed<A: Args>(words: &[&str]) -> Result<A, clap::Error> {
    let command = A::augment_args(Command::new("bench"));
    let words = iter::once("bench").chain(words.iter().copied());
    A::from_arg_matches(&command.try_get_matches_from(words)?)
}

impl LoopOptions {
    /// The programs of both services.
    pub(super) fn programs(&self) -> Result<Programs> {
        let owner = self.options.product_service.as_deref();
        Programs::find(owner, self.order_service.as_deref())
    }
}

impl Options {
    /// The relays to measure.
    pub(super) fn relays(&self) -> Vec<Relay> {
        let unsaid = [if self.quick { RelayChoice::Table } else { RelayChoice::Both }];
        RelayChoice::all(if self.relay.is_empty() { &unsaid } else { &self.relay })
    }

    /// How long one benchmark may take.
    pub(super) fn limit(&self) -> Duration {
        self.minutes.limit(self.quick)
    }

    /// How many rounds were asked for.
    pub(super) fn asked_rounds(&self) -> Option<u16> {
        self.rounds
    }

    /// How many rounds.
    pub(super) fn rounds(&self) -> usize {
        self.size(self.rounds.map(u32::from), 3, 1)
    }

    /// A number that was `said`, else the usual one, or the `quick` one for a first look.
    pub(super) fn size(&self, said: Option<u32>, usual: u32, quick: u32) -> usize {
        said.unwrap_or(if self.quick { quick } else { usual }) as usize
    }

    /// The same of several.
    pub(super) fn sizes(&self, said: &[u32], usual: &[u32], quick: &[u32]) -> Vec<usize> {
        let sizes = match (said.is_empty(), self.quick) {
            (false, _) => said,
            (true, true) => quick,
            (true, false) => usual,
        };
        sizes.iter().map(|size| *size as usize).collect()
    }

    /// Refuses another program as the relay, where a benchmark has no place for it.
    pub(super) fn refuse_external(&self, benchmark: &str) -> Result<()> {
        ensure!(
            !self.relays().contains(&Relay::External),
            "--relay external: bench {benchmark} does not measure it; drain, loop and idle do"
        );
        Ok(())
    }

    /// Refuses one whose parts are not to be had.
    pub(super) fn ensure_external_can_run(&self) -> Result<()> {
        let is_asked = self.relays().contains(&Relay::External);
        ensure!(
            !is_asked || self.broker == BrokerKind::Kafka,
            "--relay external: Debezium sends to Apache Kafka alone: say --broker kafka, too"
        );
        ensure!(
            !is_asked || self.database.is_none(),
            "--relay external: it is measured on a server that is started, which asks Debezium for no password: leave out --database"
        );
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_external_relay_needs_a_real_broker_and_a_server_that_is_started() {
        let refusal = |words: &[&str]| {
            let all = [&["--relay", "table,external"][..], words].concat();
            let refused = parsed::<Options>(&all).unwrap().ensure_external_can_run().err();
            refused.map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refusal(&["--broker", "kafka"]), "");
        assert!(refusal(&[]).contains("say --broker kafka"));
        let named = ["--broker", "kafka", "--database", "postgres://nobody@127.0.0.1:1/shop"];
        assert!(refusal(&named).contains("leave out --database"));
    }

    #[test]
    fn an_external_relay_is_refused_where_it_has_no_place() {
        let refusal = |relay: &str| {
            let options: Options = parsed(&["--relay", relay]).unwrap();
            options.refuse_external("rows").err().map(|error| error.to_string())
        };
        assert_eq!(refusal("both"), None);
        assert!(refusal("external").is_some_and(|told| told.contains("bench rows")));
    }

    #[test]
    fn a_first_look_is_at_one_relay_unless_more_are_named() -> Result<(), clap::Error> {
        let relays = |words: &[&str]| parsed::<Options>(words).map(|options| options.relays());
        assert_eq!(relays(&[])?, [Relay::Table, Relay::Log]);
        assert_eq!(relays(&["--quick"])?, [Relay::Table]);
        assert_eq!(relays(&["--quick", "--relay", "log"])?, [Relay::Log]);
        Ok(())
    }
}
