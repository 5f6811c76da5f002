//! What a database takes of each step of the loop, by the functions that the services call for it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use common::db::{Conn, Db};
use common::env::Env;
use common::event::EventRow;
use common::on;
use common::schema::{outbox_event, outbox_sent};
use common::telemetry::Spans;
use diesel::prelude::*;
use engine::inbox::{Control, Inbox};
use engine::kafka::{Ack, Record, Signing, Verdict};
use engine::outbox::{FirstAttempts, Settler};
use engine::restored::ReadPositions;
use indicatif::ProgressBar;
use order_service::inventory::InventoryHandler;
use product_service::inventory::OwnedInventory;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::AS_A_SERVICE;
use super::producer::message;
use super::relay::RelayAlone;
use crate::backlog::{log_bytes, policy, tidy};
use crate::bench::load::{Changes, Pile, answers};
use crate::bench::parts::Server;
use crate::place::Scratch;
use crate::programs::{COPY, OWNER};
use crate::topics::{ACKS, EVENTS};

/// Messages of events of one transaction: as many as the service takes.
const MESSAGES: usize = 1_000;

/// Answers of one transaction: about as many as the service takes where there are enough.
const ANSWERS: usize = 4_000;

/// A step of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::bench) enum Step {
    Change,
    Send,
    Apply,
    Settle,
    All,
}

impl Step {
    pub(in crate::bench) const SINGLE: [Self; 4] =
        [Self::Change, Self::Send, Self::Apply, Self::Settle];

    pub(in crate::bench) const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Send => "send",
            Self::Apply => "apply",
            Self::Settle => "settle",
            Self::All => "all",
        }
    }
}

/// What a step took, and by how much the log grew.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Cost {
    pub(in crate::bench) seconds: f64,
    pub(in crate::bench) bytes: f64,
}

/// The cost of each of [`Step::SINGLE`].
pub(in crate::bench) type Costs = [Cost; 4];

/// The database of one of the services.
struct Side<'a> {
    /// For what is given a connection.
    conn: Conn,
    /// For what takes one itself.
    db: Db,
    _database: Scratch<'a>,
}

impl<'a> Side<'a> {
    fn on(database: Scratch<'a>) -> Result<Self> {
        let (mut conn, db) = (database.connect()?, database.open()?);
        conn.batch_execute(AS_A_SERVICE)?;
        Ok(Self { conn, db, _database: database })
    }
}

/// Both services' databases, and what does in them what the services do.
pub(in crate::bench) struct Statements<'a> {
    runtime: Runtime,
    pile: Pile,
    relay: RelayAlone,
    inbox: Inbox,
    settler: Settler,
    /// Messages of answers so far.
    answered: i64,
    owner: Side<'a>,
    copy: Side<'a>,
}

impl<'a> Statements<'a> {
    /// On databases that are made for it; its products have gone through the loop.
    pub(in crate::bench) fn on(server: &'a Server, products: u32, seed: u64) -> Result<Self> {
        let (env, runtime) = (Env::system(), Runtime::new()?);
        let owner = server.of_service.make_with(product_service::SERVICE.migrations)?;
        let copy = server.of_copy.make_with(order_service::SERVICE.migrations)?;
        let (owner, mut copy) = (Side::on(owner)?, Side::on(copy)?);
        // As one that was filled long ago: nothing more is summed up for it.
        copy.conn
            .batch_execute("UPDATE copy_state SET complete_us = 1, complete_by = 'measured'")?;
        let relay = runtime.block_on(RelayAlone::on(&owner.db))?;
        let mut statements = Self {
            pile: Pile::new(Changes::of(products, seed)),
            relay,
            inbox: inbox(copy.db.clone(), env.clone()),
            settler: settler(env),
            answered: 0,
            runtime,
            owner,
            copy,
        };
        statements.put(products)?;
        Ok(statements)
    }

    /// Puts products in, which go through all steps.
    fn put(&mut self, products: u32) -> Result<()> {
        self.pile.put(&mut self.owner.conn, products, &ProgressBar::hidden())?;
        let products = products as usize;
        self.send(products)?;
        let records = self.sent()?;
        let acks = self.apply(&records)?;
        let answers = self.answers(acks)?;
        self.settle(&answers, products)
    }

