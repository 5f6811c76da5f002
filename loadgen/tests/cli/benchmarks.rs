//! Each benchmark in a tiny run on real parts, and what is refused.

use std::fs;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use serde_json::{Value, json};
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::postgres::{Binaries, PostgresServer};
use stockloop_tests::process::spawn;
use stockloop_tests::program::{Program, assert_contains};
use stockloop_tests::real::{self, available};

use super::{LOADGEN, program, service};

#[test]
fn adjustments_are_measured_on_parts_that_are_started() {
    if available("PostgreSQL", Binaries::find()).is_some() {
        let [row]: [Value; 1] = measured(&["--clients", "2"]).try_into().unwrap();
        assert_eq!((&row["name"], &row["clients"]), (&json!("http"), &json!(2)));
    }
}

#[test]
fn adjustments_are_measured_on_a_server_that_was_named() {
    let Some(postgres) = real::postgres() else { return };
    let url = postgres.database("bench");
    let rows = measured(&["--database", &url, "--clients", "1,3"]);
    let clients: Vec<&Value> = rows.iter().map(|row| &row["clients"]).collect();
    assert_eq!(clients, [&json!(1), &json!(3)]);
}

#[test]
fn each_step_of_the_loop_is_measured_by_its_statements() {
    if available("PostgreSQL", Binaries::find()).is_none() {
        return;
    }
    let program = program();
    let args = ["--events", "300", "--products", "20", "--rounds", "1", "--json", "figures.json"];
    let table = program.output(&[&["bench", "sql-limit"][..], &args].concat(), &[]);
    assert_contains(&table, &["step", "SQL/s", "WAL B/event", "spread", "rounds"]);
    let rows = written(&program, "figures.json");
    let steps: Vec<&Value> = rows.iter().map(|row| &row["step"]).collect();
    assert_eq!(steps, ["change", "send", "apply", "settle", "all"]);
    for row in &rows {
        assert_eq!((&row["name"], &row["events"]), (&json!("sql-limit"), &json!(300)));
        ensure_figures(row, &["sql_per_s", "wal_bytes_per_event", "rounds"]);
    }
}

#[test]
fn a_backlog_is_drained_by_both_relays() {
    if available("PostgreSQL", Binaries::find()).is_none() {
        return;
    }
    let (table, rows) = looped("drain", &["--events", "30,300"]);
    assert_contains(
        &table,
        &["relay", "events", "producer/s", "share", "SQL/s", "WAL B/event", "product peak MB"],
    );
    let case = |row: &Value| (row["events"].as_u64(), row["relay"].as_str().map(str::to_owned));
    let cases: Vec<_> = rows.iter().map(case).collect();
    let of = |events, relay: &str| (Some(events), Some(relay.to_owned()));
    assert_eq!(cases, [of(30, "table"), of(30, "log"), of(300, "table"), of(300, "log")]);
    for row in &rows {
        assert_eq!(row["name"], json!("drain"));
        ensure_figures(row, &["rate_per_s", "limit_per_s", "share", "sql_per_s", "rss_mb"]);
        ensure_figures(row, &["wal_bytes_per_event", "rounds"]);
        assert!(row["p50_ms"].is_null(), "{row}");
    }
}

#[test]
fn a_backlog_goes_through_the_whole_loop() {
    let Some(postgres) = real::postgres() else { return };
    let url = postgres.database("bench");
    let named = ["--events", "200", "--relay", "table", "--database", &url];
    let (table, rows) = looped("loop", &named);
    assert_contains(&table, &["p50 ms", "product CPU s", "order CPU s", "order peak MB"]);
    assert_contains(&table, &["WAL B/event", "rounds"]);
    let [row]: [Value; 1] = rows.try_into().unwrap();
    assert_eq!((&row["name"], &row["events"]), (&json!("loop"), &json!(200)));
    ensure_figures(&row, &["rate_per_s", "limit_per_s", "share", "p50_ms", "p99_ms", "rss_mb"]);
    ensure_figures(&row, &["wal_bytes_per_event"]);
    ensure_figures(&row["processes"]["order-service"], &["rss_mb"]);
}

#[test]
fn a_single_change_is_followed_through_the_loop() {
    if available("PostgreSQL", Binaries::find()).is_none() {
        return;
    }
    let few = ["--changes", "5", "--pause-ms", "1,2", "--relay", "log"];
    let (table, rows) = looped("idle", &few);
    assert_contains(&table, &["until", "acknowledged", "p99 ms", "spread"]);
    let until: Vec<&Value> = rows.iter().map(|row| &row["until"]).collect();
    assert_eq!(until, ["answered", "message", "visible", "acknowledged"]);
    let p50 = |until: usize| rows[until]["p50_ms"].as_f64().unwrap();
    assert!(p50(0) < p50(2) && p50(2) <= p50(3), "{rows:?}");
    for row in &rows {
        ensure_figures(row, &["p50_ms", "p99_ms", "p50_min_ms", "p50_max_ms", "rss_mb"]);
        assert!(row["rate_per_s"].is_null(), "{row}");
    }
}

