//! What hinders a whole loop: told once, as one alert that names the cause, and closed when it is over.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use diesel::QueryResult;
use tokio::sync::Mutex;

use super::{AlertKind, Alerts, NewAlert, close_about, raise};

/// A condition of one loop of this process; tasks of it may say what they see at the same time.
pub struct Condition {
    db: Db,
    env: Env,
    alerts: Alerts,
    kind: AlertKind,
    /// What tells its alert apart from others of the kind.
    key: Option<String>,
    /// How long it has to last before people are told.
    patience: Duration,
    /// Held while the database is told, so that what is said last is what is told last.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Timestamp>,
    /// Whether its alert may be open: not known at first, since an earlier process may have raised it.
    told: Told,
}

#[derive(Default)]
enum Told {
    #[default]
    Unknown,
    /// It is open, as of then.
    Yes(Timestamp),
    /// It is closed, as of then.
    No(Timestamp),
}

/// How often an instance that is hindered says so.
const AGAIN: Duration = Duration::from_secs(10);

/// How often an instance that is well looks for an alert of one that is gone.
const GONE: Duration = Duration::from_secs(3_600);

impl Condition {
    /// One that has not been met yet.
    pub fn new(db: Db, env: Env, alerts: Alerts, kind: AlertKind, patience: Duration) -> Self {
        Self { db, env, alerts, kind, key: None, patience, state: Mutex::default() }
    }

    /// The same with an alert of its own beside others of its kind, told apart by `key`.
    #[must_use]
    pub fn about_key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// It is met: once it has lasted, and if `matters` then, `alert` is raised.
    ///
    /// A database that can't take the alert is asked again the next time.
    pub async fn met(
        &self,
        matters: impl FnOnce(&mut Conn, Timestamp) -> QueryResult<bool> + Send + 'static,
        alert: NewAlert,
    ) {
        self.met_since(self.env.now(), matters, alert).await;
    }

    /// It is met, and is known to have been since `begun`.
    pub async fn met_since(
        &self,
        begun: Timestamp,
        matters: impl FnOnce(&mut Conn, Timestamp) -> QueryResult<bool> + Send + 'static,
        alert: NewAlert,
    ) {
        let mut state = self.state.lock().await;
        let now = self.env.now();
        // A clock that was set back begins anew.
        let since = state.since.filter(|since| *since <= now).unwrap_or(now).min(begun);
        state.since = Some(since);
        // Told again and again, though it stays one alert: another instance that is well may have closed it.
        let told_lately = matches!(state.told, Told::Yes(at) if at <= now && now.since(at) < AGAIN);
        if now.since(since) < self.patience || told_lately {
            return;
        }
        let before = now.before(self.patience);
        let alert = alert.about_key(self.key.as_deref());
        let raised = self.db.write::<_, DbError>(move |conn| {
            let matters = matters(conn, before)?;
            if matters {
                raise(conn, now, alert)?;
            }
            Ok(matters)
        });
        match raised.await {
            Ok(true) => {
                state.told = Told::Yes(now);
                self.alerts.wake();
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, kind = self.kind.name(), "an alert can't be raised yet")
            }
        }
    }

    /// It is not met, or not any more.
    pub async fn ended(&self, because: &'static str) {
        let mut state = self.state.lock().await;
        state.since = None;
        let (now, kind, key) = (self.env.now(), self.kind, self.key.clone());
        // Looked at now and then: an instance that told it may be gone for good.
        if matches!(state.told, Told::No(at) if at <= now && now.since(at) < GONE) {
            return;
        }
        let closed = self.db.write::<_, DbError>(move |conn| {
            Ok(close_about(conn, now, kind, key.as_deref(), because)?)
        });
        match closed.await {
            Ok(_) => state.told = Told::No(now),
            Err(error) => {
                tracing::debug!(%error, kind = kind.name(), "an alert can't be closed yet")
            }
        }
    }
}
