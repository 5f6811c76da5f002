//! What an operator does when databases have come back as they were before, which the services have to find by themselves,
//! and when events have given up whose cause is put right; and how what then goes on by itself is begun and waited for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::system::System;
use super::waiting::wait_for;
use crate::check::Side;

/// How long a service may take to find that its database is behind, once messages come.
const NOTICED: Duration = Duration::from_secs(60);

/// How long it may take until all that is lost is known, or sent again.
pub(super) const MENDED: Duration = Duration::from_secs(180);

const RESTORED: &str = "/api/admin/v1/restored";
const SEARCH: &str = "/api/admin/v1/lost-commands/check";
const DECIDE: &str = "/api/admin/v1/lost-commands/decide";

const PREVIEW: &str = "/api/admin/v1/jobs/preview";
pub(super) const JOBS: &str = "/api/admin/v1/jobs";

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
        let Some(number) = begin_retry(system, runtime, side, 1)? else { continue };
        let ended = ended(system, runtime, side, &format!("{JOBS}/{number}"))?;
        ensure!(ended["state"] == "done", "{side} did not send all again: {ended}");
    }
    Ok(())
}

/// Has all that has given up at a service sent again, with so many attempts more; returns the number of the job, if there is
/// any of it.
pub(super) fn begin_retry(
    system: &System,
    runtime: &Runtime,
    side: Side,
    attempts: u32,
) -> Result<Option<String>> {
    let selection = json!({ "filter": { "status": "EXHAUSTED" } });
    let asked = json!({ "selection": selection });
    let found = system.ask(runtime, side, Method::POST, PREVIEW, asked)?;
    if found["matches"] == 0 {
        return Ok(None);
    }
    let job = json!({
        "action": "retry",
        "selection": selection,
        "reason": "its cause is put right",
        "attempts": attempts,
        "expected": found["matches"],
        "preview": found["preview"],
    });
    begin(system, runtime, side, JOBS, job).map(Some)
}

/// Has something begun that goes on by itself; returns its number.
pub(super) fn begin(
    system: &System,
    runtime: &Runtime,
    side: Side,
    path: &str,
    body: Value,
) -> Result<String> {
    let begun = system.ask(runtime, side, Method::POST, path, body)?;
    let number = begun["seq"].as_str().with_context(|| format!("it has no number: {begun}"))?;
    Ok(number.to_owned())
}

/// Waits for the end of what goes on by itself; returns what it came to.
pub(super) fn ended(system: &System, runtime: &Runtime, side: Side, path: &str) -> Result<Value> {
    let look = || system.ask(runtime, side, Method::GET, path, Value::Null);
    wait_for(&format!("{path} to end"), MENDED, look, |it| !it["ended_at"].is_null())
}
