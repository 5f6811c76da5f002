//! What has to hold, in words of its own: none of it asks the engine what is right.

use std::collections::BTreeMap;

use common::db::Conn;
use common::event::Status;
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::{alert, copied_state, mail, outbox_history, outbox_open, outbox_settled};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use engine::alerts::AlertKind;
use engine::outbox::OpenRow;

use crate::broker::Written;
use crate::consumer::Consumer;
use crate::instance::{CAP, Instance};
use crate::violation::Violation;
use crate::world::{Committed, World};

const THERE: &str = "I1: what is committed is there, in one state";
const TRUE: &str = "SENT is true: the message lies where the event says, as this attempt";
const ONE_EFFECT: &str = "I2: one effect per id";
const NEVER_BACK: &str = "I3: a copy never goes back, nor ahead of its source";
const EQUAL: &str = "I3: at rest the copy is what its source is";
const FINAL: &str = "I4: PROCESSED is for good, and EXHAUSTED until an operator or an answer";
const ATTEMPTS: &str = "I4: attempts and limits only grow, and no attempt is above its limit";
const ONE_NUMBER: &str = "I4: no attempt is sent before the one before was counted";
const ONE_ALERT: &str = "I5: one alert for what waits for a person, none for what does not";
const BOUNDED: &str = "I6: what is in flight is bounded";
const NO_CHARGE: &str = "I8: no event loses an attempt where none was lost or failed";
const ASKED: &str = "I11: PROCESSED is with all that are asked";
const FENCED: &str = "fencing: a send is noted only under the lease of who sent it";

/// Notes of each event that becomes SENT who holds its shard at that moment.
pub(crate) const MARKS: &str = "CREATE TABLE mark (id TEXT, attempt INTEGER, partition INTEGER, place BIGINT, holder TEXT); \
     CREATE TRIGGER marked AFTER INSERT ON outbox_sent BEGIN \
       INSERT INTO mark SELECT NEW.id, NEW.attempt, NEW.partition, NEW.sent_offset, owner \
       FROM relay_lease WHERE shard = NEW.shard; END";

/// Those of a relay: a probe has a line of its own, and is sent by whoever watches.
const MARKED_BY_RELAYS: &str = "SELECT id, partition, place, holder FROM mark \
     WHERE NOT EXISTS (SELECT 1 FROM outbox_history h \
       WHERE h.event_id = mark.id AND h.attempt = mark.attempt AND h.what = 'PROBED')";

/// How an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) is_resolved: bool,
    attempt: i32,
    limit: i32,
}

const PROCESSED: State =
    State { status: Status::Processed, is_resolved: false, attempt: 0, limit: 0 };

/// What the sender's database holds.
struct Rows {
    open: Vec<OpenRow>,
    settled: Vec<EventId>,
    /// The events of open alerts that say that one gave up.
    alerted: Vec<Option<EventId>>,
    marks: Vec<Mark>,
}

/// An event that became SENT.
#[derive(QueryableByName)]
struct Mark {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = Nullable<BigInt>)]
    place: Option<i64>,
    #[diesel(sql_type = Text)]
    holder: String,
}

/// What a consumer's database holds.
struct Copied {
    versions: BTreeMap<String, i64>,
    /// How often each order was carried out.
    effects: BTreeMap<EventId, i64>,
}

#[derive(QueryableByName)]
struct Effect {
    #[diesel(sql_type = EventIdSql)]
    event_id: EventId,
    #[diesel(sql_type = BigInt)]
    times: i64,
}

impl World {
    /// Checks what has to hold at any moment.
    pub(crate) fn check(&mut self) -> Result<(), Violation> {
        self.instances.iter_mut().try_for_each(Instance::reap)?;
        self.consumers.iter().try_for_each(Consumer::check_alive)?;
        if let Some(violation) = self.broker.violation() {
            return Err(violation);
        }
        if !self.was_touched() {
            return Ok(());
        }
        let rows = self.database.run(rows)?;
        let copied: QueryResult<Vec<Copied>> =
            self.consumers.iter().map(|consumer| consumer.database.run(copied)).collect();
        let (states, copied) = (self.states_of(&rows)?, copied?);
        self.check_states(&states)?;
        self.check_sends(&rows, &states)?;
        self.check_alerts(&rows, &states)?;
        self.check_copies(&copied)?;
        self.check_processed(&states, &copied)?;
        self.states = states;
        self.copies = copied.into_iter().map(|one| one.versions).collect();
        Ok(())
    }

