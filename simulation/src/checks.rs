//! What has to hold, in words of its own: none of it asks the engine what is right.

use std::collections::BTreeMap;

use common::db::Conn;
use common::event::Status;
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::outbox_open;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use engine::kafka::sender_of;
use engine::outbox::OpenRow;

use crate::broker::FROM;
use crate::consumer::Consumer;
use crate::instance::{CAP, Instance};
use crate::lock;
use crate::violation::Violation;
use crate::world::{Committed, World};

const THERE: &str = "I1: what is committed is there, in one state";
const TRUE: &str = "SENT is true: the message lies where the event says, as this attempt";
const ONE_EFFECT: &str = "I2: one effect per id";
const NEVER_BACK: &str = "I3: a copy never goes back, nor ahead of its source";
const FINAL: &str = "I4: PROCESSED is for good, and EXHAUSTED until an operator or an answer";
const ATTEMPTS: &str = "I4: attempts and limits only grow";
const ONE_ALERT: &str = "I5: one alert for what waits for a person, none for what does not";
const BOUNDED: &str = "I6: what is in flight is bounded";
const NO_CHARGE: &str = "I8: no event loses an attempt that was not lost, failed or refused";
const ASKED: &str = "I11: PROCESSED is with all that are asked";
const FENCED: &str = "fencing: a send is noted only under the lease of who sent it";

/// Notes of each event that becomes SENT who holds its shard at that moment. A probe is sent by whoever watches.
pub(crate) const MARKS: &str = "\
     CREATE TABLE mark (id TEXT, attempt INTEGER, partition INTEGER, place BIGINT, holder TEXT); \
     CREATE TRIGGER marked AFTER INSERT ON outbox_sent BEGIN \
       INSERT INTO mark SELECT NEW.id, NEW.attempt, NEW.partition, NEW.sent_offset, owner \
       FROM relay_lease WHERE shard = NEW.shard; END; \
     CREATE TRIGGER probed AFTER INSERT ON outbox_history WHEN NEW.what = 'PROBED' BEGIN \
       DELETE FROM mark WHERE id = NEW.event_id AND attempt = NEW.attempt; END";

/// How events stand; none: PROCESSED.
pub(crate) type States = BTreeMap<EventId, Option<OpenRow>>;

/// What the sender's database holds.
struct Rows {
    open: Vec<OpenRow>,
    settled: Vec<EventId>,
    /// The events of open alerts that say that one gave up.
    alerted: Vec<Option<EventId>>,
    /// Events that became SENT: where they lie, and who held their shards.
    marks: Vec<(EventId, i32, Option<i64>, String)>,
}

/// What a consumer's database holds.
pub(crate) struct Copied {
    versions: BTreeMap<String, i64>,
    /// Each carrying out of an order.
    effects: Vec<EventId>,
}

impl World {
    /// Checks what has to hold at any moment.
    pub(crate) fn check(&mut self) -> Result<(), Violation> {
        self.instances.iter_mut().try_for_each(Instance::reap)?;
        self.consumers.iter().try_for_each(Consumer::check_alive)?;
        if let Some(violation) = lock(&self.around.broker).violation.take() {
            return Err(violation);
        }
        let rows = self.database.run(rows)?;
        let copies = self.consumers.iter().map(|consumer| consumer.database.run(copied));
        let copies = copies.collect::<QueryResult<Vec<Copied>>>()?;
        let states = self.states_of(&rows)?;
        self.check_states(&states)?;
        self.check_sends(&rows, &states)?;
        self.check_alerts(&rows, &states)?;
        self.check_copies(&copies)?;
        self.check_processed(&states, &copies)?;
        (self.states, self.copies) = (states, copies);
        Ok(())
    }

    fn states_of(&self, rows: &Rows) -> Result<States, Violation> {
        let open = rows.open.iter().map(|row| (row.id, Some(row.clone())));
        let states: States = open.chain(rows.settled.iter().map(|id| (*id, None))).collect();
        let (known, committed) = (rows.open.len() + rows.settled.len(), self.events.len());
        let is_whole = self.events.iter().all(|event| states.contains_key(&event.id))
            && (states.len(), known) == (committed, committed);
        ensure(is_whole, THERE, || format!("{known} are known, {committed} committed"))?;
        Ok(states)
    }

