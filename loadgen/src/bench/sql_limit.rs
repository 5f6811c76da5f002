//! What a database takes of the loop: each step by the functions that the services call, with no service and no broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use common::db::{Conn, Db};
use common::env::Env;
use common::event::EventRow;
use common::on;
use common::schema::{outbox_event, outbox_sent};
use common::telemetry::Spans;
use diesel::prelude::*;
use engine::inbox::{Control, Inbox};
use engine::kafka::{Ack, AckBatch, Message, Record, Signing, Verdict};
use engine::outbox::{FirstAttempts, Settler};
use engine::restored::ReadPositions;
use indicatif::ProgressBar;
use order_service::inventory::InventoryHandler;
use product_service::inventory::OwnedInventory;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::limits::{AS_A_SERVICE, RelayAlone, message};
use super::load::{Changes, Pile};
use super::options::{Files, Minutes, Options, parsed};
use super::parts::{ACKS, EVENTS, Server};
use super::svg::{Bar, Chart};
use super::tables::{Bench, Cells, Line, number, range};
use super::time::Time;
use super::title::reservations;
use crate::backlog::{log_bytes, policy, tidy};
use crate::place::Scratch;
use crate::programs::{COPY, OWNER};
use crate::progress::turns_bar;
use crate::report::median;

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

/// Messages of events of one transaction: as many as the service takes.
const MESSAGES: usize = 1_000;

/// Answers of one transaction: about as many as the service takes where there are enough.
const ANSWERS: usize = 4_000;

impl Bench for Arguments {
    type Line = Row;

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

    fn measure(&self, time: &Time) -> Result<Vec<Row>> {
        let named = self.database.as_deref().map(Server::named).transpose()?;
        // As for the benchmarks of the services: what a log holds for those who read it is in the figures.
        let server = named.map_or_else(Server::start_logical, Ok)?;
        let (mut rows, sizes) = (Vec::new(), self.events());
        for (number, events) in sizes.iter().enumerate() {
            let bar = turns_bar(self.rounds());
            let mut rounds = Vec::new();
            for _ in time.rounds(sizes.len() - number, 0, self.rounds()) {
                bar.set_message(format!("the statements of {events} events"));
                rounds.push(Statements::on(&server, self)?.measure(*events)?);
                bar.inc(1);
            }
            bar.finish_and_clear();
            rows.extend(Row::all(*events, &rounds));
        }
        Ok(rows)
    }
}

/// A step of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Change,
    Send,
    Apply,
    Settle,
    All,
}

impl Step {
    const SINGLE: [Self; 4] = [Self::Change, Self::Send, Self::Apply, Self::Settle];

    const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Send => "send",
            Self::Apply => "apply",
            Self::Settle => "settle",
            Self::All => "all",
        }
    }
}

/// What a step took, and by how much the log grew.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    bytes: f64,
}

/// The cost of each of [`Step::SINGLE`].
type Costs = [Cost; 4];

fn sum(costs: &Costs) -> Cost {
    Cost {
        seconds: costs.iter().map(|cost| cost.seconds).sum(),
        bytes: costs.iter().map(|cost| cost.bytes).sum(),
    }
}

/// The database of one of the services.
struct Side<'a> {
    /// For what is given a connection.
    conn: Conn,
    /// For what takes one itself.
    db: Db,
    _database: Scratch<'a>,
}

impl<'a> Side<'a> {
    fn on(database: Scratch<'a>) -> Result<Self> {
        let (mut conn, db) = (database.connect()?, database.open()?);
        conn.batch_execute(AS_A_SERVICE)?;
        Ok(Self { conn, db, _database: database })
    }
}

/// Both services' databases, and what does in them what the services do.
struct Statements<'a> {
    runtime: Runtime,
    pile: Pile,
    relay: RelayAlone,
    inbox: Inbox,
    settler: Settler,
    /// Messages of answers so far.
    answered: i64,
    owner: Side<'a>,
    copy: Side<'a>,
}

