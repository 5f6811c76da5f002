//! What a person decides about lost commands.

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use diesel::QueryResult;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::Lost;
use super::model::{self, Closing, LostCommand, State};
use crate::audit::Actor;

/// Open commands that are decided on at once: each may have many lines.
const AT_ONCE: usize = 100;

/// What is to be done about a lost command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = LostCommandVerdict)]
pub enum Verdict {
    /// It is sent once more.
    Again,
    /// What is missing was made good by hand: nothing is sent.
    Accept,
}

/// Which lost commands are decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// This one.
    One(EventId),
    /// The next 100 open ones after this.
    OpenAfter(Option<EventId>),
}

/// What a decision came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Decided {
    /// Sent once more.
    pub again: usize,
    /// Accepted.
    pub accepted: usize,
    /// Closed, since nothing is missing any more.
    pub obsolete: usize,
    /// Not sent again, since what they are about is no longer kept; they stay open.
    pub skipped: usize,
    /// Where to go on, if there may be more.
    pub next: Option<EventId>,
}

/// Why nothing is decided.
#[derive(Debug, Error)]
pub enum DecideError {
    /// There is none of this id.
    #[error("the event {0} is no lost command")]
    Unknown(EventId),
    /// It is closed.
    #[error("the lost command {0} is closed already: {state}", state = .1.name())]
    Closed(EventId, State),
    /// What it was about is gone.
    #[error(
        "what the command {0} was about is no longer kept here, so it can't be sent again; correct the stock by hand and accept it"
    )]
    NotKept(EventId),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
}

impl Lost {
    /// Decides on open commands, with the audit log in the same transaction; the caller wakes the outbox once that is
    /// committed.
    ///
    /// # Errors
    /// When a named one is not open, or can't be sent again, or a statement fails.
    pub fn decide(
        &self,
        conn: &mut Conn,
        by: &Actor,
        selection: Selection,
        verdict: Verdict,
        reason: Option<&str>,
    ) -> Result<Decided, DecideError> {
        let now = self.env.now();
        let open = chosen(conn, selection)?;
        let (mut matter, not_kept) = self.close_obsolete(conn, now, &open)?;
        let mut decided = Decided {
            obsolete: open.len() - matter.len() - not_kept.len(),
            next: open.last().filter(|_| open.len() == AT_ONCE).map(|row| row.event_id),
            ..Decided::default()
        };
        match (verdict, selection, not_kept.first()) {
            (Verdict::Again, Selection::One(_), Some(one)) => {
                return Err(DecideError::NotKept(one.event_id));
            }
            (Verdict::Again, ..) => decided.skipped = not_kept.len(),
            (Verdict::Accept, ..) => matter.extend(not_kept),
        }
        let decision = Decision { verdict, by, reason, now };
        self.carry_out(conn, &matter, &decision)?;
        match verdict {
            Verdict::Again => decided.again = matter.len(),
            Verdict::Accept => decided.accepted = matter.len(),
        }
        self.tell(conn, now)?;
        Ok(decided)
    }

    fn carry_out(
        &self,
        conn: &mut Conn,
        rows: &[LostCommand],
        decision: &Decision<'_>,
    ) -> QueryResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (now, note) = (decision.now, decision.note());
        let ids: Vec<EventId> = rows.iter().map(|row| row.event_id).collect();
        let state = match decision.verdict {
            Verdict::Again => {
                let sent = self.commander.send_again(conn, now, rows, &note)?;
                let sent: Vec<_> = ids.iter().copied().zip(sent).collect();
                model::set_sent_as(conn, &sent)?;
                State::Again
            }
            Verdict::Accept => {
                self.commander.accept(conn, now, rows, &note)?;
                State::Accepted
            }
        };
        let by = Some(decision.by.name.as_str());
        model::close(conn, &ids, &Closing { state, at: now, by, reason: decision.reason })?;
        rows.iter().try_for_each(|row| decision.audit(conn, row))
    }
}

fn chosen(conn: &mut Conn, selection: Selection) -> Result<Vec<LostCommand>, DecideError> {
    match selection {
        Selection::OpenAfter(after) => Ok(model::lock_open(conn, after, AT_ONCE)?),
        Selection::One(id) => match model::lock(conn, id)? {
            None => Err(DecideError::Unknown(id)),
            Some(row) if row.state != State::Open => Err(DecideError::Closed(id, row.state)),
            Some(row) => Ok(vec![row]),
        },
    }
}

struct Decision<'a> {
    verdict: Verdict,
    by: &'a Actor,
    reason: Option<&'a str>,
    now: Timestamp,
}

impl Decision<'_> {
    fn note(&self) -> String {
        let by = &self.by.name;
        match self.reason {
            Some(reason) => format!("by {by}: {reason}"),
            None => format!("by {by}"),
        }
    }

    fn audit(&self, conn: &mut Conn, row: &LostCommand) -> QueryResult<()> {
        let action = match self.verdict {
            Verdict::Again => "lost_command.again",
            Verdict::Accept => "lost_command.accept",
        };
        let detail = serde_json::json!({
            "type": row.event_type, "key": row.key, "reason": self.reason,
        });
        self.by.note(conn, self.now, action, Some(&row.event_id.to_string()), Some(detail))
    }
}

#[cfg(test)]
#[path = "tests/decide.rs"]
mod tests;
