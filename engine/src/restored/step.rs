//! One step of mending: put down what is next, or look whether that has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, DbError};
use common::http::Problem;
use diesel::QueryResult;
use hyper::StatusCode;

use super::model::{self, Restoration, State};
use super::routes::{RestorationRequest, RestorationView};
use super::start::{Restorer, Side};
use crate::alerts::{self, AlertKind};
use crate::audit::{self, Actor, AuthMethod};
use crate::bulk::JobState;
use crate::peer::exchange;
use crate::resync::{self, NewResync, ResyncJob, ResyncKind, ResyncSelection};
use crate::verify::{self, Finding, NewVerification, Verification};

/// How often what was put down is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The pause before what could not be found out is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// Repairs at the most: each has to leave fewer keys that differ than the one before.
const ROUNDS: i32 = 100;

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether anything is under way that is to be looked at again soon.
    pub open: bool,
    /// Whether a job was put down that sends states again.
    pub resends: bool,
    /// Whether a verification was put down.
    pub verifies: bool,
    /// Whether one has ended with it.
    pub ended: bool,
}

impl Restorer {
    /// Goes on with what is due; any instance may, after a kill, too.
    ///
    /// # Errors
    /// When the database fails; nothing of the step is kept then.
    pub async fn run_once(&self) -> Result<Outcome, DbError> {
        match self.side {
            Side::Owner => {
                let untold = self.tell().await?;
                let outcome = self.step_of_owner().await?;
                Ok(Outcome { open: outcome.open || untold, ..outcome })
            }
            Side::Copy => self.step_of_copy().await,
        }
    }

    async fn step_of_owner(&self) -> Result<Outcome, DbError> {
        let (restorer, now) = (self.clone(), self.env.now());
        let step = move |conn: &mut Conn| {
            let outcome = match model::take(conn, now)? {
                Some(row) => restorer.go_on(conn, row, now)?,
                None => Outcome::default(),
            };
            Ok(Outcome { open: model::any_running(conn)?, ..outcome })
        };
        self.db.write::<_, DbError>(step).await
    }

    fn go_on(&self, conn: &mut Conn, mut row: Restoration, now: Timestamp) -> QueryResult<Outcome> {
        let mut outcome = Outcome::default();
        row.due_us = now.after(LOOK);
        if let Some(job) = row.job {
            match resync::find(conn, job)? {
                Some(job) if matches!(job.state, JobState::Waiting | JobState::Running) => {}
                Some(job) if job.state == JobState::Cancelled => {
                    row.waits_for = Some(stopped(&job));
                    outcome.ended = end(conn, &mut row, State::Cancelled, now)?;
                }
                _ => (row.job, row.due_us) = (None, now),
            }
        } else if let Some(verification) = row.verification {
            match verify::find(conn, verification)? {
                Some(found) if found.state.is_open() => {}
                Some(found) => outcome = self.judge(conn, &mut row, &found, now)?,
                None => row.verification = None,
            }
        } else {
            row.consumer = row.consumer.take().or_else(|| self.first_of(&row));
            row.verification = self.verify(conn, &row, now)?;
            outcome.verifies = row.verification.is_some();
        }
        model::save(conn, &row)?;
        Ok(outcome)
    }

    /// What follows from a verification that has ended.
    fn judge(
        &self,
        conn: &mut Conn,
        row: &mut Restoration,
        found: &Verification,
        now: Timestamp,
    ) -> QueryResult<Outcome> {
        let mut outcome = Outcome::default();
        let before = (row.rounds > 0).then_some(row.differences);
        row.differences = found.differences;
        row.waits_for = found.reason.clone();
        match found.state {
            verify::State::Equal => match self.next_of(row) {
                Some(next) => {
                    (row.consumer, row.verification, row.due_us) = (Some(next), None, now);
                    row.rounds = 0;
                }
                // The other service is told first.
                None if row.tell_us.is_some() => row.waits_for.clone_from(&row.untold),
                None => outcome.ended = end(conn, row, State::Equal, now)?,
            },
            verify::State::Different if self.is_doubtful(conn, row, found)? => {
                outcome.ended = end(conn, row, State::Different, now)?;
            }
            verify::State::Different => {
                let fewer = found.cut || before.is_none_or(|before| found.differences < before);
                if fewer && row.rounds < ROUNDS {
                    row.job = Some(repair(conn, row, found.seq, now)?);
                    (row.verification, row.rounds) = (None, row.rounds + 1);
                    outcome.resends = true;
                } else {
                    outcome.ended = end(conn, row, State::Different, now)?;
                }
            }
            // Events are open, or the copy gave no answer; or somebody cancelled it.
            _ => (row.verification, row.due_us) = (None, now.after(AGAIN)),
        }
        Ok(outcome)
    }

