//! Waiting for a condition with a deadline, so that no test sleeps for a guessed time.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A look that takes longer is one that hangs.
const LONG_LOOK: Duration = Duration::from_secs(1);

/// Asks `probe` until it answers `Ok`; an `Err` is what was seen instead, kept for the message.
///
/// Panics once `deadline` is over, with the last state seen. A probe that hangs is cut off too.
pub async fn eventually<T, S: Debug>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, S>,
) -> T {
    let end = tokio::time::Instant::now() + deadline;
    let mut last = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let asked = tokio::time::Instant::now();
        match tokio::time::timeout_at(end, probe()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(seen)) => last = Some(seen),
            Err(_) => {
                // One that had just begun does not hang.
                let hung = last.is_none() || asked.elapsed() > LONG_LOOK;
                panic!("{}", overdue(what, deadline, last.as_ref(), hung))
            }
        }
        if tokio::time::Instant::now() >= end {
            panic!("{}", overdue(what, deadline, last.as_ref(), false));
        }
        tokio::time::sleep(pause).await;
        pause = longer(pause);
    }
}

/// [`eventually`] for code without a runtime: blocks, and returns the failure instead of panicking.
pub fn eventually_blocking<T, S: Debug>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<T, S>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = match probe() {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if Instant::now() >= end {
            bail!("{}", overdue(what, deadline, Some(&seen), false));
        }
        thread::sleep(pause);
        pause = longer(pause);
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 3 / 2).min(LONGEST_PAUSE)
}

fn overdue<S: Debug>(what: &str, deadline: Duration, last: Option<&S>, hung: bool) -> String {
    let seen = match last {
        Some(state) => format!("last seen: {state:#?}"),
        None => "nothing was seen".to_owned(),
    };
    let cut = if hung { " (the last look itself did not end)" } else { "" };
    format!("not within {deadline:?}: {what}; {seen}{cut}")
}
