//! What each fault does to a system, and how much it meets.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::Result;
use hyper::Method;
use serde_json::json;
use stockloop_tests::poll::eventually_blocking;
use tokio::runtime::Runtime;

use super::{SIDES, System};
use crate::chaos::fault::{Fault, Link, Part, Who};
use crate::chaos::load::{self, adjusted};
use crate::chaos::messages::{self, Duplicator};
use crate::chaos::proxy::Proxy;
use crate::chaos::wire::Moment;
use crate::check::Side;

/// How long all of a flood may take to give up.
const FLOOD_DEADLINE: Duration = Duration::from_secs(180);

/// How long a moment may take to come at which a process is to be killed.
const MOMENT_DEADLINE: Duration = Duration::from_secs(30);

impl System {
    /// Lets it happen.
    pub(in crate::chaos) fn suffer(&mut self, runtime: &Runtime, fault: Fault) -> Result<()> {
        let met = self.cause(runtime, fault)?;
        if let Some(what) = fault.meets() {
            self.meet(what, met);
        }
        Ok(())
    }

    /// Lets it happen; returns how much it met, as far as that is known at once.
    fn cause(&mut self, runtime: &Runtime, fault: Fault) -> Result<u64> {
        Ok(match fault {
            Fault::Kill(who) => {
                let killed = self.instance(who)?.kill();
                self.note(who, killed)
            }
            Fault::KillAt(who, moment) => self.kill_at(who, moment)?,
            Fault::Terminate(who) => {
                let ended = self.instance(who)?.terminate();
                self.note(who, ended)
            }
            Fault::Start(who) => self.start_process(who).map(|()| 0)?,
            Fault::Freeze(who) => {
                let frozen = self.instance(who)?.freeze();
                self.note(who, frozen)
            }
            Fault::Thaw(who) => self.instance(who)?.thaw().map(|()| 0)?,
            Fault::Clock(who, seconds) => self.instance(who)?.set_clock(seconds).map(|()| 0)?,
            Fault::Weather(link, weather) => {
                self.proxies(link)?.iter().for_each(|proxy| proxy.be(weather));
                0
            }
            Fault::Strike(link, strike) => {
                self.proxies(link)?.iter().map(|proxy| u64::from(proxy.strike(strike))).sum()
            }
            Fault::Lose(side, request, count) => {
                let link = Link { side, part: request.part() };
                self.proxies(link)?.iter().for_each(|proxy| proxy.lose(request, count));
                0
            }
            Fault::Postgres(fault) => self.databases.suffer(fault)?,
            Fault::Broker(which, fault) => self.brokers.suffer(which, fault)?,
            Fault::Topic(fault) => self.brokers.change(runtime, fault).map(|()| 1)?,
            Fault::Mail(manner) => {
                self.turn(Part::Mail, fault);
                self.mails.be(manner).map(|()| 0)?
            }
            Fault::Webhook(welcome) => {
                self.turn(Part::Webhook, fault);
                self.webhook.be(welcome);
                0
            }
            Fault::Quarantine(products) => self.quarantine(runtime, products).map(|()| 0)?,
            Fault::Flood(products) => self.flood(runtime, products).map(|()| 0)?,
            Fault::SlowConsumer => self.databases.slow_down().map(|()| 1)?,
            Fault::Nonsense => {
                messages::send_nonsense(&self.brokers.servers(), self.seed).map(|()| 0)?
            }
            Fault::ForgedAnswers => {
                messages::send_forged_answers(&self.brokers.servers(), self.seed)?
            }
            Fault::Copy { late_ms } => {
                let servers = self.brokers.servers();
                self.duplicator = Some(Duplicator::start(&servers, self.seed, late_ms)?);
                0
            }
        })
    }

    /// Kills a process when this moment comes, and says so if it does not.
    fn kill_at(&mut self, who: Who, moment: Moment) -> Result<u64> {
        let link = Link { side: who.side, part: moment.request.part() };
        let (tell, told) = sync_channel(1);
        self.proxies(link)?.iter().for_each(|proxy| proxy.trap(moment, &tell));
        let has_come = told.recv_timeout(MOMENT_DEADLINE).is_ok();
        let killed = self.instance(who)?.kill();
        self.proxies(link)?.iter().for_each(Proxy::clear);
        if !has_come {
            self.complaints.push(format!("{who}: the moment did not come {moment}"));
        }
        Ok(self.note(who, killed).min(u64::from(has_come)))
    }

    /// A part is about to behave as this says: who came until now met it as it was.
    pub(super) fn turn(&mut self, part: Part, fault: Fault) {
        let links = SIDES.map(|side| Link { side, part });
        let proxies = links.iter().filter_map(|link| self.proxies.get(link)).flatten();
        let came: u64 = proxies.map(Proxy::take_accepted).sum();
        if let Some(what) = self.bad.remove(&part) {
            self.meet(what, came);
        }
        if let Some(what) = fault.meets() {
            self.bad.insert(part, what);
        }
    }

    fn quarantine(&mut self, runtime: &Runtime, products: u32) -> Result<()> {
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
        self.databases.refuse_flood(products)?;
        self.ledger.take(load::flood(runtime, &self.addresses, products)?);
        let mut looks = self.look()?;
        eventually_blocking("a whole flood that gave up", FLOOD_DEADLINE, || {
            match looks.exhausted() {
                Ok(count) if count >= u64::from(products) => Ok(()),
                other => Err(other),
            }
        })
    }
}
