//! `stockloop import` and `stockloop export` as people and scripts use them: a child process against services that run.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually;
use stockloop_tests::process::{Launch, built_binary};
use stockloop_tests::program::{Outcome, Program, assert_contains};

use crate::system::{DEADLINE, TestSystem, on_embedded_and_real, segment};

on_embedded_and_real!(
    good_and_bad_lines_are_told_apart as "import_lines",
    a_run_that_was_killed_is_run_again as "import_again",
    what_is_exported_is_unchanged as "import_export",
    a_dry_run_writes_nothing as "import_dry",
    a_count_leaves_adjustments as "import_count",
);

/// The command line, and both services.
struct ImportCli {
    system: TestSystem,
    program: Program,
}

impl ImportCli {
    fn new(system: TestSystem) -> Self {
        Self { system, program: Program::built("stockloop") }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.program.folder().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.file(name), content).expect("a file can be written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).expect("the file is there")
    }

    /// Runs it to its end while the services of this process go on.
    fn run_on(&self, input: &str, args: &[&str]) -> Outcome {
        let url = self.system.product.base_url.get();
        let env = [("STOCKLOOP_API_URL", url.as_str())];
        tokio::task::block_in_place(|| self.program.run_on(input, args, &env))
    }

    /// Imports; it has to end with `code`.
    #[track_caller]
    fn import(&self, code: i32, args: &[&str]) -> Outcome {
        let outcome = self.run_on("", &[&["import", "products"], args].concat());
        assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
        outcome
    }

    /// The result of an import, for programs.
    #[track_caller]
    fn result(&self, code: i32, args: &[&str]) -> Value {
        let outcome = self.import(code, &[args, &["--json"]].concat());
        assert!(outcome.stderr.is_empty(), "{outcome:?}");
        serde_json::from_str(&outcome.stdout).expect("JSON")
    }

    async fn product(&self, sku: &str) -> Value {
        self.system.product.get(&format!("/api/v1/inventory/{}", segment(sku))).await.ok()
    }

    async fn count(&self, table: &str) -> i64 {
        self.system.product.count(&format!("SELECT count(*) AS n FROM {table}")).await
    }
}

/// How many lines were accepted, unchanged, skipped and refused.
fn counts(result: &Value) -> [i64; 4] {
    ["accepted", "unchanged", "skipped", "refused"].map(|name| result[name].as_i64().unwrap_or(-1))
}

async fn good_and_bad_lines_are_told_apart(system: TestSystem) {
    let cli = ImportCli::new(system);
    cli.system.product.put_product("OLD", 1).await;
    // As a spreadsheet writes it: semicolons, Latin-1, a decimal comma, a line break, and a column of its own.
    let text = b"Quantity;SKU;Shelf;Description;Unit Price\r\n\
        12;TEA;7;\"Th\xe9, \"\"vert\"\"\r\nde Chine\";2,55\r\n\
        x;POT;7;Pot;1\r\n\
        5;OLD;7;Old;1\r\n\
        -3;MUG;7;Mug;10\r\n\
        \r\n\
        4;TEA\xa0\xad;7;Lookalike;1\r\n\
        1;BAG;7;\"never closed;1\r\n";
    cli.write("stock.csv", text);
    let outcome = cli.import(3, &["stock.csv", "--rejects", "refused.csv"]);
    assert_contains(
        &outcome.stdout,
        &["6 products of stock.csv: 1 accepted", "1 skipped, 4 refused"],
    );
    assert_contains(
        &outcome.stderr,
        &["line 4: quantity \"x\"", "line 6: ", "line 8: the SKU", "line 9: "],
    );
    assert_contains(&outcome.stderr, &["Not read: Shelf"]);
    let tea = cli.product("TEA").await;
    assert_eq!(tea["description"], "Thé, \"vert\" de Chine");
    assert_eq!((&tea["quantity"], &tea["unit_price_minor"]), (&json!(12), &json!(255)));
    assert_eq!(cli.product("OLD").await["quantity"], 1);

    let refused = cli.read("refused.csv");
    assert_eq!(refused.lines().count(), 5, "{refused}");
    let corrected = refused
        .replace(",\"x\",1,", ",3,1,")
        .replace(",-3,", ",3,")
        .replace("TEA\u{a0}\u{ad}", "TEA 2");
    cli.write("corrected.csv", corrected);
    let result = cli.result(3, &["corrected.csv", "--rejects", "refused.csv"]);
    assert_eq!(counts(&result), [3, 0, 0, 1], "{result}");
    assert_eq!((&result["complete"], &result["ignored"]), (&json!(true), &json!([])));
    assert_eq!(cli.product("MUG").await["quantity"], 3);
    assert_eq!(cli.read("refused.csv").lines().count(), 2);
    cli.write("all-bad.csv", "sku,description,quantity,unit_price\nA,,?,1\n");
    cli.import(1, &["all-bad.csv"]);
    cli.system.wait_until_settled().await;
    cli.system.assert_equal_at_rest().await;
    cli.system.stop().await;
}

