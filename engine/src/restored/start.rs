//! How a person has a database that came back from a backup mended.

use std::sync::Arc;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::env::Env;
use common::on;
use common::schema::service_state;
use diesel::QueryResult;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Notify;
use utoipa::ToSchema;

use super::model::{self, Restoration, State};
use crate::alerts::{self, AlertKind};
use crate::audit::{Actor, AuthMethod};
use crate::bulk::JobState;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::resync::{self, NewResync, ResyncKind, ResyncSelection, Which};

/// Which side of the loop a service is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// It owns the states: what the world has seen of later ones is superseded.
    Owner,
    /// It has a copy: it asks for what it misses.
    Copy,
}

impl Side {
    /// As people see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Copy => "copy",
        }
    }
}

/// What shows that a database is behind, where nothing else does.
pub(super) const BY_PERSON: &str = "a person says so";

/// What mends a database that came back from a backup; cheap to clone.
#[derive(Clone)]
pub struct Restorer {
    /// The service's database.
    pub db: Db,
    /// Time.
    pub env: Env,
    /// What this service is called.
    pub service: String,
    /// The service whom a copy asks for what it misses.
    pub other: String,
    /// The services whose copies can be asked what they have, at an owner.
    pub consumers: Vec<String>,
    /// Which side this service is on.
    pub side: Side,
    /// Where the other service is asked.
    pub peer: Peer,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whom [`Restorer::wake`] notifies.
    pub woken: Arc<Notify>,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Why, in a person's words.
    pub reason: Option<String>,
    /// Though nothing shows that the database is behind.
    pub force: bool,
}

/// Why nothing is begun.
#[derive(Debug, Error)]
pub enum StartError {
    /// Nothing shows that the database is behind.
    #[error(
        "nothing shows that the database of {0} is behind; say so (force) if it came back from a backup all the same"
    )]
    NotBehind(String),
    /// It is under way.
    #[error("restoration {0} is under way; wait for its end")]
    Running(i64),
    /// The owner would mend a copy by what it lost itself.
    #[error(
        "the database of {0} came back from a backup itself: run `stockloop restored` there first, or a copy would be made \
         like it"
    )]
    OwnerBehind(String),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
}

impl Restorer {
    /// Tells the background that something was begun.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Begins to mend this service's database; the caller wakes this and the resync once that is committed.
    ///
    /// The owner's epoch is raised with it, so that each of its states is newer than what the world has seen.
    ///
    /// # Errors
    /// When nothing shows that it is behind, unless forced; when it is under way; when a statement fails.
    pub fn start(
        &self,
        conn: &mut Conn,
        by: &Actor,
        request: Request,
    ) -> Result<Restoration, StartError> {
        let now = self.env.now();
        let mut row = self.open(conn, now, request.force)?;
        row.reason = request.reason;
        begin(&mut row, by, now);
        if self.side == Side::Owner {
            row.epoch = Some(raise_epoch(conn, now)?);
            row.tell_us = Some(now);
            row.job = Some(resync::insert(conn, &all_states(&row, by, now)?)?);
            alerts::close_kind(conn, now, AlertKind::DatabaseBehind, None, "restored")?;
        }
        model::save(conn, &row)?;
        let detail = serde_json::json!({
            "side": self.side, "epoch": row.epoch, "job": row.job, "reason": row.reason,
        });
        by.note(conn, now, "restored.start", Some(&row.seq.to_string()), Some(detail))?;
        Ok(row)
    }

    /// The row that is to be begun.
    fn open(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        force: bool,
    ) -> Result<Restoration, StartError> {
        let newest = model::lock_newest(conn, &self.service)?;
        let since = match newest {
            Some(row) if row.state == State::Found => return Ok(row),
            Some(row) if row.state == State::Running => return Err(StartError::Running(row.seq)),
            // It was begun, and is not mended yet.
            Some(row) if row.state != State::Equal => row.since_us,
            _ if force => None,
            _ => return Err(StartError::NotBehind(self.service.clone())),
        };
        match model::insert(conn, now, &self.service, since, BY_PERSON)? {
            Some(seq) => Ok(model::find(conn, seq)?.ok_or(diesel::result::Error::NotFound)?),
            None => {
                let other = model::newest(conn, &self.service)?;
                Err(StartError::Running(other.map_or(0, |row| row.seq)))
            }
        }
    }

    /// Begins, at the owner, to mend the copy of `consumer`, which asks for it; one that is under way goes on.
    ///
    /// # Errors
    /// When the owner's own database is behind, or a statement fails.
    pub fn start_for(
        &self,
        conn: &mut Conn,
        consumer: &str,
        reason: Option<String>,
    ) -> Result<Restoration, StartError> {
        let now = self.env.now();
        if model::newest(conn, &self.service)?.is_some_and(|own| own.is_behind()) {
            return Err(StartError::OwnerBehind(self.service.clone()));
        }
        let detail = format!("{consumer} asks for what it misses");
        let Some(seq) = model::insert(conn, now, consumer, None, &detail)? else {
            return Ok(model::newest(conn, consumer)?.ok_or(diesel::result::Error::NotFound)?);
        };
        let mut row = model::find(conn, seq)?.ok_or(diesel::result::Error::NotFound)?;
        row.reason = reason;
        let by = Actor { name: consumer.to_owned(), method: AuthMethod::Setting };
        begin(&mut row, &by, now);
        model::save(conn, &row)?;
        let detail = serde_json::json!({ "side": Side::Copy, "reason": row.reason });
        by.note(conn, now, "restored.start", Some(&row.seq.to_string()), Some(detail))?;
        Ok(row)
    }
}

fn begin(row: &mut Restoration, by: &Actor, now: Timestamp) {
    row.state = State::Running;
    row.started_us = Some(now);
    row.started_by = Some(by.name.clone());
    row.started_via = Some(by.method.name().to_owned());
    row.due_us = now;
}

/// Raises the epoch above all that there ever were: one that only counts on would be the same again after a second
/// restore from the same backup.
fn raise_epoch(conn: &mut Conn, now: Timestamp) -> QueryResult<i64> {
    let seconds = now.micros() / 1_000_000;
    let epoch = Outbox::epoch(conn)?.saturating_add(1).max(seconds);
    on!(conn, c => diesel::update(service_state::table)
        .set(service_state::epoch.eq(epoch))
        .execute(c))?;
    Ok(epoch)
}

/// The job that sends all states, each of which is newer by the epoch.
fn all_states(row: &Restoration, by: &Actor, now: Timestamp) -> QueryResult<NewResync> {
    let selection = ResyncSelection::Where(Which::default()).to_json()?;
    Ok(NewResync {
        kind: ResyncKind::Restored,
        selection,
        reason: row.reason.clone(),
        state: JobState::Waiting,
        expected: None,
        created_us: now,
        created_by: by.name.clone(),
        created_via: by.method.name().to_owned(),
    })
}
