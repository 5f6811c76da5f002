//! What goes and what stays, on every database.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use common::clock::{ManualClock, Timestamp};
use common::config::Settings;
use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{EventKind, EventType, NewEvent};
use common::ids::EventId;
use common::on;
use common::schema::{
    alert, alert_silence, audit, bulk_item, bulk_job, bulk_preview, bulk_preview_event, counter,
    dead_letter, mail, operator, operator_session, outbox_event, outbox_history, outbox_open,
    outbox_settled, webhook,
};
use common::telemetry::Spans;
use diesel::prelude::*;
use stockloop_tests::outbox::{change_open, remove_open};
use stockloop_tests::{database::TestDatabase, on_every_database};

use super::{Retention, run_once};
use crate::bulk::{self, Matches, Selection};
use crate::counters;
use crate::outbox::Outbox;

on_every_database!(RetentionFixture::new =>
    closed_alerts_go_with_their_messages_and_open_ones_stay,
    silences_go_when_they_are_over,
    actions_go_by_their_own_age,
    ended_jobs_go_with_what_they_touched,
    sessions_go,
    a_preview_goes_unless_its_job_needs_it,
    what_was_retried_again_stays,
    a_year_leaves_what_is_young_and_what_is_open,
    nothing_goes_by_default,
);

const DEFAULTS: &str = include_str!("../../../product-service/product-service.toml");
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const OLD: Timestamp = Timestamp::from_micros(1_000);
const LIMIT: Timestamp = Timestamp::from_micros(2_000);
const YOUNG: Timestamp = Timestamp::from_micros(3_000);

struct RetentionFixture {
    db: Db,
    _database: TestDatabase,
}

impl RetentionFixture {
    fn new(database: TestDatabase) -> Self {
        Self { db: database.open(&[ENGINE_MIGRATIONS]), _database: database }
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db.write::<_, DbError>(move |conn| Ok(work(conn)?)).await.unwrap()
    }

    async fn forget(&self, retention: Retention) -> usize {
        let mut gone = 0;
        loop {
            match run_once(&self.db, retention).await.unwrap() {
                0 => return gone,
                more => gone += more,
            }
        }
    }
}

fn alerts() -> Retention {
    Retention { alerts: LIMIT, ..Retention::default() }
}

fn add_mail(conn: &mut Conn, id: &str, sent: Option<Timestamp>) -> QueryResult<i64> {
    let row = (
        mail::message_id.eq(id),
        mail::recipients.eq("[]"),
        mail::subject.eq("s"),
        mail::text.eq("t"),
        mail::html.eq("h"),
        mail::created_us.eq(OLD),
        mail::due_us.eq(OLD),
        mail::sent_us.eq(sent),
    );
    on!(conn, c => diesel::insert_into(mail::table).values(row).returning(mail::seq).get_result(c))
}

fn add_call(conn: &mut Conn, id: &str, sent: Option<Timestamp>) -> QueryResult<i64> {
    let row = (
        webhook::delivery_id.eq(id),
        webhook::body.eq("{}"),
        webhook::created_us.eq(OLD),
        webhook::due_us.eq(OLD),
        webhook::sent_us.eq(sent),
    );
    on!(conn, c => diesel::insert_into(webhook::table)
        .values(row)
        .returning(webhook::seq)
        .get_result(c))
}

fn add_alert(
    conn: &mut Conn,
    subject: &str,
    closed: Option<Timestamp>,
    (mail, call): (i64, i64),
) -> QueryResult<usize> {
    let row = (
        alert::kind.eq("exhausted"),
        alert::subject.eq(subject),
        alert::created_us.eq(OLD),
        alert::closed_us.eq(closed),
        alert::mail_seq.eq(mail),
        alert::webhook_seq.eq(call),
    );
    on!(conn, c => diesel::insert_into(alert::table).values(row).execute(c))
}

