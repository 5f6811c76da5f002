//! Single adjustments, each its own request: those that arrive while a transaction is on its way share the next one.
//!
//! All of a product's ride in one lane, and no lane waits for another writer: what one holds is tried again with a later
//! group, so that nothing is held meanwhile. Where a statement fails, its group is taken apart, so that nobody answers for
//! another.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use common::db::{Conn, DbError, Fault, bisect};
use common::http::{
    IdempotencyKey, KeyedWrite, Precondition, Problem, ProblemResult, Reply, TraceParent,
    answers_before, keep_all,
};
use common::inventory::Sku;
use common::lanes::{Lanes, NoRide, Rider};
use diesel::QueryResult;
use engine::outbox::shard_of;

use super::inventory::ProductView;
use crate::inventory::{
    self, Adjustment, GroupedAdjustment, GroupedOutcome, Inventory, Product, WriteContext,
};

/// Transactions at a time: while one waits for the disk, another one reads and decides.
const LANES: usize = 3;

type Answer = ProblemResult<Reply>;
type Riders = Lanes<AdjustRequest, Answer>;
type Group = [Rider<AdjustRequest, Answer>];

/// Where single adjustments ride; cheap to clone.
#[derive(Clone)]
pub struct AdjustmentLanes(Riders);

/// One request.
#[derive(Clone)]
pub(super) struct AdjustRequest {
    pub(super) sku: Sku,
    pub(super) adjustment: Adjustment,
    pub(super) precondition: Precondition,
    pub(super) key: IdempotencyKey,
    pub(super) body: Bytes,
    pub(super) trace: TraceParent,
}

/// One request of a group.
struct Grouped {
    request: AdjustRequest,
    /// What is known before anything is asked: none where it has no key, a problem where it goes on already.
    begun: ProblemResult<Option<KeyedWrite>>,
}

/// What a transaction did for one request; no answer where another writer holds its product.
type Done = Option<Answer>;

impl AdjustmentLanes {
    /// Lanes to this inventory.
    pub fn new(inventory: Inventory) -> Self {
        Self(Lanes::new(LANES, move |lanes, group| carry(inventory.clone(), lanes, group)))
    }

    pub(super) async fn adjust(&self, request: AdjustRequest) -> ProblemResult<HttpResponse> {
        match self.0.ride(request.place(), request).await {
            Ok(answer) => answer.map(Reply::into_response),
            Err(NoRide::Full) => Err(DbError::Busy.into()),
            Err(late @ NoRide::Late) => Err(Problem::unavailable(format!(
                "many want this product, or somebody holds it: {late}"
            ))),
            Err(broken @ NoRide::Broken) => Err(Problem::internal(&broken)),
        }
    }
}

impl AdjustRequest {
    /// All of a product ride in one lane.
    fn place(&self) -> usize {
        usize::from(shard_of(self.sku.as_str()).unsigned_abs())
    }
}

/// Answers a group, but for those whose products are held.
async fn carry(inventory: Inventory, lanes: Riders, group: Vec<Rider<AdjustRequest, Answer>>) {
    let answers = answer(&inventory, &group).await;
    if answers.iter().flatten().flatten().any(Reply::is_success) {
        inventory.outbox.wake();
    }
    for (rider, answer) in group.into_iter().zip(answers) {
        match answer {
            Some(answer) => rider.answer(answer),
            None => lanes.take_back(rider.item.place(), rider),
        }
    }
}

/// What becomes of each: all in one transaction, and if that fails by something in them, taken apart.
async fn answer(inventory: &Inventory, group: &Group) -> Vec<Done> {
    let failure = match transact(inventory, group, answer_all).await {
        Ok(done) => return done,
        Err(failure) => failure,
    };
    let apart = match failure {
        Failure::RolledBack(error) if is_of_one(Fault::of_query(&error)) => {
            transact(inventory, group, answer_apart).await
        }
        Failure::Panicked if group.len() > 1 => return answer_each(inventory, group).await,
        other => Err(other),
    };
    apart.unwrap_or_else(|failure| vec![Some(Err(failure.into())); group.len()])
}

/// Each in a transaction of its own: a flaw of this program tells not whose it is.
async fn answer_each(inventory: &Inventory, group: &Group) -> Vec<Done> {
    let mut done = Vec::with_capacity(group.len());
    for alone in group.chunks(1) {
        match transact(inventory, alone, answer_all).await {
            Ok(alone) => done.extend(alone),
            Err(failure @ Failure::Panicked) => done.push(Some(Err(failure.into()))),
            // It would meet the others, too.
            Err(failure) => {
                done.resize(group.len(), Some(Err(failure.into())));
                break;
            }
        }
    }
    done
}

