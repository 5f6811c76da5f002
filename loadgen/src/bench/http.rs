//! Single adjustments over HTTP, beside the same statements on plain connections.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use common::db::Conn;
use indicatif::ProgressBar;

use super::block_on;
use super::limits::Limit;
use super::load::{Load, adjust_all, answers, fill};
use super::looks::{Settled, settle};
use super::options::{BrokerKind, Files, Minutes, Options, parsed};
use super::parts::{Broker, Server, Service, Target};
use super::report::{Bench, HttpCase, HttpRound, HttpRow, in_turn, reservations};
use super::time::Time;
use crate::backlog::checkpoint;
use crate::process::Used;
use crate::programs::{OWNER, program};
use crate::progress::turns_bar;

/// Measures single adjustments of the stock, each a request of its own, beside their statements on plain connections.
///
/// By itself it starts a PostgreSQL (fsync and synchronous_commit on, all other settings PostgreSQL's own, but for
/// max_connections), a broker, and product-service as a child process with its ordinary settings; something that answers
/// its events stands in for order-service. So the whole service is measured: each adjustment is committed, sent, answered
/// and settled. Then each client adjusts random products over one connection that it keeps, the next as soon as the one
/// before is answered. The client is hyper's HTTP/1.1 connection, without a pool, and all clients are on one thread: they
/// share the processors with the service.
///
/// The limit is what PostgreSQL does without a service, as pgbench would measure it: one transaction per adjustment, of
/// the statements that the service sends for one that came alone, prepared, on as many plain connections, in a second
/// database of the same server. The service lets adjustments that arrive together share a transaction. So with many
/// clients it may do more than the limit, and the share may pass 1; with one client, like is compared with like.
///
/// Service and limit take turns, each after everything is settled and a checkpoint. Figures are medians of the rounds,
/// spread is the slowest and the fastest of them. service/s ends with the last answer, settled/s when every event of it is
/// settled. CPU s is what the service's process used until then, peak MB the most memory that it has had since its start.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench http --quick
  stockloop-loadgen bench http --clients 1,8 --json http.json
  stockloop-loadgen bench http --database postgres://postgres@localhost/postgres --broker kafka
  stockloop-loadgen bench http --url http://127.0.0.1:8081")]
pub(super) struct Arguments {
    /// Measure on the server of this database, whose user may make databases and checkpoints; the benchmark's are made
    /// beside it, named after it with _stockloop_benchmark and _stockloop_limit behind. They are removed at the end, also
    /// where it is interrupted, and what a run left that was killed at the start. With --url: the database of that service
    /// [default: a server that is started]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The program that is measured [default: product-service beside this program]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    product_service: Option<PathBuf>,
    /// Measure the product-service that listens here, such as http://127.0.0.1:8081, which asks for no token; products
    /// BENCH-0000000 and so on are put into it. Without --database there is no limit then
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The broker of the service that is started
    #[arg(long, value_enum, default_value = "embedded")]
    broker: BrokerKind,
    // The limit has a connection for each, and the server that is started takes 200 in all.
    /// How many clients there are at the same time, up to 128
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", value_parser = clap::value_parser!(u16).range(1..=128))]
    clients: Vec<u16>,
    /// Products that are put in, and adjusted at random
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    products: u32,
    /// Seconds of one measurement [default: 12, with --quick 2]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: Option<u16>,
    // Short ones are many, too.
    /// Rounds, in each of which everything is measured once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds that service and limit work before they are measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    warm_up: u16,
    /// Take about a minute in all instead of about five, for a first look
    #[arg(long)]
    quick: bool,
    /// Where the random products and changes begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    minutes: Minutes,
    #[command(flatten)]
    files: Files,
}

impl Arguments {
    /// The ordinary ones, with these options.
    pub(super) fn of(options: Options) -> Result<Self> {
        let ordinary: Self = parsed(&[])?;
        Ok(Self {
            rounds: options.asked_rounds().unwrap_or(ordinary.rounds),
            database: options.database,
            product_service: options.product_service,
            broker: options.broker,
            products: options.products,
            quick: options.quick,
            seed: options.seed,
            minutes: options.minutes,
            ..ordinary
        })
    }

    fn seconds(&self) -> u16 {
        self.seconds.unwrap_or(if self.quick { 2 } else { 12 })
    }

    fn load(&self, clients: u16, seconds: u16) -> Load {
        let (products, seed) = (self.products, self.seed);
        Load { clients, products, time: Duration::from_secs(seconds.into()), seed }
    }

    /// The largest number of clients.
    fn most_clients(&self) -> u16 {
        self.clients.iter().copied().max().unwrap_or(1)
    }
}

impl Bench for Arguments {
    type Line = HttpRow;

    fn files(&self) -> &Files {
        &self.files
    }

    fn title(&self) -> String {
        let (seconds, Self { rounds, products, .. }) = (self.seconds(), self);
        let reservations = reservations(self.url.is_none() && self.database.is_none());
        format!(
            "single adjustments of {products} products over HTTP, {rounds} round(s) of {seconds} s{reservations}"
        )
    }

    fn limit(&self) -> Duration {
        self.minutes.limit(self.quick)
    }