impl<'a> Statements<'a> {
    /// On databases that are made for it; its products have gone through the loop.
    fn on(server: &'a Server, arguments: &Arguments) -> Result<Self> {
        let Arguments { products, seed, .. } = *arguments;
        let (env, runtime) = (Env::system(), Runtime::new()?);
        let owner = server.of_service.make_with(product_service::SERVICE.migrations)?;
        let copy = server.of_copy.make_with(order_service::SERVICE.migrations)?;
        let (owner, mut copy) = (Side::on(owner)?, Side::on(copy)?);
        // As one that was filled long ago: nothing more is summed up for it.
        copy.conn
            .batch_execute("UPDATE copy_state SET complete_us = 1, complete_by = 'measured'")?;
        let relay = runtime.block_on(RelayAlone::on(&owner.db))?;
        let mut statements = Self {
            pile: Pile::new(Changes::of(products, seed)),
            relay,
            inbox: Inbox {
                db: copy.db.clone(),
                env: env.clone(),
                handler: Arc::new(InventoryHandler),
                consumer: COPY.to_owned(),
                spans: Spans::off(env.clone()),
                control: Control::default(),
                positions: ReadPositions::new(COPY, EVENTS),
                signing: Signing::default(),
            },
            settler: Settler {
                policy: policy(),
                topic: EVENTS.to_owned(),
                consumer: COPY.to_owned(),
                positions: ReadPositions::new(OWNER, ACKS),
                owner: Some(Arc::new(OwnedInventory)),
                first_attempts: FirstAttempts::Ours,
                signing: Signing::default(),
                env,
            },
            answered: 0,
            runtime,
            owner,
            copy,
        };
        statements.pile.put(&mut statements.owner.conn, products, &ProgressBar::hidden())?;
        let products = products as usize;
        statements.send(products)?;
        let records = statements.sent()?;
        let acks = statements.apply(&records)?;
        let answers = statements.answers(acks)?;
        statements.settle(&answers, products)?;
        Ok(statements)
    }

    /// All steps, with so many events.
    fn measure(mut self, events: usize) -> Result<Costs> {
        let ((), change) =
            self.timed(|all| all.pile.adjust(&mut all.owner.conn, events, &ProgressBar::hidden()))?;
        let ((), send) = self.timed(|all| all.send(events))?;
        let records = self.sent()?;
        let (acks, apply) = self.timed(|all| all.apply(&records))?;
        let answers = self.answers(acks)?;
        let ((), settle) = self.timed(|all| all.settle(&answers, events))?;
        Ok([change, send, apply, settle])
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Cost)> {
        tidy(&mut self.owner.conn)?;
        tidy(&mut self.copy.conn)?;
        let (written, began) = (log_bytes(&mut self.owner.conn)?, Instant::now());
        let done = work(self)?;
        let seconds = began.elapsed().as_secs_f64();
        let bytes = (log_bytes(&mut self.owner.conn)? - written) as f64;
        Ok((done, Cost { seconds, bytes }))
    }

    /// Reads the events that wait, and notes them as SENT.
    fn send(&mut self, events: usize) -> Result<()> {
        self.relay.note_all(&mut self.owner.conn, events)
    }

    /// The messages of the events that are SENT, as their consumer gets them.
    fn sent(&mut self) -> Result<Vec<Record>> {
        use {outbox_event as e, outbox_sent as s};
        let sent = e::table.inner_join(s::table.on(s::id.eq(e::id))).order(e::id);
        let rows: Vec<(EventRow, i32, Option<i64>)> = on!(&mut self.owner.conn, c => sent
            .select((EventRow::as_select(), s::partition, s::sent_offset))
            .load(c))?;
        let record = |(row, partition, offset): (EventRow, i32, Option<i64>)| {
            received(message(row, EVENTS, partition), partition, offset.unwrap_or_default())
        };
        Ok(rows.into_iter().map(record).collect())
    }

    /// Applies them to the copy; returns the answers.
    fn apply(&mut self, records: &[Record]) -> Result<Vec<(i32, Ack)>> {
        let mut acks = Vec::with_capacity(records.len());
        for batch in records.chunks(MESSAGES) {
            let applied = self.runtime.block_on(self.inbox.apply(batch.to_vec(), false))?;
            acks.extend(applied.acks);
        }
        let is_success = |(_, ack): &(i32, Ack)| ack.outcome == Verdict::Success;
        let applied = acks.iter().filter(|ack| is_success(ack)).count();
        ensure!(applied == records.len(), "{applied} of {} events were applied", records.len());
        Ok(acks)
    }

    /// The answers as messages, one for each partition that their events came from; so many go into one transaction.
    fn answers(&mut self, acks: Vec<(i32, Ack)>) -> Result<Vec<Vec<Record>>> {
        let mut transactions = Vec::new();
        for together in acks.chunks(ANSWERS) {
            let mut by_partition: BTreeMap<i32, Vec<Ack>> = BTreeMap::new();
            for (partition, ack) in together {
                by_partition.entry(*partition).or_default().push(ack.clone());
            }
            let mut records = Vec::new();
            for (partition, acks) in by_partition {
                let Settler { env, .. } = &self.settler;
                let batch = AckBatch { acks };
                let message = batch.to_message(env.event_id(), env.now(), COPY, ACKS, partition)?;
                records.push(received(message, 0, self.answered));
                self.answered += 1;
            }
            transactions.push(records);
        }
        Ok(transactions)
    }