async fn a_run_that_was_killed_is_run_again(system: TestSystem) {
    const LINES: usize = 5_000;
    let cli = ImportCli::new(system);
    let line = |n: usize| format!("S{n:04},Product {n},{n},1.50\n");
    let header = "sku,description,quantity,unit_price\n";
    let lines: Vec<String> = (0..LINES).map(line).collect();
    cli.write("stock.csv", format!("{header}{}", lines.concat()));

    // From a pipe that gives no more than a part of it, so that the run is in its midst.
    let pipe = cli.file("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo is there").success());
    let mut killed = Launch::new(built_binary("stockloop").expect("it is built"))
        .args(["import", "products", "pipe", "--replace", "--url"])
        .arg(cli.system.product.base_url.get())
        .folder(cli.program.folder())
        .spawn()
        .expect("it starts");
    let mut writer = tokio::task::block_in_place(|| fs::File::options().write(true).open(&pipe))
        .expect("it is read");
    let part = format!("{header}{}", lines[..2_500].concat());
    tokio::task::block_in_place(|| writer.write_all(part.as_bytes())).expect("it is read");
    // Requests overtake each other: that some products are there does not say that those of the first are.
    eventually("the first products", DEADLINE, async || {
        match cli.count("product WHERE sku = 'S0012'").await {
            0 => Err(cli.count("product").await),
            _ => Ok(()),
        }
    })
    .await;
    killed.kill9();
    drop(writer);
    let there = cli.count("product").await;
    assert!((1_000..=2_000).contains(&there), "{there}");
    // Sold meanwhile, which the second run is not to undo: the first had put this one in.
    cli.system.product.adjust("S0012", -2).await;

    let result = cli.result(0, &["stock.csv", "--replace"]);
    assert_eq!(counts(&result), [5_000, 0, 0, 0], "{result}");
    assert!(result["replayed"].as_i64().is_some_and(|lines| lines >= 1_000), "{result}");
    assert_eq!(cli.count("product").await, 5_000);
    assert_eq!(cli.count("outbox_event").await, 5_001, "each product was put in once");
    assert_eq!(cli.product("S0012").await["quantity"], 10);

    let result = cli.result(0, &["stock.csv", "--replace", "--again"]);
    assert_eq!(counts(&result), [1, 4_999, 0, 0], "{result}");
    assert_eq!(cli.product("S0012").await["quantity"], 12);
    cli.system.wait_until_settled().await;
    cli.system.assert_equal_at_rest().await;
    cli.system.stop().await;
}

