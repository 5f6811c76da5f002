//! Events in every state, and requests to the routes.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, web};
use common::clock::{ManualClock, Timestamp};
use common::config::Settings;
use common::db::{Conn, Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{EventKind, EventType, NewEvent};
use common::http::unknown_route;
use common::ids::EventId;
use common::on;
use common::schema::{counter, outbox_history, outbox_settled, verification, verification_key};
use diesel::prelude::*;
use engine::kafka::EmbeddedBroker;
use engine::outbox::Outbox;
use engine::stats::Sampler;
use engine::verify::{self, Collection, Finding, KeyFinding, NewVerification, State};
use engine::views::{CopiedView, ViewCopy};
use engine::{Engine, HookContext, Hooks, counters};
use secrecy::SecretString;
use serde_json::Value;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::outbox::{change_open, remove_open};

use super::shelf::{Shelf, ShelfCommander};
use crate::access::Guard;
use crate::api::{Admin, configure};

const DEFAULTS: &str = include_str!("../../../../product-service/product-service.toml");

/// A status that a test wants an event to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    Pending,
    Sent,
    Exhausted,
    Resolved,
    Processed,
}

pub(crate) const SNAPSHOT: EventType =
    EventType { name: "stockloop.inventory.changed", kind: EventKind::Snapshot };
pub(crate) const COMMAND: EventType =
    EventType { name: "stockloop.order.placed", kind: EventKind::Command };

/// An answer of the routes.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Value,
}

impl ApiResponse {
    /// A header's text; empty if it is not there.
    pub(crate) fn header(&self, name: HeaderName) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is a problem of this status about this field ("" for none).
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, field: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header(CONTENT_TYPE), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["field"].as_str().unwrap_or_default(), field, "{self:?}");
        assert!(!self.body["detail"].as_str().unwrap().is_empty());
    }

    /// The items' values of one name.
    #[track_caller]
    pub(crate) fn items(&self, name: &str) -> Vec<String> {
        let items = self.body["items"].as_array().unwrap_or_else(|| panic!("a page, not {self:?}"));
        items.iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
    }
}

/// The routes on a database.
pub(crate) struct AdminFixture {
    pub(crate) db: Db,
    pub(crate) env: Env,
    pub(crate) clock: ManualClock,
    pub(crate) outbox: Outbox,
    pub(crate) sampler: Sampler,
    /// The whole engine; nothing of it runs.
    pub(crate) engine: Engine,
    settings: Settings,
    _database: TestDatabase,
}

/// A broker that every engine here may connect to, as long as the process lives.
static BROKERS: LazyLock<String> = LazyLock::new(|| {
    let broker = EmbeddedBroker::start().unwrap();
    let brokers = broker.brokers();
    std::mem::forget(broker);
    brokers
});

fn engine(db: Db, settings: &Settings, env: &Env) -> Engine {
    let (settings, env) = (settings.clone(), env.clone());
    let hooks = |_: &HookContext| Hooks {
        collection: Some(Collection::Owned(Arc::new(Shelf))),
        commander: Some(Arc::new(ShelfCommander)),
        ..Hooks::sends_only()
    };
    Engine::with_database(db, settings, env, "http://127.0.0.1:8081", hooks).unwrap().0
}

impl AdminFixture {
    pub(crate) fn new(database: TestDatabase) -> Self {
        Self::over(database.open(&[ENGINE_MIGRATIONS]), database)
    }

    /// On a database without any tables.
    pub(crate) fn unmigrated() -> Self {
        let database = TestDatabase::sqlite();
        Self::over(database.open(&[]), database)
    }

    fn over(db: Db, database: TestDatabase) -> Self {
        let clock = ManualClock::at("2026-01-05T12:00:00Z".parse().unwrap());
        let env = Env::seeded(std::sync::Arc::new(clock.clone()), 1);
        let mut settings = Settings::load(DEFAULTS, None).unwrap();
        settings.access.open = true;
        settings.kafka.brokers.clone_from(&BROKERS);
        let engine = engine(db, &settings, &env);
        Self {
            db: engine.db.clone(),
            outbox: engine.outbox.clone(),
            sampler: engine.sampler.clone(),
            env,
            clock,
            engine,
            settings,
            _database: database,
        }
    }

