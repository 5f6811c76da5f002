//! Writes of many requests in one transaction ([`crate::lanes`]), each answered as if it had come alone.
//!
//! What a write does is said by a [`GroupWork`]. Here is what all of them share: each has its own answer, kept under its own
//! `Idempotency-Key`. No group waits for another writer, but for a row that one is just putting in: what one holds is tried
//! again with a later group, so that nothing is held meanwhile. Where a statement fails, its group is taken apart, so that
//! nobody answers for another.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use diesel::QueryResult;
use diesel::result::Error;
use thiserror::Error;
use tracing::Span;

use super::idempotency::{HashedRequest, KeyedWrite, answers_before, keep_all, settle};
use super::{IdempotencyKey, KeysInProgress, Problem, ProblemResult, Reply, TraceParent};
use crate::clock::Timestamp;
use crate::db::{Conn, Db, DbError, Fault, bisect};
use crate::lanes::{Lanes, NoRide, Rider};

/// What the requests of a group do together; cheap to clone.
pub trait GroupWork: Clone + Send + Sync + 'static {
    /// What one request asks for.
    type Change: Send + Sync + 'static;

    /// What a group is written with that begins now.
    fn parts(&self) -> GroupParts<'_>;

    /// Which lane it rides in: changes of one place go one after the other.
    fn place(change: &Self::Change) -> usize;

    /// How much there is to be done for it: rows, more or less. A group is so large at the most.
    fn weight(change: &Self::Change) -> usize;

    /// Decides in order, as if each had come after those before it, and writes all of it. What another transaction has locked
    /// is not waited for, but for a row that it is just putting in. The outcomes are in the order of `group`.
    ///
    /// # Errors
    /// When a statement fails, or what it has looked up was changed by another one; then all of it has to be rolled back.
    fn apply(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        group: &[GroupedChange<'_, Self::Change>],
    ) -> Result<Vec<GroupOutcome>, GroupError>;

    /// Something that was done is committed.
    fn committed(&self);
}

/// What every group is written with.
pub struct GroupParts<'a> {
    /// Where it is written.
    pub db: &'a Db,
    /// The writes with an `Idempotency-Key` that are going on.
    pub keys: &'a KeysInProgress,
    /// The moment of the group.
    pub now: Timestamp,
}

/// One change of a group.
pub struct GroupedChange<'a, C> {
    /// What is asked for.
    pub change: &'a C,
    /// The trace of the request.
    pub traceparent: Option<&'a str>,
}

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupOutcome {
    /// It is done, and its answer is to be kept.
    Done(Reply),
    /// It is refused, and nothing of it was written.
    Refused(Problem),
    /// Another transaction holds what it needs, which was left.
    Held,
}

impl GroupOutcome {
    /// Done, unless there is no answer: then it must not be.
    ///
    /// # Errors
    /// When the answer can't be written.
    pub fn done(answer: ProblemResult<Reply>) -> QueryResult<Self> {
        answer.map(Self::Done).map_err(|problem| Error::SerializationError(Box::new(problem)))
    }
}

/// Why a group came to nothing; all of it is rolled back.
#[derive(Debug, Error)]
pub enum GroupError {
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] Error),
    /// Another transaction changed what had been looked up: the same again finds it so.
    #[error("it was changed by somebody else in the middle")]
    Raced,
}

/// One request.
pub struct GroupedRequest<C> {
    /// What it asks for.
    pub change: C,
    /// Its key.
    pub key: IdempotencyKey,
    /// Its body, which the key is bound to.
    pub body: Bytes,
    /// Its trace.
    pub trace: TraceParent,
}

/// One request on its way. Instead of its body it has what the key needs of that, made once, however often it is tried.
struct QueuedRequest<C> {
    change: C,
    keyed: Option<HashedRequest>,
    trace: TraceParent,
}

impl<C> From<GroupedRequest<C>> for QueuedRequest<C> {
    fn from(request: GroupedRequest<C>) -> Self {
        let GroupedRequest { change, key, body, trace } = request;
        Self { change, keyed: key.with_body(&body), trace }
    }
}

type Answer = ProblemResult<Reply>;
type Item<W> = Arc<QueuedRequest<<W as GroupWork>::Change>>;
type Riders<W> = Lanes<Item<W>, Answer>;
type Group<W> = [Rider<Item<W>, Answer>];

/// Where requests ride.
pub struct GroupedWrites<W: GroupWork>(Riders<W>);

impl<W: GroupWork> GroupedWrites<W> {
    /// So many transactions at a time, on the runtime that this is called on.
    pub fn new(lanes: usize, work: W) -> Self {
        Self(Lanes::new(lanes, move |lanes, group| carry(work.clone(), lanes, group)))
    }