    fn check_states(&self, states: &States) -> Result<(), Violation> {
        for (id, now) in states {
            let (may_be, grows) = match (self.states.get(id), now) {
                (None, _) | (_, None) => (true, true),
                (Some(None), Some(_)) => (false, true),
                (Some(Some(before)), Some(now)) => (
                    before.status != Status::Exhausted
                        || now.status == Status::Exhausted
                        || self.retried == Some(*id),
                    before.attempt <= now.attempt && before.attempt_limit <= now.attempt_limit,
                ),
            };
            ensure(may_be, FINAL, || self.tell(*id, now))?;
            ensure(grows, ATTEMPTS, || self.tell(*id, now))?;
        }
        Ok(())
    }

    /// What was sent, and what is known of it.
    fn check_sends(&self, rows: &Rows, states: &States) -> Result<(), Violation> {
        let broker = lock(&self.around.broker);
        let mut in_flight: BTreeMap<i32, usize> = BTreeMap::new();
        for (id, now) in states {
            let Some(row) = now.as_ref().filter(|row| row.status == Status::Sent) else { continue };
            let place = row.partition.zip(row.sent_offset);
            let record = place.and_then(|(partition, offset)| broker.event_at(partition, offset));
            let sender = record.and_then(sender_of);
            let is_true = sender.is_some_and(|sent| (sent.id, sent.attempt) == (*id, row.attempt));
            ensure(is_true, TRUE, || format!("{place:?}, {}", self.tell(*id, now)))?;
            *in_flight.entry(row.partition.unwrap_or_default()).or_default() += 1;
        }
        // What another instance has sent is not known before it has noted that.
        let is_bounded = in_flight.values().all(|events| *events <= 2 * CAP);
        ensure(is_bounded, BOUNDED, || format!("by partition: {in_flight:?}"))?;
        for (id, partition, offset, holder) in &rows.marks {
            let record = offset.and_then(|offset| broker.event_at(*partition, offset));
            let from = record.and_then(|record| record.header(FROM));
            let is_own = from == Some(holder.as_bytes());
            ensure(is_own, FENCED, || format!("{}, held by {holder}", self.label(*id)))?;
        }
        Ok(())
    }

    fn check_alerts(&self, rows: &Rows, states: &States) -> Result<(), Violation> {
        for (id, now) in states {
            let alerts = rows.alerted.iter().filter(|alerted| **alerted == Some(*id)).count();
            let is_right = alerts == usize::from(waits(now));
            ensure(is_right, ONE_ALERT, || format!("{alerts} of {}", self.tell(*id, now)))?;
        }
        Ok(())
    }

    fn check_copies(&self, copies: &[Copied]) -> Result<(), Violation> {
        for (place, (consumer, now)) in self.consumers.iter().zip(copies).enumerate() {
            let twice = now.effects.windows(2).find(|pair| pair.first() == pair.last());
            let twice = twice.and_then(|pair| pair.first()).map(|id| self.label(*id));
            let what = || format!("{}: {twice:?}", consumer.name);
            ensure(twice.is_none(), ONE_EFFECT, what)?;
            let before = self.copies.get(place).map(|copied| &copied.versions);
            let grows = before
                .into_iter()
                .flatten()
                .all(|(key, version)| now.versions.get(key) >= Some(version));
            let is_behind =
                now.versions.iter().all(|(key, version)| Some(*version) <= self.newest(key));
            let what = || format!("{}: {:?} after {before:?}", consumer.name, now.versions);
            ensure(grows && is_behind, NEVER_BACK, what)?;
        }
        Ok(())
    }

    /// What is PROCESSED now is at each consumer that is asked.
    fn check_processed(&self, states: &States, copies: &[Copied]) -> Result<(), Violation> {
        let asked = if self.is_retired { 1 } else { copies.len() };
        let is_at = |event: &Committed, copied: &Copied| match event.version {
            Some(version) => copied.versions.get(&event.key) >= Some(&version),
            None => event.is_rejected || copied.effects.contains(&event.id),
        };
        for event in &self.events {
            let [before, now] = [&self.states, states].map(|states| states.get(&event.id));
            let is_new = now == Some(&None) && before != Some(&None);
            let is_there = || copies.iter().take(asked).all(|copied| is_at(event, copied));
            ensure(!is_new || is_there(), ASKED, || self.label(event.id))?;
        }
        Ok(())
    }

    /// Checks what has to hold when all has come to rest.
    pub(crate) fn check_rest(&self) -> Result<(), Violation> {
        let charged = self.database.run(charged)?;
        let broker = lock(&self.around.broker);
        let unjust = charged.iter().find(|(id, _)| !broker.blamed.contains(id));
        let is_just = broker.are_all_blamed || unjust.is_none();
        ensure(is_just, NO_CHARGE, || {
            format!("{:?}", unjust.map(|(id, what)| (self.label(*id), what)))
        })
    }