#[test]
fn a_loop_and_pages_are_measured_beside_settled_rows() {
    let Some(postgres) = real::postgres() else { return };
    let url = postgres.database("bench_rows");
    // Enough events that both services' retention gets to work meanwhile.
    let few = ["--rows", "600,300", "--events", "15000", "--relay", "table", "--database", &url];
    let (table, rows) = looped("rows", &few);
    assert_contains(&table, &["rows", "until", "service/s", "p50 ms", "ratio"]);
    let case = |row: &Value| (row["rows"].as_u64(), row["until"].as_str().map(str::to_owned));
    let cases: Vec<_> = rows.iter().map(case).collect();
    let pages = ["newest page", "PROCESSED page", "page of a key", "page in the middle"];
    let of = |rows| {
        let pages = pages.map(|page| (Some(rows), Some(page.to_owned())));
        [(Some(rows), None)].into_iter().chain(pages)
    };
    assert_eq!(cases, of(300).chain(of(600)).collect::<Vec<_>>());
    for row in &rows {
        assert_eq!(row["name"], json!("rows"));
        ensure_figures(row, &["p50_ms", "p99_ms", "ratio"]);
        assert_eq!(row["rate_per_s"].is_null(), row["until"].is_string(), "{row}");
    }
}

#[test]
fn a_backlog_is_worked_off_by_several_instances() {
    if available("PostgreSQL", Binaries::find()).is_none() {
        return;
    }
    let few = ["--instances", "1,2", "--events", "300", "--relay", "table"];
    let (table, rows) = looped("instances", &few);
    assert_contains(&table, &["instances", "until", "service/s", "ratio", "product CPU s"]);
    let case = |row: &Value| (row["until"].as_str().map(str::to_owned), row["instances"].as_u64());
    let wanted = [("SENT", 1), ("SENT", 2), ("PROCESSED", 1), ("PROCESSED", 2)];
    let wanted = wanted.map(|(until, instances)| (Some(until.to_owned()), Some(instances)));
    assert_eq!(rows.iter().map(case).collect::<Vec<_>>(), wanted);
    for row in &rows {
        ensure_figures(row, &["rate_per_s", "ratio", "rss_mb"]);
    }
}

#[test]
fn a_loop_is_measured_beside_a_verification() {
    let Some(postgres) = real::postgres() else { return };
    let url = postgres.database("bench_verify");
    let few = ["--events", "200", "--relay", "table", "--database", &url];
    let (table, rows) = looped("verify", &few);
    assert_contains(&table, &["beside", "a verification", "ratio", "order CPU s"]);
    let beside: Vec<&Value> = rows.iter().map(|row| &row["beside"]).collect();
    assert_eq!(beside, ["nothing", "a verification"]);
    for row in &rows {
        ensure_figures(row, &["rate_per_s", "ratio", "p50_ms", "p99_ms", "rss_mb"]);
    }
}

