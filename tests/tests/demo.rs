//! `stockloop demo` as a visitor starts it, on the embedded parts and on real ones.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use stockloop_tests::database;
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::process::{Launch, built_binary};
use stockloop_tests::real;
use tempfile::TempDir;

use crate::system::count;

const DEADLINE: Duration = Duration::from_secs(120);

/// Flink takes its time, and shares two cores.
const VIEWS_DEADLINE: Duration = Duration::from_secs(600);

/// Three products; the lines 3, 5, 7, 8 and 9 (the header is 1) can't be played.
const OWN_DATA: &str = "\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID
1,10001,RED MUG,6,2010-12-01T08:26:00,2.55,17850
1,10002,BLUE MUG,six,2010-12-01T08:26:00,2.55,17850
1,10002,BLUE MUG,4,2010-12-01T08:26:00,2.55,17850
2,10001,RED MUG,6,2010-12-01T08:26:00
2,10003,\"TEAPOT, BIG\",1,2010-12-01T08:28:00,9.95,17850
2,POST,POSTAGE,1,2010-12-01T08:28:00,18.00,17850
3,10001,RED MUG,0,2010-12-01T08:29:00,2.55,17850
\u{0}\u{1},,,,,,
C4,10001,RED MUG,-2,2010-12-01T09:00:00,2.55,17850
5,10002,BLUE MUG,1,2010-12-01T09:10:00,2.55,17850
";

/// Runs `stockloop demo --exit` with `args` in `folder`; returns its report and what it printed.
fn demo(folder: &Path, args: &[&str]) -> (Value, String) {
    let demo = Launch::new(built_binary("stockloop").expect("the demo is built"));
    run(demo, folder, args, DEADLINE)
}

fn run(demo: Launch, folder: &Path, args: &[&str], deadline: Duration) -> (Value, String) {
    let report = folder.join("report.json");
    let mut child = demo
        .args(["demo", "--exit", "--report"])
        .arg(&report)
        .args(args)
        .folder(folder)
        .spawn()
        .expect("the demo starts");
    let status = child.wait_for_exit(deadline).expect("the demo ends");
    assert!(status.success(), "{status}\n{}", child.log());
    let report = fs::read(report).expect("a report");
    (serde_json::from_slice(&report).expect("the report is JSON"), child.log())
}

