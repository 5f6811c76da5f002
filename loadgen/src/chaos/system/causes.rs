//! What each fault does to a system, and how much it meets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::clock::{Clock, SystemClock};
use hyper::Method;
use serde_json::{Value, json};
use stockloop_tests::poll::eventually_blocking;
use tokio::runtime::Runtime;

use super::System;
use crate::chaos::fault::{Fault, FileFault, Link, Part, PostgresFault, REFUSED, TOLD, Who};
use crate::chaos::instance::Instance;
use crate::chaos::load::{self, adjusted};
use crate::chaos::messages::{self, Duplicator};
use crate::chaos::rights::{self, Right};
use crate::chaos::scenarios::KEPT;
use crate::chaos::translations;
use crate::chaos::waiting::wait_for;
use crate::chaos::wire::Moment;
use crate::chaos::witness::Witness;
use crate::check::Side;

/// How much longer it may take until all is at rest, for each change or message of a backlog.
const DRAIN_PACE: Duration = Duration::from_millis(2);

/// What follows the first word of a description in a backlog: 960 characters, of three bytes each.
const LONG: &str = "長";
const LONG_CHARACTERS: usize = 960;

/// How long all of a flood may take to give up.
const FLOOD_DEADLINE: Duration = Duration::from_secs(180);

/// How long both services may take to tell that topics do not fit: those that did are looked at each 30 s, and once more 10 s
/// after that.
const UNFIT_DEADLINE: Duration = Duration::from_secs(90);

/// The pause of a key that nothing has.
const PAUSED: &str = "/api/admin/v1/pauses/NOTHING";

/// How long a line may take from a process to its log.
const LINE_DEADLINE: Duration = Duration::from_secs(10);

/// A clock that goes so far back, in seconds, or farther, has to be seen to do so; after less, a process that was held up may
/// find it where it was.
const FAR_BACK: i32 = -30;

/// How long a moment may take to come at which a process is to be killed.
const MOMENT_DEADLINE: Duration = Duration::from_secs(30);

/// How often a process is killed in a checkpoint until one was not over yet.
const CHECKPOINTS: u32 = 4;

impl System {
    /// Lets it happen.
    pub(in crate::chaos) fn suffer(&mut self, runtime: &Runtime, fault: Fault) -> Result<()> {
        self.processes.supervise(&mut self.tally)?;
        let met = self.cause(runtime, fault)?;
        if let Some(what) = fault.meets() {
            self.tally.meet(what, met);
        }
        Ok(())
    }

    /// Lets it happen; returns how much it met, as far as that is known at once.
    pub(super) fn cause(&mut self, runtime: &Runtime, fault: Fault) -> Result<u64> {
        Ok(match fault {
            Fault::Kill(who) => self.processes.meet(who, Instance::kill, &mut self.tally)?,
            Fault::KillAt(who, moment) => self.kill_at(who, moment)?,
            Fault::KillIn(who, chore, point) => self.kill_in(runtime, who, chore, point)?,
            Fault::ChoreEnds(chore) => self.chore_ends(runtime, chore)?,
            Fault::KillUnanswered(who, part) => self.kill_unanswered(runtime, who, part)?,
            Fault::KillInCheckpoint(who) => self.kill_in_checkpoint(who)?,
            Fault::Terminate(who) => {
                self.processes.meet(who, Instance::terminate, &mut self.tally)?
            }
            Fault::Start(who) => self.processes.start(who, &mut self.tally).map(|()| 0)?,
            Fault::Upgrade(who) => self.processes.upgrade(who, &mut self.tally)?,
            Fault::Freeze(who) => self.processes.meet(who, Instance::freeze, &mut self.tally)?,
            Fault::Thaw(who) => self.processes.get(who)?.thaw().map(|()| 0)?,
            Fault::Clock(who, seconds) => {
                self.processes.get(who)?.set_clock(seconds).map(|()| 0)?
            }
            Fault::Jump(who, seconds) => self.jump(runtime, who, seconds)?,
            Fault::Weather(link, weather) => {
                self.note_unhelpful(link.part, fault);
                self.network.be(link, weather).map(|()| 0)?
            }
            Fault::Strike(link, strike) => self.network.strike(link, strike)?,
            Fault::Lose(side, request, count) => {
                let link = Link { side, part: request.part() };
                self.network.lose(link, request, count).map(|()| 0)?
            }
            Fault::Postgres(fault) => self.suffer_in_server(fault)?,
            Fault::File(side, fault) => self.suffer_in_file(side, fault)?,
            Fault::Broker(which, fault) => self.suffer_in_broker(which, fault)?,
            Fault::Topic(fault) => self.brokers.change(runtime, fault)?,
            Fault::UnfitIsTold => self.unfit_is_told()?,
            Fault::OthersGoOn => self.others_go_on()?,
            Fault::Revoke(side, right) => self.revoke(side, right).map(|()| 0)?,
            Fault::Grant(side, right) => self.grant(side, right).map(|()| 0)?,
            Fault::Mail(manner) => {
                self.network.turn(Part::Mail, fault.meets(), &mut self.tally);
                self.note_unhelpful(Part::Mail, fault);
                self.mails.be(manner).map(|()| 0)?
            }
            Fault::Webhook(welcome) => {
                self.network.turn(Part::Webhook, fault.meets(), &mut self.tally);
                self.note_unhelpful(Part::Webhook, fault);
                self.webhook.be(welcome);
                0
            }
            Fault::Quarantine(products) => self.quarantine(runtime, products).map(|()| 0)?,
            Fault::Flood(products) => self.flood(runtime, products).map(|()| 0)?,
            Fault::SlowConsumer => self.databases.server()?.slow_down().map(|()| 1)?,
            Fault::Nonsense => {
                messages::send_nonsense(&self.brokers.servers(), self.seed).map(|()| 0)?
            }
            Fault::ForgedAnswers => {
                messages::send_forged_answers(&self.brokers.servers(), self.seed)?
            }
            Fault::Translate(side, release) => {
                translations::translate(runtime, &self.brokers.servers(), side, release)?
            }
            Fault::Copy { late_ms } => {
                let servers = self.brokers.servers();
                self.duplicator = Some(Duplicator::start(&servers, self.seed, late_ms)?);
                0
            }
            Fault::BoundMemory => self.processes.bound_memory()?,
            Fault::Backlog => self.make_backlog(runtime)?,
            Fault::Pile => self.pile_messages_up()?,
            Fault::Forget => {
                self.witness = Some(Witness::start(self.databases.urls(), KEPT));
                0
            }
            Fault::Pass(days) => self.let_days_pass(runtime, days)?,
            Fault::Withdraw(products) => self.withdraw(runtime, products)?,
            Fault::Discard => self.discard(runtime)?,
            Fault::Release => self.end_quarantines(runtime).map(|()| 0)?,
        })
    }