async fn closed_alerts_go_with_their_messages_and_open_ones_stay(fixture: RetentionFixture) {
    fixture
        .write(|conn| {
            let shared =
                (add_mail(conn, "shared", Some(OLD))?, add_call(conn, "shared", Some(OLD))?);
            let lone = (add_mail(conn, "lone", Some(OLD))?, add_call(conn, "lone", Some(OLD))?);
            add_mail(conn, "unsent", None)?;
            add_call(conn, "unsent", None)?;
            add_mail(conn, "young", Some(YOUNG))?;
            add_alert(conn, "open", None, shared)?;
            add_alert(conn, "old", Some(OLD), shared)?;
            add_alert(conn, "young", Some(YOUNG), shared)?;
            add_alert(conn, "lone", Some(OLD), lone)
        })
        .await;
    assert_eq!(fixture.forget(alerts()).await, 4);
    let (subjects, mails, calls) = fixture
        .write(|conn| {
            let subjects: Vec<String> =
                on!(&mut *conn, c => alert::table.order(alert::seq).select(alert::subject).load(c))?;
            let mails: Vec<String> =
                on!(&mut *conn, c => mail::table.order(mail::seq).select(mail::message_id).load(c))?;
            let calls: Vec<String> = on!(conn, c => webhook::table
                .order(webhook::seq)
                .select(webhook::delivery_id)
                .load(c))?;
            Ok((subjects, mails, calls))
        })
        .await;
    assert_eq!(subjects, ["open", "young"]);
    assert_eq!(mails, ["shared", "unsent", "young"]);
    assert_eq!(calls, ["shared", "unsent"]);
}

async fn silences_go_when_they_are_over(fixture: RetentionFixture) {
    fixture
        .write(|conn| {
            for (reason, until) in [("over", OLD), ("holds", YOUNG)] {
                let row = (
                    alert_silence::reason.eq(reason),
                    alert_silence::created_us.eq(OLD),
                    alert_silence::until_us.eq(until),
                    alert_silence::by_whom.eq("anna"),
                );
                on!(&mut *conn, c => diesel::insert_into(alert_silence::table)
                    .values(row)
                    .execute(c))?;
            }
            Ok(())
        })
        .await;
    assert_eq!(fixture.forget(alerts()).await, 1);
    let left: Vec<String> = fixture
        .write(|conn| on!(conn, c => alert_silence::table.select(alert_silence::reason).load(c)))
        .await;
    assert_eq!(left, ["holds"]);
}

async fn actions_go_by_their_own_age(fixture: RetentionFixture) {
    fixture
        .write(|conn| {
            for n in 0..2_500_i64 {
                let at = if n < 2_400 { OLD } else { YOUNG };
                let row = (
                    audit::at_us.eq(at),
                    audit::who.eq("anna"),
                    audit::via.eq("session"),
                    audit::action.eq("event.retry"),
                );
                on!(&mut *conn, c => diesel::insert_into(audit::table).values(row).execute(c))?;
            }
            Ok(())
        })
        .await;
    assert_eq!(fixture.forget(alerts()).await, 0);
    let retention = Retention { audit: LIMIT, ..Retention::default() };
    assert_eq!(fixture.forget(retention).await, 2_400);
}

async fn ended_jobs_go_with_what_they_touched(fixture: RetentionFixture) {
    fixture
        .write(|conn| {
            for (number, ended) in [Some(OLD), None, Some(YOUNG)].into_iter().enumerate() {
                let row = (
                    bulk_job::action.eq("retry"),
                    bulk_job::selection.eq("{}"),
                    bulk_job::state.eq(if ended.is_some() { 2_i16 } else { 1 }),
                    bulk_job::expected.eq(1_i64),
                    bulk_job::created_us.eq(OLD),
                    bulk_job::created_by.eq("anna"),
                    bulk_job::created_via.eq("session"),
                    bulk_job::ended_us.eq(ended),
                );
                let job: i64 = on!(&mut *conn, c => diesel::insert_into(bulk_job::table)
                    .values(row)
                    .returning(bulk_job::seq)
                    .get_result(c))?;
                let items: Vec<_> = (0..1_200_u128)
                    .map(|n| {
                        let id = uuid::Uuid::from_u128(n + u128::try_from(number).unwrap() * 5_000);
                        (bulk_item::job.eq(job), bulk_item::event_id.eq(EventId::from_uuid(id)))
                    })
                    .collect();
                on!(&mut *conn, c => diesel::insert_into(bulk_item::table)
                    .values(&items)
                    .execute(c))?;
            }
            Ok(())
        })
        .await;
    let retention = Retention { audit: LIMIT, ..Retention::default() };
    assert_eq!(fixture.forget(retention).await, 1_201);
    let left: i64 =
        fixture.write(|conn| on!(conn, c => bulk_job::table.count().get_result(c))).await;
    assert_eq!(left, 2);
}