    /// All steps, with so many events.
    pub(in crate::bench) fn measure(mut self, events: usize) -> Result<Costs> {
        let ((), change) =
            self.timed(|all| all.pile.adjust(&mut all.owner.conn, events, &ProgressBar::hidden()))?;
        let ((), send) = self.timed(|all| all.send(events))?;
        let records = self.sent()?;
        let (acks, apply) = self.timed(|all| all.apply(&records))?;
        let answers = self.answers(acks)?;
        let ((), settle) = self.timed(|all| all.settle(&answers, events))?;
        Ok([change, send, apply, settle])
    }

    /// What `work` takes, which begins with tidy tables.
    fn timed<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Cost)> {
        tidy(&mut self.owner.conn)?;
        tidy(&mut self.copy.conn)?;
        let (written, began) = (log_bytes(&mut self.owner.conn)?, Instant::now());
        let done = work(self)?;
        let seconds = began.elapsed().as_secs_f64();
        let bytes = (log_bytes(&mut self.owner.conn)? - written) as f64;
        Ok((done, Cost { seconds, bytes }))
    }

    /// Reads the events that wait, and notes them as SENT.
    fn send(&mut self, events: usize) -> Result<()> {
        self.relay.note_all(&mut self.owner.conn, events)
    }

    /// The messages of the events that are SENT, as their consumer gets them.
    fn sent(&mut self) -> Result<Vec<Record>> {
        use {outbox_event as e, outbox_sent as s};
        let sent = e::table.inner_join(s::table.on(s::id.eq(e::id))).order(e::id);
        let rows: Vec<(EventRow, i32, Option<i64>)> = on!(&mut self.owner.conn, c => sent
            .select((EventRow::as_select(), s::partition, s::sent_offset))
            .load(c))?;
        let record = |(row, partition, offset): (EventRow, i32, Option<i64>)| {
            let message = message(row, EVENTS, partition);
            Record { offset: offset.unwrap_or_default(), ..Record::from(message) }
        };
        Ok(rows.into_iter().map(record).collect())
    }

    /// Applies them to the copy; returns the answers.
    fn apply(&mut self, records: &[Record]) -> Result<Vec<(i32, Ack)>> {
        let mut acks = Vec::with_capacity(records.len());
        for batch in records.chunks(MESSAGES) {
            let applied = self.runtime.block_on(self.inbox.apply(batch.to_vec(), false))?;
            acks.extend(applied.acks);
        }
        let is_success = |(_, ack): &(i32, Ack)| ack.outcome == Verdict::Success;
        let applied = acks.iter().filter(|ack| is_success(ack)).count();
        ensure!(applied == records.len(), "{applied} of {} events were applied", records.len());
        Ok(acks)
    }

    /// The answers as messages, one for each partition that their events came from; so many go into one transaction.
    fn answers(&mut self, acks: Vec<(i32, Ack)>) -> Result<Vec<Vec<Record>>> {
        let mut transactions = Vec::new();
        for together in acks.chunks(ANSWERS) {
            let mut records = Vec::new();
            for message in answers::messages(together.iter().cloned(), ACKS, &self.settler.env)? {
                records.push(Record { offset: self.answered, ..Record::from(message) });
                self.answered += 1;
            }
            transactions.push(records);
        }
        Ok(transactions)
    }

    fn settle(&mut self, answers: &[Vec<Record>], events: usize) -> Result<()> {
        let mut all = 0;
        for records in answers {
            let settling = self.settler.settle(&self.owner.db, records.clone(), false);
            all += self.runtime.block_on(settling)?.advanced.settled.len();
        }
        ensure!(all == events, "{all} of {events} events were settled");
        Ok(())
    }
}

/// What applies events as order-service does.
fn inbox(db: Db, env: Env) -> Inbox {
    Inbox {
        db,
        handler: Arc::new(InventoryHandler),
        consumer: COPY.to_owned(),
        spans: Spans::off(env.clone()),
        control: Control::default(),
        positions: ReadPositions::new(COPY, EVENTS),
        signing: Signing::default(),
        env,
    }
}

/// What settles answers as product-service does.
fn settler(env: Env) -> Settler {
    Settler {
        policy: policy(),
        topic: EVENTS.to_owned(),
        consumer: COPY.to_owned(),
        positions: ReadPositions::new(OWNER, ACKS),
        owner: Some(Arc::new(OwnedInventory)),
        first_attempts: FirstAttempts::Ours,
        signing: Signing::default(),
        env,
    }
}
