//! The command line of stockloop; it also has cargo build the program before any test that starts it.

#![allow(clippy::expect_used, reason = "tests")]

use stockloop_tests::program::Program;

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_stockloop"))
}

#[test]
fn help_teaches() {
    insta::assert_snapshot!("help", program().output(&["--help"], &[]));
    insta::assert_snapshot!("help_demo", program().output(&["demo", "--help"], &[]));
    insta::assert_snapshot!("help_dev", program().output(&["dev", "--help"], &[]));
    insta::assert_snapshot!("help_admin", program().output(&["admin", "--help"], &[]));
    insta::assert_snapshot!(
        "help_admin_retry",
        program().output(&["admin", "retry", "--help"], &[])
    );
    insta::assert_snapshot!("help_verify", program().output(&["verify", "--help"], &[]));
    insta::assert_snapshot!("help_repair", program().output(&["repair", "--help"], &[]));
    insta::assert_snapshot!("help_resync", program().output(&["resync", "--help"], &[]));
    insta::assert_snapshot!("help_replay", program().output(&["replay", "--help"], &[]));
    insta::assert_snapshot!("help_history", program().output(&["history", "--help"], &[]));
    let products = |verb: &str| program().output(&[verb, "products", "--help"], &[]);
    insta::assert_snapshot!("help_import_products", products("import"));
    insta::assert_snapshot!("help_export_products", products("export"));
    insta::assert_snapshot!("help_till", program().output(&["till", "--help"], &[]));
    insta::assert_snapshot!("help_topics", program().output(&["topics", "--help"], &[]));
}

#[test]
fn every_admin_command_explains_itself() {
    let help = program().output(&["admin", "--help"], &[]);
    let names = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = names.take_while(|line| !line.is_empty()).filter_map(|line| {
        line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next()
    });
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let help = program().output(&["admin", name, "--help"], &[]);
        assert!(help.contains("Usage: stockloop admin") && help.contains("--json"), "{help}");
    }
}

#[test]
fn what_is_asked_wrongly_is_refused_before_anything_is_sent() {
    let wrong = |args: &[&str], env: &[(&str, &str)], word: &str| {
        let outcome = program().run(&[&["admin"], args].concat(), env);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(word) && outcome.stdout.is_empty(), "{word}: {outcome:?}");
        assert!(!outcome.stderr.contains("s3cret"), "{outcome:?}");
    };
    wrong(&["retry"], &[], "--all-matching");
    wrong(&["retry", "ID", "--key", "TEA"], &[], "--all-matching");
    wrong(&["resolve", "ID"], &[], "--reason");
    wrong(&["events", "--status", "LOST"], &[], "LOST");
    wrong(&["events", "--older-than", "soon"], &[], "soon");
    wrong(&["events", "--created-after", "soon"], &[], "2h for two hours ago");
    wrong(&["users", "change", "alice"], &[], "--role");
    wrong(&["export", "job-items"], &[], "--job");
    wrong(&["overview", "--url", "127.0.0.1:8081"], &[], "http://127.0.0.1:8081");
    wrong(&["overview", "--url", "ftp://shop.example"], &[], "https://");
    wrong(&["overview", "--url", "http://me:s3cret@shop.example"], &[], "--token-file");
    wrong(&["overview"], &[("STOCKLOOP_ADMIN_URL", "nowhere")], "8081");
    wrong(&["--order", "overview"], &[("STOCKLOOP_ADMIN_ORDER_URL", "nowhere")], "8082");
    wrong(&["overview"], &[("STOCKLOOP_ADMIN_TOKEN", "s3cret\u{7}")], "the token");
}

#[test]
fn a_proof_that_is_asked_for_wrongly_is_refused_before_anything_is_sent() {
    let wrong = |args: &[&str], word: &str| {
        let outcome = program().run(args, &[]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(word) && outcome.stdout.is_empty(), "{word}: {outcome:?}");
    };
    wrong(&["verify", "--last", "--share", "0.5"], "--share");
    wrong(&["verify", "--last", "--cancel", "7"], "--cancel");
    wrong(&["verify", "--url", "127.0.0.1:8081"], "http://127.0.0.1:8081");
    wrong(&["repair", "--verification", "latest"], "latest");
    wrong(&["verify", "--order"], "leave --order out");
    wrong(&["repair", "--order", "--yes"], "leave --order out");
    wrong(
        &["replay", "--consumer", "order-service", "--key", "TEA", "--order"],
        "leave --order out",
    );
    wrong(&["resync"], "--changed-since");
    wrong(&["resync", "TEA", "--all"], "--all");
    wrong(&["resync", "--all", "--prefix", "T"], "--prefix");
    wrong(&["resync", "--changed-since", "soon"], "2h for two hours ago");
    wrong(&["replay", "--consumer", "order-service"], "--since");
    wrong(&["replay", "--key", "TEA"], "--consumer");
    wrong(&["replay", "--into", "views.stock"], "--since");
    wrong(&["replay", "--into", "views", "--consumer", "x", "--key", "TEA"], "--consumer");
    wrong(&["replay", "--consumer", "order-service", "--since", "soon"], "2h for two hours ago");
    wrong(&["replay", "--consumer", "order-service", "--since", "2h", "--key", "TEA"], "--key");
    wrong(&["resync", "--prefix", "T", "--url", "http://127.0.0.1:1"], "use --yes to confirm");
}

