//! Actions on many events: said in one request, done step by step in the background.
//!
//! A job's row holds its selection and how far it has got. One step is one transaction: it locks the job's row,
//! walks the next events below the job's cursor, acts on those that wait for a person, notes for each event that
//! it was done or why not, and moves the cursor. So a kill at any point loses a step and doubles nothing, and of
//! several instances only one works on a job at a time (PostgreSQL passes by rows that another has locked; SQLite
//! has one writer).

mod create;
mod model;
mod preview;
mod selection;
mod step;

use std::sync::Arc;

use tokio::sync::Notify;

pub use create::{CreateError, create};
pub use model::{Action, Item, Job, JobState, NewJob, actor, cancel, find, items, list};
pub use preview::{PREVIEW_VALID, keep_preview};
pub use selection::{MAX_IDS, Matches, Selection, matches};
pub use step::Outcome;

/// The jobs of a service; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Bulk {
    woken: Arc<Notify>,
}

impl Bulk {
    /// Tells the background that a job was committed.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// What [`Bulk::wake`] notifies.
    pub fn notify(&self) -> &Arc<Notify> {
        &self.woken
    }
}
