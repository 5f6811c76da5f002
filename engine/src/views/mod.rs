//! Copies of views: of compacted topics that another program keeps, such as Flink SQL.
//!
//! They answer nobody unless they are told to, so nothing waits for them. How far a copy has taken each partition is stored
//! with the rows that it made of that, in one transaction; what lies before it is left alone. [`ViewCopy::place`] has a
//! consumer read on from there, whatever its group has committed. A database that goes back while an instance runs is
//! noticed by what that stored last.

mod answerer;
mod answering;
mod place;
mod position;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use diesel::QueryResult;

use crate::dead_letters::{self, DeadLetter};
use crate::kafka::{Ack, Record};

use progress::{Progress, Reached};

pub(crate) use answerer::Answerer;
pub use position::{ViewLag, ViewPosition, lags, positions};

/// The longest value that is looked at, in bytes: a purchase has up to a thousand lines of some 100 bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// A view that a service keeps a copy of.
pub struct CopiedView {
    /// Where its messages are.
    pub topic: String,
    /// What makes rows of them.
    pub view: Arc<dyn View>,
}

/// What makes rows of a view's messages, and knows what it has made.
pub trait View: Send + Sync {
    /// Writes `messages`: of each key the one with the greatest place counts, also against what is stored.
    ///
    /// Returns those that make no sense, each with why.
    ///
    /// # Errors
    /// When a statement fails; nothing is kept, and the same messages come again.
    fn write<'a>(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        messages: &[ViewMessage<'a>],
    ) -> QueryResult<Vec<Refused<'a>>>;

    /// Why a message makes no sense, as [`View::write`] refuses it; none: it does.
    fn refusal(&self, record: &Record) -> Option<String>;

    /// What the copy has of `key`; none: the key is not in the view, or not yet.
    ///
    /// # Errors
    /// When the statement fails.
    fn find(&self, conn: &mut Conn, key: &str) -> QueryResult<Option<ViewEntry>>;
}

/// What the copy of a view has of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewEntry {
    /// What the view says, as JSON; the operators' page expects a customer's purchases.
    pub value: String,
    /// When its message was written, by the clock of its writer or the broker.
    pub written_at: Timestamp,
    /// When it arrived here, by our clock.
    pub stored_at: Timestamp,
}

/// Which of two messages of a key is the later one: that with the greater place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When its partition was begun to be read: a topic that was made anew begins later, with smaller offsets.
    pub begun: Timestamp,
    /// Its offset.
    pub offset: i64,
}

/// A message of a view.
#[derive(Debug, Clone, Copy)]
pub struct ViewMessage<'a> {
    /// Where it lies.
    pub place: Place,
    /// The message itself; one without a value says that its key is gone.
    pub record: &'a Record,
}

/// A message that makes no sense.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Which.
    pub record: &'a Record,
    /// Why.
    pub reason: String,
}

/// The copy of a view; cheap to clone.
#[derive(Clone)]
pub struct ViewCopy {
    /// Where it is.
    pub db: Db,
    /// Time.
    pub env: Env,
    /// Where the view's messages are.
    pub topic: String,
    /// What makes rows of them.
    pub view: Arc<dyn View>,
    /// As whom it answers messages that are events of somebody who waits for that; none: it answers nobody.
    pub(crate) answers_as: Option<String>,
    /// Where this instance has left it.
    pub(crate) progress: Progress,
}

/// What a batch came to.
#[derive(Debug, Default)]
pub struct Taken {
    /// Messages that are taken, the refused ones included.
    pub taken: usize,
    /// Those of them that make no sense, and are dead letters.
    pub refused: usize,
    /// Partitions that gave messages which were taken before: they came again, or the topic was made anew.
    pub repeating: BTreeSet<i32>,
    /// Partitions of which nothing was taken: the database is not where this instance has left it. It went back, or
    /// another instance began the topic anew.
    pub lost: BTreeSet<i32>,
    /// What is to be answered, each with the partition that its message came from; all of it is taken.
    pub answers: Vec<(i32, Ack)>,
    /// The same of the repeating partitions: untrue, should their topic be another one by now.
    pub doubted: Vec<(i32, Ack)>,
}

impl ViewCopy {
    /// The copy of `view` in `db`, of which this instance knows nothing yet.
    pub fn new(db: Db, env: Env, view: CopiedView) -> Self {
        let CopiedView { topic, view } = view;
        Self { db, env, topic, view, answers_as: None, progress: Progress::default() }
    }

    /// The same, which answers in the name of `service`.
    #[must_use]
    pub fn answering_as(self, service: &str) -> Self {
        Self { answers_as: Some(service.to_owned()), ..self }
    }

    /// Takes a batch, with the positions and the dead letters, in one transaction.
    ///
    /// # Errors
    /// When the database fails; nothing is kept, and the same records can be given again.
    pub async fn run_once(&self, records: Arc<Vec<Record>>) -> Result<Taken, DbError> {
        let copy = self.clone();
        let written = self.db.write::<_, DbError>(move |conn| Ok(copy.take(conn, &records)?));
        let (taken, reached) = written.await?;
        self.progress.stored(reached);
        Ok(taken)
    }

    /// Returns also how far the copy is then, of what was taken.
    fn take(
        &self,
        conn: &mut Conn,
        records: &[Record],
    ) -> QueryResult<(Taken, BTreeMap<i32, Reached>)> {
        let now = self.env.now();
        let partitions: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
        let known = position::known(conn, &self.topic, &partitions, now)?;
        let mut messages = Vec::with_capacity(records.len());
        let is_lost = |position: &&ViewPosition| self.progress.is_ahead_of(position);
        let lost = known.values().filter(is_lost).map(|position| position.partition).collect();
        let (mut taken, mut again) = (Taken { lost, ..Taken::default() }, Vec::new());
        for record in records {
            let Some(position) = known.get(&record.partition) else { continue };
            if taken.lost.contains(&record.partition) {
                continue;
            }
            if record.offset < position.next_offset {
                taken.repeating.insert(record.partition);
                again.push(record);
                continue;
            }
            let place = Place { begun: position.begun_us, offset: record.offset };
            messages.push(ViewMessage { place, record });
        }
        let refused = self.write(conn, now, &messages)?;
        (taken.taken, taken.refused) = (messages.len(), refused.len());
        let answers = self.answers(now, &messages, &refused, &again).into_iter();
        let is_doubted = |(partition, _): &(i32, Ack)| taken.repeating.contains(partition);
        (taken.doubted, taken.answers) = answers.partition(is_doubted);
        let reached = position::advance(conn, &self.topic, &messages, now)?;
        Ok((taken, reached))
    }

    /// Returns those of `messages` that are dead letters.
    fn write<'a>(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        messages: &[ViewMessage<'a>],
    ) -> QueryResult<Vec<Refused<'a>>> {
        let (mut fit, mut refused) = (Vec::with_capacity(messages.len()), Vec::new());
        for message in messages {
            match too_large(message.record) {
                Some(reason) => refused.push(Refused { record: message.record, reason }),
                None => fit.push(*message),
            }
        }
        refused.extend(self.view.write(conn, now, &fit)?);
        for one in &refused {
            dead_letters::store(conn, &DeadLetter::of(one.record, &one.reason, now))?;
        }
        Ok(refused)
    }
}

/// What is said of a message that is too large to be looked at; none: it is not.
fn too_large(record: &Record) -> Option<String> {
    let bytes = record.payload.as_ref().map_or(0, Vec::len);
    (bytes > MAX_BYTES).then(|| format!("its value has more than {MAX_BYTES} bytes"))
}