/// Who asks whether the copy is equal must not take silence for a yes.
#[test]
fn what_cannot_be_asked_is_not_known() {
    let env = [("STOCKLOOP_ADMIN_URL", "http://127.0.0.1:1")];
    for args in [&["verify"][..], &["verify", "--last", "--json"], &["repair", "--yes"]] {
        let outcome = program().run(args, &env);
        assert_eq!(outcome.code, Some(4), "{outcome:?}");
        assert!(outcome.stderr.contains("can't be reached"), "{outcome:?}");
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
    }
    let outcome = program().run(&["verify", "--token-file", "nowhere"], &env);
    assert!(outcome.code == Some(4) && outcome.stderr.contains("nowhere"), "{outcome:?}");
    assert_eq!(program().run(&["resync", "TEA"], &env).code, Some(1));
}

#[test]
fn imports_and_exports_that_can_not_be_done_say_so() {
    let refused = |code: i32, args: &[&str], env: &[(&str, &str)], word: &str| {
        let outcome = program().run(args, env);
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        assert!(outcome.stderr.contains(word) && outcome.stdout.is_empty(), "{word}: {outcome:?}");
        assert!(!outcome.stderr.contains("s3cret"), "{outcome:?}");
    };
    let import = ["import", "products", "nowhere.csv"];
    let with = |options: &[&'static str]| [&import[..], options].concat();
    refused(1, &import, &[], "can't open nowhere.csv");
    refused(2, &import[..2], &[], "<FILE>");
    refused(2, &with(&["--replace", "--adjust-to"]), &[], "--adjust-to");
    refused(2, &with(&["--reason", "a count"]), &[], "--adjust-to");
    refused(2, &with(&["--url", "shop.example"]), &[], "http://127.0.0.1:8081");
    refused(2, &with(&["--url", "http://me:s3cret@shop.example"]), &[], "--token-file");
    refused(2, &import, &[("STOCKLOOP_API_TOKEN", "s3cret\u{7}")], "the token");
    let away = [("STOCKLOOP_API_URL", "http://127.0.0.1:1"), ("STOCKLOOP_API_TOKEN", "s3cret")];
    refused(1, &["export", "products"], &away, "STOCKLOOP_API_URL");
    refused(2, &["export", "products", "--bom", "--format", "ndjson"], &away, "byte order mark");
}

#[test]
fn a_till_that_can_not_be_played_says_so() {
    let refused = |code: i32, args: &[&str], word: &str| {
        let outcome = program().run(args, &[]);
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
        assert!(outcome.stderr.contains(word) && outcome.stdout.is_empty(), "{word}: {outcome:?}");
    };
    refused(1, &["till", "nowhere.csv"], "can't open nowhere.csv");
    refused(1, &["till", "-"], "the file is empty");
    refused(2, &["till"], "<FILE>");
    refused(2, &["till", "-", "--key", "sku"], "[possible values: invoice, line]");
}

#[test]
fn a_service_that_is_away_is_named_and_no_token_is_told() {
    let env = [("STOCKLOOP_ADMIN_URL", "http://127.0.0.1:1"), ("STOCKLOOP_ADMIN_TOKEN", "s3cret")];
    let outcome = program().run(&["admin", "events"], &env);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for word in ["http://127.0.0.1:1 can't be reached", "Is the service running", "--url"] {
        assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
    }
    let outcome = program().run(&["admin", "--token-file", "nowhere", "events"], &env);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("nowhere"), "{outcome:?}");
    for args in [&["admin", "--help"][..], &["admin", "events", "--url", "x:y"][..]] {
        let said = format!("{:?}", program().run(args, &env));
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn wrong_databases_and_files_are_refused() {
    let refused = |args: &[&str], words: &[&str]| {
        program().refusal(&[&["demo", "--exit"], args].concat(), &[], words);
    };
    refused(&["--product-database-url", "mysql://h/db"], &["product-service", "only postgres:"]);
    refused(
        &["--order-database-url", "postgres://u:s3cret@127.0.0.1:1/db"],
        &["order-service", "can't be reached"],
    );
    refused(&["--data", "nowhere.csv"], &["nowhere.csv"]);
    refused(&["--report", "no/such/report.json"], &["no/such/report.json"]);
    refused(&["--limit", "0"], &["nothing was played", "no line below the header"]);
}

#[test]
fn views_are_refused_where_there_is_no_java() {
    let args = ["demo", "--exit", "--views", "--limit", "10"];
    let words = ["--views needs `java`", "JDK 17", "Maven", "PATH"];
    program().refusal(&args, &[("PATH", "")], &words);
}

#[test]
fn a_file_of_which_nothing_can_be_played_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sales.csv");
    let path = file.display().to_string();
    let header = "InvoiceNo;StockCode;Description;Quantity;InvoiceDate;UnitPrice;CustomerID\n";
    let refused = |text: &str, words: &[&str]| {
        std::fs::write(&file, text).expect("a file");
        program().refusal(&["demo", "--exit", "--data", &path], &[], words);
    };
    refused(header, &["nothing was played", &path]);
    let line = format!("{header}1;POST;POSTAGE;1;2010-12-01T08:26:00;18;7\n");
    refused(&line, &["nothing was played", "line 2", "POST"]);
    refused("", &["the file is empty"]);
}
