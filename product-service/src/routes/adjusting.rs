//! Single adjustments, each its own request: those that arrive while a transaction is on its way share the next one.
//!
//! All of a product's ride in one lane, so that no two transactions of this instance wait for each other. What another
//! writer holds goes by itself, and so does each of a group in which a statement failed: nobody answers for another.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use common::clock::Timestamp;
use common::db::{Conn, DbError, Fault};
use common::http::{
    IdempotencyKey, KeyedWrite, Precondition, Problem, ProblemResult, Reply, TraceParent,
    answers_before, keep_all,
};
use common::inventory::Sku;
use common::lanes::{Lanes, NoRide, Rider};
use diesel::QueryResult;
use engine::outbox::{Outbox, shard_of};

use super::inventory::ProductView;
use crate::inventory::{
    self, Adjustment, GroupedAdjustment, GroupedOutcome, Inventory, Product, WriteContext,
};

/// Transactions at a time: while one waits for the disk, another one reads and decides.
const LANES: usize = 3;

type Answer = ProblemResult<Reply>;

/// Where single adjustments ride; cheap to clone.
#[derive(Clone)]
pub struct AdjustmentLanes(Lanes<AdjustRequest, Answer>);

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
    context: WriteContext,
    /// None where it has no key.
    write: Option<KeyedWrite>,
    /// None until there is one; to the end, where it has to go by itself.
    answer: Option<Answer>,
    is_done: bool,
}

impl AdjustmentLanes {
    /// Lanes to this inventory.
    pub fn new(inventory: Inventory) -> Self {
        Self(Lanes::new(LANES, move |group| together(inventory.clone(), group)))
    }

    pub(super) async fn adjust(&self, request: AdjustRequest) -> ProblemResult<HttpResponse> {
        let place = usize::from(shard_of(request.sku.as_str()).unsigned_abs());
        match self.0.ride(place, request).await {
            Ok(answer) => answer.map(Reply::into_response),
            Err(NoRide::Full) => Err(DbError::Busy.into()),
            Err(NoRide::Broken) => Err(DbError::Panicked.into()),
        }
    }
}

async fn alone(inventory: &Inventory, rider: Rider<AdjustRequest, Answer>) {
    let AdjustRequest { sku, adjustment, precondition, key, body, trace } = rider.item.clone();
    let work = move |conn: &mut Conn, context: &WriteContext| {
        adjusted(inventory::adjust(conn, context, &sku, adjustment, &precondition)?)
    };
    let answer = rider.alone(inventory.reply(key, &body, trace, work)).await;
    rider.answer(answer);
}

async fn together(inventory: Inventory, group: Vec<Rider<AdjustRequest, Answer>>) {
    match answers(&inventory, group.iter().map(|rider| rider.item.clone())).await {
        Ok(answers) => {
            if answers.iter().flatten().flatten().any(Reply::is_success) {
                inventory.outbox.wake();
            }
            deliver(&inventory, group, answers);
        }
        Err(Failure::RolledBack(error)) if Fault::of(&error) != Fault::World => {
            for rider in group {
                alone(&inventory, rider).await;
            }
        }
        Err(Failure::RolledBack(error) | Failure::NotKnown(error)) => {
            let problem = Problem::from(error);
            group.into_iter().for_each(|rider| rider.answer(Err(problem.clone())));
        }
    }
}

/// Answers each, and lets those that have none go by themselves, a product's one after the other.
fn deliver(
    inventory: &Inventory,
    group: Vec<Rider<AdjustRequest, Answer>>,
    answers: Vec<Option<Answer>>,
) {
    let mut held: BTreeMap<Sku, Vec<Rider<AdjustRequest, Answer>>> = BTreeMap::new();
    for (rider, answer) in group.into_iter().zip(answers) {
        match answer {
            Some(answer) => rider.answer(answer),
            None => held.entry(rider.item.sku.clone()).or_default().push(rider),
        }
    }
    for riders in held.into_values() {
        let inventory = inventory.clone();
        tokio::spawn(async move {
            for rider in riders {
                alone(&inventory, rider).await;
            }
        });
    }
}

