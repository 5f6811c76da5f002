use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use stockloop_tests::disk::SmallDisk;
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::process::{Launch, runs, spawn, state};

const DEADLINE: Duration = Duration::from_secs(120);
const BUSY: &str = "HARNESS_BUSY";
const REPORT: &str = "HARNESS_VICTIM_REPORT";

fn wait_until_gone(pid: u32) {
    eventually_blocking(&format!("the end of process {pid}"), DEADLINE, || {
        if runs(pid) { Err("it runs") } else { Ok(()) }
    })
    .unwrap();
}

#[test]
fn the_number_is_the_programs_own_and_kill9_ends_it() {
    let mut child = spawn("sh", &["-c", "echo I am $$; sleep 600"], &[]).unwrap();
    let line = child.wait_for_line("I am", DEADLINE).unwrap();
    assert_eq!(line, format!("I am {}", child.pid()));
    assert_eq!(child.kill9().signal(), Some(9));
    assert!(!runs(child.pid()));
    assert_eq!(child.exited().and_then(|status| status.signal()), Some(9));
}

#[test]
fn terminate_returns_how_it_ended() {
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = spawn("sh", &["-c", script], &[]).unwrap();
    child.wait_for_line("ready", DEADLINE).unwrap();
    assert_eq!(child.terminate(DEADLINE).unwrap().code(), Some(7));
    assert_eq!(child.line("bye").as_deref(), Some("bye"));
}

#[test]
fn a_child_that_ignores_sigterm_is_reported_with_its_output() {
    let script = "trap '' TERM; echo stubborn; while :; do sleep 0.05; done";
    let mut child = spawn("sh", &["-c", script], &[]).unwrap();
    child.wait_for_line("stubborn", DEADLINE).unwrap();
    let error = format!("{:#}", child.terminate(Duration::from_millis(100)).unwrap_err());
    assert!(error.contains("not within 100ms") && error.contains("stubborn"), "{error}");
}

#[test]
fn waiting_for_a_line_of_an_ended_child_fails_at_once() {
    let mut child = spawn("sh", &["-c", "echo no such option >&2; exit 2"], &[]).unwrap();
    let error = child.wait_for_line("listening", Duration::from_secs(600)).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("exit status: 2") && error.contains("no such option"), "{error}");
}

#[test]
fn a_missing_program_is_reported() {
    let error = spawn("/nowhere/at/all", &[], &[]).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
}

#[test]
fn a_paused_child_does_nothing_until_resumed() {
    let mut child =
        spawn("sh", &["-c", "echo one; kill -s STOP $$; echo two; read -r x"], &[]).unwrap();
    child.wait_for_line("one", DEADLINE).unwrap();
    let process = Path::new("/proc").join(child.pid().to_string());
    eventually_blocking("the pause", DEADLINE, || match state(&process) {
        Some('T') => Ok(()),
        state => Err(state),
    })
    .unwrap();
    assert_eq!(child.line("two"), None);
    child.resume().unwrap();
    child.wait_for_line("two", DEADLINE).unwrap();
}

/// More threads than processors, so that some wait for one when the signal comes.
#[test]
fn a_pause_is_over_all_threads_when_it_returns() {
    let threads = 4 * std::thread::available_parallelism().unwrap().get();
    let mut busy = Launch::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness_tests::process::busy", "--include-ignored", "--nocapture"])
        .env(BUSY, threads.to_string())
        .spawn()
        .unwrap();
    busy.wait_for_line("all are at it", DEADLINE).unwrap();
    let tasks = format!("/proc/{}/task", busy.pid());
    for _ in 0..10 {
        busy.pause().unwrap();
        let tasks = fs::read_dir(&tasks).unwrap();
        let states: Vec<_> = tasks.map(|task| state(&task.unwrap().path())).collect();
        assert!(states.len() > threads, "{states:?}");
        assert!(states.iter().all(|state| *state == Some('T')), "{states:?}");
        busy.resume().unwrap();
    }
}

