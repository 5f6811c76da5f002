//! Who is told: the mail server and the receiver of the webhook's calls. Nobody tells them anything all the time, so what is
//! wrong with them for a while may meet nothing.

use std::time::Duration;

use anyhow::Result;
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::smtp::Manner;
use tokio::runtime::Runtime;

use super::System;
use crate::chaos::fault::{Fault, Part};
use crate::chaos::proxy::Weather;
use crate::chaos::webhook::Welcome;

/// How long it may take until somebody has told something.
const TOLD_DEADLINE: Duration = Duration::from_secs(30);

impl System {
    /// Notes what is wrong with one of those who are told, if anything is.
    pub(super) fn note_unhelpful(&mut self, part: Part, fault: Fault) {
        if matches!(part, Part::Mail | Part::Webhook) && fault.meets().is_some() {
            self.unhelpful.insert(part, fault);
        }
    }

    /// Has what was wrong last with those who are told happen once more, if nothing of its kind was met, and last until somebody
    /// has tried to tell them something: all else is well again, and where events were refused, they still are.
    pub(super) fn be_told_after_all(&mut self, runtime: &Runtime) -> Result<()> {
        for (part, fault) in std::mem::take(&mut self.unhelpful) {
            let met_nothing = |what: &&str| self.tally.met.get(what) == Some(&0);
            let (Some(what), Some(end)) = (fault.meets().filter(met_nothing), end(fault)) else {
                continue;
            };
            println!("{fault}, once more: there were no {what}");
            self.network.turn(part, None, &mut self.tally);
            self.cause(runtime, fault)?;
            let told = eventually_blocking("somebody to tell something", TOLD_DEADLINE, || {
                if self.has_met(part, fault) { Ok(()) } else { Err("nobody has") }
            });
            self.cause(runtime, end)?;
            if let Fault::Weather(link, _) = fault {
                self.tally.meet(what, self.network.take_troubled(link)?);
            }
            if let Err(error) = told {
                println!("{part} is told nothing: {error:#}");
            }
        }
        Ok(())
    }

    /// Whether somebody has come to a part since this began. Nobody gets through a black hole, but some of what they say is
    /// there.
    fn has_met(&self, part: Part, fault: Fault) -> bool {
        match fault {
            Fault::Weather(link, _) => self.network.is_troubled(link),
            _ => self.network.was_called(part),
        }
    }
}

/// What ends this, if it is about those who are told.
fn end(fault: Fault) -> Option<Fault> {
    match fault {
        Fault::Mail(_) => Some(Fault::Mail(Manner::Accept)),
        Fault::Webhook(_) => Some(Fault::Webhook(Welcome::Take)),
        Fault::Weather(link, _) => Some(Fault::Weather(link, Weather::Clear)),
        _ => None,
    }
}
