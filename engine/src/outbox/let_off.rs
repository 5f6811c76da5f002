//! A consumer that is not asked any more: what waited for its answer alone is settled.

use common::db::{Conn, Db, DbError};
use common::env::Env;

use super::advance::advance_asked;
use super::state::{Policy, Trigger};
use super::store::{self, Answered};
use super::update::{Advanced, Update};
use crate::consumers::{self, Consumers};
use crate::counters;

/// Events that one step settles at the most.
const BATCH: i64 = 500;

/// Answers that one step looks at the most, to find those of which the sends are not noted yet.
const READ: i64 = 2_000;

/// Settles what nobody owes an answer to any more.
#[derive(Clone)]
pub struct LetOff {
    /// The service's database.
    pub db: Db,
    /// Time and chance.
    pub env: Env,
    /// The rules' numbers.
    pub policy: Policy,
    /// The consumer that the settings name.
    pub first: String,
}

impl LetOff {
    /// One step, for one consumer: the next events in the order of their ids that all others have answered.
    ///
    /// Returns what changed; `None` when no consumer is let off.
    ///
    /// # Errors
    /// When the database fails; nothing of the step is kept then.
    pub async fn run_once(&self) -> Result<Option<Advanced>, DbError> {
        let read = |conn: &mut Conn| consumers::letting_off(conn).map_err(DbError::from);
        let Some(one) = self.db.read(read).await? else { return Ok(None) };
        let own = self.clone();
        let stepped = self.db.write_by_index::<_, DbError>(move |conn| {
            let consumers = Consumers::load(conn, &own.first)?;
            let mut others = consumers.required().filter(|other| other.name != one.name);
            let Answered { ids, next } = match others.next() {
                Some(other) => {
                    store::answered_and_open(conn, &other.name, one.cursor, BATCH, READ)?
                }
                None => Answered { ids: Vec::new(), next: None },
            };
            let let_off = |id| Update {
                consumer: Some(one.name.clone()),
                ..Update::new(id, Trigger::LetOff)
            };
            let updates = ids.into_iter().map(let_off).collect();
            let done = advance_asked(conn, &own.env, &own.policy, Some(&consumers), updates)?;
            let settled = done.settled.len();
            if settled > 0 {
                counters::add(conn, counters::PROCESSED, own.env.now(), settled)?;
            }
            let settled = i64::try_from(settled).unwrap_or(i64::MAX);
            consumers::save_cursor(conn, &one.name, next, settled)?;
            Ok(done)
        });
        stepped.await.map(Some)
    }
}
