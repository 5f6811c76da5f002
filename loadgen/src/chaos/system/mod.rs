//! Both services with all that they stand on: real processes on a real PostgreSQL, or with files of SQLite, and a real Apache
//! Kafka, with a proxy on each way from a service to one of those. [`start`] makes it, [`causes`] is what faults do to it,
//! [`hanging`] that of which a part hangs, [`chores`] and [`unanswered`] that of which something is cut off, and [`months`]
//! those that pass. It has the [`processes`], the [`network`] between, the [`recipients`] of what is told, the [`failovers`] of
//! the databases and a [`tally`] of what came of all.

mod causes;
mod chores;
mod failovers;
mod hanging;
mod months;
mod network;
mod processes;
mod recipients;
mod start;
mod tally;
mod unanswered;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use common::clock::{Clock, SystemClock, Timestamp};
use hyper::Method;
use serde_json::Value;
use stockloop_tests::smtp::{Mail, Manner, SmtpSink};
use tokio::runtime::Runtime;

use self::failovers::Failovers;
use self::hanging::Hung;
use self::network::Network;
use self::processes::Processes;
use self::tally::Tally;
use super::aging::Aging;
use super::brokers::Brokers;
use super::chores::Chore;
use super::client::{Asked, Client, Reply};
use super::databases::{Databases, ISOLATED, LOST};
use super::fault::{
    COPIES, DEAD_LETTERS, DEADLOCKS, FORGOTTEN, Fault, GAVE_UP, IN_NEW_PARTITIONS, LOST_RACES,
    Part, REMOVALS, TAKEN_BACK, TOO_LARGE, TRANSLATED, WITHOUT_ROOM,
};
use super::http_server::HttpServer;
use super::ledger::Ledger;
use super::load::{Addresses, Rest, Setbacks};
use super::looks::Looks;
use super::mending;
use super::messages::Duplicator;
use super::readers;
use super::scenarios::KEPT;
use super::webhook::{Receiver, Welcome};
use super::witness::Witness;
use crate::check::{Arguments, Side};

/// How long all may take to come to rest once nothing is wrong any more.
const DRAIN_DEADLINE: Duration = Duration::from_secs(300);

/// How long an operator tries.
const ASK_DEADLINE: Duration = Duration::from_secs(60);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// So often it is looked at the most, in the time that a backlog may take.
const LOOKS: u32 = 1_000;

/// How often it is told what still waits.
const TELL: Duration = Duration::from_secs(5);

/// Why a broker says that it does not take a message, or several at once.
const REFUSED_FOR_SIZE: &str =
    "failed due to org.apache.kafka.common.errors.RecordTooLargeException";

/// Of what was forgotten too soon, so much is told in words.
const FIRST: usize = 10;

/// A system. What is to be ended first comes first.
pub(super) struct System {
    processes: Processes,
    duplicator: Option<Duplicator>,
    witness: Option<Witness>,
    /// What has been seen of what goes with the months, if any pass.
    aging: Option<Aging>,
    network: Network,
    brokers: Brokers,
    databases: Databases,
    mails: SmtpSink,
    /// Where the mails are listed.
    catcher: HttpServer,
    webhook: Receiver,
    addresses: Addresses,
    quarantined: Vec<String>,
    /// Changes, and messages, of a backlog.
    backlog: u32,
    /// How much longer it may take until all is at rest.
    more_time: Duration,
    seed: u64,
    failovers: Failovers,
    rest: Rest,
    /// Since when a service lacks a right, and how many requests its broker had refused by then.
    revoked: Option<(Timestamp, u64)>,
    /// What hangs, if something does.
    hung: Option<Hung>,
    /// What was cut off and has not come to its end: what it is known by.
    chores: BTreeMap<Chore, String>,
    /// What was taken, by whom it is told, though whoever sent it has not heard so: it has to come again.
    unanswered: Vec<(Part, String)>,
    /// What was wrong last with those who are told, or with the network to them.
    unhelpful: BTreeMap<Part, Fault>,
    pub(super) tally: Tally,
    /// What an operator changed.
    pub(super) ledger: Ledger,
}