/// Whether an error of a statement may be the fault of one request, rather than of the world or of a lock on a table.
fn is_of_one(fault: Fault) -> bool {
    !matches!(fault, Fault::World | Fault::Locked)
}

/// Why a transaction came to nothing.
enum Failure {
    /// A statement failed, so nothing was written.
    RolledBack(diesel::result::Error),
    /// The program has a flaw, and nothing was written.
    Panicked,
    /// It may have been written: what is done once must not be done again.
    NotKnown(DbError),
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Panicked => Self::Panicked,
            other => Self::NotKnown(other),
        }
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::NotKnown(error.into())
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::RolledBack(error) => error.into(),
            Failure::Panicked => DbError::Panicked.into(),
            Failure::NotKnown(error) => error.into(),
        }
    }
}

async fn transact(
    inventory: &Inventory,
    group: &Group,
    work: fn(&mut Conn, &WriteContext, &[Grouped]) -> QueryResult<Vec<Done>>,
) -> Result<Vec<Done>, Failure> {
    let (outbox, now) = (inventory.outbox.clone(), inventory.env.now());
    let context = WriteContext { outbox, now, traceparent: None };
    let begin = |rider: &Rider<AdjustRequest, Answer>| Grouped::begin(inventory, &rider.item);
    let group: Vec<Grouped> = group.iter().map(begin).collect();
    let work = move |conn: &mut Conn| work(conn, &context, &group).map_err(Failure::RolledBack);
    inventory.db.write(work).await
}

impl Grouped {
    fn begin(inventory: &Inventory, request: &AdjustRequest) -> Self {
        let begun = inventory.keys.begin(request.key.clone(), &request.body);
        Self { request: request.clone(), begun }
    }

    fn keyed(&self) -> Option<&KeyedWrite> {
        self.begun.as_ref().ok()?.as_ref()
    }

    fn adjustment(&self) -> GroupedAdjustment<'_> {
        let AdjustRequest { sku, adjustment, precondition, trace, .. } = &self.request;
        GroupedAdjustment { sku, adjustment, precondition, traceparent: trace.0.as_deref() }
    }
}

/// In halves, down to the one at fault.
fn answer_apart(
    conn: &mut Conn,
    context: &WriteContext,
    group: &[Grouped],
) -> QueryResult<Vec<Done>> {
    let mut work = |conn: &mut Conn, part: &[Grouped]| answer_all(conn, context, part);
    let blame = |error: &diesel::result::Error| is_of_one(Fault::of_query(error));
    let mut bad = |_: &mut Conn, _: &Grouped, error: diesel::result::Error| {
        Ok(Some(Err(Problem::from(error))))
    };
    bisect(conn, group, &mut work, &blame, &mut bad)
}

fn answer_all(
    conn: &mut Conn,
    context: &WriteContext,
    group: &[Grouped],
) -> QueryResult<Vec<Done>> {
    let mut done = answer_before(conn, group)?;
    let open = group.iter().zip(&done).filter(|(_, answer)| answer.is_none());
    let open: Vec<GroupedAdjustment<'_>> = open.map(|(one, _)| one.adjustment()).collect();
    let outcomes = inventory::adjust_group(conn, context, &open)?;
    let mut kept = Vec::new();
    let open = group.iter().zip(&mut done).filter(|(_, answer)| answer.is_none());
    for ((one, answer), outcome) in open.zip(outcomes) {
        *answer = match outcome {
            GroupedOutcome::Adjusted(product) => {
                let reply = adjusted(product);
                if let (Some(write), Ok(reply)) = (one.keyed(), &reply) {
                    kept.push((write, reply.clone(), context.now));
                }
                Some(reply)
            }
            GroupedOutcome::Refused(refusal) => Some(Ok(Reply::from(&Problem::from(&refusal)))),
            GroupedOutcome::Held => None,
        };
    }
    keep_all(conn, &kept)?;
    Ok(done)
}

/// What is to be answered without doing anything.
fn answer_before(conn: &mut Conn, group: &[Grouped]) -> QueryResult<Vec<Done>> {
    let keyed: Vec<&KeyedWrite> = group.iter().filter_map(Grouped::keyed).collect();
    let mut before = answers_before(conn, &keyed)?.into_iter();
    let answer = |one: &Grouped| match &one.begun {
        Err(problem) => Some(Err(problem.clone())),
        Ok(Some(_)) => before.next().flatten(),
        Ok(None) => None,
    };
    Ok(group.iter().map(answer).collect())
}

fn adjusted(product: Product) -> ProblemResult<Reply> {
    let version = product.version;
    Ok(Reply::json(StatusCode::OK, &ProductView::from(product))?.with_version(version))
}