async fn what_is_exported_is_unchanged(system: TestSystem) {
    let cli = ImportCli::new(system);
    let odd = [
        "=1+1",
        "'=1+1",
        "-5",
        "a;=b",
        "a,\"b\"",
        "22423",
        "Größe/Ü",
        "00012",
        "@x",
        "日本",
        "1e5",
    ];
    for (quantity, sku) in (1..).zip(odd) {
        let body = json!({
            "description": format!("  {sku}, 5\" plate;'=2 "), "quantity": -quantity,
            "unit_price_minor": quantity * 7, "allow_backorder": true,
        });
        cli.system.product.put(&format!("/api/v1/inventory/{}", segment(sku)), body).await.ok();
    }
    let lines: String = (0..2_100).map(|n| format!("S{n},,{n},0\n")).collect();
    let lines = format!("sku\tdescription\tquantity\tunit_price\n{}", lines.replace(',', "\t"));
    let outcome = cli.run_on(&lines, &["import", "products", "-"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let count = 2_100 + i64::try_from(odd.len()).expect("a few");
    let events = cli.count("outbox_event").await;

    for (file, option) in
        [("a.csv", "--bom"), ("b.csv", "--format=csv"), ("c.ndjson", "--format=ndjson")]
    {
        let outcome = cli.run_on("", &["export", "products", file, option]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_contains(&outcome.stderr, &["2,111 products written to"]);
        for mode in ["--if-absent", "--replace", "--adjust-to"] {
            let result = cli.result(0, &[file, mode]);
            assert_eq!(counts(&result), [0, count, 0, 0], "{file} {mode}: {result}");
            assert_eq!(result["ignored"], json!([]));
        }
    }
    let csv = cli.read("b.csv");
    assert_contains(&csv, &["\"'=1+1\",", "\"''=1+1\",", "\"a;'=b\",", ",-1,0.07,\"true\"\r\n"]);
    assert!(!cli.file("b.csv.part").exists());
    let standard_output = cli.run_on("", &["export", "products"]);
    assert_eq!(standard_output.stdout, csv);
    assert_eq!(cli.count("outbox_event").await, events, "nothing was changed");
    cli.system.stop().await;
}

async fn a_dry_run_writes_nothing(system: TestSystem) {
    let cli = ImportCli::new(system);
    cli.system.product.put_product("OLD", 1).await;
    let lines: String = (0..1_500).map(|n| format!("S{n},,{n},0\n")).collect();
    cli.write(
        "stock.csv",
        format!("sku,description,quantity,unit_price\nOLD,x,1,1\nBAD,,?,1\n{lines}"),
    );
    let said = cli.import(3, &["stock.csv", "--dry-run"]);
    assert_contains(
        &said.stdout,
        &["Nothing was written", "1,500 would be accepted", "1 skipped, 1 refused"],
    );
    let result = cli.result(3, &["stock.csv", "--dry-run", "--replace"]);
    assert_eq!(counts(&result), [1_501, 0, 0, 1], "{result}");
    assert_eq!((cli.count("product").await, cli.count("outbox_event").await), (1, 1));
    assert_eq!(cli.count("idempotency").await, 0);
    let result = cli.result(3, &["stock.csv", "--replace"]);
    assert_eq!(counts(&result), [1_501, 0, 0, 1], "what was foretold: {result}");
    assert_eq!(result["replayed"], 0);
    cli.system.stop().await;
}

async fn a_count_leaves_adjustments(system: TestSystem) {
    let cli = ImportCli::new(system);
    cli.system.product.put_product("TEA", 12).await;
    cli.system.product.put_product("MUG", 3).await;
    cli.write(
        "count.ndjson",
        "{\"sku\":\"TEA\",\"description\":\"About TEA\",\"quantity\":10,\"unit_price\":2.55}\n\
         {\"sku\":\"MUG\",\"description\":\"About MUG\",\"quantity\":3,\"unit_price\":2.55,\"shelf\":4}\n\
         {\"sku\":\"NEW\",\"description\":\"\",\"quantity\":1,\"unit_price_minor\":5}\n\
         {\"sku\":\"TEA\",\"description\":\"About TEA\",\"quantity\":9,\"unit_price\":2.55}\n",
    );
    let result = cli.result(0, &["count.ndjson", "--adjust-to", "--reference", "count 7"]);
    assert_eq!(counts(&result), [3, 1, 0, 0], "{result}");
    assert_eq!(result["ignored"], json!(["shelf"]));
    let details = cli.system.product.get("/api/v1/inventory/TEA/details").await.ok();
    let last: Vec<_> = details["last_adjustments"].as_array().expect("a list").iter().collect();
    let told =
        |line: &Value| (line["delta"].clone(), line["reason"].clone(), line["reference"].clone());
    let wanted = |delta: i64| (json!(delta), json!("stocktaking"), json!("count 7"));
    assert_eq!(last.into_iter().map(told).collect::<Vec<_>>(), [wanted(-1), wanted(-2)]);
    cli.system.wait_until_settled().await;
    cli.system.assert_equal_at_rest().await;
    cli.system.stop().await;
}