    /// Whether anything can have changed in a database since this was asked last.
    fn was_touched(&mut self) -> bool {
        let mut was_touched = std::mem::take(&mut self.is_changed);
        let instances = self.instances.iter().map(|instance| &instance.way);
        let consumers = self.consumers.iter().map(|consumer| &consumer.way);
        instances.chain(consumers).for_each(|way| was_touched |= way.was_used());
        was_touched
    }

    fn states_of(&self, rows: &Rows) -> Result<BTreeMap<EventId, State>, Violation> {
        let open = rows.open.iter().map(|row| (row.id, State::of(row)));
        let mut states: BTreeMap<EventId, State> = open.collect();
        states.extend(rows.settled.iter().map(|id| (*id, PROCESSED)));
        let known = rows.open.len() + rows.settled.len();
        let is_whole = self.events.iter().all(|event| states.contains_key(&event.id))
            && (states.len(), known) == (self.events.len(), self.events.len());
        ensure(is_whole, THERE, || format!("{known} are known, {} committed", self.events.len()))?;
        Ok(states)
    }

    fn check_states(&self, states: &BTreeMap<EventId, State>) -> Result<(), Violation> {
        for (id, now) in states {
            ensure(now.attempt <= now.limit, ATTEMPTS, || self.tell(*id, now))?;
            let Some(before) = self.states.get(id) else { continue };
            let is_final = match before.status {
                Status::Processed => now.status == Status::Processed,
                Status::Exhausted => {
                    matches!(now.status, Status::Exhausted | Status::Processed)
                        || self.retried == Some(*id)
                }
                Status::Pending | Status::Sent => true,
            };
            ensure(is_final, FINAL, || self.tell(*id, now))?;
            let grows = before.attempt <= now.attempt && before.limit <= now.limit;
            let is_over = now.status == Status::Processed;
            ensure(grows || is_over, ATTEMPTS, || self.tell(*id, now))?;
        }
        Ok(())
    }

    /// What was sent, and what is known of it.
    fn check_sends(&self, rows: &Rows, states: &BTreeMap<EventId, State>) -> Result<(), Violation> {
        for (id, attempt) in self.broker.sent() {
            let state = states.get(&id).copied().unwrap_or(PROCESSED);
            let is_next = state.status == Status::Processed || attempt <= state.attempt + 1;
            ensure(is_next, ONE_NUMBER, || {
                format!("attempt {attempt}, {}", self.tell(id, &state))
            })?;
        }
        let mut in_flight: BTreeMap<i32, usize> = BTreeMap::new();
        for row in rows.open.iter().filter(|row| row.status == Status::Sent) {
            let (Some(partition), Some(offset)) = (row.partition, row.sent_offset) else {
                continue;
            };
            *in_flight.entry(partition).or_default() += 1;
            let is_there =
                |written: Written| (written.id, written.attempt) == (row.id, row.attempt);
            let is_true = self.broker.written(partition, offset).is_some_and(is_there);
            let place = || format!("{partition}/{offset}, {}", self.tell(row.id, &State::of(row)));
            ensure(is_true, TRUE, place)?;
        }
        // While shards change hands, the parts of several holders may come together.
        let is_bounded = in_flight.values().all(|events| *events <= 2 * CAP);
        ensure(is_bounded, BOUNDED, || format!("by partition: {in_flight:?}"))?;
        self.check_marks(&rows.marks)
    }

    fn check_marks(&self, marks: &[Mark]) -> Result<(), Violation> {
        for mark in marks {
            let written = mark.place.and_then(|place| self.broker.written(mark.partition, place));
            let is_own = written.as_ref().is_none_or(|written| written.from == mark.holder);
            let who = || format!("{}: {written:?}, held by {}", self.label(mark.id), mark.holder);
            ensure(is_own, FENCED, who)?;
        }
        if !marks.is_empty() {
            self.database.run(|conn| conn.batch_execute("DELETE FROM mark"))?;
        }
        Ok(())
    }

