//! What answers cost the service that settles them, measured with one consumer and with several.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::env::Env;
use common::ids::EventId;
use common::on;
use common::schema::outbox_sent;
use diesel::prelude::*;
use engine::consumers::{Role, sync};
use engine::kafka::{Ack, AckBatch, Record, Signing, Verdict};
use engine::outbox::{FirstAttempts, Settler};
use engine::restored::ReadPositions;
use indicatif::ProgressBar;

use crate::backlog::{Rows, Table, checkpoint, fill, log_bytes, policy};
use crate::place::{Place, places};
use crate::report::{Report, take_turns};

/// Measures what answers cost the service that settles them, with one consumer and with several.
///
/// A backlog of SENT events is answered SUCCESS by each of the consumers, all of them required, in messages of --batch
/// answers: the first message of each, then the second of each. The answers go the way that a service's go, transaction
/// by transaction, and nothing else runs beside. At the end, each event has to be PROCESSED. Figures are per event, not
/// per answer: µs from the first answer to the last settlement, and on PostgreSQL the bytes that the log grew by.
///
/// Cases take turns; the table shows medians, and ratios to the first line. Every run has a database of its own: on a
/// PostgreSQL server one beside the database of the URL, named after it with `_stockloop_benchmark` behind, in a folder
/// `stockloop-benchmark.db`. It is made anew and removed at the end.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen settle --postgres-url postgres://postgres@localhost/postgres --repeat 5
  stockloop-loadgen settle --sqlite-dir /tmp/bench --consumers 1,3 --rows 20000")]
pub(crate) struct Arguments {
    /// Measure on this PostgreSQL, whose user may make databases and checkpoints
    #[arg(long, value_name = "URL")]
    postgres_url: Option<String>,
    /// Measure on SQLite, with a file made in this directory
    #[arg(long, value_name = "DIR")]
    sqlite_dir: Option<PathBuf>,
    /// How many consumers answer
    #[arg(long, value_delimiter = ',', default_value = "1,2,3", value_parser = clap::value_parser!(u8).range(1..=100))]
    consumers: Vec<u8>,
    /// Events in the backlog
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Answers in one message
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Bytes per payload
    #[arg(long, default_value_t = 245)]
    payload: usize,
    /// Runs per case
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
}

const TOPIC: &str = "stockloop-settle-benchmark";

/// Partitions that the events were sent to.
const PARTITIONS: i32 = 4;

/// The consumer that the settings of a service would name.
const FIRST: &str = "consumer-1";

/// Measures, and prints a table for each database.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(arguments, |report| report.print()))
}

async fn measure(arguments: &Arguments, mut show: impl FnMut(Report)) -> Result<()> {
    let env = Env::system();
    for place in places(arguments.postgres_url.as_deref(), arguments.sqlite_dir.as_deref())? {
        let names = arguments.consumers.iter().map(|many| format!("{many} consumer(s)")).collect();
        let (rows, repeat) = (arguments.rows as usize, usize::from(arguments.repeat));
        let cases = take_turns(place.name(), names, repeat, rows, async |case, bar| {
            settle(arguments, &place, &env, arguments.consumers[case], bar).await
        });
        let figures: &[(&str, usize)] = match place.is_postgres() {
            true => &[("µs", 1), ("WAL bytes", 0)],
            false => &[("µs", 1)],
        };
        let title = format!("settling {rows} events on {}, per event", place.name());
        show(Report::compared(title, figures, &cases.await?));
    }
    Ok(())
}

