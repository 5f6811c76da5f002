//! Longer work that a kill cuts off: somebody gives reason for it, and looks in the end whether it went on as it should.

use anyhow::{Context, Result, bail, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::System;
use crate::chaos::chores::{Chore, Point};
use crate::chaos::databases::Gate;
use crate::chaos::fault::Who;
use crate::chaos::mending::{self, JOBS, MENDED};
use crate::chaos::waiting::wait_for;
use crate::check::Side;

const VERIFICATIONS: &str = "/api/admin/v1/verifications";
const RESYNCS: &str = "/api/admin/v1/resyncs";
const NEWEST_FILLING: &str = "/api/admin/v1/bootstraps?limit=1";

/// More attempts than processes that come and go can cost an event.
const ATTEMPTS: u32 = 10;

/// How often a verification that comes to no verdict is begun again.
const VERIFIED: u32 = 3;

impl System {
    /// Has it begun, and kills a process when it gets to this point.
    pub(super) fn kill_in(
        &mut self,
        runtime: &Runtime,
        who: Who,
        chore: Chore,
        point: Point,
    ) -> Result<u64> {
        let [product, _] = self.databases.urls();
        let mut gate = Gate::close(&product, chore.table(), point)?;
        let begun = self.begin(runtime, chore).with_context(|| chore.to_string())?;
        self.chores.insert(chore, begun);
        let came = gate.wait();
        let killed = self.processes.get(who)?.kill();
        gate.open()?;
        let has_come = came.is_ok();
        if let Err(error) = came {
            self.tally.complain(format!("{chore} did not get {point}: {error:#}"));
        }
        Ok(self.tally.note(who, killed).min(u64::from(has_come)))
    }

    /// Waits for its end, and says what is wrong with that.
    pub(super) fn chore_ends(&mut self, runtime: &Runtime, chore: Chore) -> Result<u64> {
        let begun = self.chores.remove(&chore).with_context(|| format!("{chore} did not begin"))?;
        let ended = match chore {
            Chore::Resend => self.end_resending(runtime, &begun),
            Chore::Verify => self.end_verifying(runtime, begun),
            Chore::Repair => self.end_repairing(runtime, &begun),
            Chore::Fill => self.end_filling(runtime, &begun),
        };
        if let Err(error) = &ended {
            self.tally.complain(format!("{chore}: {error:#}"));
        }
        Ok(u64::from(ended.is_ok()))
    }

    /// Returns the number of what is begun; of a filling, which nobody asks for, that of the one before.
    fn begin(&mut self, runtime: &Runtime, chore: Chore) -> Result<String> {
        match chore {
            Chore::Resend => {
                self.databases.server()?.let_flood_in()?;
                let begun = mending::begin_retry(self, runtime, Side::Product, ATTEMPTS)?;
                begun.context("nothing gave up")
            }
            Chore::Verify => self.begin_verifying(runtime),
            Chore::Repair => self.begin_repairing(runtime),
            Chore::Fill => {
                let before = self.newest_filling(runtime)?;
                let before = before["seq"].as_str().context("the copy was never filled")?;
                // What clients were shown may be gone until it is filled.
                self.failovers.setbacks().begin();
                self.databases.server()?.empty_copy()?;
                Ok(before.to_owned())
            }
        }
    }

    /// Each event was sent again once, or it is said why not; and all of the flood, which nobody refuses any more, arrives.
    fn end_resending(&self, runtime: &Runtime, number: &str) -> Result<()> {
        let done = done(&self.ended(runtime, JOBS, number)?)?;
        let mut looks = self.look()?;
        let [events, times] = looks.sent_again_by(number.parse()?)?;
        ensure!(
            [events, times] == [done; 2],
            "{done} are done, and {events} were sent again {times} times"
        );
        wait_for("the flood to arrive", MENDED, || looks.left_of_flood(), |left| *left == 0)?;
        Ok(())
    }

    fn begin_verifying(&self, runtime: &Runtime) -> Result<String> {
        mending::begin(self, runtime, Side::Product, VERIFICATIONS, json!({}))
    }

    /// Nothing differs but what waits for a person.
    fn end_verifying(&self, runtime: &Runtime, number: String) -> Result<()> {
        let (number, differing) = self.verdict(runtime, number)?;
        ensure!(differing == 0, "verification {number} tells {differing} false differences");
        Ok(())
    }

    /// Damages the copy, has that found, and begins to repair it.
    fn begin_repairing(&mut self, runtime: &Runtime) -> Result<String> {
        let damaged = self.databases.server()?.damage_copy()?;
        let (found, differing) = self.verdict(runtime, self.begin_verifying(runtime)?)?;
        ensure!(differing == damaged, "of {damaged} keys, {differing} were found to differ");
        let body = json!({
            "kind": "repair",
            "selection": { "differences": found },
            "reason": reason(&found),
        });
        mending::begin(self, runtime, Side::Product, RESYNCS, body)
    }

    /// Each key was sent again once, and then none of them differs.
    fn end_repairing(&self, runtime: &Runtime, number: &str) -> Result<()> {
        let job = self.ended(runtime, RESYNCS, number)?;
        let done = done(&job)?;
        ensure!(job["skipped"] == 0, "not all is sent again: {job}");
        let found = job["selection"]["differences"].as_str();
        let found = found.with_context(|| format!("it repairs nothing: {job}"))?;
        let [keys, times] = self.look()?.repaired(&reason(found))?;
        ensure!(
            [keys, times] == [done; 2],
            "{done} keys are done, and {keys} were sent again {times} times"
        );
        let again = job["verification"].as_str();
        let again = again.with_context(|| format!("nobody verifies what it did: {job}"))?;
        self.end_verifying(runtime, again.to_owned())
    }

    /// It is complete, by a filling that nobody asked for and that went on to its end.
    fn end_filling(&self, runtime: &Runtime, before: &str) -> Result<()> {
        let ended = self.wait_until_filled(runtime, before);
        self.failovers.setbacks().end();
        ended
    }

    fn wait_until_filled(&self, runtime: &Runtime, before: &str) -> Result<()> {
        let look = || {
            let newest = self.newest_filling(runtime)?;
            // It differs since events gave up, which an operator has sent again.
            if newest["ended_at"].is_null() && newest["rounds"] != 0 {
                mending::retry(self, runtime)?;
            }
            Ok(newest)
        };
        let filled = wait_for("the copy to be filled", MENDED, look, |filling| {
            filling["seq"] != before && !filling["ended_at"].is_null()
        })?;
        ensure!(filled["state"] == "done", "it was not filled: {filled}");
        Ok(())
    }

    /// A filling, if there ever was one.
    fn newest_filling(&self, runtime: &Runtime) -> Result<Value> {
        let page = self.ask(runtime, Side::Product, Method::GET, NEWEST_FILLING, Value::Null)?;
        Ok(page["items"][0].clone())
    }

    /// Waits until a verification, or one that is begun in its place since it came to no verdict, says how many keys differ;
    /// returns its number, and how many do though none of their events waits for a person.
    fn verdict(&self, runtime: &Runtime, mut number: String) -> Result<(String, u64)> {
        for _ in 0..VERIFIED {
            let ended = self.ended(runtime, VERIFICATIONS, &number)?;
            match ended["state"].as_str() {
                Some("equal" | "different") => {
                    let differing = self.look()?.unexplained(number.parse()?)?;
                    return Ok((number, differing));
                }
                Some("unknown") => number = self.begin_verifying(runtime)?,
                _ => bail!("a verification had no end of its own: {ended}"),
            }
        }
        bail!("{VERIFIED} verifications came to no verdict")
    }

    fn ended(&self, runtime: &Runtime, path: &str, number: &str) -> Result<Value> {
        mending::ended(self, runtime, Side::Product, &format!("{path}/{number}"))
    }
}

/// Why what a verification found is sent again.
fn reason(verification: &str) -> String {
    format!("what verification {verification} found")
}

/// How much a job has done; fails unless it has come to each of what it was for, once.
fn done(job: &Value) -> Result<u64> {
    let count = |field: &str| {
        job[field].as_u64().with_context(|| format!("it does not say {field}: {job}"))
    };
    let (done, skipped, expected) = (count("done")?, count("skipped")?, count("expected")?);
    let is_whole = job["state"] == "done" && done + skipped == expected;
    ensure!(is_whole, "it is not done with all: {job}");
    Ok(done)
}