/// What has to hold for every run, whatever the data.
fn assert_good(report: &Value, log: &str) {
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
    assert_eq!(report["replica_equal"], true, "{report}");
    assert_eq!(report["verified"]["state"], "equal", "{report}");
    assert_eq!(number("processed"), number("changes"));
    assert_eq!(number("rows"), number("accepted") + number("refused"));
    assert!(number("changes") > number("accepted"), "opening stock counts too: {report}");
    assert!(number("exhausted_then_retried") >= 1 && number("alerts_mailed") >= 1, "{report}");
    let latency = |name: &str| report["latency_ms"][name].as_f64().expect("a latency");
    assert!(latency("p50") > 0.0 && latency("p50") <= latency("p99"), "{report}");
    assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    let lines = format!("lines read            {}", report["rows"]);
    assert!(log.contains(&lines) && log.contains("PROCESSED"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_real_parts() {
    let (Some(postgres), Some(kafka)) = (real::postgres(), real::kafka()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (product, order) = (postgres.database("demo_product"), postgres.database("demo_order"));
    let args = [
        "--limit",
        "2000",
        "--product-database-url",
        &product,
        "--order-database-url",
        &order,
        "--brokers",
        &kafka.brokers(),
    ];
    let (report, log) = demo(folder.path(), &args);
    assert_good(&report, &log);
    assert_eq!(report["rows"], 2_000);
    assert_tables(&product, &order, &report).await;
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the report: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_embedded_default_with_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (report, log) =
        demo(folder.path(), &["--limit", "2000", "--data-dir", &data.to_string_lossy()]);
    assert_good(&report, &log);
    assert_eq!(report["rows"], 2_000);
    let url = |name: &str| format!("sqlite:{}", data.join(name).display());
    assert_tables(&url("product.db"), &url("order.db"), &report).await;
}

/// A cache with these jars under the names that they have, so that the demo need not fetch them.
fn cache_of(jars: &[&Path]) -> TempDir {
    let cache = tempfile::tempdir().unwrap();
    let kept = cache.path().join("stockloop");
    fs::create_dir(&kept).unwrap();
    for jars in jars {
        symlink(jars, kept.join(jars.file_name().unwrap())).unwrap();
    }
    cache
}

fn demo_with(cache: &TempDir) -> Launch {
    let demo = Launch::new(built_binary("stockloop").expect("the demo is built"));
    demo.env("XDG_CACHE_HOME", cache.path())
}

/// On a Kafka that the demo starts by itself: both have to end with it, however it ends.
#[test]
fn what_the_views_need_ends_with_the_demo() {
    let (Some(kafka), Some(flink)) = (real::kafka(), real::flink()) else { return };
    let (cache, folder) = (cache_of(&[kafka.jars(), flink.jars()]), tempfile::tempdir().unwrap());
    let demo = demo_with(&cache).env("TMPDIR", folder.path()).folder(folder.path());
    let mut demo = demo.args(["demo", "--views", "--limit", "50"]).spawn().expect("it starts");
    demo.wait_for_line("Starting Flink", VIEWS_DEADLINE).expect("it gets there");
    let both = |running: &[String]| {
        ["kafka.Kafka", "SqlRunner.java"]
            .iter()
            .all(|it| running.iter().any(|one| one.contains(it)))
    };
    until_running("Kafka and Flink", cache.path(), both);
    demo.kill9();
    until_running("neither of them", cache.path(), <[String]>::is_empty);
}

/// Waits until this is so of the command lines of this machine's programs that have a path below `folder` in them.
fn until_running(what: &str, folder: &Path, is_so: impl Fn(&[String]) -> bool) {
    let folder = folder.to_string_lossy().into_owned();
    let waited = eventually_blocking(what, DEADLINE, || {
        let processes = fs::read_dir("/proc").expect("this is Linux").flatten();
        let lines = processes.filter_map(|one| fs::read(one.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
        let running: Vec<String> = lines.filter(|line| line.contains(&folder)).collect();
        if is_so(&running) { Ok(()) } else { Err(running) }
    });
    waited.unwrap();
}

#[test]
fn its_views_say_what_the_lines_and_the_services_say() {
    let (Some(kafka), Some(flink)) = (real::kafka(), real::flink()) else { return };
    let (cache, folder) = (cache_of(&[flink.jars()]), tempfile::tempdir().unwrap());
    let args = ["--views", "--limit", "500", "--brokers", &kafka.brokers()];
    let (report, log) = run(demo_with(&cache), folder.path(), &args, VIEWS_DEADLINE);
    assert_good(&report, &log);
    assert!(!log.contains("Fetching"), "{log}");
    let views = report["views"].as_array().expect("views");
    let names: Vec<&str> = views.iter().filter_map(|view| view["view"].as_str()).collect();
    assert_eq!(names, ["stock value", "purchases", "sales", "dead letters"]);
    for view in views {
        let compared = view["compared"].as_u64();
        let is_filled = compared.is_some_and(|rows| rows > 0) || view["view"] == "dead letters";
        assert!(view["equal"] == true && is_filled, "{view}\n{log}");
    }
    assert!(log.contains("views: stock value    equals ("), "{log}");
}

#[test]
fn on_data_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.csv");
    fs::write(&file, OWN_DATA).unwrap();
    let (report, log) = demo(folder.path(), &["--data", &file.to_string_lossy()]);
    assert_good(&report, &log);
    assert_eq!((&report["rows"], &report["accepted"]), (&10.into(), &5.into()), "{log}");
    for line in [3, 5, 7, 8, 9] {
        assert!(log.contains(&format!("line {line}")), "line {line} is not named:\n{log}");
    }
}

/// As a file that Excel has written, with a line that the reader refuses and one that product-service does.
#[test]
fn what_the_service_refuses_costs_only_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.csv");
    let long = "x".repeat(1_001);
    let more = [
        format!("6,10002,{long},1,2010-12-01T09:20:00,2.55,17850\n"),
        "6,10004\u{fffd},ODD,1,2010-12-01T09:20:00,2.55,17850\n".to_owned(),
        "6,10002,BLUE MUG,1,2010-12-01T09:20:00,2.55,17850\n".to_owned(),
    ];
    let text = [OWN_DATA, &more.concat()].concat();
    let utf_16: Vec<u8> =
        format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&file, utf_16).unwrap();
    let (report, log) = demo(folder.path(), &["--data", &file.to_string_lossy()]);
    assert_good(&report, &log);
    assert_eq!((&report["rows"], &report["accepted"]), (&13.into(), &6.into()), "{log}");
    for line in [12, 13] {
        assert!(log.contains(&format!("line {line}: ")), "line {line} is not named:\n{log}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Launch::new(built_binary("stockloop").expect("the demo is built"))
        .args(["demo", "--exit", "--data", "nowhere.csv"])
        .folder(folder.path())
        .spawn()
        .unwrap();
    let status = child.wait_for_exit(DEADLINE).unwrap();
    let log = child.log();
    assert!(!status.success() && log.contains("nowhere.csv"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// What other programs look for in the two databases.
async fn assert_tables(product: &str, order: &str, report: &Value) {
    let (product, order) = (database::open(product), database::open(order));
    let processed = "SELECT count(*) AS n FROM outbox WHERE status = 'PROCESSED'";
    assert_eq!(Some(count(&product, processed).await), report["processed"].as_i64());
    let all = "SELECT count(*) AS n FROM outbox";
    assert_eq!(Some(count(&product, all).await), report["changes"].as_i64());
    // Sums beyond 32 bits are decimals in PostgreSQL.
    let sums = "SELECT CAST(sum(quantity) * 1000 + sum(version) AS BIGINT) AS n FROM inventory WHERE sku <> ''";
    assert_eq!(count(&product, sums).await, count(&order, sums).await);
}
