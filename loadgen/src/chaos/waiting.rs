//! Waiting for what comes by itself.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::Result;
use stockloop_tests::poll::eventually_blocking;

/// Looks until `is_it`, or it took too long; a look that fails counts as one that has not seen it. Returns what was seen.
pub(super) fn wait_for<T: Debug>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T>,
    is_it: impl Fn(&T) -> bool,
) -> Result<T> {
    eventually_blocking(what, deadline, || match look() {
        Ok(seen) if is_it(&seen) => Ok(seen),
        other => Err(other.map_err(|error| format!("{error:#}"))),
    })
}