    /// Runs one write with its kept reply in a transaction, which those that come meanwhile share.
    ///
    /// # Errors
    /// 422 for a misused `Idempotency-Key`, 409 while another instance is busy with it, 5xx when the database fails or too
    /// many wait, which says so if it may be done all the same; refusals are `Ok`.
    pub async fn write(&self, request: GroupedRequest<W::Change>) -> ProblemResult<HttpResponse> {
        let (place, weight) = (W::place(&request.change), W::weight(&request.change));
        match self.0.ride(place, weight, Arc::new(request.into())).await {
            Ok(answer) => answer.map(Reply::into_response),
            Err(NoRide::Full) => Err(DbError::Busy.into()),
            Err(late @ NoRide::Late) => Err(Problem::unavailable(format!(
                "many want to change the same, or somebody holds it: {late}"
            ))),
            Err(broken @ NoRide::Broken) => {
                tracing::error!(error = %broken, "a request failed");
                Err(Problem::not_known())
            }
        }
    }
}

/// What becomes of a request.
enum Fate {
    Answered(Answer),
    /// Nothing was done, and it is tried again.
    Held,
}

impl Fate {
    fn is_success(&self) -> bool {
        matches!(self, Self::Answered(Ok(reply)) if reply.is_success())
    }
}

impl From<GroupOutcome> for Fate {
    fn from(outcome: GroupOutcome) -> Self {
        match outcome {
            GroupOutcome::Done(reply) => Self::Answered(Ok(reply)),
            GroupOutcome::Refused(problem) => Self::Answered(settle(Err(problem))),
            GroupOutcome::Held => Self::Held,
        }
    }
}

/// Answers a group, but for those that are held.
async fn carry<W: GroupWork>(work: W, lanes: Riders<W>, group: Vec<Rider<Item<W>, Answer>>) {
    let fates = decide(&work, &group).await;
    if fates.iter().any(Fate::is_success) {
        work.committed();
    }
    for (rider, fate) in group.into_iter().zip(fates) {
        match fate {
            Fate::Answered(answer) => rider.answer(answer),
            Fate::Held => lanes.take_back(W::place(&rider.item.change), rider),
        }
    }
}

/// What becomes of each: all in one transaction, and if that fails by something in them, taken apart.
async fn decide<W: GroupWork>(work: &W, group: &Group<W>) -> Vec<Fate> {
    let failure = match transact(work, group, apply_all::<W>).await {
        Ok(fates) => return fates,
        Err(failure) => failure,
    };
    let apart = match failure {
        Failure::RolledBack(error) if group.len() > 1 && is_blamed_on_one(&error) => {
            transact(work, group, apply_apart::<W>).await
        }
        other => Err(other),
    };
    match apart {
        Ok(fates) => fates,
        // It showed at the commit only, which names nobody.
        Err(Failure::RolledBack(error)) if group.len() > 1 && is_blamed_on_one(&error) => {
            decide_each(work, group).await
        }
        Err(Failure::Panicked) if group.len() > 1 => decide_each(work, group).await,
        Err(failure) => fail_all(group, &failure),
    }
}

/// Each in a transaction of its own: a flaw of this program, or what a commit meets, tells not whose it is.
async fn decide_each<W: GroupWork>(work: &W, group: &Group<W>) -> Vec<Fate> {
    let mut fates = Vec::with_capacity(group.len());
    for (place, alone) in group.chunks(1).enumerate() {
        match transact(work, alone, apply_all::<W>).await {
            Ok(alone) => fates.extend(alone),
            Err(failure) if failure.is_of_one() => fates.extend(fail_all(alone, &failure)),
            // Of the others it is known that nothing was begun.
            Err(failure @ Failure::Away(DbError::NotKnown { .. })) => {
                fates.extend(fail_all(alone, &failure));
                fates.extend(group.iter().skip(place + 1).map(|_| Fate::Held));
                break;
            }
            // It would meet the others, too.
            Err(failure) => {
                fates.extend(fail_all(group.get(place..).unwrap_or_default(), &failure));
                break;
            }
        }
    }
    fates
}

/// The same for all of them; what they are answered for it, the log tells of each, among its own lines.
fn fail_all<C>(group: &[Rider<Arc<QueuedRequest<C>>, Answer>], failure: &Failure) -> Vec<Fate> {
    if let Failure::RolledBack(GroupError::Query(error)) = failure
        && Fault::is_victim(error)
    {
        let requests = group.len();
        tracing::warn!(%error, requests, "others went before what was to be written, which is tried again");
    }
    group.iter().map(|rider| rider.span().in_scope(|| failure.fate())).collect()
}

/// Why a transaction came to nothing.
enum Failure {
    /// A statement failed, be it the commit, or another transaction came in between, so nothing was written.
    RolledBack(GroupError),
    /// The program has a flaw, and nothing was written.
    Panicked,
    /// The database is not there, or did not say whether it was written: what may be done must not be done again.
    Away(DbError),
}

impl Failure {
    /// Whether it may be the fault of one request, so that the next one may pass.
    fn is_of_one(&self) -> bool {
        match self {
            Self::RolledBack(GroupError::Raced) | Self::Panicked => true,
            Self::RolledBack(error) => is_blamed_on_one(error),
            Self::Away(_) => false,
        }
    }