    /// Lets the server suffer; clients and services are led to whatever has taken its place.
    fn suffer_in_server(&mut self, fault: PostgresFault) -> Result<u64> {
        if fault == PostgresFault::LeaveBehind {
            self.failovers.leave_behind();
        }
        let met = self.databases.server()?.suffer(fault)?;
        if let PostgresFault::Hold(product) = fault {
            self.hang_with(product);
        }
        if fault == PostgresFault::Promote {
            // Before anybody is led there.
            self.failovers.promote();
        }
        if let Some(port) = self.databases.port() {
            self.network.lead_to(Part::Postgres, port);
        }
        Ok(met)
    }

    /// The same for the file of a service, which has one process.
    fn suffer_in_file(&mut self, side: Side, fault: FileFault) -> Result<u64> {
        let who = Who { side, number: 1 };
        match fault {
            FileFault::Full => self.processes.get(who)?.let_write(false).map(|()| 0),
            FileFault::Room => self.processes.get(who)?.let_write(true).map(|()| 0),
            FileFault::ReadOnly => {
                let ended = self.processes.get(who)?.terminate();
                self.tally.note(who, ended);
                self.databases.files()?.let_write(side, false)?;
                let refused = self.processes.get(who)?.be_refused();
                Ok(self.tally.note(who, refused.context("it may not write into its file")))
            }
            FileFault::Writable => self.databases.files()?.let_write(side, true).map(|()| 0),
        }
    }

    /// Lets the clock of a process jump; 1 if what it says shows that.
    fn jump(&mut self, runtime: &Runtime, who: Who, seconds: i32) -> Result<u64> {
        let instance = self.processes.get(who)?;
        let said = instance.log_length();
        instance.set_clock(seconds)?;
        // Right again, it is as all are.
        if seconds == 0 {
            return Ok(0);
        }
        let from = SystemClock.now();
        self.have_act(runtime, who)?;
        let between = [from, SystemClock.now()];
        let instance = self.processes.get(who)?;
        let seen = eventually_blocking("a line of a clock that has jumped", LINE_DEADLINE, || {
            if instance.shows_its_clock(said, between) { Ok(()) } else { Err("none") }
        });
        if seconds <= FAR_BACK {
            self.ensure_timers_are_set_anew(who, said)?;
        }
        Ok(u64::from(seen.is_ok()))
    }

    /// Looks whether a process has seen that its clock went back. Nothing else would show that its timers stand still: the other
    /// process of its service does its work until the clock is there again.
    fn ensure_timers_are_set_anew(&mut self, who: Who, said: usize) -> Result<()> {
        let instance = self.processes.get(who)?;
        let seen = eventually_blocking("timers that are set anew", LINE_DEADLINE, || {
            if instance.has_seen_it_go_back(said) { Ok(()) } else { Err("none") }
        });
        if let Err(error) = seen {
            self.tally.complain(format!("{who} has not seen its clock go back: {error:#}"));
        }
        Ok(())
    }

    /// Has a process do for an operator what changes nothing, which it logs.
    fn have_act(&self, runtime: &Runtime, who: Who) -> Result<()> {
        let address = self.addresses.of(who.side).get(who.number.saturating_sub(1));
        let called = (who.side, address.context("there is no such process")?.as_str());
        let reason = json!({ "reason": "a trial" });
        self.ask_at(runtime, called, Method::PUT, PAUSED, reason)?;
        self.ask_at(runtime, called, Method::DELETE, PAUSED, Value::Null).map(drop)
    }

