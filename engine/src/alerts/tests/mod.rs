//! Alerts, digests and mails, each test on every database.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod condition;
mod digest;
mod model;
mod over;
mod render;
mod sender;
mod settings;
mod silences;
mod smtp;
mod webhook;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use common::clock::{ManualClock, Timestamp};
use common::config::{AlertSettings, MailSettings, MailTls, MailTransport, WebhookSettings};
use common::db::{Db, DbError, ENGINE_MIGRATIONS};
use common::env::Env;
use common::event::{EventKind, EventRow};
use common::ids::EventId;
use common::on;
use common::schema::{mail, outbox_event};
use diesel::prelude::*;
use stockloop_tests::database::TestDatabase;
use uuid::Uuid;

use super::{AlertFilter, Alerts, NewAlert};

const START: Timestamp = Timestamp::from_micros(1_291_191_960_123_456);

/// A fresh database, a clock that stands still, and settings to change.
struct Fixture {
    db: Db,
    clock: ManualClock,
    env: Env,
    alerts: AlertSettings,
    mail: MailSettings,
    webhook: WebhookSettings,
    _database: TestDatabase,
}

impl Fixture {
    fn new(database: TestDatabase) -> Self {
        let clock = ManualClock::at(START);
        Self {
            db: database.open(&[ENGINE_MIGRATIONS]),
            env: Env::seeded(Arc::new(clock.clone()), 7),
            clock,
            alerts: alert_settings(),
            mail: mail_settings(),
            webhook: webhook_settings(),
            _database: database,
        }
    }

    fn alerts(&self) -> Alerts {
        let Self { alerts, mail, webhook, .. } = self;
        Alerts::new("product-service", "http://shop.test/", alerts, mail, webhook).unwrap()
    }

    /// Stores `event` and raises the alert that it is exhausted.
    async fn exhaust(&self, event: &EventRow) {
        let (event, now) = (event.clone(), START);
        let new = NewAlert::exhausted(&event.facts(), 5, "the SKU is in quarantine");
        self.write(move |conn| {
            on!(conn, c => diesel::insert_into(outbox_event::table).values(&event).execute(c))?;
            assert!(super::raise(conn, now, new)?);
            Ok(())
        })
        .await;
    }

    /// Stores and exhausts events `from` to `to`, with the keys `K0`, `K1`, …
    async fn exhaust_many(&self, from: u32, to: u32) {
        for n in from..to {
            self.exhaust(&event(n, &format!("K{n}"), 1)).await;
        }
    }

    /// Raises that events of these numbers gave up at their first attempt, with what `error` says of each; they are not
    /// stored.
    async fn give_up(&self, numbers: Range<u32>, error: fn(u32) -> String) {
        let exhausted =
            move |n: u32| NewAlert::exhausted(&event(n, &format!("K{n}"), 1).facts(), 1, &error(n));
        self.write(move |conn| super::raise_all(conn, START, numbers.map(exhausted).collect()))
            .await;
    }

    /// The texts of all mails.
    async fn texts(&self) -> Vec<String> {
        self.write(|conn| on!(conn, c => mail::table.order(mail::seq).select(mail::text).load(c)))
            .await
    }

    /// Each mail tells of as many alerts, listed and counted ones together, as are noted to be in it; returns how many
    /// all of them tell of.
    async fn assert_mails_tell_what_is_in_them(&self) -> usize {
        let mut mails = self.write(|conn| super::mail::list(conn, None, None, 10_000)).await;
        mails.reverse();
        let texts = self.texts().await;
        assert_eq!(mails.len(), texts.len());
        for (mail, text) in mails.iter().zip(&texts) {
            assert_eq!(usize::try_from(mail.delivery.alerts), Ok(told(text)), "{text}");
        }
        texts.iter().map(|text| told(text)).sum()
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut common::db::Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        let done = self.db.write::<_, DbError>(move |conn| Ok(work(conn)?));
        done.await.unwrap()
    }

    async fn list(&self, filter: AlertFilter) -> Vec<super::Alert> {
        let now = self.env.now();
        self.write(move |conn| super::list(conn, now, &filter, None, 10_000)).await
    }

    /// The mail of the newest alert.
    async fn mail_of_alert(&self) -> super::AlertMail {
        self.list(AlertFilter::default()).await.remove(0).mail.unwrap()
    }
}

/// Alerts that reach nobody.
pub(crate) fn alerts_to_nobody() -> Alerts {
    let (alerts, mail, webhook) = (alert_settings(), mail_settings(), webhook_settings());
    Alerts::new("order-service", "http://shop.test/", &alerts, &mail, &webhook).unwrap()
}

fn alert_settings() -> AlertSettings {
    AlertSettings {
        recipients: vec!["ops@shop.test".to_owned(), "Night Shift <night@shop.test>".to_owned()],
        digest_delay: Duration::from_secs(60),
        digest_size: 50,
        tell_when_over: false,
        cron: "*/5 * * * * *".to_owned(),
        retention: Duration::from_secs(90 * 24 * 60 * 60),
    }
}

fn mail_settings() -> MailSettings {
    MailSettings {
        transport: MailTransport::Memory,
        from: "Stockloop <stockloop@shop.test>".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 25,
        tls: MailTls::None,
        ca_file: String::new(),
        username: String::new(),
        password: String::new().into(),
        timeout: Duration::from_secs(30),
        retry_base: Duration::from_secs(10),
        retry_max: Duration::from_secs(600),
        directory: String::new(),
    }
}

/// Off.
fn webhook_settings() -> WebhookSettings {
    WebhookSettings {
        url: String::new(),
        secret: String::new().into(),
        ca_file: String::new(),
        timeout: Duration::from_secs(10),
        retry_base: Duration::from_secs(10),
        retry_max: Duration::from_secs(600),
    }
}

/// Event number `n`, a snapshot.
fn event(n: u32, key: &str, version: i64) -> EventRow {
    EventRow {
        id: event_id(n),
        kind: EventKind::Snapshot,
        event_type: "stockloop.inventory.changed".to_owned(),
        key: key.to_owned(),
        epoch: 1,
        version,
        payload: "{}".to_owned(),
        traceparent: None,
        created_us: START.before(Duration::from_secs(300)),
    }
}

fn event_id(n: u32) -> EventId {
    EventId::from_uuid(Uuid::from_u128(0x0190_a000_0000_7000_8000_0000_0000_0000 + u128::from(n)))
}

/// How many alerts the text of a mail tells of: those that it lists, and those that it counts.
fn told(text: &str) -> usize {
    let counted = |line: &str| -> Option<usize> {
        let (number, _) = line.strip_prefix("-  ")?.split_once(' ')?;
        number.parse().ok()
    };
    let listed = text.lines().filter(|line| line.trim_start().starts_with("event ")).count();
    listed + text.lines().filter_map(counted).sum::<usize>()
}

/// A raw mail, read.
fn parsed(raw: &[u8]) -> mail_parser::Message<'_> {
    mail_parser::MessageParser::default().parse(raw).unwrap()
}