    /// The same with other settings.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        let (db, env) = (self.db.clone(), self.env.clone());
        self.engine = engine(db, &self.settings, &env);
        self
    }

    /// The same for a service that only has a copy.
    pub(crate) fn owning_nothing(mut self) -> Self {
        self.engine.verifier = None;
        self
    }

    /// The same for a service that keeps a copy of a view.
    pub(crate) fn copying_a_view(mut self) -> Self {
        let copied = CopiedView { topic: "purchases".to_owned(), view: Arc::new(Shelf) };
        self.engine.view = Some(ViewCopy::new(self.db.clone(), self.env.clone(), copied));
        self
    }

    /// Signing in is asked for, or `token`.
    pub(crate) fn guarded(mut self, token: &str) -> Self {
        self.settings.access.open = false;
        self.settings.http.admin_token = SecretString::from(token);
        self
    }

    /// The operators' side as the service would have it.
    pub(crate) fn admin(&self) -> Admin {
        let (db, env) = (self.db.clone(), self.env.clone());
        Admin::new(&self.engine, Guard::new(db, env, &self.settings, "http://127.0.0.1:8081"))
    }

    pub(crate) async fn call(&self, request: TestRequest) -> ApiResponse {
        let (status, headers, text) = self.ask(request).await;
        let body = match text.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        };
        ApiResponse { status, headers, body }
    }

    /// As [`AdminFixture::call`], with the `Host` that the request has.
    pub(crate) async fn call_as_is(&self, request: TestRequest) -> ApiResponse {
        let (status, headers, text) = self.send(request).await;
        ApiResponse { status, headers, body: serde_json::from_str(&text).unwrap() }
    }

    /// The status alone, also of an answer that has no end.
    pub(crate) async fn status(&self, request: TestRequest) -> u16 {
        let app = App::new().configure(configure(self.admin()));
        let app = init_service(app).await;
        let request = request.insert_header((HOST, "localhost"));
        call_service(&app, request.to_request()).await.status().as_u16()
    }

    async fn ask(&self, request: TestRequest) -> (u16, HeaderMap, String) {
        self.send(request.insert_header((HOST, "localhost"))).await
    }

    async fn send(&self, request: TestRequest) -> (u16, HeaderMap, String) {
        let app =
            App::new().configure(configure(self.admin())).default_service(web::to(unknown_route));
        let app = init_service(app).await;
        let response = call_service(&app, request.to_request()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = read_body(response).await;
        (status, headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> ApiResponse {
        let uri = format!("/api/admin/v1{path}");
        self.call(TestRequest::get().uri(&uri)).await
    }

    pub(crate) async fn get_text(&self, path: &str) -> String {
        let uri = format!("/api/admin/v1{path}");
        self.ask(TestRequest::get().uri(&uri)).await.2
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> ApiResponse {
        let uri = format!("/api/admin/v1{path}");
        self.call(TestRequest::post().uri(&uri).set_json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> ApiResponse {
        let uri = format!("/api/admin/v1{path}");
        self.call(TestRequest::put().uri(&uri).set_json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> ApiResponse {
        let uri = format!("/api/admin/v1{path}");
        self.call(TestRequest::delete().uri(&uri)).await
    }

    /// All pages of a list, walked to the end; the values of `name`, and how many pages there were.
    pub(crate) async fn walk(&self, path: &str, name: &str) -> (Vec<String>, usize) {
        let (mut all, mut pages, mut after) = (Vec::new(), 0, String::new());
        loop {
            let page = self.get(&format!("{path}&after={after}")).await;
            all.extend(page.items(name));
            pages += 1;
            match page.body["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => return (all, pages),
            }
        }
    }

    /// Runs `work` in a transaction.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db.write(|conn| work(conn).map_err(DbError::from)).await.unwrap()
    }

    /// An event of `key` with `version` in the state `is`, a second after the one before.
    pub(crate) async fn event(&self, key: &str, version: i64, is: Is) -> EventId {
        self.event_of(SNAPSHOT, key, version, is).await
    }

    /// PENDING events of these keys, at once.
    pub(crate) async fn events(&self, prefix: &'static str, keys: Vec<String>) {
        self.clock.advance(Duration::from_secs(1));
        let outbox = self.outbox.clone();
        let event = move |key: String| NewEvent {
            event_type: SNAPSHOT,
            key: format!("{prefix}{key}"),
            version: 1,
            payload: "{}".to_owned(),
            traceparent: None,
        };
        let events = keys.into_iter().map(event).collect();
        self.write(move |conn| outbox.append(conn, events)).await;
    }

    pub(crate) async fn event_of(
        &self,
        event_type: EventType,
        key: &str,
        version: i64,
        is: Is,
    ) -> EventId {
        self.clock.advance(Duration::from_secs(1));
        let (outbox, now) = (self.outbox.clone(), self.env.now());
        let event = NewEvent {
            event_type,
            key: key.to_owned(),
            version,
            payload: format!(r#"{{"sku":"{key}","price":2.550}}"#),
            traceparent: Some("00-1-2-01".to_owned()),
        };
        self.write(move |conn| {
            let id = outbox.append(conn, vec![event])?[0];
            bring(conn, id, is, now)?;
            Ok(id)
        })
        .await
    }

    /// A verification that has ended as `state`, with a key for each of `found`.
    pub(crate) async fn verified(&self, state: State, found: &[(&str, Finding)]) -> i64 {
        let new = NewVerification {
            consumer: "order-service".to_owned(),
            keys_of: None,
            share: 1_000,
            state,
            created_us: self.env.now(),
            created_by: "the schedule".to_owned(),
            created_via: "schedule".to_owned(),
        };
        let differ = found.iter().filter(|(_, finding)| finding.is_difference()).count();
        let counts = [differ, found.len() - differ].map(|count| i64::try_from(count).unwrap());
        let keys: Vec<_> = found.iter().map(|(key, what)| ((*key).to_owned(), *what)).collect();
        let now = self.env.now();
        self.write(move |conn| {
            let seq = verify::insert(conn, &new)?.unwrap();
            let keys = keys.into_iter().map(|(key, finding)| found_key(seq, key, finding, now));
            let keys: Vec<KeyFinding> = keys.collect();
            let ended = (
                verification::keys.eq(41_i64),
                verification::differences.eq(counts[0]),
                verification::waiting.eq(counts[1]),
                verification::started_us.eq(now),
                verification::ended_us.eq(now.after(Duration::from_secs(2))),
            );
            on!(conn, c => {
                diesel::update(verification::table.find(seq)).set(ended).execute(c)?;
                diesel::insert_into(verification_key::table).values(keys).execute(c)?;
            });
            Ok(seq)
        })
        .await
    }

    pub(crate) async fn history(&self, id: EventId, attempt: i32, what: &str, error: &str) {
        let line = (
            outbox_history::event_id.eq(id),
            outbox_history::at_us.eq(self.env.now()),
            outbox_history::attempt.eq(attempt),
            outbox_history::sent_us.eq(self.env.now()),
            outbox_history::what.eq(what.to_owned()),
            outbox_history::error.eq((!error.is_empty()).then(|| error.to_owned())),
        );
        self.write(move |conn| {
            on!(conn, c => diesel::insert_into(outbox_history::table).values(line).execute(c))
        })
        .await;
    }
}

fn found_key(verification: i64, key: String, finding: Finding, now: Timestamp) -> KeyFinding {
    let missing = finding == Finding::Missing;
    KeyFinding {
        verification,
        key,
        finding,
        looks: 1,
        due_us: now,
        owner_version: Some(5),
        owner_removed: Some(false),
        copy_epoch: (!missing).then_some(2),
        copy_version: (!missing).then_some(4),
        copy_removed: (!missing).then_some(true),
        event_id: None,
        found_us: now,
    }
}

/// Writes what the engine would have written for an event to be in this state.
fn bring(conn: &mut Conn, id: EventId, is: Is, now: Timestamp) -> QueryResult<()> {
    if is == Is::Processed {
        return settle(conn, id, now);
    }
    let (code, attempts) = match is {
        Is::Pending => return Ok(()),
        Is::Sent => (1_i16, 1),
        _ => (2_i16, 5),
    };
    change_open(conn, id, |open| {
        (open.status, open.attempt) = (code, attempts);
        (open.partition, open.sent_us) = (Some(3), Some(now));
        open.resolved_us = (is == Is::Resolved).then_some(now);
    })
}

fn settle(conn: &mut Conn, id: EventId, now: Timestamp) -> QueryResult<()> {
    let settlement = (
        outbox_settled::id.eq(id),
        outbox_settled::outcome.eq(0_i16),
        outbox_settled::detail.eq("applied"),
        outbox_settled::attempt.eq(2),
        outbox_settled::partition.eq(3),
        outbox_settled::sent_us.eq(now),
        outbox_settled::settled_us.eq(now.after(Duration::from_millis(5))),
        outbox_settled::processed_us.eq(now.after(Duration::from_millis(3))),
        outbox_settled::version.eq(7_i64),
        outbox_settled::consumer.eq("order-service"),
        outbox_settled::result.eq(r#"{"copied":1.50}"#),
    );
    let slot = id.uuid().as_u128().rem_euclid(3);
    let slot = i16::try_from(slot).unwrap();
    remove_open(conn, id)?;
    on!(conn, c => {
        diesel::insert_into(outbox_settled::table).values(settlement).execute(c)?;
        diesel::insert_into(counter::table)
            .values((counter::name.eq(counters::PROCESSED), counter::slot.eq(slot), counter::value.eq(1_i64)))
            .on_conflict((counter::name, counter::slot))
            .do_update()
            .set(counter::value.eq(counter::value + 1))
            .execute(c)?;
    });
    Ok(())
}