    fn check_alerts(
        &self,
        rows: &Rows,
        states: &BTreeMap<EventId, State>,
    ) -> Result<(), Violation> {
        for (id, state) in states {
            let alerts = rows.alerted.iter().filter(|alerted| **alerted == Some(*id)).count();
            let waits = state.status == Status::Exhausted && !state.is_resolved;
            let is_right = alerts == usize::from(waits);
            ensure(is_right, ONE_ALERT, || format!("{alerts} of {}", self.tell(*id, state)))?;
        }
        Ok(())
    }

    fn check_copies(&self, copied: &[Copied]) -> Result<(), Violation> {
        for (place, (consumer, now)) in self.consumers.iter().zip(copied).enumerate() {
            let twice = now.effects.iter().find(|(_, times)| **times > 1);
            let what = || format!("{}: {:?}", consumer.name, twice.map(|(id, _)| self.label(*id)));
            ensure(twice.is_none(), ONE_EFFECT, what)?;
            let before = self.copies.get(place);
            for (key, version) in &now.versions {
                let earlier = before.and_then(|before| before.get(key)).copied();
                let is_between = earlier <= Some(*version)
                    && Some(*version) <= self.newest(key).map(|one| one.0);
                let what = || format!("{}: {key} {earlier:?} -> {version}", consumer.name);
                ensure(is_between, NEVER_BACK, what)?;
            }
        }
        Ok(())
    }

    /// What is PROCESSED now is at each consumer that is asked.
    fn check_processed(
        &self,
        states: &BTreeMap<EventId, State>,
        copied: &[Copied],
    ) -> Result<(), Violation> {
        let asked = if self.is_retired { 1 } else { copied.len() };
        let is_at = |event: &Committed, copied: &Copied| match event.version {
            Some(version) => copied.versions.get(&event.key) >= Some(&version),
            None => event.is_rejected || copied.effects.contains_key(&event.id),
        };
        for event in &self.events {
            let is_new = states.get(&event.id) == Some(&PROCESSED)
                && self.states.get(&event.id) != Some(&PROCESSED);
            let is_there = || copied.iter().take(asked).all(|copied| is_at(event, copied));
            ensure(!is_new || is_there(), ASKED, || self.label(event.id))?;
        }
        Ok(())
    }

    /// Checks what has to hold when all has come to rest.
    pub(crate) fn check_rest(&self) -> Result<(), Violation> {
        let asked = if self.is_retired { 1 } else { self.copies.len() };
        for key in self.events.iter().map(|event| &event.key) {
            let Some((newest, id)) = self.newest(key) else { continue };
            let is_processed = self.states.get(&id) == Some(&PROCESSED);
            let is_equal = |copy: &BTreeMap<String, i64>| copy.get(key) == Some(&newest);
            let are_equal = self.copies.iter().take(asked).all(is_equal);
            let what = || format!("{key} is {newest}, the copies have {:?}", self.copies);
            ensure(!is_processed || are_equal, EQUAL, what)?;
        }
        let charged = self.database.run(charged)?.into_iter();
        let told = charged.map(|(id, what)| format!("{} {what}", self.label(id)));
        let charged: Vec<String> = told.collect();
        ensure(self.is_excused || charged.is_empty(), NO_CHARGE, || charged.join(", "))
    }

    /// What has not come to rest yet.
    pub(crate) fn unrest(&self) -> Result<Option<String>, Violation> {
        let is_open = |state: &State| matches!(state.status, Status::Pending | Status::Sent);
        let open = self.states.iter().find(|(_, state)| is_open(state));
        if let Some((id, state)) = open {
            return Ok(Some(self.tell(*id, state)));
        }
        if !self.broker.is_at_rest() || !self.instances.iter().all(Instance::is_idle) {
            return Ok(Some("something is on its way, or not read to its end".to_owned()));
        }
        Ok(self.database.run(untold)?)
    }