    /// Kills a process while its database is written, if that comes; again where that was over just before it died.
    fn kill_in_checkpoint(&mut self, who: Who) -> Result<u64> {
        for tries in 1..=CHECKPOINTS {
            let has_come = self.databases.files()?.wait_for_checkpoint(who.side)?;
            let killed = self.processes.get(who)?.kill();
            let killed = self.tally.note(who, killed);
            if !has_come {
                // Later, clients may have nothing more to write.
                if tries == 1 {
                    self.tally.complain(format!("{who}: there was no checkpoint"));
                }
                break;
            }
            if self.databases.files()?.is_half_done(who.side)? {
                return Ok(killed);
            }
            if tries < CHECKPOINTS {
                self.processes.start(who, &mut self.tally)?;
            }
        }
        Ok(0)
    }

    /// Waits until both services have an alert of topics that do not fit; returns how many do.
    fn unfit_is_told(&mut self) -> Result<u64> {
        let mut looks = self.look()?;
        let told =
            wait_for("two alerts of topics", UNFIT_DEADLINE, || looks.unfit(), |told| *told == 2);
        Ok(told.unwrap_or_else(|error| {
            self.tally.complain(format!("topics do not fit, and not both tell so: {error:#}"));
            0
        }))
    }

    fn revoke(&mut self, side: Side, right: Right) -> Result<()> {
        self.revoked = Some((SystemClock.now(), self.brokers.said(&rights::denied(side))?));
        self.tally.meet(TOLD, 0);
        self.brokers.revoke(side, right)
    }

    /// Gives a right back, once it is known what lacking it has met and whether somebody was told why.
    fn grant(&mut self, side: Side, right: Right) -> Result<()> {
        let (since, before) = self.revoked.take().context("nothing was taken away")?;
        let refused = self.brokers.said(&rights::denied(side))?.saturating_sub(before);
        let told = self.look()?.told_of_right(side, right, since)?;
        if told == 0 {
            self.tally.complain(format!("nobody was told that {side} may not {right}"));
        }
        self.tally.meet(REFUSED, refused);
        self.tally.meet(TOLD, told);
        self.brokers.grant(side, right)
    }

    /// Pauses product-service's relay, puts the backlog in, and ends the pause; returns how much was not sent by then.
    fn make_backlog(&mut self, runtime: &Runtime) -> Result<u64> {
        let (pause, reason) = ("/api/admin/v1/relay/pause", json!({ "reason": "a trial" }));
        self.ask(runtime, Side::Product, Method::PUT, pause, reason)?;
        let padding = format!(" {}", LONG.repeat(LONG_CHARACTERS));
        self.ledger.take(load::flood(runtime, &self.addresses, self.backlog, &padding)?);
        let unsent = self.look()?.unsent()?;
        ensure!(unsent >= u64::from(self.backlog), "of {} changes, {unsent} wait", self.backlog);
        self.ask(runtime, Side::Product, Method::DELETE, pause, Value::Null)?;
        self.more_time += DRAIN_PACE * self.backlog;
        Ok(unsent)
    }

    fn pile_messages_up(&mut self) -> Result<u64> {
        self.more_time += DRAIN_PACE * self.backlog;
        messages::pile_up(&self.brokers.servers(), self.backlog)
    }

    /// Kills a process when this moment comes, and says so if it does not.
    fn kill_at(&mut self, who: Who, moment: Moment) -> Result<u64> {
        let link = Link { side: who.side, part: moment.request.part() };
        let told = self.network.trap(link, moment)?;
        let has_come = told.recv_timeout(MOMENT_DEADLINE).is_ok();
        let killed = self.processes.get(who)?.kill();
        self.network.clear(link)?;
        if !has_come {
            self.tally.complain(format!("{who}: the moment did not come {moment}"));
        }
        Ok(self.tally.note(who, killed).min(u64::from(has_come)))
    }

    pub(super) fn quarantine(&mut self, runtime: &Runtime, products: u32) -> Result<()> {
        for sku in (0..products).map(adjusted) {
            let path = format!("/api/admin/v1/quarantine/{sku}");
            let body = json!({ "reason": "a trial" });
            self.ask(runtime, Side::Order, Method::PUT, &path, body)?;
            self.quarantined.push(sku);
        }
        Ok(())
    }

    /// Puts as many products in that order-service refuses, and waits until all have given up.
    fn flood(&mut self, runtime: &Runtime, products: u32) -> Result<()> {
        self.databases.server()?.refuse_flood(products)?;
        self.ledger.take(load::flood(runtime, &self.addresses, products, "")?);
        let (mut looks, all) = (self.look()?, u64::from(products));
        let look = || looks.exhausted();
        wait_for("a whole flood that gave up", FLOOD_DEADLINE, look, |many| *many >= all)?;
        Ok(())
    }
}
