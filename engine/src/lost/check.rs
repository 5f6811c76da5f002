//! One step of a check: a page of answered commands, and which of them their receiver does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, DbError};
use common::ids::EventId;
use diesel::QueryResult;

use super::model::{self, Answered, Closing, LostCheck, LostCommand, NewCheck, State};
use super::routes::{NewLoss, Received, ReceivedIds};
use super::{Judgement, Lost, PAGE};
use crate::alerts::{self, AlertKind, NewAlert};
use crate::outbox::FinalOutcome;
use crate::peer::exchange;

/// The pause before what could not be found out is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// How long before the last sign of life a command may have been answered and lost: clocks differ.
const MARGIN: Duration = Duration::from_secs(24 * 60 * 60);

/// What two services' clocks may differ by, where a person's decision is compared with a backup.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// An alert counts so many at the most.
const COUNTED: usize = 1_000;

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether a check is under way, to be looked at again soon.
    pub open: bool,
    /// Whether one went on.
    pub worked: bool,
    /// Whether an alert may have been raised or closed.
    pub told: bool,
}

/// What the receiver said of a page.
#[derive(Debug, Default)]
struct Answer {
    asked: usize,
    /// What it does not know, with the moments when that was answered.
    lost: BTreeMap<EventId, Timestamp>,
    unclear: usize,
    known_from: Option<Timestamp>,
}