    /// The newest version of a product, and the event that has it.
    fn newest(&self, key: &str) -> Option<(i64, EventId)> {
        let own = self.events.iter().filter(|event| event.key == key);
        own.filter_map(|event| Some((event.version?, event.id))).max()
    }

    fn label(&self, id: EventId) -> String {
        let place = self.events.iter().position(|event| event.id == id);
        place.map_or_else(|| id.to_string(), |place| format!("event {place}"))
    }

    fn tell(&self, id: EventId, now: &State) -> String {
        let before = self.states.get(&id);
        format!("{}: {} after {:?}", self.label(id), now.describe(), before.map(State::describe))
    }

    /// How everything stands, by numbers that are the same in each run.
    pub(crate) fn describe(&self) -> String {
        let states = self.events.iter().map(|event| self.states.get(&event.id));
        let states: Vec<String> =
            states.map(|state| state.map_or_else(String::new, State::describe)).collect();
        format!("{:?} [{}] {:?}", self.broker.sizes(), states.join(", "), self.copies)
    }
}

impl State {
    fn of(row: &OpenRow) -> Self {
        let OpenRow { status, attempt, attempt_limit, resolved_us, .. } = row;
        let (status, attempt, limit) = (*status, *attempt, *attempt_limit);
        Self { status, is_resolved: resolved_us.is_some(), attempt, limit }
    }

    fn describe(&self) -> String {
        let Self { status, is_resolved, attempt, limit } = self;
        let resolved = if *is_resolved { " resolved" } else { "" };
        match status {
            Status::Processed => status.name().to_owned(),
            _ => format!("{} {attempt}/{limit}{resolved}", status.name()),
        }
    }
}

fn ensure(
    holds: bool,
    property: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::of(property, detail())) }
}

fn rows(conn: &mut Conn) -> QueryResult<Rows> {
    let gave_up = alert::kind.eq(AlertKind::Exhausted.name());
    let alerted = alert::table.filter(gave_up.and(alert::closed_us.is_null()));
    on!(conn, c => Ok(Rows {
        open: outbox_open::table.select(OpenRow::as_select()).load(c)?,
        settled: outbox_settled::table.select(outbox_settled::id).load(c)?,
        alerted: alerted.select(alert::event_id).load(c)?,
        marks: sql_query(MARKED_BY_RELAYS).load(c)?,
    }))
}

fn copied(conn: &mut Conn) -> QueryResult<Copied> {
    let versions = copied_state::table.select((copied_state::key, copied_state::version));
    let effects = sql_query("SELECT event_id, times FROM effect");
    let (versions, effects): (Vec<(String, i64)>, Vec<Effect>) =
        on!(conn, c => (versions.load(c)?, effects.load(c)?));
    let effects = effects.into_iter().map(|effect| (effect.event_id, effect.times));
    Ok(Copied { versions: versions.into_iter().collect(), effects: effects.collect() })
}

/// What cost events attempts.
fn charged(conn: &mut Conn) -> QueryResult<Vec<(EventId, String)>> {
    const KINDS: [&str; 4] = ["FAILED", "REJECTED", "OVERDUE", "UNPRODUCIBLE"];
    let lines = outbox_history::table.filter(outbox_history::what.eq_any(KINDS));
    let lines = lines.select((outbox_history::event_id, outbox_history::what));
    on!(conn, c => lines.load(c))
}

/// What people have not been told yet.
fn untold(conn: &mut Conn) -> QueryResult<Option<String>> {
    let open = alert::table.filter(alert::closed_us.is_null());
    let in_no_mail = open.filter(alert::mail_seq.is_null()).count();
    let not_left = mail::table.filter(mail::sent_us.is_null()).count();
    let (in_no_mail, not_left): (i64, i64) =
        on!(conn, c => (in_no_mail.get_result(c)?, not_left.get_result(c)?));
    let untold =
        || format!("I5: {in_no_mail} alerts are in no mail, {not_left} mails have not left");
    Ok(((in_no_mail, not_left) != (0, 0)).then(untold))
}
