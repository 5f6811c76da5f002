//! Measurements for people to run, on real parts, with what is compared in turns: the relays beside each other, and what a
//! paced verification takes from the loop. They print and judge nothing.
//!
//! `cargo test --release -p stockloop-tests --test suite -- --ignored --nocapture measures::`, after
//! `cargo build --release --workspace --bins`; `MEASURE_ROUNDS` and `MEASURE_PRODUCTS` say how much.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use stockloop_tests::poll::eventually;
use stockloop_tests::program::Program;

use crate::log::READ;
use crate::system::{RealParts, TestSystem};

const PATIENCE: Duration = Duration::from_secs(1_800);

/// Verifications one after the other.
const VERIFIED: u32 = 10;

/// Single changes that are sent while nothing else is.
const SINGLES: usize = 300;

const UNCAPPED: [(&str, &str); 2] = [
    ("STOCKLOOP__OUTBOX__IN_FLIGHT_EVENTS", "100000000"),
    ("STOCKLOOP__OUTBOX__IN_FLIGHT_BYTES", "100000000000"),
];
const OPEN: [&str; 2] = ["outbox_pending", "outbox_sent"];
/// Some 400 MiB of the log.
const WRITE_MUCH: &str = "DROP TABLE IF EXISTS written; \
    CREATE TABLE written AS SELECT n, repeat('x', 100) AS x FROM generate_series(1, 3000000) AS n";
const NEVER: (&str, &str) = ("STOCKLOOP__VERIFY__CRON", "0 0 0 1 1 *");

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of many minutes"]
async fn the_relays_beside_each_other() {
    let Some(mut measured) = Measured::start("measured_relays").await else { return };
    for round in 1..=rounds() {
        for relay in ["table", "log"] {
            let relays = ("STOCKLOOP__OUTBOX__RELAY", relay);
            measured.system.product.restart_with(&[relays, NEVER]).await;
            let idle = measured.idle().await;
            let flow = measured.flow().await;
            measured.system.order.stop().await;
            measured.import().await;
            let drain = measured.drain(&[relays, NEVER, UNCAPPED[0], UNCAPPED[1]]).await;
            measured.system.order.start();
            measured.until_empty(&OPEN).await;
            println!("round {round}, {relay}: {idle}; {flow}; drain {drain}");
        }
    }
    measured.system.stop().await;
}