    /// What has not come to rest yet.
    pub(crate) fn unrest(&self) -> Result<Option<String>, Violation> {
        let moves = |row: &OpenRow| row.status != Status::Exhausted;
        let moving = self.states.iter().find(|(_, now)| now.as_ref().is_some_and(moves));
        if let Some((id, now)) = moving {
            return Ok(Some(self.tell(*id, now)));
        }
        let is_at_rest = lock(&self.around.broker).is_at_rest();
        if !is_at_rest || !self.instances.iter().all(Instance::is_idle) {
            return Ok(Some("something is on its way, or not read to its end".to_owned()));
        }
        let untold = self.database.run(untold)?;
        Ok((untold > 0).then(|| format!("I5: {untold} alerts or mails have not left")))
    }

    /// The newest version of a product.
    pub(crate) fn newest(&self, key: &str) -> Option<i64> {
        let own = self.events.iter().filter(|event| event.key == key);
        own.filter_map(|event| event.version).max()
    }

    fn label(&self, id: EventId) -> String {
        let place = self.events.iter().position(|event| event.id == id);
        place.map_or_else(|| id.to_string(), |place| format!("event {place}"))
    }

    fn tell(&self, id: EventId, now: &Option<OpenRow>) -> String {
        let before = self.states.get(&id).map(describe);
        format!("{}: {} after {before:?}", self.label(id), describe(now))
    }

    /// How everything stands, by numbers that are the same in each run.
    pub(crate) fn describe(&self) -> String {
        let [events, answers] = lock(&self.around.broker).sizes();
        let states = self.events.iter().filter_map(|event| self.states.get(&event.id));
        let states: Vec<String> = states.map(describe).collect();
        let copies: Vec<_> = self.copies.iter().map(|copied| &copied.versions).collect();
        format!("{events:?} {answers:?} [{}] {copies:?}", states.join(", "))
    }
}

/// Whether an event waits for a person.
pub(crate) fn waits(now: &Option<OpenRow>) -> bool {
    now.as_ref().is_some_and(|row| row.status == Status::Exhausted && row.resolved_us.is_none())
}

fn describe(now: &Option<OpenRow>) -> String {
    let Some(row) = now else { return Status::Processed.name().to_owned() };
    let resolved = if row.resolved_us.is_some() { " resolved" } else { "" };
    format!("{} {}/{}{resolved}", row.status.name(), row.attempt, row.attempt_limit)
}

fn ensure(
    holds: bool,
    property: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::of(property, detail())) }
}

fn rows(conn: &mut Conn) -> QueryResult<Rows> {
    let alerted = "SELECT event_id FROM alert WHERE kind = 'exhausted' AND closed_us IS NULL";
    let marks = "SELECT id, partition, place, holder FROM mark";
    on!(conn, c => Ok(Rows {
        open: outbox_open::table.select(OpenRow::as_select()).load(c)?,
        settled: sql::<EventIdSql>("SELECT id FROM outbox_settled").load(c)?,
        alerted: sql::<Nullable<EventIdSql>>(alerted).load(c)?,
        marks: sql::<(EventIdSql, Integer, Nullable<BigInt>, Text)>(marks).load(c)?,
    }))
}

fn copied(conn: &mut Conn) -> QueryResult<Copied> {
    let versions = sql::<(Text, BigInt)>("SELECT key, version FROM copied_state");
    let effects = sql::<EventIdSql>("SELECT event_id FROM effect ORDER BY event_id");
    let (versions, effects): (Vec<(String, i64)>, Vec<EventId>) =
        on!(conn, c => (versions.load(c)?, effects.load(c)?));
    Ok(Copied { versions: versions.into_iter().collect(), effects })
}

/// What cost events attempts.
fn charged(conn: &mut Conn) -> QueryResult<Vec<(EventId, String)>> {
    let lines = "SELECT event_id, what FROM outbox_history \
                 WHERE what IN ('FAILED', 'REJECTED', 'OVERDUE', 'UNPRODUCIBLE')";
    on!(conn, c => sql::<(EventIdSql, Text)>(lines).load(c))
}

/// Alerts that are in no mail, and mails that have not left.
fn untold(conn: &mut Conn) -> QueryResult<i64> {
    let count = "SELECT (SELECT count(*) FROM alert WHERE closed_us IS NULL AND mail_seq IS NULL) \
                 + (SELECT count(*) FROM mail WHERE sent_us IS NULL)";
    on!(conn, c => sql::<BigInt>(count).get_result(c))
}
