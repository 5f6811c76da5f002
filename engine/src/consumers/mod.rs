//! Who is asked for answers.
//!
//! Every service that reads this one's events is a *consumer* with a row of its own. A **required** one owes an answer to
//! each event since it was registered, and an event is PROCESSED once all that owe one have answered. A **watched** one
//! is looked at and never waited for. The one that the settings name is required, also before it has a row.
//!
//! A message goes to all at once: an attempt belongs to the event, and a resend reaches whoever still owes while the others
//! answer `duplicate`. What each said, and how far each is, is kept for each by itself
//! (`outbox_answer`, `consumer_partition`).

mod model;
mod registry;

use common::db::Conn;
use common::ids::EventId;
use diesel::QueryResult;

pub use model::{Consumer, ConsumerState, find, letting_off, list, save_cursor};
pub use registry::{NewConsumer, RegistryError, Role, register, retire, set_role, sync};

/// Consumers that are asked at the most.
pub const MAX_CONSUMERS: usize = 100;

/// Rows of the registry at the most, with retired consumers: of those, the one that was retired first makes room.
pub(crate) const MAX_KNOWN: usize = 2 * MAX_CONSUMERS;

/// The longest name of a consumer, in characters.
pub const MAX_NAME: usize = 100;

/// The consumers that are asked at one moment, as one transaction sees them.
#[derive(Debug, Clone, Default)]
pub struct Consumers {
    active: Vec<Consumer>,
    retired: Vec<String>,
    first: String,
    /// Whether what one owed is being settled.
    letting_off: bool,
}

impl Consumers {
    /// Reads them. Where there are several, none can change until the transaction ends: whoever retires one waits, and
    /// finds all that was settled as one of several.
    ///
    /// `first` is the one that the settings name.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn load(conn: &mut Conn, first: &str) -> QueryResult<Self> {
        let found = Self::of(model::all(conn)?, first);
        match found.share_events() {
            true => Ok(Self::of(model::all_shared(conn)?, first)),
            false => Ok(found),
        }
    }

    /// Those that are registered now, for whoever only looks.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn registered(conn: &mut Conn) -> QueryResult<Self> {
        Ok(Self::of(model::all(conn)?, ""))
    }

    /// Those of `rows`, the whole registry; `first` is the one that the settings name.
    pub fn of(rows: Vec<Consumer>, first: &str) -> Self {
        let letting_off = rows.iter().any(|one| one.letting_off);
        let is_known = first.is_empty() || rows.iter().any(|one| one.name == first);
        let (mut active, retired): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|one| one.state == ConsumerState::Active);
        if !is_known {
            active.insert(0, Consumer::implied(first));
        }
        let retired = retired.into_iter().map(|one| one.name).collect();
        Self { active, retired, first: first.to_owned(), letting_off }
    }

    /// Whether an event may need the answers of more than one, or needed them until just now.
    pub fn share_events(&self) -> bool {
        self.active.len() > 1 || self.letting_off
    }

    /// Those that are not retired.
    pub fn active(&self) -> &[Consumer] {
        &self.active
    }

    /// Those whose answers are waited for.
    pub fn required(&self) -> impl Iterator<Item = &Consumer> {
        self.active.iter().filter(|one| one.required)
    }

    /// Those that owe an answer to the event `id`, unless they gave it.
    pub fn asked_about(&self, id: EventId) -> impl Iterator<Item = &Consumer> {
        self.required().filter(move |one| one.since_id <= id)
    }

    /// What the answers of `name` are.
    pub fn voice(&self, name: &str, id: EventId) -> Voice {
        match self.active.iter().find(|one| one.name == name) {
            Some(one) if one.required && one.since_id <= id => Voice::Counts,
            Some(_) => Voice::Watched,
            None if self.retired.iter().any(|one| one == name) => Voice::Retired,
            None => Voice::Foreign,
        }
    }

    /// The one that the settings name: where answers differ in what they carry, this one's is told to listeners.
    pub fn first(&self) -> &str {
        &self.first
    }
}

/// What an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Its event waits for it.
    Counts,
    /// It is noted.
    Watched,
    /// It was asked once.
    Retired,
    /// It was never asked.
    Foreign,
}
