//! Looks at a service's database from outside, before and after a measurement: how far its events are.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::{outbox_failed, outbox_pending, outbox_sent, outbox_settled};
use diesel::dsl::{exists, min};
use diesel::prelude::*;

use crate::bench::wait::Wait;

/// How often it is looked whether all is settled, while nothing is measured.
const LOOK: Duration = Duration::from_millis(50);

/// How long nothing may move before it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// What was left to settle when the last change was answered.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Settled {
    /// Events that were open then.
    pub(in crate::bench) open: i64,
    /// How long it took until none was.
    pub(in crate::bench) took: Duration,
}

/// Waits until no event is open.
pub(in crate::bench) fn settle(database: &mut Conn) -> Result<Settled> {
    let began = Instant::now();
    let at_first = open_events(database)?;
    let (mut open, mut least, mut fell) = (at_first, at_first, began);
    while open > 0 {
        ensure!(
            fell.elapsed() < PATIENCE,
            "{open} events are open, and for {PATIENCE:?} they became no fewer: does the relay send them, and does their consumer answer?"
        );
        thread::sleep(LOOK);
        open = open_events(database)?;
        if open < least {
            (least, fell) = (open, Instant::now());
        }
    }
    Ok(Settled { open: at_first, took: began.elapsed() })
}

/// Events that are PENDING or SENT.
fn open_events(conn: &mut Conn) -> QueryResult<i64> {
    let [pending, sent]: [i64; 2] = on!(conn, c => [
        outbox_pending::table.count().get_result(c)?,
        outbox_sent::table.count().get_result(c)?,
    ]);
    Ok(pending + sent)
}

/// Events a second, from when the first was handed to the producer until all were SENT, which `ended` then.
pub(in crate::bench) fn sent_per_s(
    conn: &mut Conn,
    events: usize,
    ended: Timestamp,
) -> Result<f64> {
    ensure_sent(conn, events)?;
    let took = ended.since(first_sent(conn)?).as_secs_f64();
    ensure!(took > 0.0, "no time passed between the first event and the last: give more --events");
    Ok(events as f64 / took)
}

/// Fails unless all of `events`, and nothing else, is SENT.
fn ensure_sent(conn: &mut Conn, events: usize) -> Result<()> {
    let sent: i64 = on!(conn, c => outbox_sent::table.count().get_result(c))?;
    let pending = diesel::select(exists(outbox_pending::table.select(outbox_pending::id)));
    let failed = diesel::select(exists(outbox_failed::table.select(outbox_failed::id)));
    let open: [bool; 2] = on!(conn, c => [pending.get_result(c)?, failed.get_result(c)?]);
    ensure!(
        open == [false; 2] && usize::try_from(sent) == Ok(events),
        "{sent} of {events} events are SENT in the end, or others are not: the figures mean nothing"
    );
    Ok(())
}

/// When the first event was handed to the producer that is SENT now.
fn first_sent(conn: &mut Conn) -> Result<Timestamp> {
    let first = outbox_sent::table.select(min(outbox_sent::sent_us));
    let first: Option<Timestamp> = on!(conn, c => first.first(c))?;
    first.context("no event is SENT")
}

/// A settled event: when it was handed to the producer, and when its answer was settled.
#[derive(Debug, Clone, Copy, Queryable)]
pub(in crate::bench) struct Passage {
    sent_us: Option<Timestamp>,
    settled_us: Timestamp,
}

impl Passage {
    /// When it was handed to the producer.
    pub(in crate::bench) fn sent(self) -> Option<Timestamp> {
        self.sent_us
    }

    /// From there until it was settled, in ms.
    pub(in crate::bench) fn took_ms(self) -> Option<f64> {
        Some(self.settled_us.since(self.sent_us?).as_secs_f64() * 1e3)
    }
}

/// Waits until it is known when each settled event that was made after `after` was sent: what another program sends is seen
/// on the topic, and may be settled before.
pub(in crate::bench) fn wait_until_placed(conn: &mut Conn, after: EventId) -> Result<()> {
    use outbox_settled as s;
    let unplaced = || -> Result<Option<i64>> {
        let unknown = s::table.filter(s::id.gt(after)).filter(s::sent_us.is_null()).count();
        let unknown: i64 = on!(&mut *conn, c => unknown.get_result(c))?;
        Ok((unknown > 0).then_some(unknown))
    };
    let wait = Wait { look: LOOK, within: PATIENCE };
    wait.until_none(unplaced, |unknown| format!("{unknown} settled events were seen on no topic"))
}

/// Of all events that were made after `after` and are settled.
pub(in crate::bench) fn passages(conn: &mut Conn, after: EventId) -> QueryResult<Vec<Passage>> {
    use outbox_settled as s;
    let settled = s::table.filter(s::id.gt(after)).select((s::sent_us, s::settled_us));
    on!(conn, c => settled.load(c))
}
