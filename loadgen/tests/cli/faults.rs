//! Faults at random: what is refused, and runs side by side on real parts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::postgres::Binaries;
use stockloop_tests::process::{Child, spawn};
use stockloop_tests::program::assert_contains;
use stockloop_tests::real::{self, available};

use super::{LOADGEN, program, service};

#[test]
fn scenarios_are_explained_and_what_there_is_not_is_refused() {
    let help = program().output(&["chaos", "--help"], &[]);
    assert_contains(&help, &["kill", "lost-commit", "duplicates", "answers to commits are lost"]);
    for (wrong, words) in [
        (["--scenario", "earthquake"], &["earthquake", "--scenario", "postgres-restart"]),
        (["--scenario", "kill,flood"], &["flood", "--scenario", "postgres-restart"]),
        (["--relay", "pigeon"], &["pigeon", "--relay", "log"]),
        (["--seeds", "0"], &["0", "--seeds", "1..=1000"]),
        (["--seconds", "3601"], &["3601", "--seconds", "1..=3600"]),
        (["--clients", "none"], &["none", "--clients", "digit"]),
        (["--backlog", "10"], &["10", "--backlog", "1000..=1000000"]),
        (["--jobs", "17"], &["17", "--jobs", "1..=16"]),
        (["--resume", "--seed=1"], &["required", "not provided", "--json"]),
        (["--resume", "--json=chaos.json"], &["required", "not provided", "--seed"]),
    ] {
        let outcome = program().run(&[&["chaos"][..], &wrong].concat(), &[]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert_contains(&outcome.stderr, words);
    }
    let nowhere = ["chaos", "--product-service", "nowhere"];
    program().refusal(&nowhere, &[], &["nowhere", "cargo build"]);
    let before = ["chaos", "--scenario", "upgrade", "--old-programs", "nowhere"];
    program().refusal(&before, &[], &["nowhere/product-service"]);
}

#[test]
fn a_file_that_can_not_take_the_outcome_is_said_before_anything_happens() {
    let (program, any) = (program(), LOADGEN);
    let words = program.folder().join("words.md");
    fs::write(&words, "# Words\n").unwrap();
    let refused = |more: &[&str], words: &[&str]| {
        let chaos = ["chaos", "--product-service", any, "--order-service", any];
        program.refusal(&[&chaos[..], more].concat(), &[], words);
    };
    refused(&["--json", "no/such/file"], &["cannot write no/such/file"]);
    refused(&["--report", "no/such/file"], &["cannot write no/such/file"]);
    refused(&["--report", "words.md"], &["words.md", "<!-- chaos: begin -->"]);
    assert_eq!(fs::read_to_string(&words).unwrap(), "# Words\n");
}

/// In one of them each is dead at a moment of its own: before or after something was done for it.
#[test]
fn systems_whose_processes_are_killed_or_told_to_end_are_well_side_by_side() {
    const DEADLINE: Duration = Duration::from_secs(400);
    if !are_parts_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (json, report) = (file("chaos.json"), file("chaos.md"));
    let more = ["--scenario", "terminate,kill-moments", "--seed", "7", "--seconds", "5"];
    let files = ["--jobs", "2", "--json", &json, "--report", &report];
    let mut run = start_chaos(&[&more[..], &files].concat(), &[]);
    let ended = run.wait_for_exit(DEADLINE).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", run.log());
    let log = run.log();
    assert_contains(&log, &["is killed ", "time to drain", "2 runs in ", ", 2 at a time:"]);
    assert_contains(&log, &["--scenario kill-moments --seed 7 --seconds 5 --clients 6"]);
    let place = |words: String| log.find(&words).unwrap_or_else(|| panic!("{words}: {log}"));
    let places = |name: &str| {
        [" begins", ": processes are ", ": all is well"]
            .map(|words| place(format!("{name}{words}")))
    };
    let [begins, from, to] = places("kill-moments");
    let [other_begins, other_from, other_to] = places("terminate");
    assert!(begins.max(other_begins) < from.min(other_from), "they run at once: {log}");
    assert!(from < to && other_from < other_to, "{log}");
    assert!(to < other_from || other_to < from, "what they say is not mixed: {log}");
    let record: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let outcomes = record["outcomes"].as_array().unwrap();
    let names: Vec<&Value> = outcomes.iter().map(|outcome| &outcome["scenario"]).collect();
    assert_eq!(names, ["kill-moments", "terminate"]);
    for outcome in outcomes {
        assert_eq!(outcome["seed"], json!(7));
        assert!(outcome["changes"].as_u64().is_some_and(|some| some > 0), "{outcome}");
        for wrong in ["lost", "applied_twice", "unalerted", "other"] {
            assert_eq!(outcome[wrong], json!(0), "{outcome}");
        }
    }
    let met = &outcomes[0]["met"]["processes that were killed at their moment"];
    assert!(met.as_u64().is_some_and(|some| some > 0), "{outcomes:?}");
    let lines = ["| `kill-moments` | 7 |", "| `terminate` | 7 |", "| all | 2 runs |"];
    assert_contains(&fs::read_to_string(&report).unwrap(), &lines);

    // Nothing of it is left to be run.
    fs::remove_file(&report).unwrap();
    let mut resumed = start_chaos(&[&more[..], &files, &["--resume"]].concat(), &[]);
    let ended = resumed.wait_for_exit(DEADLINE).unwrap();
    assert_eq!(ended.code(), Some(0), "{}", resumed.log());
    assert_contains(&resumed.log(), &["2 have ended before, 0 are left", "2 runs in "]);
    assert_contains(&fs::read_to_string(&report).unwrap(), &lines);
    let still: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(still["outcomes"], record["outcomes"]);
    // Of other runs it is no part.
    let other = [&more[..], &files, &["--clients", "3", "--resume"]].concat();
    let mut refused = start_chaos(&other, &[]);
    assert_eq!(refused.wait_for_exit(DEADLINE).unwrap().code(), Some(1), "{}", refused.log());
    assert_contains(
        &refused.log(),
        &["was begun by other words", "--seed 7 --seconds 5 --clients 6"],
    );
}

/// Each process has a folder for what it starts, which goes when all of that has ended.
#[test]
fn whoever_ends_runs_side_by_side_ends_all_that_they_have_started() {
    const DEADLINE: Duration = Duration::from_secs(120);
    if !are_parts_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // PostgreSQL may run as another user, and has to pass through.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let paths = |of: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(of).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let tmp = folder.path().display().to_string();
    // None of them ends by itself meanwhile.
    let more = ["--scenario", "kill,terminate", "--seconds", "600", "--jobs", "2"];
    let mut run = start_chaos(&more, &[("TMPDIR", &tmp)]);
    // By then PostgreSQL runs.
    let has_kafka = |of: &PathBuf| paths(of).iter().any(|path| path.join("data").is_dir());
    let started = eventually_blocking("two systems", DEADLINE, || {
        let folders = paths(folder.path());
        let systems = folders.iter().filter(|folder| has_kafka(folder)).count();
        if systems == 2 { Ok(()) } else { Err(systems) }
    });
    started.unwrap_or_else(|error| panic!("{error:#}\n{}", run.log_tail()));
    let ended = run.end_with("INT", DEADLINE).unwrap();
    assert_eq!(ended.code(), Some(130), "{}", run.log_tail());
    let gone = eventually_blocking("the end of all", DEADLINE, || match paths(folder.path()) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    gone.unwrap();
}

/// Whether there is what a run starts.
fn are_parts_there() -> bool {
    available("PostgreSQL", Binaries::find()).is_some() && real::kafka().is_some()
}

/// Faults at random, of services as they were built.
fn start_chaos(more: &[&str], env: &[(&str, &str)]) -> Child {
    let (owner, copy) = (service("product-service"), service("order-service"));
    let chaos = ["chaos", "--product-service", &owner, "--order-service", &copy];
    spawn(LOADGEN, &[&chaos[..], more].concat(), env).unwrap()
}
