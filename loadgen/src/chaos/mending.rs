//! What an operator does when databases have come back as they were before, which the services have to find by themselves,
//! and when events have given up whose cause is put right.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use stockloop_tests::poll::eventually_blocking;
use tokio::runtime::Runtime;

use super::system::System;
use crate::check::Side;

/// How long a service may take to find that its database is behind, once messages come.
const NOTICED: Duration = Duration::from_secs(60);

/// How long it may take until all that is lost is known, or sent again.
const MENDED: Duration = Duration::from_secs(180);

const RESTORED: &str = "/api/admin/v1/restored";
const SEARCH: &str = "/api/admin/v1/lost-commands/check";
const DECIDE: &str = "/api/admin/v1/lost-commands/decide";

const PREVIEW: &str = "/api/admin/v1/jobs/preview";
const JOBS: &str = "/api/admin/v1/jobs";

/// Waits until each service says that its database is behind, and has it mended: the owner's first, which says what is true.
/// Then what the owner has lost of orders is sent again.
pub(super) fn mend(system: &System, runtime: &Runtime) -> Result<()> {
    for side in Side::BOTH {
        let look = || system.ask(runtime, side, Method::GET, RESTORED, Value::Null);
        wait_for(
            &format!("{side} to find that its database is behind"),
            NOTICED,
            look,
            |status| status["behind"] == true,
        )?;
        let reason = json!({ "reason": "a failover" });
        system.ask(runtime, side, Method::POST, RESTORED, reason)?;
        let ended = wait_for(&format!("{side} to be mended"), MENDED, look, |status| {
            !status["newest"]["ended_at"].is_null()
        })?;
        ensure!(ended["newest"]["state"] == "equal", "{side} could not be mended: {ended}");
    }
    let look = || system.ask(runtime, Side::Order, Method::GET, SEARCH, Value::Null);
    wait_for("the search for lost commands to end", MENDED, look, |search| {
        !search["newest"]["ended_at"].is_null()
    })?;
    send_lost_again(system, runtime)
}

/// Page by page.
fn send_lost_again(system: &System, runtime: &Runtime) -> Result<()> {
    let mut body = json!({ "verdict": "again" });
    loop {
        let decided = system.ask(runtime, Side::Order, Method::POST, DECIDE, body.clone())?;
        match decided["next"].as_str() {
            Some(next) => body = json!({ "verdict": "again", "after": next }),
            None => return Ok(()),
        }
    }
}

/// Sends all that has given up once more, and waits until each of it is on its way.
pub(super) fn retry(system: &System, runtime: &Runtime) -> Result<()> {
    for side in Side::BOTH {
        let selection = json!({ "filter": { "status": "EXHAUSTED" } });
        let asked = json!({ "selection": selection });
        let found = system.ask(runtime, side, Method::POST, PREVIEW, asked)?;
        if found["matches"] == 0 {
            continue;
        }
        let job = json!({
            "action": "retry",
            "selection": selection,
            "reason": "the topic takes it again",
            "expected": found["matches"],
            "preview": found["preview"],
        });
        let job = system.ask(runtime, side, Method::POST, JOBS, job)?;
        let number = job["seq"].as_str().context("the job has no number")?;
        let path = format!("{JOBS}/{number}");
        let look = || system.ask(runtime, side, Method::GET, &path, Value::Null);
        let ended = wait_for("what gave up to be sent again", MENDED, look, |job| {
            !job["ended_at"].is_null()
        })?;
        ensure!(ended["state"] == "done", "{side} did not send all again: {ended}");
    }
    Ok(())
}

fn wait_for(
    what: &str,
    deadline: Duration,
    look: impl Fn() -> Result<Value>,
    is_it: impl Fn(&Value) -> bool,
) -> Result<Value> {
    eventually_blocking(what, deadline, || match look() {
        Ok(seen) if is_it(&seen) => Ok(seen),
        other => Err(other.map_err(|error| format!("{error:#}"))),
    })
}
