//! A target in a process of its own, with bounds of memory and time.

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use super::{Input, Target, each};
use crate::process::Launch;
use crate::scratch;

/// The address space of such a process, in KiB: a length that is believed, and memory asked for it, ends it.
pub const MEMORY_KIB: u32 = 1 << 20;

/// Where such a process writes the input at hand; only such a process is told.
pub const CURRENT: &str = "STOCKLOOP_FUZZ_CURRENT";

/// How long all inputs may take, whatever their number.
const AT_LEAST: Duration = Duration::from_secs(120);

/// How long each may take beside, on average.
const EACH: Duration = Duration::from_millis(50);

/// Tries `check` with each input of `target`, in a process of its own: the test that calls this, run there once more.
pub fn apart(target: Target, check: impl Fn(&Input)) {
    let checked = |file: &Path, input: &Input| {
        fs::write(file, input.bytes()).expect("the input at hand can be kept");
        check(input);
    };
    match std::env::var_os(CURRENT) {
        Some(file) => each(target, |input| checked(Path::new(&file), input)),
        None => {
            let thread = thread::current();
            let test = thread.name().expect("the thread of a test has its name");
            let deadline = AT_LEAST + EACH * target.inputs();
            run_apart(test, deadline).unwrap_or_else(|told| panic!("{target:?}: {told}"));
        }
    }
}

/// Runs the test of this name in a process of its own, as [`apart`] does.
///
/// # Errors
/// How it ended, its last input and what it wrote, unless it passed.
pub fn run_apart(test: &str, deadline: Duration) -> Result<(), String> {
    let current = scratch::path("fuzz-input").map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Launch::new("sh")
        .args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &MEMORY_KIB.to_string()])
        .arg(program)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(CURRENT, &current)
        .spawn()
        .map_err(|error| format!("{error:#}"))?;
    let ended = child.wait_for_exit(deadline);
    let passed = child.log().contains("test result: ok. 1 passed");
    let how = match ended {
        Ok(status) if status.success() && passed => return Ok(()),
        Ok(status) => format!("it ended with {status}"),
        Err(_) => format!("it was not done within {deadline:?}"),
    };
    let input = fs::read(&current).unwrap_or_default();
    let shown = Input(vec![input]);
    Err(format!("{how}; its last input was {shown:?}\n{}", child.log_tail()))
}
