//! The network between the services, what they stand on and who calls them: a proxy on each way.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use super::tally::Tally;
use crate::chaos::fault::{IN_BAD_NETWORK, LOST_ANSWERS, Link, Part};
use crate::chaos::proxy::{Proxy, Strike, Weather};
use crate::chaos::wire::{Moment, Request};
use crate::check::Side;

/// All proxies.
#[derive(Default)]
pub(super) struct Network {
    proxies: BTreeMap<Link, Vec<Proxy>>,
    /// What the parts that behave badly are met by.
    bad: BTreeMap<Part, &'static str>,
}

impl Network {
    /// Passes `port` on to the port of `server`, as one of the ways of this link.
    pub(super) fn pass_on(
        &mut self,
        runtime: &Runtime,
        link: Link,
        port: u16,
        server: u16,
    ) -> Result<()> {
        let proxy = runtime.block_on(Proxy::start(port, server))?;
        self.proxies.entry(link).or_default().push(proxy);
        Ok(())
    }

    /// From now on a link is like this.
    pub(super) fn be(&self, link: Link, weather: Weather) -> Result<()> {
        self.ways(link)?.iter().for_each(|proxy| proxy.be(weather));
        Ok(())
    }

    /// Ends all open connections of a link like this; returns on how many of its ways there were any.
    pub(super) fn strike(&self, link: Link, strike: Strike) -> Result<u64> {
        Ok(self.ways(link)?.iter().map(|proxy| u64::from(proxy.strike(strike))).sum())
    }

    /// Loses the answers to so many of the next requests on each way of a link.
    pub(super) fn lose(&self, link: Link, request: Request, count: u32) -> Result<()> {
        self.ways(link)?.iter().for_each(|proxy| proxy.lose(request, count));
        Ok(())
    }

    /// Holds a connection of a link where this moment comes, of which is told then.
    pub(super) fn trap(&self, link: Link, moment: Moment) -> Result<Receiver<()>> {
        let (tell, told) = sync_channel(1);
        self.ways(link)?.iter().for_each(|proxy| proxy.trap(moment, &tell));
        Ok(told)
    }

    /// Ends all that is done to a link.
    pub(super) fn clear(&self, link: Link) -> Result<()> {
        self.ways(link)?.iter().for_each(Proxy::clear);
        Ok(())
    }

    /// Ends all that is done anywhere, and notes what that has met.
    pub(super) fn heal(&self, tally: &mut Tally) {
        let (mut troubled, mut snared) = (0, 0);
        for proxy in self.proxies.values().flatten() {
            proxy.clear();
            troubled += proxy.take_troubled();
            snared += proxy.take_snared();
        }
        tally.note_met([(IN_BAD_NETWORK, troubled), (LOST_ANSWERS, snared)]);
    }

    /// Leads new connections to a part to another server.
    pub(super) fn lead_to(&self, part: Part, server: u16) {
        self.ways_to(part).for_each(|proxy| proxy.lead_to(server));
    }

    /// A part is about to behave so that it is met by this, or well: who came until now met it as it was.
    pub(super) fn turn(&mut self, part: Part, meets: Option<&'static str>, tally: &mut Tally) {
        let came: u64 = self.ways_to(part).map(Proxy::take_accepted).sum();
        if let Some(what) = self.bad.remove(&part) {
            tally.meet(what, came);
        }
        if let Some(what) = meets {
            self.bad.insert(part, what);
        }
    }

    /// Whether somebody came to a part since it behaves as it does, and is done with it.
    pub(super) fn was_called(&self, part: Part) -> bool {
        self.ways_to(part).any(Proxy::was_called)
    }

    /// Whether pieces of a link met a bad network since [`Network::take_troubled`] was asked last.
    pub(super) fn is_troubled(&self, link: Link) -> bool {
        self.ways(link).is_ok_and(|ways| ways.iter().any(Proxy::is_troubled))
    }

    /// How many that were.
    pub(super) fn take_troubled(&self, link: Link) -> Result<u64> {
        Ok(self.ways(link)?.iter().map(Proxy::take_troubled).sum())
    }

    fn ways(&self, link: Link) -> Result<&[Proxy]> {
        let ways = self.proxies.get(&link).map(Vec::as_slice);
        ways.with_context(|| format!("nothing is between {link}"))
    }

    /// Those of both services.
    fn ways_to(&self, part: Part) -> impl Iterator<Item = &Proxy> {
        let links = Side::BOTH.map(|side| Link { side, part });
        links.into_iter().filter_map(move |link| self.proxies.get(&link)).flatten()
    }
}