async fn sessions_go(fixture: RetentionFixture) {
    fixture
        .write(|conn| {
            let row = (
                operator::name.eq("anna"),
                operator::password_hash.eq("x"),
                operator::role.eq(1_i16),
                operator::created_us.eq(OLD),
                operator::created_by.eq("setup"),
            );
            on!(&mut *conn, c => diesel::insert_into(operator::table).values(row).execute(c))?;
            for (hash, created) in [("a", OLD), ("b", YOUNG)] {
                let row = (
                    operator_session::hash.eq(hash),
                    operator_session::operator.eq("anna"),
                    operator_session::created_us.eq(created),
                    operator_session::seen_us.eq(created),
                );
                on!(&mut *conn, c => diesel::insert_into(operator_session::table)
                    .values(row)
                    .execute(c))?;
            }
            Ok(())
        })
        .await;
    let retention = Retention { sessions: LIMIT, ..Retention::default() };
    assert_eq!(fixture.forget(retention).await, 1);
}

async fn nothing_goes_by_default(fixture: RetentionFixture) {
    fixture
        .write(|conn| {
            let messages = (add_mail(conn, "m", Some(OLD))?, add_call(conn, "c", Some(OLD))?);
            add_alert(conn, "closed", Some(OLD), messages)
        })
        .await;
    assert_eq!(fixture.forget(Retention::default()).await, 0);
    let settings = Settings::load(DEFAULTS, None).unwrap();
    let now = OLD.after(Duration::from_secs(89 * 24 * 60 * 60));
    assert_eq!(fixture.forget(Retention::of(&settings, now)).await, 0);
    let now = OLD.after(Duration::from_secs(91 * 24 * 60 * 60));
    assert_eq!(fixture.forget(Retention::of(&settings, now)).await, 3);
}

/// A preview that lists `count` events; its number.
fn add_preview(conn: &mut Conn, count: u128, at: Timestamp) -> QueryResult<i64> {
    let selection = Selection::Filter(Default::default());
    let id = |n| EventId::from_uuid(uuid::Uuid::from_u128(n));
    let found = Matches { ids: (1..=count).map(id).collect(), at_least: false };
    Ok(bulk::keep_preview(conn, &selection, &found, at)?.unwrap())
}

async fn a_preview_goes_unless_its_job_needs_it(fixture: RetentionFixture) {
    fixture
        .write(|conn| {
            add_preview(conn, 1_200, OLD)?;
            for (action, state) in [("done", 2_i16), ("running", 1)] {
                let row = (
                    bulk_job::action.eq(action),
                    bulk_job::selection.eq("{}"),
                    bulk_job::state.eq(state),
                    bulk_job::expected.eq(1_i64),
                    bulk_job::created_us.eq(OLD),
                    bulk_job::created_by.eq("anna"),
                    bulk_job::created_via.eq("session"),
                    bulk_job::preview.eq(Some(add_preview(conn, 3, OLD)?)),
                );
                on!(&mut *conn, c => diesel::insert_into(bulk_job::table).values(row).execute(c))?;
            }
            add_preview(conn, 5, YOUNG)
        })
        .await;
    let retention = Retention { previews: LIMIT, ..Retention::default() };
    assert_eq!(fixture.forget(retention).await, 1_201 + 4);
    let left: Vec<i64> = fixture
        .write(|conn| {
            on!(conn, c => bulk_preview::table
                .order(bulk_preview::seq)
                .select(bulk_preview::seq)
                .load(c))
        })
        .await;
    assert_eq!(left, [3, 4]);
    let listed: i64 =
        fixture.write(|conn| on!(conn, c => bulk_preview_event::table.count().get_result(c))).await;
    assert_eq!(listed, 3 + 5);
}

const SNAPSHOT: EventType =
    EventType { name: "stockloop.inventory.changed", kind: EventKind::Snapshot };

fn event() -> NewEvent {
    NewEvent {
        event_type: SNAPSHOT,
        key: "TEA".to_owned(),
        version: 1,
        payload: "{}".to_owned(),
        traceparent: None,
    }
}

fn outbox(clock: &ManualClock) -> (Outbox, Env) {
    let env = Env::seeded(Arc::new(clock.clone()), 1);
    (Outbox::new(env.clone(), 5, Spans::off(env.clone())), env)
}