    /// Whether a copy that asks for what it misses has more than its owner: then it may be the owner that lost, and a
    /// person has to look before the copy is made like it.
    fn is_doubtful(
        &self,
        conn: &mut Conn,
        row: &mut Restoration,
        found: &Verification,
    ) -> QueryResult<bool> {
        if row.service == self.service {
            return Ok(false);
        }
        let counts: BTreeMap<Finding, i64> = verify::counts(conn, found.seq)?.into_iter().collect();
        let count = |finding| counts.get(&finding).copied().unwrap_or(0);
        let (unknown, newer) = (count(Finding::Unknown), count(Finding::Newer));
        if unknown + newer > 0 {
            row.waits_for = Some(format!(
                "{} has {unknown} keys that {} never had, and {newer} newer than its own: is it {} that lost them? If not, \
                 `stockloop repair` shows and mends that; then begin again",
                row.service, self.service, self.service
            ));
        }
        Ok(unknown + newer > 0)
    }

    /// Whose copy is proved first: that of the service which asks, or the first of all where the owner was restored.
    fn first_of(&self, row: &Restoration) -> Option<String> {
        match row.service == self.service {
            true => self.consumers.first().cloned(),
            false => Some(row.service.clone()),
        }
    }

    /// Whose copy comes next, where the owner was restored.
    fn next_of(&self, row: &Restoration) -> Option<String> {
        if row.service != self.service {
            return None;
        }
        let proved = row.consumer.as_ref()?;
        let place = self.consumers.iter().position(|one| one == proved)?;
        self.consumers.get(place + 1).cloned()
    }

    /// Puts down a verification of all keys; none, as long as somebody else's is under way.
    fn verify(
        &self,
        conn: &mut Conn,
        row: &Restoration,
        now: Timestamp,
    ) -> QueryResult<Option<i64>> {
        let Some(consumer) = row.consumer.clone() else { return Ok(None) };
        let new = NewVerification {
            consumer,
            keys_of: None,
            share: 1_000,
            state: verify::State::Waiting,
            created_us: now,
            created_by: by(row),
            created_via: row.started_via.clone().unwrap_or_default(),
        };
        verify::insert_before_scheduled(conn, &new)
    }

    async fn step_of_copy(&self) -> Result<Outcome, DbError> {
        let now = self.env.now();
        let due = self.db.read::<_, DbError>(move |conn| {
            Ok((model::due(conn, now)?, model::any_running(conn)?))
        });
        let (due, open) = due.await?;
        let Some(row) = due else { return Ok(Outcome { open, ..Outcome::default() }) };
        let answer = self.ask(&row).await;
        let told = move |conn: &mut Conn| {
            let Some(mut row) = model::lock_running(conn, row.seq)? else {
                return Ok(Outcome { open, ..Outcome::default() });
            };
            let ended = match answer {
                Ok(answer) => take_over(conn, &mut row, answer, now)?,
                Err(why) => {
                    (row.waits_for, row.due_us) = (Some(why), now.after(AGAIN));
                    false
                }
            };
            model::save(conn, &row)?;
            Ok(Outcome { open: open && !ended, ended, ..Outcome::default() })
        };
        self.db.write::<_, DbError>(told).await
    }

