//! Who is to blame where a batch fails: an event only where something shows that it is, and the world otherwise.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use common::clock::Timestamp;
use common::db::{Conn, Fault};
use common::event::Event;
use diesel::result::Error;

use super::apply::Inbox;
use super::model::{Detail, HandlerOutcome};
use crate::batch::{Attempt, BatchError};
use crate::kafka::cut_error;

/// How many events may fail for their data, with nothing that passes, before the world is suspected.
const ALIKE: usize = 8;

/// Events that passed lately, of different keys: they are tried once more, without a trace, where a whole batch fails.
/// If they fail now as well, the world is at fault, and no event of the batch. Cheap to clone, all clones share it.
#[derive(Clone, Default)]
pub struct Control(Arc<Mutex<VecDeque<Event>>>);

impl Control {
    /// Several, since one may fail now for reasons of its own.
    pub(super) const EVENTS: usize = 4;

    fn get(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn add(&self, passed: Vec<Event>) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in passed {
            events.retain(|known| known.key != event.key);
            events.push_back(event);
        }
        let surplus = events.len().saturating_sub(Self::EVENTS);
        events.drain(..surplus);
    }
}

/// What the control events say.
enum Evidence {
    /// One of them passes: what fails beside it is to blame.
    Passes,
    /// Each that says anything fails.
    Fails,
    /// There are none, or they write nothing any more: a state that is there already proves nothing.
    Nothing,
}

impl Inbox {
    /// What each of `events` is answered: they are applied together, or in halves.
    ///
    /// # Errors
    /// What none of them is to blame for.
    pub(super) fn answers(
        &self,
        conn: &mut Conn,
        events: &[Event],
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        let repeats = attempt.repeats();
        let (passed, mut blamed, mut evidence) = (Cell::new(0), 0, None);
        let answers = attempt.run(
            conn,
            events,
            &mut |conn, events| {
                let answers = self.apply_together(conn, events, now)?;
                let fresh = answers.iter().filter(|answer| answer.had_effect()).count();
                passed.set(passed.get() + fresh);
                Ok(answers.into_iter().map(|answer| (answer, None)).collect())
            },
            &mut |conn, _, error: BatchError| {
                blamed += 1;
                if passed.get() == 0 && evidence.is_none() {
                    evidence = Some(self.ask_control(conn, now)?);
                }
                let fault = error.fault();
                // To go on is slow, and needless while nothing passes; but what fails again and again is tried one by
                // one, since what passes may stand behind it. Only locks would make that last too long.
                let in_doubt = fault != Fault::Data
                    && passed.get() == 0
                    && !matches!(evidence, Some(Evidence::Passes));
                let enough = match repeats {
                    true => fault == Fault::Locked && blamed > ALIKE,
                    false => blamed > ALIKE || matches!(evidence, Some(Evidence::Fails)),
                };
                if in_doubt && enough {
                    return Err(BatchError::World(error.to_string()));
                }
                let suspicion = error.suspicion();
                let (error, retryable) = (cut_error(&error.to_string()), !fault.is_of_data());
                Ok((HandlerOutcome::Failed { error, retryable }, Some(suspicion)))
            },
        )?;
        let guilty = passed.get() > 0 || matches!(evidence, Some(Evidence::Passes));
        answers.into_iter().map(|(answer, fault)| judged(answer, fault, guilty, repeats)).collect()
    }

    /// Handles what passed before once more, each without a trace.
    fn ask_control(&self, conn: &mut Conn, now: Timestamp) -> Result<Evidence, BatchError> {
        let mut evidence = Evidence::Nothing;
        for control in self.control.get() {
            let mut passed = None;
            let tried = conn.transaction(|conn| {
                // Under another id, so that all that is written for an event is written for it.
                let again = Event { id: self.env.event_id(), ..control };
                let answers = self.apply_together(conn, &[again], now)?;
                // A refusal may be one that is only said again.
                let applied = |answer: &HandlerOutcome| {
                    matches!(answer, HandlerOutcome::Success { detail: Detail::Applied, .. })
                };
                passed = Some(answers.iter().any(applied));
                Err::<(), _>(BatchError::Query(Error::RollbackTransaction))
            });
            match (passed, tried) {
                (Some(true), _) => return Ok(Evidence::Passes),
                (None, Err(error)) if error.fault() == Fault::World => return Err(error),
                (None, Err(_)) => evidence = Evidence::Fails,
                _ => {}
            }
        }
        Ok(evidence)
    }
}

/// What an event that failed alone, with `fault`, is answered: if others pass, it is `guilty`, and what its data can't
/// be, stays. A value that can't be what it is to be needs no such proof. Else, if nothing passes, only data is
/// suspected, only after several tries, and another try may pass.
fn judged(
    answer: HandlerOutcome,
    fault: Option<Fault>,
    guilty: bool,
    repeats: bool,
) -> Result<HandlerOutcome, BatchError> {
    match (answer, fault) {
        (HandlerOutcome::Failed { error, .. }, Some(fault)) if !guilty && fault != Fault::Data => {
            match fault.is_of_data() && repeats {
                true => Ok(HandlerOutcome::Failed { error, retryable: true }),
                false => Err(BatchError::World(error)),
            }
        }
        (answer, _) => Ok(answer),
    }
}