    /// What it is for one request.
    fn fate(&self) -> Fate {
        match self {
            Self::RolledBack(GroupError::Raced) => Fate::Held,
            // The database chose one of several, and alone it may not have met the others.
            Self::RolledBack(GroupError::Query(error)) if Fault::is_victim(error) => Fate::Held,
            Self::RolledBack(GroupError::Query(error)) => Fate::Answered(Err(error.into())),
            Self::Panicked => Fate::Answered(Err((&DbError::Panicked).into())),
            Self::Away(error) => Fate::Answered(Err(error.into())),
        }
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Panicked => Self::Panicked,
            other => Self::Away(other),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::RolledBack(error.into())
    }
}

/// Whether a failed statement may be the fault of one request, rather than of the world or of a lock on a table.
fn is_blamed_on_one(error: &GroupError) -> bool {
    match error {
        GroupError::Query(error) => !matches!(Fault::of_query(error), Fault::World | Fault::Locked),
        GroupError::Raced => false,
    }
}

/// One request of a group, as its transaction has it.
struct Entry<C> {
    request: Arc<QueuedRequest<C>>,
    /// Its key, if it has one; a problem while one with the same key goes on already, be it in this group.
    begun: ProblemResult<Option<KeyedWrite>>,
    span: Span,
}

impl<C> Entry<C> {
    fn begin(keys: &KeysInProgress, rider: &Rider<Arc<QueuedRequest<C>>, Answer>) -> Self {
        let request = Arc::clone(&rider.item);
        let begun = request.keyed.clone().map(|keyed| keys.begin(keyed)).transpose();
        Self { request, begun, span: rider.span().clone() }
    }

    fn keyed(&self) -> Option<&KeyedWrite> {
        self.begun.as_ref().ok()?.as_ref()
    }

    fn change(&self) -> GroupedChange<'_, C> {
        let QueuedRequest { change, trace, .. } = &*self.request;
        GroupedChange { change, traceparent: trace.0.as_deref() }
    }
}

type Apply<W> = fn(
    &mut Conn,
    &W,
    Timestamp,
    &[Entry<<W as GroupWork>::Change>],
) -> Result<Vec<Fate>, GroupError>;

async fn transact<W: GroupWork>(
    work: &W,
    group: &Group<W>,
    apply: Apply<W>,
) -> Result<Vec<Fate>, Failure> {
    let GroupParts { db, keys, now } = work.parts();
    let entries: Vec<Entry<W::Change>> =
        group.iter().map(|rider| Entry::begin(keys, rider)).collect();
    let own = work.clone();
    let run = move |conn: &mut Conn| apply(conn, &own, now, &entries).map_err(Failure::RolledBack);
    db.write(run).await
}

/// In halves, down to the one at fault.
fn apply_apart<W: GroupWork>(
    conn: &mut Conn,
    work: &W,
    now: Timestamp,
    group: &[Entry<W::Change>],
) -> Result<Vec<Fate>, GroupError> {
    let mut apply = |conn: &mut Conn, part: &[Entry<W::Change>]| apply_all(conn, work, now, part);
    let mut bad = |_: &mut Conn, entry: &Entry<W::Change>, error: GroupError| {
        Ok(entry.span.in_scope(|| Failure::RolledBack(error).fate()))
    };
    bisect(conn, group, &mut apply, &is_blamed_on_one, &mut bad)
}

fn apply_all<W: GroupWork>(
    conn: &mut Conn,
    work: &W,
    now: Timestamp,
    group: &[Entry<W::Change>],
) -> Result<Vec<Fate>, GroupError> {
    let mut fates = fates_before(conn, group)?;
    let open: Vec<_> = group.iter().zip(&mut fates).filter(|(_, fate)| fate.is_none()).collect();
    let changes: Vec<GroupedChange<'_, W::Change>> =
        open.iter().map(|(entry, _)| entry.change()).collect();
    let outcomes = match changes.is_empty() {
        true => Vec::new(),
        false => work.apply(conn, now, &changes)?,
    };
    let mut kept = Vec::new();
    for ((entry, fate), outcome) in open.into_iter().zip(outcomes) {
        if let (Some(write), GroupOutcome::Done(reply)) = (entry.keyed(), &outcome) {
            kept.push((write, reply.clone()));
        }
        *fate = Some(outcome.into());
    }
    keep_all(conn, now, &kept)?;
    Ok(fates.into_iter().map(|fate| fate.unwrap_or(Fate::Held)).collect())
}

/// What is known of each before anything is done; nothing of those that are to be decided.
fn fates_before<C>(conn: &mut Conn, group: &[Entry<C>]) -> QueryResult<Vec<Option<Fate>>> {
    let keyed: Vec<&KeyedWrite> = group.iter().filter_map(Entry::keyed).collect();
    let mut before = answers_before(conn, &keyed)?.into_iter();
    let fate = |entry: &Entry<C>| match &entry.begun {
        // The one before it decides first, and this one finds what was kept of that.
        Err(_running) => Some(Fate::Held),
        Ok(Some(_)) => before.next().flatten().map(Fate::Answered),
        Ok(None) => None,
    };
    Ok(group.iter().map(fate).collect())
}

#[cfg(test)]
mod tests;