    /// Asks the owner to mend this copy, or how far it is; none: it does not know of it.
    async fn ask(&self, row: &Restoration) -> Result<Option<RestorationView>, String> {
        const PATH: &str = "/api/v1/replica/restorations";
        let request = match row.remote {
            Some(remote) => self.peer.get(&format!("{PATH}/{remote}"), &[]),
            None => self.peer.post(PATH).json(&RestorationRequest {
                consumer: self.service.clone(),
                reason: row.reason.clone(),
            }),
        };
        let (owner, url) = (&self.other, self.peer.base());
        let failed = |why: String| {
            format!(
                "{owner} can't be asked at {url}: {why}; is it up, and are peer.url and peer.api_token right?"
            )
        };
        let answer = exchange(request, self.timeout, MAX_ANSWER).await;
        let (status, body) = answer.map_err(failed)?;
        match status {
            StatusCode::NOT_FOUND if row.remote.is_some() => return Ok(None),
            StatusCode::CONFLICT => {
                let refused = serde_json::from_slice::<Problem>(&body);
                let unreadable = |_| failed(format!("it answered {status}"));
                return Err(refused.map_or_else(unreadable, |refused| refused.detail));
            }
            status if !status.is_success() => {
                return Err(failed(format!("it answered {status}")));
            }
            _ => {}
        }
        let view = serde_json::from_slice::<RestorationView>(&body);
        let view = view.map_err(|error| failed(format!("its answer can't be read ({error})")))?;
        // Its numbers begin again where it came back from a backup itself.
        Ok(Some(view).filter(|view| view.consumer == self.service))
    }
}

/// What the owner says of a copy's restoration; whether that is over.
fn take_over(
    conn: &mut Conn,
    row: &mut Restoration,
    answer: Option<RestorationView>,
    now: Timestamp,
) -> QueryResult<bool> {
    row.due_us = now.after(LOOK);
    let Some(view) = answer else {
        // The owner came back from a backup itself.
        row.remote = None;
        return Ok(false);
    };
    row.remote = view.seq.parse().ok();
    row.differences = view.differences;
    row.rounds = view.rounds;
    row.waits_for = view.waits_for;
    match view.state {
        State::Found | State::Running => Ok(false),
        State::Equal => {
            alerts::close_kind(conn, now, AlertKind::DatabaseBehind, None, "restored")?;
            end(conn, row, State::Equal, now)
        }
        state => end(conn, row, state, now),
    }
}

/// Puts down a job that sends again what a verification found to differ.
fn repair(
    conn: &mut Conn,
    row: &Restoration,
    verification: i64,
    now: Timestamp,
) -> QueryResult<i64> {
    let selection = ResyncSelection::Differences(verification).to_json()?;
    let new = NewResync {
        kind: ResyncKind::Repair,
        selection,
        reason: row.reason.clone(),
        state: JobState::Waiting,
        expected: Some(row.differences),
        created_us: now,
        created_by: by(row),
        created_via: row.started_via.clone().unwrap_or_default(),
    };
    resync::insert(conn, &new)
}

fn end(conn: &mut Conn, row: &mut Restoration, state: State, now: Timestamp) -> QueryResult<bool> {
    row.state = state;
    row.ended_us = Some(now);
    let detail = serde_json::json!({
        "state": state, "rounds": row.rounds, "differences": row.differences,
    });
    let method = AuthMethod::of_name(row.started_via.as_deref().unwrap_or_default());
    let by = Actor { name: row.started_by.clone().unwrap_or_default(), method };
    let entry = by.entry(now, "restored.end", Some(&row.seq.to_string()), Some(detail));
    audit::append(conn, &entry)?;
    Ok(true)
}

fn by(row: &Restoration) -> String {
    format!("{} (restoration {})", row.started_by.as_deref().unwrap_or("somebody"), row.seq)
}

fn stopped(job: &ResyncJob) -> String {
    let by = job.ended_by.as_deref().unwrap_or("somebody");
    format!("{by} cancelled the job {} that sends states again", job.seq)
}

#[cfg(test)]
#[path = "tests/step.rs"]
mod tests;
