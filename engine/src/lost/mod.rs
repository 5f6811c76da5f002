//! Commands whose effect was lost with their receiver's database: found, shown, and settled by a person's decision.
//!
//! A receiver writes the id of each command into its inbox in the transaction that carries it out. So a command that its
//! sender has as answered SUCCESS, and that the inbox of a receiver which came back from a backup does not know, has lost
//! its effect. [`Lost::run_once`] finds these; a service's [`Commander`] says which of them still matter.
//!
//! ```text
//! receiver: restored ── POST /replica/losses ──> sender: a check
//! sender:   a page of commands ── POST /replica/received ──> receiver: which it does not know
//!           lost_command ── a person ──> sent again, or accepted
//! ```

mod check;
mod decide;
#[cfg(test)]
#[path = "tests/fixture.rs"]
mod fixture;
mod model;
mod routes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db};
use common::env::Env;
use common::ids::EventId;
use diesel::QueryResult;
use tokio::sync::Notify;

use crate::peer::Peer;

pub use check::Outcome;
pub use decide::{DecideError, Decided, Selection, Verdict};
pub use model::{LostCheck, LostCommand, State, find, latest_check, newest_lost, page};
pub use routes::{
    __path_losses, __path_received, LossView, Losses, NewLoss, Received, ReceivedIds, configure,
    losses, received,
};

/// Commands that are looked at, or asked about, at once.
pub const PAGE: usize = 500;

/// What a lost command means to the service that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Its effect is missing.
    Matters,
    /// Its effect is missing, but what it was about is no longer kept here, so it can't be sent again.
    NotKept,
    /// Nothing is missing, for this reason.
    Obsolete(String),
}

/// What the service that sends commands knows of them.
pub trait Commander: fmt::Debug + Send + Sync + 'static {
    /// Whether events of this type are commands whose effect may be lost.
    fn is_command(&self, event_type: &str) -> bool;

    /// Which of `lost` still matter, one answer for each; what that depends on stays locked until the transaction ends.
    ///
    /// # Errors
    /// When a statement fails.
    fn judge(&self, conn: &mut Conn, lost: &[LostCommand]) -> QueryResult<Vec<Judgement>>;

    /// Appends each of `lost`, which matter and are locked, once more as a new event; returns the new ids, in order.
    ///
    /// # Errors
    /// When a statement fails.
    fn send_again(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        lost: &[LostCommand],
        note: &str,
    ) -> QueryResult<Vec<EventId>>;

    /// A person has made good by hand what `lost` had done.
    ///
    /// # Errors
    /// When a statement fails.
    fn accept(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        lost: &[LostCommand],
        note: &str,
    ) -> QueryResult<()>;
}

/// What finds and settles the lost commands of a service; cheap to clone.
#[derive(Clone)]
pub struct Lost {
    /// The service's database.
    pub db: Db,
    /// Time and ids.
    pub env: Env,
    /// What this service is called.
    pub service: String,
    /// Who carries its commands out.
    pub receiver: String,
    /// Where that is asked.
    pub peer: Peer,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long this service keeps answered commands.
    pub kept: Duration,
    /// What it knows of its commands.
    pub commander: Arc<dyn Commander>,
    /// Whom [`Lost::wake`] notifies.
    pub woken: Arc<Notify>,
}

impl Lost {
    /// Tells the background that there is something to look at.
    pub fn wake(&self) {
        self.woken.notify_one();
    }
}
