//! Whether what has been settled long ago costs anything: the loop, and the operators' pages, beside few rows and many.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use common::clock::Timestamp;
use common::db::Conn;
use common::env::Env;
use common::ids::EventId;
use common::on;
use common::schema::{inbox, outbox_settled};
use diesel::prelude::*;

use super::block_on;
use super::options::{Files, LoopOptions, Relay, parsed};
use super::pair::{Backlogs, Both, Pair};
use super::parts::{Client, Running};
use super::report::{Bench, Case, CaseRow, Round, What, compared, title};
use super::time::{Rounds, Time};
use super::wait::Wait;
use crate::backlog::{SNAPSHOT, make_payload, tidy};
use crate::made::made;
use crate::programs::{COPY, OWNER};
use crate::progress::{progress_bar, turns_bar};

/// Measures whether settled events that lie in the tables slow down the loop or the operators' pages.
///
/// For each number of --rows, all parts are started anew, and both services get databases of their own with so many settled
/// events: in product-service's outbox with their payloads, and in order-service's inbox. Then backlogs go through the whole
/// loop as in bench loop. Before each, as many events are added as it has that are older than the services keep them, and
/// while it is worked off, both services' retention removes those: as many rows go as come. Where it removes none meanwhile,
/// the benchmark fails.
///
/// After each backlog, pages of 100 events are read over HTTP, one after the other, 50 times each: the newest events, the
/// newest PROCESSED ones, those of one key, and those from the middle of all rows on.
///
/// The ratio is to the fewest rows, of the rate or, for a page, of p50. Flat is from 0.80 to 1.20.
///
/// Numbers of rows are measured one after the other; figures are medians of the rounds, spread is the slowest and the fastest
/// of them. CPU s is what each service used for one backlog, peak MB the most memory that it has had.
///
/// Build it with --release. The data of the PostgreSQL that is started lies below TMPDIR: let that be a disk, not memory.
/// Each million rows takes about one GB there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen bench rows --quick --relay table
  stockloop-loadgen bench rows --rows 10000,1000000,10000000 --relay table --minutes 60
  stockloop-loadgen bench rows --broker kafka --json rows.json")]
pub(super) struct Arguments {
    /// Settled events in the tables, measured from the fewest on [default: 10000 and 1000000, with --quick 10000 and 100000]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    rows: Vec<u32>,
    /// Events of each backlog [default: 20000, with --quick 10000]
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

    fn rows(&self) -> Vec<usize> {
        let (usual, quick) = ([10_000, 1_000_000], [10_000, 100_000]);
        let mut rows = self.both.options.sizes(&self.rows, &usual, &quick);
        // The first one is what the others are compared with.
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    fn events(&self) -> usize {
        self.both.options.size(self.events, 20_000, 10_000)
    }
}

/// What is older goes: far more than any service keeps by default.
const OLD: Duration = Duration::from_secs(400 * 86_400);

/// Between what is old and what is not.
const KEPT: Duration = Duration::from_secs(200 * 86_400);

/// Until retention has removed the old events of one backlog, once that is worked off.
const RETENTION: Wait = Wait { look: Duration::from_millis(50), within: Duration::from_secs(300) };

/// Rows that one statement makes.
const CHUNK: usize = 100_000;

/// Keys of the rows: few, so that each has more events than a page even where there are few rows.
const KEYS: usize = 50;

/// Bytes of a payload, as a product has them.
const PAYLOAD: usize = 245;

/// How often each page is read.
const READS: usize = 50;

/// The pages, and what of the list of events they show.
const PAGES: [(&str, &str); 4] = [
    ("newest page", ""),
    ("PROCESSED page", "&status=PROCESSED"),
    ("page of a key", "&key=PAST-0"),
    ("page in the middle", "&after="),
];

impl Bench for Arguments {
    type Line = CaseRow;

    fn files(&self) -> &Files {
        &self.both.options.files
    }

    fn title(&self) -> String {
        let what = "a backlog and pages beside settled rows (flat: a ratio of 0.80 to 1.20)";
        title(what, &self.both.options)
    }

    fn limit(&self) -> Duration {
        self.both.options.limit()
    }