    fn settle(&mut self, answers: &[Vec<Record>], events: usize) -> Result<()> {
        let mut all = 0;
        for records in answers {
            let settling = self.settler.settle(&self.owner.db, records.clone(), false);
            all += self.runtime.block_on(settling)?.advanced.settled.len();
        }
        ensure!(all == events, "{all} of {events} events were settled");
        Ok(())
    }
}

/// A message as its reader gets it.
fn received(message: Message, partition: i32, offset: i64) -> Record {
    let header = |(name, value): (&str, String)| (name.to_owned(), value.into_bytes());
    Record {
        topic: message.topic,
        partition,
        offset,
        key: Some(message.key.into_bytes()),
        headers: message.headers.into_iter().map(header).collect(),
        payload: Some(message.payload),
        ..Record::default()
    }
}

/// A line of the table, and an element of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    name: &'static str,
    step: Step,
    events: usize,
    /// Events a second.
    sql_per_s: Option<f64>,
    /// By which the server's log grew.
    wal_bytes_per_event: Option<f64>,
    /// The slowest and the fastest round.
    min_per_s: Option<f64>,
    max_per_s: Option<f64>,
    /// How many were measured.
    rounds: usize,
}

impl Row {
    /// Each step, then all of them, with so many events.
    fn all(events: usize, rounds: &[Costs]) -> Vec<Self> {
        let single =
            |place: usize| rounds.iter().filter_map(move |costs| costs.get(place).copied());
        let mut rows: Vec<Self> = Step::SINGLE
            .into_iter()
            .enumerate()
            .map(|(place, step)| Self::of(step, events, single(place).collect()))
            .collect();
        rows.push(Self::of(Step::All, events, rounds.iter().map(sum).collect()));
        rows
    }

    fn of(step: Step, events: usize, costs: Vec<Cost>) -> Self {
        let count = events as f64;
        let rates: Vec<f64> = costs.iter().map(|cost| count / cost.seconds).collect();
        Self {
            name: "sql-limit",
            step,
            events,
            min_per_s: rates.iter().copied().reduce(f64::min),
            max_per_s: rates.iter().copied().reduce(f64::max),
            sql_per_s: median(rates),
            wal_bytes_per_event: median(costs.iter().map(|cost| cost.bytes / count).collect()),
            rounds: costs.len(),
        }
    }
}

impl Line for Row {
    fn cells(&self) -> Cells {
        vec![
            ("step", Some(self.step.name().to_owned())),
            ("events", Some(self.events.to_string())),
            ("SQL/s", number(self.sql_per_s, 0)),
            ("WAL B/event", number(self.wal_bytes_per_event, 0)),
            ("spread", range(self.min_per_s, self.max_per_s, 0)),
            ("rounds", Some(self.rounds.to_string())),
        ]
    }

    /// The rates beside those of the fastest rounds.
    fn chart(title: &str, rows: &[Self]) -> Chart {
        let bars = rows.iter().filter_map(|row| {
            let label = format!("{}, {} events", row.step.name(), row.events);
            Some(Bar { label, value: row.sql_per_s?, mark: row.max_per_s })
        });
        let (bar, mark) = ("SQL/s", "the fastest round");
        Chart { title: title.to_owned(), bar, mark, bars: bars.collect() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_medians_of_a_step_and_one_those_of_all_together() {
        let round = |seconds: f64| {
            [1.0, 2.0, 3.0, 4.0].map(|step| Cost { seconds: seconds * step, bytes: 100.0 * step })
        };
        let rows = Row::all(100, &[round(1.0), round(4.0), round(2.0)]);
        let json: Vec<_> = rows.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
        let of = |place: usize, name: &str| json[place][name].as_f64().unwrap();
        assert_eq!(json[1]["step"], "send");
        assert_eq!((of(1, "sql_per_s"), of(1, "wal_bytes_per_event")), (25.0, 2.0));
        assert_eq!((of(1, "min_per_s"), of(1, "max_per_s")), (12.5, 50.0));
        assert_eq!(json[4]["step"], "all");
        assert_eq!((of(4, "sql_per_s"), of(4, "wal_bytes_per_event")), (5.0, 10.0));
        assert_eq!(rows.len(), 5);
    }

    #[test]
    fn sizes_are_fewer_for_a_first_look_unless_they_are_said() {
        let events = |words: &[&str]| parsed::<Arguments>(words).unwrap().events();
        assert_eq!((events(&[]), events(&["--quick"])), (vec![50_000], vec![20_000]));
        assert_eq!(events(&["--quick", "--events", "5,7"]), [5, 7]);
    }
}