#[test]
fn a_log_that_can_not_be_read_is_refused() {
    let Some(binaries) = available("PostgreSQL", Binaries::find()) else { return };
    let server = PostgresServer::start_with(binaries, &["wal_level=replica"]).unwrap();
    let url = server.url("postgres");
    for benchmark in ["drain", "loop", "idle", "rows", "instances", "verify"] {
        let args = ["bench", benchmark, "--database", &url];
        program().refusal(&args, &[], &["--relay log", "wal_level", "--relay table"]);
    }
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing_on_the_server() {
    const DEADLINE: Duration = Duration::from_secs(60);
    let Some(postgres) = real::postgres() else { return };
    let service = service("product-service");
    let url = postgres.database("interrupted");
    let mut conn = PgConnection::establish(&url).unwrap();
    let more = ["--product-service", &service, "--events", "10000000", "--database", &url];
    let args = [&["bench", "drain", "--relay", "table"][..], &more].concat();
    for signal in ["INT", "TERM"] {
        let mut run = spawn(LOADGEN, &args, &[]).unwrap();
        let made = eventually_blocking("a database", DEADLINE, || match beside(&mut conn) {
            0 => Err("there is none"),
            some => Ok(some),
        });
        made.unwrap();
        // Another one would remove what this one has made.
        let who = format!("process {}", run.pid());
        let other = ["bench", "rows", "--relay", "table", "--database", &url];
        program().refusal(&other, &[], &["another run", &who, "name another database"]);
        let ended = run.end_with(signal, DEADLINE).unwrap();
        assert_eq!((ended.code(), beside(&mut conn)), (Some(130), 0), "{}", run.log_tail());
    }
}

#[test]
fn what_a_killed_run_has_left_is_removed_by_the_next_one() {
    let Some(postgres) = real::postgres() else { return };
    let url = postgres.database("killed");
    let mut conn = PgConnection::establish(&url).unwrap();
    let (_, name) = url.rsplit_once('/').unwrap();
    let name = name.split('?').next().unwrap();
    postgres.execute(&format!("CREATE DATABASE \"{name}_stockloop_copy\"")).unwrap();
    assert_eq!(beside(&mut conn), 1);
    let args = ["bench", "drain", "--product-service", "nowhere", "--database", &url];
    program().refusal(&args, &[], &["nowhere"]);
    assert_eq!(beside(&mut conn), 0);
}

/// Databases of a benchmark beside this one.
fn beside(conn: &mut PgConnection) -> i64 {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let sql = "SELECT count(*) AS n FROM pg_database \
               WHERE datname LIKE replace(current_database(), '_', '\\_') || '\\_stockloop\\_%'";
    sql_query(sql).get_result::<Count>(conn).unwrap().n
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let refused = |args: &[&str], words: &[&str]| {
        program().refusal(&[&["bench", "http"], args].concat(), &[], words);
    };
    refused(&["--database", "mysql://localhost/shop"], &["--database", "postgres://"]);
    refused(&["--database", "postgres://nobody@127.0.0.1:1/shop"], &["--database", "reached"]);
    let long = format!("postgres://nobody@127.0.0.1:1/{}", "a".repeat(53));
    refused(&["--database", &long], &["--database", "63 bytes"]);
    refused(&["--product-service", "nowhere"], &["nowhere", "cargo build"]);
    refused(&["--url", "https://127.0.0.1:1"], &["https://127.0.0.1:1", "http://host:port"]);
    refused(&["--url", "http://127.0.0.1:1"], &["127.0.0.1:1", "reached"]);
    for benchmark in ["http", "drain", "loop", "idle", "rows", "instances", "verify", "all"] {
        for file in ["--json", "--svg"] {
            let args = ["bench", benchmark, "--product-service", "nowhere", file, "no/such/file"];
            program().refusal(&args, &[], &["cannot write no/such/file"]);
        }
    }
    for wrong in [
        ["drain", "--events", "0"],
        ["loop", "--rounds", "0"],
        ["rows", "--rows", "0"],
        ["instances", "--instances", "9"],
    ] {
        let outcome = program().run(&[&["bench"][..], &wrong].concat(), &[]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(wrong[1]), "{outcome:?}");
    }
    program().refusal(&["bench", "idle", "--pause-ms", "9"], &[], &["--pause-ms", "20,60"]);
    for benchmark in ["drain", "loop", "idle"] {
        let args = ["bench", benchmark, "--relay", "both,external"];
        program().refusal(&args, &[], &["--relay external", "--broker kafka"]);
    }
    for benchmark in ["rows", "instances", "verify", "all"] {
        let args = ["bench", benchmark, "--relay", "external", "--broker", "kafka"];
        program().refusal(&args, &[], &["--relay external", &format!("bench {benchmark}")]);
    }
    for clients in ["0", "1,0", "129"] {
        let outcome = program().run(&["bench", "http", "--clients", clients], &[]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("--clients"), "{outcome:?}");
    }
}

/// The table of a tiny run of a benchmark of the loop, and what it wrote.
fn looped(benchmark: &str, more: &[&str]) -> (String, Vec<Value>) {
    let (owner, copy) = (service("product-service"), service("order-service"));
    let mut args = vec!["bench", benchmark, "--product-service", owner.as_str()];
    if benchmark != "drain" {
        args.extend(["--order-service", copy.as_str()]);
    }
    args.extend(["--products", "20", "--rounds", "1", "--json", "figures.json"]);
    args.extend(more);
    let program = program();
    let table = program.output(&args, &[]);
    (table, written(&program, "figures.json"))
}

/// The figures that a run has written to this file.
fn written(program: &Program, file: &str) -> Vec<Value> {
    serde_json::from_slice(&fs::read(program.folder().join(file)).unwrap()).unwrap()
}

/// Checks that all these figures are above zero.
#[track_caller]
fn ensure_figures(row: &Value, names: &[&str]) {
    let is_positive = |name: &&str| row[*name].as_f64().is_some_and(|figure| figure > 0.0);
    assert!(names.iter().all(is_positive), "{row}");
}

const FIGURES: [&str; 10] = [
    "rate_per_s",
    "settled_per_s",
    "limit_per_s",
    "share",
    "p50_ms",
    "p99_ms",
    "min_per_s",
    "max_per_s",
    "rss_mb",
    "cpu_s",
];

/// What a tiny run wrote: each row has all figures.
fn measured(more: &[&str]) -> Vec<Value> {
    let service = service("product-service");
    let mut args = vec!["bench", "http", "--product-service", service.as_str()];
    args.extend(["--products", "20", "--rounds", "1", "--seconds", "1", "--warm-up", "1"]);
    args.extend(["--json", "http.json"]);
    args.extend(more);
    let program = program();
    let table = program.output(&args, &[]);
    assert_contains(
        &table,
        &["clients", "service/s", "settled/s", "limit/s", "share", "spread", "peak MB"],
    );
    let rows = written(&program, "http.json");
    for row in &rows {
        ensure_figures(row, &FIGURES);
        assert!(row["open_at_end"].as_f64().is_some_and(|open| open >= 0.0), "{row}");
    }
    rows
}