impl Lost {
    /// Puts down that `loss.service` came back from a backup; said again, it stays as it is.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn begin(&self, conn: &mut Conn, loss: NewLoss) -> QueryResult<i64> {
        let (now, until) = (self.env.now(), self.env.event_id());
        let open_from = model::first_open(conn, until)?;
        let new = NewCheck {
            service: loss.service,
            restoration: loss.restoration,
            since_us: loss.since,
            until,
            open_from,
            known_from_us: Some(now.before(self.kept)),
            due_us: now,
            created_us: now,
        };
        model::put_down(conn, &new)
    }

    /// Goes on with the check that is due; any instance may, after a kill, too.
    ///
    /// # Errors
    /// When the database fails; nothing of the step is kept then.
    pub async fn run_once(&self) -> Result<Outcome, DbError> {
        let now = self.env.now();
        let read = self.db.read::<_, DbError>(move |conn| {
            let Some(check) = model::due(conn, now)? else {
                return Ok((None, model::any_running(conn)?));
            };
            let page = model::answered(conn, &check)?;
            Ok((Some((check, page)), true))
        });
        let (due, open) = read.await?;
        let Some((check, page)) = due else { return Ok(Outcome { open, ..Outcome::default() }) };
        let answer = self.ask(&check, &page).await;
        let lost = self.clone();
        let step = move |conn: &mut Conn| {
            // Another instance was faster.
            if model::lock_check(conn, check.seq)?.as_ref() != Some(&check) {
                return Ok(Outcome { open: true, ..Outcome::default() });
            }
            let told = lost.go_on(conn, check, &page, answer, now)?;
            Ok(Outcome { open: model::any_running(conn)?, worked: true, told })
        };
        self.db.write::<_, DbError>(step).await
    }

    /// Asks the receiver which commands of a page it does not know.
    async fn ask(&self, check: &LostCheck, page: &[Answered]) -> Result<Answer, String> {
        let since = before_margin(check.since_us);
        let commands: BTreeMap<EventId, Timestamp> = page
            .iter()
            .filter(|one| one.outcome == FinalOutcome::Success && one.settled >= since)
            .filter(|one| self.commander.is_command(&one.event_type))
            .map(|one| (one.id, one.settled))
            .collect();
        if commands.is_empty() {
            return Ok(Answer::default());
        }
        let received = self.received(commands.keys().copied().collect()).await;
        let received = received.map_err(|why| self.failed(&why))?;
        if received.service != self.receiver {
            let why = format!("{} answers there", received.service);
            return Err(self.failed(&why));
        }
        if let Some(other) = received.unknown.iter().find(|id| !commands.contains_key(id)) {
            let why = format!("it names {other}, which it was not asked about");
            return Err(self.failed(&why));
        }
        let known = received.known_from.map_or(EventId::NIL, EventId::first_at);
        let unknown: BTreeSet<EventId> = received.unknown.into_iter().collect();
        let lost: BTreeMap<EventId, Timestamp> = commands
            .iter()
            .filter(|(id, _)| **id >= known && unknown.contains(id))
            .map(|(id, settled)| (*id, *settled))
            .collect();
        Ok(Answer {
            asked: commands.len(),
            unclear: unknown.len() - lost.len(),
            lost,
            known_from: received.known_from,
        })
    }

    async fn received(&self, ids: Vec<EventId>) -> Result<Received, String> {
        let request = self.peer.post("/api/v1/replica/received").json(&ReceivedIds { ids });
        let (status, body) = exchange(request, self.timeout, MAX_ANSWER).await?;
        if !status.is_success() {
            return Err(format!("it answered {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("its answer can't be read ({error})"))
    }

    fn failed(&self, why: &str) -> String {
        let (receiver, url) = (&self.receiver, self.peer.base());
        format!(
            "{receiver} can't be asked at {url} what it received: {why}; is it up and of this release, and are peer.url and peer.api_token right?"
        )
    }

    /// Notes what a page came to; whether an alert may have changed.
    fn go_on(
        &self,
        conn: &mut Conn,
        mut check: LostCheck,
        page: &[Answered],
        answer: Result<Answer, String>,
        now: Timestamp,
    ) -> QueryResult<bool> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                (check.waits_for, check.due_us) = (Some(why), now.after(AGAIN));
                model::save_check(conn, &check)?;
                return Ok(false);
            }
        };
        // Where nothing says when the database came from, what a person decided stands.
        let never = Timestamp::from_micros(i64::MAX);
        let unharmed = check.since_us.map_or(never, |since| since.before(SKEW));
        let noted = model::insert(conn, check.seq, now, unharmed, &answer.lost)?;
        self.close_obsolete(conn, now, &noted.open)?;
        check.waits_for = None;
        check.asked += count(answer.asked);
        check.found += count(noted.met);
        check.unclear += count(answer.unclear);
        check.known_from_us = check.known_from_us.max(answer.known_from);
        check.cursor = page.last().map(|one| one.id).or(check.cursor);
        if page.len() < PAGE {
            self.end_pass(conn, &mut check, now)?;
        }
        model::save_check(conn, &check)?;
        if noted.is_news {
            self.tell(conn, now)?;
        }
        Ok(noted.is_news)
    }

    /// What was open when a pass began may have been answered meanwhile, from before the restore.
    fn end_pass(&self, conn: &mut Conn, check: &mut LostCheck, now: Timestamp) -> QueryResult<()> {
        let Some(first) = check.open_from else {
            check.ended_us = Some(now);
            return Ok(());
        };
        let open = model::first_open(conn, check.until)?;
        if open == Some(first) {
            check.waits_for = Some(format!("the answer to the command {first}"));
            check.due_us = now.after(AGAIN);
            return Ok(());
        }
        (check.cursor, check.open_from) = (Some(just_before(first)), open);
        Ok(())
    }

    /// Closes those of `lost` that do not matter; the others are returned, with what is to be said of them.
    pub(super) fn close_obsolete(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        lost: &[LostCommand],
    ) -> QueryResult<(Vec<LostCommand>, Vec<LostCommand>)> {
        if lost.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let (mut matter, mut not_kept) = (Vec::new(), Vec::new());
        let mut obsolete: BTreeMap<String, Vec<EventId>> = BTreeMap::new();
        for (row, judgement) in lost.iter().zip(self.commander.judge(conn, lost)?) {
            match judgement {
                Judgement::Matters => matter.push(row.clone()),
                Judgement::NotKept => not_kept.push(row.clone()),
                Judgement::Obsolete(why) => obsolete.entry(why).or_default().push(row.event_id),
            }
        }
        for (why, ids) in &obsolete {
            let closing =
                Closing { state: State::Obsolete, at: now, by: None, reason: Some(why.as_str()) };
            model::close(conn, ids, &closing)?;
        }
        Ok((matter, not_kept))
    }

    /// Closes those of a page of open ones that do not matter any more; the last of the page, if there are more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tidy(&self, after: Option<EventId>) -> Result<Option<EventId>, DbError> {
        let (lost, now) = (self.clone(), self.env.now());
        let tidy = move |conn: &mut Conn| {
            let open = model::lock_open(conn, after, PAGE)?;
            if open.is_empty() {
                return Ok(None);
            }
            let (matter, not_kept) = lost.close_obsolete(conn, now, &open)?;
            if matter.len() + not_kept.len() < open.len() {
                lost.tell(conn, now)?;
            }
            Ok(open.last().filter(|_| open.len() == PAGE).map(|row| row.event_id))
        };
        self.db.write::<_, DbError>(tidy).await
    }

    /// Brings the alert up to date.
    pub(super) fn tell(&self, conn: &mut Conn, now: Timestamp) -> QueryResult<()> {
        let open = model::count_open(conn, COUNTED + 1)?;
        if open == 0 {
            let why = "each of them is decided on";
            return alerts::close_kind(conn, now, AlertKind::CommandsLost, None, why).map(drop);
        }
        let count = match open > COUNTED {
            true => format!("more than {COUNTED} commands"),
            false if open == 1 => "one command".to_owned(),
            false => format!("{open} commands"),
        };
        alerts::raise(conn, now, NewAlert::commands_lost(&self.service, &self.receiver, &count))
            .map(drop)
    }
}

/// What came before is surely in the restored database.
fn before_margin(since: Option<Timestamp>) -> Timestamp {
    since.map_or(Timestamp::default(), |since| since.before(MARGIN))
}

/// An id below `id` and above all that were made in an earlier millisecond.
fn just_before(id: EventId) -> EventId {
    let millis = i64::try_from(id.uuid().as_u128() >> 80).unwrap_or(0);
    EventId::first_at(Timestamp::from_micros(millis.saturating_mul(1_000)))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "tests/check.rs"]
mod tests;