#[test]
#[ignore = "run in a process of its own by the test before it, which stops and ends that process"]
fn busy() {
    let Ok(threads) = std::env::var(BUSY) else { return };
    for _ in 0..threads.parse().unwrap() {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop()
            }
        });
    }
    println!("all are at it");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn what_a_child_has_started_ends_with_it_where_all_is_to_end() {
    // In a session of its own, as PostgreSQL's are.
    let mut child = spawn("sh", &["-c", "setsid sleep 600 & echo child $!; wait"], &[]).unwrap();
    let line = child.wait_for_line("child", DEADLINE).unwrap();
    let grandchild = line.trim_start_matches("child ").parse().unwrap();
    child.kill9_with_children().unwrap();
    assert!(!runs(grandchild));
    assert_eq!(child.exited().and_then(|status| status.signal()), Some(9));
    child.kill9_with_children().unwrap();
}

#[test]
fn a_dropped_child_takes_its_own_children_along() {
    let mut child = spawn("sh", &["-c", "sleep 600 & echo child $!; wait"], &[]).unwrap();
    let line = child.wait_for_line("child", DEADLINE).unwrap();
    let grandchild = line.trim_start_matches("child ").parse().unwrap();
    assert!(runs(grandchild));
    drop(child);
    wait_until_gone(grandchild);
}

#[test]
fn a_test_process_that_is_killed_takes_its_children_along() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let mut victim = Launch::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness_tests::process::victim", "--include-ignored", "--nocapture"])
        .env(REPORT, &report)
        .env("STOCKLOOP__FROM_OUTSIDE", "leaked")
        .spawn()
        .unwrap();
    let reported = eventually_blocking("the victim's report", DEADLINE, || {
        let text = fs::read_to_string(&report).unwrap_or_default();
        if text.ends_with("end\n") { Ok(text) } else { Err(victim.log_tail()) }
    })
    .unwrap();
    let mut lines = reported.lines();
    let pid = lines.next().unwrap().parse().unwrap();
    let scratch = Path::new(lines.next().unwrap());
    assert!(runs(pid) && scratch.is_dir());
    victim.kill9();
    wait_until_gone(pid);
    eventually_blocking("the scratch folder's removal", DEADLINE, || {
        if scratch.exists() { Err("it is there") } else { Ok(()) }
    })
    .unwrap();
}

#[test]
#[ignore = "run in a process of its own by the test before it, which kills that process"]
fn victim() {
    let Some(report) = std::env::var_os(REPORT) else {
        return;
    };
    // Where it may: what is mounted there keeps the scratch folder from being removed.
    let _disk = SmallDisk::missing().is_none().then(|| SmallDisk::mount(1).unwrap());
    // It ignores what can be ignored, as a hanging program does.
    let script = "trap '' TERM INT HUP; echo ${STOCKLOOP__FROM_OUTSIDE-clean} in $PWD; while :; do sleep 0.05; done";
    let mut child = spawn("sh", &["-c", script], &[]).unwrap();
    let line = child.wait_for_line(" in ", DEADLINE).unwrap();
    let scratch = line.strip_prefix("clean in ").expect("settings of the test run stay outside");
    fs::write(report, format!("{}\n{scratch}\nend\n", child.pid())).unwrap();
    child.wait_for_exit(Duration::from_secs(600)).unwrap();
}

#[test]
fn a_limit_on_files_fails_who_writes_and_ends_nobody() {
    // A word whenever it changes, so that the log itself stays below the limit.
    let script = "while :; do
        if head -c 100000 /dev/zero >file 2>/dev/null; then now=whole; else now=cut; fi
        [ \"$now\" = \"$before\" ] || echo \"$now\"
        before=$now
        sleep 0.05
    done";
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new("sh").ignoring("XFSZ").args(["-c", script]).folder(folder.path());
    let mut child = launch.spawn().unwrap();
    child.wait_for_line("whole", DEADLINE).unwrap();
    child.limit("fsize", Some(50_000)).unwrap();
    child.wait_for_line("cut", DEADLINE).unwrap();
    child.limit("fsize", None).unwrap();
    eventually_blocking("whole files", DEADLINE, || match child.log().as_str() {
        "whole\ncut\nwhole\n" => Ok(()),
        other => Err(other.to_owned()),
    })
    .unwrap();
}

#[test]
fn modes_of_files_hold_for_whoever_is_bound_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "as it was").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    let script = "if echo more >>file; then echo written; else echo refused; fi";
    let launch = Launch::new("sh").bound_by_modes().args(["-c", script]).folder(folder.path());
    let mut child = launch.spawn().unwrap();
    assert!(child.wait_for_exit(DEADLINE).unwrap().success());
    assert_eq!(child.line("refused").as_deref(), Some("refused"));
}