async fn what_was_retried_again_stays(fixture: RetentionFixture) {
    let (outbox, _) = outbox(&ManualClock::at(OLD));
    fixture
        .write(move |conn| {
            // A row of an older program may still carry the moment at which it was resolved.
            let ids = outbox.append(conn, vec![event(), event(), event()])?;
            for (id, status, resolved) in
                [(ids[0], 0, Some(OLD)), (ids[1], 2, None), (ids[2], 2, Some(YOUNG))]
            {
                change_open(conn, id, |open| {
                    (open.status, open.attempt, open.resolved_us) = (status, 1, resolved);
                })?;
            }
            Ok(())
        })
        .await;
    let retention = Retention { resolved: LIMIT, ..Retention::default() };
    assert_eq!(fixture.forget(retention).await, 0);
}

/// One event arrives, one gives up and is resolved, one dead letter is discarded, one preview is looked at.
fn live_a_day(conn: &mut Conn, outbox: &Outbox, now: Timestamp) -> QueryResult<()> {
    let ids = outbox.append(conn, vec![event(), event()])?;
    let settled = (
        outbox_settled::id.eq(ids[0]),
        outbox_settled::outcome.eq(0_i16),
        outbox_settled::attempt.eq(1),
        outbox_settled::settled_us.eq(now),
        outbox_settled::consumer.eq("order-service"),
    );
    let line = (
        outbox_history::event_id.eq(ids[1]),
        outbox_history::at_us.eq(now),
        outbox_history::attempt.eq(1),
        outbox_history::what.eq("RESOLVED"),
    );
    remove_open(conn, ids[0])?;
    change_open(conn, ids[1], |open| {
        (open.status, open.attempt, open.resolved_us) = (2, 1, Some(now));
    })?;
    on!(&mut *conn, c => {
        diesel::insert_into(outbox_settled::table).values(settled).execute(c)?;
        diesel::insert_into(outbox_history::table).values(line).execute(c)?;
    });
    counters::add(conn, counters::PROCESSED, now, 1)?;
    add_dead_letter(conn, now, Some(now))?;
    add_preview(conn, 2, now)?;
    Ok(())
}

fn add_dead_letter(
    conn: &mut Conn,
    at: Timestamp,
    handled: Option<Timestamp>,
) -> QueryResult<usize> {
    let row = (
        dead_letter::topic.eq("orders"),
        dead_letter::partition.eq(0),
        dead_letter::offset.eq(at.micros()),
        dead_letter::hash.eq(if handled.is_some() { "handled" } else { "waiting" }),
        dead_letter::bytes.eq(b"{".to_vec()),
        dead_letter::error.eq("no JSON"),
        dead_letter::at_us.eq(at),
        dead_letter::state.eq(if handled.is_some() { 2_i16 } else { 0 }),
        dead_letter::handled_us.eq(handled),
    );
    on!(conn, c => diesel::insert_into(dead_letter::table).values(row).execute(c))
}

/// How many rows there are: open, settled, events, history, dead letters, previews.
fn rows(conn: &mut Conn) -> QueryResult<[i64; 6]> {
    on!(conn, c => Ok([
        outbox_open::table.count().get_result(c)?,
        outbox_settled::table.count().get_result(c)?,
        outbox_event::table.count().get_result(c)?,
        outbox_history::table.count().get_result(c)?,
        dead_letter::table.count().get_result(c)?,
        bulk_preview::table.count().get_result(c)?,
    ]))
}

async fn a_year_leaves_what_is_young_and_what_is_open(fixture: RetentionFixture) {
    let settings = Settings::load(DEFAULTS, None).unwrap();
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let (outbox, env) = outbox(&clock);
    let (first, now) = (outbox.clone(), env.now());
    fixture
        .write(move |conn| {
            first.append(conn, vec![event()])?;
            add_dead_letter(conn, now, None)
        })
        .await;
    for _ in 0..365 {
        let (outbox, now) = (outbox.clone(), env.now());
        fixture.write(move |conn| live_a_day(conn, &outbox, now)).await;
        clock.advance(DAY);
        fixture.forget(Retention::of(&settings, env.now())).await;
    }
    assert_eq!(fixture.write(rows).await, [90 + 1, 30, 30 + 90 + 1, 90, 90 + 1, 1]);
    // What was committed does not become less by being forgotten.
    let forgotten: Vec<i64> = fixture
        .write(|conn| {
            on!(conn, c => counter::table
                .filter(counter::name.eq(counters::FORGOTTEN))
                .select(counter::value)
                .load(c))
        })
        .await;
    assert_eq!(forgotten.iter().sum::<i64>(), 365 - 90);
}