    fn measure(&self, time: &Time) -> Result<Vec<CaseRow>> {
        self.both.options.refuse_external("rows")?;
        let (options, mut cases) = (&self.both.options, Vec::new());
        let (numbers, relays) = (self.rows(), self.both.options.relays());
        let mut left = numbers.len() * relays.len();
        for rows in numbers {
            // Each on parts that nobody has worked with.
            let both = Both::start(&self.both)?;
            let pair = Pair::start_told(&both, options, vec![retention_each_second()])?;
            let mut bench = RowsBench {
                backlogs: Backlogs::of(pair, options),
                rows,
                events: self.events(),
                middle: EventId::NIL,
            };
            bench.fill()?;
            for relay in &relays {
                let asked = options.rounds();
                cases.extend(bench.measure(*relay, asked, time.rounds(left, 1, asked))?);
                left -= 1;
            }
        }
        Ok(compared(&cases))
    }
}

/// What is measured, and what on.
struct RowsBench<'a> {
    backlogs: Backlogs<'a>,
    rows: usize,
    events: usize,
    /// An id in the middle of the rows.
    middle: EventId,
}

impl RowsBench<'_> {
    /// Makes the rows, the last of them now.
    fn fill(&mut self) -> Result<()> {
        let now = Env::system().now();
        let bar = progress_bar(format!("making {} settled rows", self.rows), self.rows);
        let mut left = self.rows;
        while left > 0 {
            let count = left.min(CHUNK);
            left -= count;
            // An event is a millisecond after the one before.
            self.settled(count, now.before(Duration::from_millis(left as u64)))?;
            bar.inc(count as u64);
        }
        let half = Duration::from_millis(self.rows as u64 / 2);
        self.middle = EventId::first_at(now.before(half));
        let Pair { of_owner, of_copy, .. } = &mut self.backlogs.pair;
        for conn in [of_owner, of_copy] {
            tidy(conn)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Settled events: `count` of them, the last one made at `newest`. They are there on both sides at once.
    fn settled(&mut self, count: usize, newest: Timestamp) -> Result<()> {
        let Pair { of_owner, of_copy, .. } = &mut self.backlogs.pair;
        let count = i64::try_from(count)?;
        of_owner.transaction(|owner| {
            settle_at_owner(owner, count, newest)?;
            of_copy.transaction(|copy| apply_at_copy(copy, count, newest))
        })?;
        Ok(())
    }

    /// The loop and each page with one relay, in those of the rounds that were `asked` for that there is time for.
    fn measure(&mut self, relay: Relay, asked: usize, rounds: Rounds) -> Result<Vec<Case>> {
        let what = What { rows: Some(self.rows), ..What::new("rows", relay) };
        let mut backlog = Case::of(What { events: Some(self.events), ..what });
        let mut pages = PAGES.map(|(name, _)| Case::of(What { until: Some(name), ..what }));
        let bar = turns_bar(1 + asked);
        for round in rounds {
            bar.set_message(format!("{} rows, relay {relay}, {round}/{asked}", self.rows));
            let (worked_off, read) = (self.work_off(relay)?, self.pages()?);
            bar.inc(1);
            // What came before everything was warm does not count.
            if round > 0 {
                backlog.rounds.push(worked_off);
                pages.iter_mut().zip(read).for_each(|(page, read)| page.rounds.push(read));
            }
        }
        bar.finish_and_clear();
        Ok([backlog].into_iter().chain(pages).collect())
    }

    /// A backlog, beside which retention removes as many old rows.
    fn work_off(&mut self, relay: Relay) -> Result<Round> {
        // Pages are read without signing in.
        let open = ("STOCKLOOP__ACCESS__OPEN", "true".to_owned());
        let settings = vec![open, retention_each_second()];
        self.backlogs.run(&Running { settings, ..Running::with(relay) })?;
        let (events, now) = (self.events, Env::system().now());
        let kept = EventId::first_at(now.before(KEPT));
        let after = self.backlogs.pile_up(events)?;
        self.settled(events, now.before(OLD))?;
        let (round, seen) = self.backlogs.work_off_seen(events, after, |pair| old(pair, kept))?;
        self.backlogs.pair.with_logs(ensure_removed(seen))?;
        let gone = self.wait_until_gone(kept);
        self.backlogs.pair.with_logs(gone)?;
        Ok(round)
    }

    /// Waits until nothing is left on either side that was made before `kept`.
    fn wait_until_gone(&mut self, kept: EventId) -> Result<()> {
        let within = RETENTION.within;
        RETENTION.until(
            || Ok(old(&mut self.backlogs.pair, kept)? == [0, 0]),
            || format!("old rows are there after {within:?}: does retention run?"),
        )
    }

    /// A round of each of [`PAGES`].
    fn pages(&self) -> Result<Vec<Round>> {
        let target = self.backlogs.pair.target()?;
        let read = block_on(async {
            let mut client = Client::connect(&target).await?;
            let mut rounds = Vec::new();
            for (_, what) in PAGES {
                rounds.push(read_often(&mut client, &self.path(what)).await?);
            }
            Ok(rounds)
        });
        self.backlogs.pair.with_logs(read)
    }

    fn path(&self, what: &str) -> String {
        let after = if what.ends_with('=') { self.middle.to_string() } else { String::new() };
        format!("/api/admin/v1/events?limit=100{what}{after}")
    }
}

async fn read_often(client: &mut Client, path: &str) -> Result<Round> {
    let mut took_ms = Vec::with_capacity(READS);
    for _ in 0..READS {
        let asked = Instant::now();
        client.get(path).await?;
        took_ms.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Round::of_times(took_ms))
}

/// Both services look for old rows each second: so they begin with the backlog, which the relay finds as late.
fn retention_each_second() -> (&'static str, String) {
    ("STOCKLOOP__RETENTION__CRON", "* * * * * *".to_owned())
}

fn settle_at_owner(conn: &mut Conn, count: i64, newest: Timestamp) -> QueryResult<()> {
    let made = made(conn, count, newest.micros());
    let (name, payload) = (SNAPSHOT.name, make_payload(PAYLOAD));
    conn.batch_execute(&format!(
        "{made} INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, created_us) \
         SELECT id, 0, '{name}', 'PAST-' || (n % {KEYS}), 1, n, '{payload}', at_us FROM made"
    ))?;
    conn.batch_execute(&format!(
        "{made} INSERT INTO outbox_settled \
           (id, outcome, detail, attempt, partition, sent_us, settled_us, processed_us, version, consumer) \
         SELECT id, 0, 'applied', 1, n % 4, at_us + 400, at_us + 900, at_us + 700, n, 'order-service' FROM made"
    ))
}

fn apply_at_copy(conn: &mut Conn, count: i64, newest: Timestamp) -> QueryResult<()> {
    let (made, name) = (made(conn, count, newest.micros()), SNAPSHOT.name);
    conn.batch_execute(&format!(
        "{made} INSERT INTO inbox (event_id, outcome, detail, version, event_type, key, processed_us) \
         SELECT id, 0, 'applied', n, '{name}', 'PAST-' || (n % {KEYS}), at_us + 700 FROM made"
    ))
}

/// How many rows there are at product-service and at order-service that were made before `kept`.
fn old(pair: &mut Pair, kept: EventId) -> Result<[i64; 2]> {
    let settled = outbox_settled::table.filter(outbox_settled::id.lt(kept)).count();
    let applied = inbox::table.filter(inbox::event_id.lt(kept)).count();
    let (of_owner, of_copy) = (&mut pair.of_owner, &mut pair.of_copy);
    let settled: i64 = on!(of_owner, c => settled.get_result(c))?;
    let applied: i64 = on!(of_copy, c => applied.get_result(c))?;
    Ok([settled, applied])
}

/// Fails unless both sides had fewer old rows in the end than at first.
fn ensure_removed([first, last]: [[i64; 2]; 2]) -> Result<()> {
    let each = [OWNER, COPY].into_iter().zip(first.into_iter().zip(last));
    for (service, (first, last)) in each {
        ensure!(
            last < first,
            "{service} removed none of {first} old rows while the backlog was worked off: the figures are without retention; try more --events"
        );
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_rows_come_first() {
        let rows = |words: &[&str]| parsed::<Arguments>(words).unwrap().rows();
        let said = rows(&["--rows", "1000000,10000,50000,10000"]);
        assert_eq!(said, [10_000, 50_000, 1_000_000]);
        assert_eq!(rows(&["--quick"]), [10_000, 100_000]);
    }

    #[test]
    fn a_round_without_retention_on_either_side_fails() {
        ensure_removed([[9, 9], [8, 0]]).unwrap();
        for (last, service) in [([9, 0], "product-service"), ([0, 9], "order-service")] {
            let error = ensure_removed([[9, 9], last]).unwrap_err().to_string();
            assert!(error.starts_with(service), "{error}");
        }
        ensure_removed([[0, 9], [0, 8]]).unwrap_err();
    }
}