/// One run; returns its figures.
async fn settle(
    arguments: &Arguments,
    place: &Place,
    env: &Env,
    consumers: u8,
    bar: &ProgressBar,
) -> Result<Vec<f64>> {
    let (scratch, rows) = (place.make()?, Rows::spread(arguments.rows as usize));
    let (mut conn, db) = (scratch.connect()?, scratch.open()?);
    let sent = [(Table::Sent, "true")];
    fill(&mut conn, &rows, &sent, PARTITIONS, arguments.payload, env.now())?;
    let others = (2..=consumers).map(|number| (format!("consumer-{number}"), Role::Required));
    let others: BTreeMap<String, Role> = others.collect();
    sync(&mut conn, FIRST, &others, EventId::first_at(Timestamp::default()), env.now())?;
    let names = [FIRST.to_owned()].into_iter().chain(others.into_keys());
    let messages = Messages::of(&mut conn, names.collect(), arguments.batch as usize, env.now())?;
    checkpoint(&mut conn)?;
    let (before, began) = (log_bytes(&mut conn)?, Instant::now());
    messages.settle_all(&db, &settler(env), bar).await?;
    let (took, written) = (began.elapsed(), log_bytes(&mut conn)? - before);
    let open: i64 = on!(&mut conn, c => outbox_sent::table.count().get_result(c))?;
    ensure!(open == 0, "{open} events are still SENT: the figures mean nothing");
    let events = f64::from(arguments.rows);
    Ok(vec![took.as_secs_f64() * 1e6 / events, written as f64 / events])
}

fn settler(env: &Env) -> Settler {
    Settler {
        env: env.clone(),
        policy: policy(),
        topic: TOPIC.to_owned(),
        consumer: FIRST.to_owned(),
        positions: ReadPositions::new("settle-benchmark", TOPIC),
        owner: None,
        first_attempts: FirstAttempts::Ours,
        signing: Signing::default(),
    }
}

/// The answers of all consumers, as messages.
struct Messages {
    answers: Vec<Vec<Record>>,
}

impl Messages {
    fn of(conn: &mut Conn, names: Vec<String>, batch: usize, now: Timestamp) -> Result<Self> {
        let ids: Vec<EventId> = on!(conn, c => outbox_sent::table
            .order(outbox_sent::id)
            .select(outbox_sent::id)
            .load(c))?;
        let answers = ids.chunks(batch).enumerate().map(|(number, ids)| {
            let message = |name: &String| message(number, ids, name, now);
            names.iter().map(message).collect()
        });
        Ok(Self { answers: answers.collect::<Result<_>>()? })
    }

    async fn settle_all(self, db: &Db, settler: &Settler, bar: &ProgressBar) -> Result<()> {
        for records in self.answers {
            for record in records {
                let settled = settler.settle(db, vec![record], false).await?;
                ensure!(settled.foreign + settled.unknown + settled.unreadable == 0, "{settled:?}");
                bar.inc(settled.advanced.settled.len() as u64);
            }
        }
        Ok(())
    }
}

fn message(number: usize, ids: &[EventId], consumer: &str, now: Timestamp) -> Result<Record> {
    let ack = |id: &EventId| Ack {
        detail: Some("applied".to_owned()),
        version: Some(1),
        ..Ack::new(*id, 1, Verdict::Success, consumer, now)
    };
    let acks = AckBatch { acks: ids.iter().map(ack).collect() };
    Ok(Record {
        topic: TOPIC.to_owned(),
        offset: i64::try_from(number).context("too many messages")?,
        payload: Some(serde_json::to_vec(&acks)?),
        ..Record::default()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settle: Arguments,
    }

    on_every_database!(std::convert::identity => every_answer_is_settled);

    async fn every_answer_is_settled(database: TestDatabase) {
        let folder = tempfile::tempdir().unwrap();
        let (url, is_postgres) = (database.url(), database.url().starts_with("postgres"));
        let (option, place) = match is_postgres {
            true => ("--postgres-url", url),
            false => ("--sqlite-dir", folder.path().display().to_string()),
        };
        let small = ["test", option, &place, "--rows", "330", "--batch", "40", "--repeat", "2"];
        let arguments = Cli::try_parse_from(small).unwrap().settle;
        let mut reports = Vec::new();
        measure(&arguments, |report| reports.push(report)).await.unwrap();
        let figures = if is_postgres { 4 } else { 2 };
        for (name, line) in &reports[0].lines {
            assert!(line.len() == figures && line.iter().all(|one| *one > 0.0), "{name}: {line:?}");
        }
        assert_eq!(reports[0].lines.len(), 3);
    }
}