    fn measure(&self, time: &Time) -> Result<Vec<HttpRow>> {
        let cases = match &self.url {
            Some(url) => measure_running(self, url, time)?,
            None => measure_own(self, time)?,
        };
        Ok(cases.iter().map(HttpCase::row).collect())
    }
}

/// Measures a service that is started for it, on a server that is started or was named.
fn measure_own(arguments: &Arguments, time: &Time) -> Result<Vec<HttpCase>> {
    let named = arguments.database.as_deref().map(Server::named).transpose()?;
    let program = program(OWNER, arguments.product_service.as_deref())?;
    let server = named.map_or_else(Server::start, Ok)?;
    server.ensure_room_for(arguments.most_clients())?;
    // The service makes its tables itself.
    let database = server.of_service.make_with(&[])?;
    let of_limit = server.of_limit.make_with(product_service::SERVICE.migrations)?;
    let broker = Broker::start(arguments.broker)?;
    let _answers = answers::start(&broker.settings())?;
    let service = Service::start(&program, &database.url(), &broker)?;
    let bench = HttpBench {
        arguments,
        target: Target::parse(&service.url)?,
        service: Some(service),
        database: Some(database.connect()?),
        limit: Some(Limit::on(&of_limit, arguments.products)?),
    };
    bench.measure(time)
}

/// Measures a service that runs already, and the limit if its database was named.
fn measure_running(arguments: &Arguments, url: &str, time: &Time) -> Result<Vec<HttpCase>> {
    let target = Target::parse(url)?;
    let server = arguments.database.as_deref().map(Server::named).transpose()?;
    let room = |server: &Server| server.ensure_room_for(arguments.most_clients());
    server.as_ref().map_or(Ok(()), room)?;
    let migrations = product_service::SERVICE.migrations;
    let of_limit = server.as_ref().map(|server| server.of_limit.make_with(migrations));
    let of_limit = of_limit.transpose()?;
    let limit = of_limit.as_ref().map(|database| Limit::on(database, arguments.products));
    let bench = HttpBench {
        arguments,
        target,
        service: None,
        database: server.as_ref().map(Server::connect).transpose()?,
        limit: limit.transpose()?,
    };
    bench.measure(time)
}

/// What is measured, and what on.
struct HttpBench<'a> {
    arguments: &'a Arguments,
    target: Target,
    /// Where it is a child.
    service: Option<Service>,
    /// A connection to the service's database, where that is known.
    database: Option<Conn>,
    limit: Option<Limit>,
}

impl HttpBench<'_> {
    /// All cases, round by round.
    fn measure(mut self, time: &Time) -> Result<Vec<HttpCase>> {
        let Arguments { clients, rounds, warm_up, products, .. } = self.arguments;
        let seconds = self.arguments.seconds();
        self.with_log(block_on(fill(&self.target, *products)))?;
        let bar = turns_bar(1 + clients.len() * usize::from(*rounds));
        bar.set_message("warming up");
        self.round(self.arguments.most_clients(), *warm_up, &bar)?;
        let case = |clients: &u16| HttpCase { name: "http", clients: *clients, rounds: Vec::new() };
        let mut cases: Vec<HttpCase> = clients.iter().map(case).collect();
        for round in time.rounds(1, 0, usize::from(*rounds)) {
            let number = round + 1;
            for case in in_turn(&mut cases, round) {
                bar.set_message(format!("round {number}/{rounds}, {} client(s)", case.clients));
                case.rounds.push(self.round(case.clients, seconds, &bar)?);
            }
        }
        bar.finish_and_clear();
        Ok(cases)
    }

    /// The service, then the limit.
    fn round(&mut self, clients: u16, seconds: u16, bar: &ProgressBar) -> Result<HttpRound> {
        let load = self.arguments.load(clients, seconds);
        self.rest()?;
        let before = self.service.as_ref().map(Service::used).transpose()?;
        let service = self.with_log(block_on(adjust_all(&self.target, &load)))?;
        let settled = self.rest()?;
        let used = self.with_log(self.used_since(before))?;
        let limit = self.limit.as_ref().map(|limit| limit.measure(&load)).transpose()?;
        bar.inc(1);
        Ok(HttpRound { service, settled, limit, used })
    }

    /// What the service used since it had used what was used `before`.
    fn used_since(&self, before: Option<Used>) -> Result<Option<Used>> {
        let (Some(service), Some(before)) = (&self.service, before) else { return Ok(None) };
        Ok(Some(service.used()?.since(before)))
    }

    /// Waits until everything that was changed is settled, so that nothing of it is done in the next measurement, and
    /// begins that with a checkpoint, so that full page images cost each the same.
    fn rest(&mut self) -> Result<Option<Settled>> {
        let Some(database) = &mut self.database else { return Ok(None) };
        let settled = settle(database);
        let settled = self.with_log(settled)?;
        if let Some(database) = &mut self.database {
            checkpoint(database)?;
        }
        Ok(Some(settled))
    }

    /// The same, with the end of the service's log if it failed.
    fn with_log<T>(&self, done: Result<T>) -> Result<T> {
        match &self.service {
            Some(service) => done.with_context(|| service.log_tail()),
            None => done,
        }
    }
}