/// A backlog that a start finds, with a slot that is behind by what others have written since: the server decodes that if
/// it is read on from, and the table has the backlog in either case.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of many minutes"]
async fn what_an_old_slot_costs_a_start() {
    let Some(mut measured) = Measured::start("measured_slot").await else { return };
    let by_log = ("STOCKLOOP__OUTBOX__RELAY", "log");
    let reads_on = ("STOCKLOOP__OUTBOX__LOG_KEPT_BYTES", "1000000000000");
    let anew = ("STOCKLOOP__OUTBOX__LOG_KEPT_BYTES", "0");
    for round in 1..=rounds() {
        for (name, kept) in [("read on from", reads_on), ("made anew", anew)] {
            // With caps: what exceeds them is the backlog.
            measured.system.product.restart_with(&[by_log, NEVER]).await;
            measured.until_the_log_is_read().await;
            measured.system.order.stop().await;
            measured.import().await;
            measured.system.product.stop().await;
            let before = measured.wal().await;
            measured.system.product.execute(WRITE_MUCH).await;
            let written = (measured.wal().await - before) >> 20;
            let settings = [by_log, kept, NEVER, UNCAPPED[0], UNCAPPED[1]];
            let drain = measured.drain(&settings).await;
            measured.system.order.start();
            measured.until_empty(&OPEN).await;
            println!("round {round}, a slot {written} MiB behind, {name}: drain {drain}");
        }
    }
    measured.system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of many minutes"]
async fn a_paced_verification_beside_the_loop() {
    let Some(mut measured) = Measured::start("measured_verify").await else { return };
    let always = [("STOCKLOOP__VERIFY__CRON", "* * * * * *")];
    for round in 1..=rounds() {
        for (name, settings) in [("without", [NEVER]), ("with", always)] {
            measured.system.product.restart_with(&settings).await;
            let flow = measured.flow().await;
            let rest = measured.rest().await;
            println!("round {round}, {name}: {flow}; at rest {rest}");
        }
    }
    measured.system.product.restart_with(&[NEVER]).await;
    println!("verified as fast as it goes: {}", measured.verified().await);
    measured.system.stop().await;
}

fn rounds() -> usize {
    std::env::var("MEASURE_ROUNDS").map_or(3, |n| n.parse().expect("a number"))
}

fn products() -> usize {
    std::env::var("MEASURE_PRODUCTS").map_or(100_000, |n| n.parse().expect("a number"))
}

/// Both services with a copy that has all products.
struct Measured {
    system: TestSystem,
    /// So often all products were changed.
    changes: usize,
}

impl Measured {
    async fn start(name: &str) -> Option<Self> {
        let mut system = TestSystem::prepared(name, RealParts::shared(name)?).await;
        system.start_both();
        system.order.wait_until_complete().await;
        let mut measured = Self { system, changes: 0 };
        measured.import().await;
        measured.until_empty(&OPEN).await;
        Some(measured)
    }

    /// Changes all products through the API, as fast as it takes them.
    async fn import(&mut self) {
        self.changes += 1;
        let mut lines = "sku,description,quantity,unit_price\n".to_owned();
        for n in 0..products() {
            let quantity = self.changes * 10 + n % 7;
            writeln!(lines, "P{n:07},a product of some words number {n},{quantity},2.55")
                .expect("it is memory");
        }
        let program = Program::built("stockloop");
        fs::write(program.folder().join("all.csv"), lines).expect("a file can be written");
        let url = self.system.product.base_url.get();
        let args = ["import", "products", "all.csv", "--replace"];
        let imported = move || program.run(&args, &[("STOCKLOOP_API_URL", url.as_str())]);
        let imported = tokio::task::spawn_blocking(imported).await.expect("it runs");
        assert_eq!(imported.code, Some(0), "{imported:?}");
    }

    /// Waits until none of these tables of the owner has a row.
    async fn until_empty(&self, tables: &[&str]) {
        // By their keys, which soon skip what is deleted: nothing else is to be measured here.
        let first = |table: &&str| format!("(SELECT id FROM {table} ORDER BY id LIMIT 1)");
        let any = tables.iter().map(first).collect::<Vec<_>>().join(" UNION ALL ");
        let any = format!("SELECT count(*) AS n FROM ({any}) AS left_over");
        eventually("nothing to be left", PATIENCE, async || {
            match self.system.product.count(&any).await {
                0 => Ok(()),
                n => Err(n),
            }
        })
        .await;
    }

    /// Waits until product-service reads the log: from then on, its slot keeps what it does not read.
    async fn until_the_log_is_read(&self) {
        eventually("the log to be read", PATIENCE, async || {
            match self.system.product.count(READ).await {
                1 => Ok(()),
                n => Err(n),
            }
        })
        .await;
    }

    /// Changes one by one, with rests between them: the time from a commit to what follows, in ms.
    async fn idle(&self) -> String {
        let product = &self.system.product;
        for n in 0..SINGLES {
            let path = format!("/api/v1/inventory/P{:07}/adjustments", n % products());
            product.post(&path, json!({"delta": 1, "reason": "measured"})).await.ok();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        self.until_empty(&OPEN).await;
        let mut line = "commit to".to_owned();
        for (name, column) in
            [("sent", "sent_us"), ("visible", "processed_us"), ("acknowledged", "settled_us")]
        {
            let [p50, p99] = [0.5, 0.99].map(|share| {
                format!(
                    "SELECT percentile_cont({share}) WITHIN GROUP (ORDER BY took)::bigint AS n FROM \
                     (SELECT s.{column} - e.created_us AS took FROM outbox_event e \
                      JOIN outbox_settled s ON s.id = e.id ORDER BY e.id DESC LIMIT {SINGLES}) AS newest"
                )
            });
            let (p50, p99) = (product.count(&p50).await, product.count(&p99).await);
            write!(line, " {name} p50 {:.1} p99 {:.1}", p50 as f64 / 1e3, p99 as f64 / 1e3)
                .expect("it is memory");
        }
        line
    }

    /// All products changed through the API while both services work, until all is acknowledged.
    async fn flow(&mut self) -> String {
        let (wal, before, own) = (self.wal().await, busy(), self.cpu());
        let began = Instant::now();
        self.import().await;
        let taken = began.elapsed();
        self.until_empty(&OPEN).await;
        let (took, events) = (began.elapsed(), products() as f64);
        let wal = (self.wal().await - wal) as f64 / events;
        let peak = self.peak_mb();
        format!(
            "flow: taken {:.0}/s, acknowledged {:.0}/s, {wal:.0} bytes of WAL, {:.0} us of all CPU and {:.0} us of \
             the owner's per event, its peak {peak} MB",
            events / taken.as_secs_f64(),
            events / took.as_secs_f64(),
            (busy() - before) * 1e6 / events,
            (self.cpu() - own) * 1e6 / events,
        )
    }

    /// A backlog that a start finds, until all of it is SENT; nobody answers.
    async fn drain(&mut self, settings: &[(&'static str, &'static str)]) -> String {
        let pending = "SELECT count(*) AS n FROM outbox_pending";
        self.system.product.restart_with(settings).await;
        let began = Instant::now();
        let events = self.system.product.count(pending).await as f64;
        self.until_empty(&OPEN[..1]).await;
        format!("of {events} {:.0}/s", events / began.elapsed().as_secs_f64())
    }

    /// What all processors do while nothing changes.
    async fn rest(&self) -> String {
        // What the changes left to be written and cleaned up.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (before, began) = (busy(), Instant::now());
        tokio::time::sleep(Duration::from_secs(60)).await;
        let verified = "SELECT count(*) AS n FROM verification WHERE ended_us IS NOT NULL";
        let share = (busy() - before) / began.elapsed().as_secs_f64();
        let verified = self.system.product.count(verified).await;
        format!("{:.1} ms of CPU a second, {verified} verifications have ended", share * 1e3)
    }

    /// What verifications cost that nothing slows down: with a share of the time, it is that share of the CPU.
    async fn verified(&self) -> String {
        let (before, began) = (busy(), Instant::now());
        for _ in 0..VERIFIED {
            let program = Program::built("stockloop");
            let url = self.system.product.base_url.get();
            let verify = move || program.run(&["verify"], &[("STOCKLOOP_ADMIN_URL", url.as_str())]);
            let verified = tokio::task::spawn_blocking(verify).await.expect("it runs");
            assert_eq!(verified.code, Some(0), "{verified:?}");
        }
        let (cpu, took) = (busy() - before, began.elapsed().as_secs_f64());
        let (each, share) = (1e3 * took / f64::from(VERIFIED), cpu / took);
        format!("{each:.0} ms each, {share:.2} processors busy")
    }

    async fn wal(&self) -> i64 {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS n";
        self.system.product.count(sql).await
    }

    /// Seconds of CPU that product-service has used.
    fn cpu(&mut self) -> f64 {
        let own = fields(&format!("/proc/{}/stat", self.system.product.child().pid()));
        seconds(&own[13]) + seconds(&own[14])
    }

    fn peak_mb(&mut self) -> u64 {
        let path = format!("/proc/{}/status", self.system.product.child().pid());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }
}

/// Seconds that all processors together were not idle: of user, nice, system, irq and softirq.
fn busy() -> f64 {
    let of_all = fields("/proc/stat");
    [1, 2, 3, 6, 7].iter().map(|index| seconds(&of_all[*index])).sum()
}

/// The fields of the first line of a file that says what runs.
fn fields(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).expect("this is Linux");
    text.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Linux counts in hundredths.
fn seconds(field: &str) -> f64 {
    field.parse::<f64>().expect("a number") / 100.0
}
