//! A new or emptied copy, filled by its owner while changes flow, and proved before it is called complete.
//!
//! A copy tells whether it is complete, and its `copy_id` ([`crate::verify::wire::ReplicaInfo`]). For one that is not, a
//! row of `bootstrap` is put down, and its steps are states of that row: any instance goes on where one stopped.
//!
//! ```text
//! counting ─> filling: a resync of all keys ─> arriving: all of it is answered ─> verifying ─ equal ─> telling ─> done
//!     └──────────── few keys, or the copy has most already ────────────────────────>┘ └ differs ─> filling: those keys
//! ```
//!
//! States travel as events like any other: versions make their order irrelevant, and live changes flow beside them.

mod model;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use common::db::Db;
use common::env::Env;
use tokio::sync::Notify;

pub use model::{Filling, NewFilling, State, find, insert, is_open, list};
pub use step::{Outcome, cancel};

use crate::verify::{Owner, Remote, Side, SideError};

/// A consumer whose copy can be filled.
pub trait Fillable: Side {
    /// What its acks call it.
    fn consumer(&self) -> &str;

    /// Tells it that its copy is complete; false: another copy answers by now.
    fn complete(&self, copy_id: &str) -> impl Future<Output = Result<bool, SideError>> + Send;
}

impl Fillable for Remote {
    fn consumer(&self) -> &str {
        &self.consumer
    }

    async fn complete(&self, copy_id: &str) -> Result<bool, SideError> {
        Self::complete(self, copy_id).await
    }
}

/// Fills the copies of this service's consumers; cheap to clone.
#[derive(Clone)]
pub struct Bootstrap {
    /// The service's database.
    pub db: Db,
    /// Time, ids and chance.
    pub env: Env,
    /// What it owns.
    pub owner: Arc<dyn Owner>,
    /// The topic that its events go to.
    pub topic: String,
    pub(crate) woken: Arc<Notify>,
}

impl Bootstrap {
    /// What fills copies of `owner`'s keys in `db`, whose events go to `topic`.
    pub fn new(db: &Db, env: &Env, owner: Arc<dyn Owner>, topic: &str) -> Self {
        let topic = topic.to_owned();
        Self { db: db.clone(), env: env.clone(), owner, topic, woken: Arc::default() }
    }

    /// Tells the background that a filling was committed.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// What [`Bootstrap::wake`] notifies.
    pub fn notify(&self) -> &Arc<Notify> {
        &self.woken
    }
}