/// Why a group came to nothing.
enum Failure {
    /// A statement failed, so nothing of it was written.
    RolledBack(DbError),
    /// It may have been written: what is done once must not be done again.
    NotKnown(DbError),
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::NotKnown(error)
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::NotKnown(error.into())
    }
}

/// Each one's answer, if it has one.
async fn answers(
    inventory: &Inventory,
    requests: impl Iterator<Item = AdjustRequest>,
) -> Result<Vec<Option<Answer>>, Failure> {
    let now = inventory.env.now();
    let group: Vec<Grouped> =
        requests.map(|request| Grouped::begin(inventory, request, now)).collect();
    let outbox = inventory.outbox.clone();
    let work = move |conn: &mut Conn| {
        answer_all(conn, &outbox, group).map_err(|error| Failure::RolledBack(error.into()))
    };
    inventory.db.write(work).await
}

impl Grouped {
    fn begin(inventory: &Inventory, request: AdjustRequest, now: Timestamp) -> Self {
        let outbox = inventory.outbox.clone();
        let context = WriteContext { outbox, now, traceparent: request.trace.0.clone() };
        let (write, answer) = match inventory.keys.begin(request.key.clone(), &request.body) {
            Ok(write) => (write, None),
            Err(problem) => (None, Some(Err(problem))),
        };
        Self { request, context, write, answer, is_done: false }
    }

    fn adjustment(&self) -> GroupedAdjustment<'_> {
        let AdjustRequest { sku, adjustment, precondition, .. } = &self.request;
        GroupedAdjustment { sku, adjustment, precondition, context: &self.context }
    }

    fn settle(&mut self, outcome: GroupedOutcome) {
        self.answer = match outcome {
            GroupedOutcome::Adjusted(product) => {
                self.is_done = true;
                Some(adjusted(product))
            }
            GroupedOutcome::Refused(refusal) => Some(Ok(Reply::from(&Problem::from(&refusal)))),
            GroupedOutcome::Held => None,
        };
    }

    /// What is kept of it, if it has a key and was done.
    fn kept(&self) -> Option<(&KeyedWrite, &Reply, Timestamp)> {
        match (&self.write, &self.answer) {
            (Some(write), Some(Ok(reply))) if self.is_done => {
                Some((write, reply, self.context.now))
            }
            _ => None,
        }
    }
}

fn answer_all(
    conn: &mut Conn,
    outbox: &Outbox,
    mut group: Vec<Grouped>,
) -> QueryResult<Vec<Option<Answer>>> {
    let keyed: Vec<&KeyedWrite> = group.iter().filter_map(|one| one.write.as_ref()).collect();
    let before = answers_before(conn, &keyed)?;
    let keyed = group.iter_mut().filter(|one| one.write.is_some());
    for (one, answer) in keyed.zip(before) {
        one.answer = answer;
    }
    let open = group.iter().filter(|one| one.answer.is_none());
    let open: Vec<GroupedAdjustment<'_>> = open.map(Grouped::adjustment).collect();
    let outcomes = inventory::adjust_group(conn, outbox, &open)?;
    let open = group.iter_mut().filter(|one| one.answer.is_none());
    for (one, outcome) in open.zip(outcomes) {
        one.settle(outcome);
    }
    let kept: Vec<(&KeyedWrite, &Reply, Timestamp)> =
        group.iter().filter_map(Grouped::kept).collect();
    keep_all(conn, &kept)?;
    Ok(group.into_iter().map(|one| one.answer).collect())
}

fn adjusted(product: Product) -> ProblemResult<Reply> {
    let version = product.version;
    Ok(Reply::json(StatusCode::OK, &ProductView::from(product))?.with_version(version))
}