impl System {
    /// Where the processes are called.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Asks a process of a service as an operator, who takes no for an error, and who tries what is not available again: so
    /// only what may be done twice is asked for.
    pub(super) fn ask(
        &self,
        runtime: &Runtime,
        side: Side,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Value> {
        let address = self.addresses.of(side).first().context("there is no process")?;
        self.ask_at(runtime, (side, address.as_str()), method, path, body)
    }

    /// The same of the process of a service that is called here.
    fn ask_at(
        &self,
        runtime: &Runtime,
        (side, address): (Side, &str),
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Value> {
        let asked = Asked { method, path: path.to_owned(), body, key: None };
        let (began, mut client) = (Instant::now(), Client::default());
        let mut is_again = false;
        loop {
            match runtime.block_on(client.ask(address, &asked)) {
                Reply::Whole { status: 200..=299, body } => return Ok(body),
                // A try whose answer was lost may have removed it.
                Reply::Whole { status: 404, body } if asked.method == Method::DELETE => {
                    return Ok(body);
                }
                // Or may have done it.
                Reply::Whole { status: 409, body } if is_again => return Ok(body),
                Reply::Whole { status: 400..=499, body } => bail!("{side} refused {path}: {body}"),
                other if began.elapsed() > ASK_DEADLINE => {
                    bail!("{side} answered {path} with {other:?}")
                }
                _ => thread::sleep(LOOK),
            }
            is_again = true;
        }
    }

    /// Puts right whatever was done, and starts what does not run.
    pub(super) fn heal(&mut self, runtime: &Runtime) -> Result<()> {
        let copies = self.duplicator.take().map_or(0, Duplicator::finish);
        self.tally.note_met([(COPIES, copies)]);
        self.network.heal(&mut self.tally);
        if self.tally.counts(TOO_LARGE) {
            self.tally.note_met([(TOO_LARGE, self.brokers.said(REFUSED_FOR_SIZE)?)]);
        }
        self.databases.heal()?;
        self.brokers.heal()?;
        for fault in [Fault::Mail(Manner::Accept), Fault::Webhook(Welcome::Take)] {
            self.cause(runtime, fault)?;
        }
        let without_room = self.processes.without_room() + self.databases.without_room();
        self.tally.note_met([(WITHOUT_ROOM, without_room)]);
        self.processes.heal(&mut self.tally)?;
        self.be_told_after_all(runtime)?;
        self.end_quarantines(runtime)?;
        if !self.failovers.lost_times().is_empty() {
            match mending::mend(self, runtime) {
                Ok(()) => self.failovers.end(),
                Err(error) => {
                    self.tally.complain(format!("what was taken back is not mended: {error:#}"));
                }
            }
        }
        Ok(())
    }

    /// Lets order-service take what it refused.
    fn end_quarantines(&mut self, runtime: &Runtime) -> Result<()> {
        for sku in std::mem::take(&mut self.quarantined) {
            let path = format!("/api/admin/v1/quarantine/{sku}");
            self.ask(runtime, Side::Order, Method::DELETE, &path, Value::Null)?;
        }
        Ok(())
    }

    /// Notes of what faults met what only the databases and the brokers know, once all is at rest.
    pub(super) fn note_met_in(&mut self, looks: &mut Looks) -> Result<()> {
        self.ensure_repeated()?;
        let unreadable = looks.dead_letters()?;
        self.tally.note_met([
            (GAVE_UP, looks.exhausted()?),
            (DEAD_LETTERS, unreadable),
            (DEADLOCKS, looks.deadlocks()?),
            (LOST_RACES, looks.drawn(LOST)?),
            (REMOVALS, looks.removals()?),
            (IN_NEW_PARTITIONS, readers::in_new_partitions(&self.brokers.servers())?),
        ]);
        let isolated = looks.drawn(ISOLATED)?;
        if isolated > 0 {
            let words = format!("{isolated} writes were isolated in another way than is asked for");
            self.tally.complain(words);
        }
        if self.tally.counts(TRANSLATED) && unreadable > 0 {
            let words = format!("{unreadable} messages of another release could not be read");
            self.tally.complain(words);
        }
        Ok(())
    }

    /// Waits until nothing waits; what takes long is told.
    pub(super) fn drain(&self) -> Result<()> {
        let (began, mut looks) = (Instant::now(), self.look()?);
        let mut told = TELL;
        loop {
            let waiting = self.waiting(&mut looks)?;
            // What was read last may have caused something where it was looked before.
            if waiting.is_empty() && self.waiting(&mut looks)?.is_empty() {
                return Ok(());
            }
            let deadline = DRAIN_DEADLINE + self.more_time;
            ensure!(
                began.elapsed() < deadline,
                "after {deadline:?}, this still waits: {waiting:?}"
            );
            if began.elapsed() >= told {
                println!("{:8.3} s  still waits: {waiting:?}", began.elapsed().as_secs_f64());
                told += TELL;
            }
            // A look into a long backlog holds up those who work it off.
            thread::sleep(LOOK.max(self.more_time / LOOKS));
        }
    }

    /// Has what its topic did not take sent again, as an operator does once it takes it; then nothing may wait for a person.
    pub(super) fn retry(&self, runtime: &Runtime) -> Result<()> {
        if !self.tally.counts(TOO_LARGE) {
            return Ok(());
        }
        mending::retry(self, runtime)?;
        self.drain()?;
        let left = self.look()?.given_up()?;
        ensure!(left == 0, "{left} events gave up again, though their topics take them");
        Ok(())
    }

    /// What still waits.
    fn waiting(&self, looks: &mut Looks) -> Result<Vec<String>> {
        let mut waiting = looks.waiting()?;
        if waiting.is_empty() {
            match readers::unread(&self.brokers.servers()) {
                Ok(unread) => waiting.extend(unread),
                // Brokers that came back need a moment to know where their groups are.
                Err(error) => waiting.push(format!("messages that can't be counted: {error:#}")),
            }
        }
        Ok(waiting)
    }

    /// Ends both services in good order.
    pub(super) fn stop(&mut self) {
        self.processes.stop(&mut self.tally);
    }

    /// The effects that there are, or were where they are forgotten.
    pub(super) fn effects(&mut self, looks: &mut Looks) -> Result<BTreeMap<String, u64>> {
        if let Some(aging) = self.aging.take() {
            return self.effects_of_months(aging, looks);
        }
        let Some(witness) = self.witness.take() else { return looks.effects() };
        let seen = witness.finish()?;
        self.tally.note_met([(FORGOTTEN, seen.gone)]);
        self.tell_of_what_went_too_soon(&seen.too_soon);
        Ok(seen.effects())
    }

    /// The same where months have passed.
    fn effects_of_months(
        &mut self,
        mut aging: Aging,
        looks: &mut Looks,
    ) -> Result<BTreeMap<String, u64>> {
        aging.look(looks, self.time())?;
        self.tell_of_what_went_too_soon(aging.too_soon());
        Ok(aging.effects())
    }

    fn tell_of_what_went_too_soon(&mut self, too_soon: &[String]) {
        for words in too_soon.iter().take(FIRST) {
            self.tally.complain(format!("forgotten too soon: {words}"));
        }
    }

    /// The time by the services' clocks.
    fn time(&self) -> Timestamp {
        SystemClock.now().after(self.processes.passed())
    }

    /// So many answered changes are gone, and may be.
    pub(super) fn note_taken_back(&mut self, many: u64) {
        self.tally.note_met([(TAKEN_BACK, many)]);
    }

    /// What the judge is asked.
    pub(super) fn judged(&self) -> Arguments {
        let databases = self.databases.urls().map(Into::into);
        let arguments = Arguments::settled(databases, self.brokers.servers(), self.catcher.url());
        let arguments = arguments.ahead_by(self.processes.passed());
        // What is kept for so short has gone by then, as it may.
        if self.tally.counts(FORGOTTEN) { arguments.kept_for(KEPT) } else { arguments }
    }

    /// What clients are told of databases that come back as they were before.
    pub(super) fn setbacks(&self) -> Setbacks {
        self.failovers.setbacks()
    }

    /// When clients rest.
    pub(super) fn rest(&self) -> Rest {
        self.rest.clone()
    }

    /// When changes were answered that may have been taken back.
    pub(super) fn lost_times(&self) -> &[Range<Instant>] {
        self.failovers.lost_times()
    }

    /// A look into both databases.
    pub(super) fn look(&self) -> Result<Looks> {
        Looks::open(&self.databases.urls())
    }

    /// The ids of the mails that arrived, and how many came again.
    pub(super) fn mails(&self) -> (BTreeSet<String>, usize) {
        let mails = self.mails.mails();
        let ids: BTreeSet<String> = mails.iter().map(Mail::message_id).collect();
        let again = mails.len().saturating_sub(ids.len());
        (ids, again)
    }

    /// Whether a call of the webhook arrived.
    pub(super) fn has_call(&self, id: &str) -> bool {
        self.webhook.has(id)
    }

    /// The last lines of all processes that run.
    pub(super) fn log_tails(&self) -> String {
        self.processes.log_tails()
    }
}
