//! Who sends a mail, or calls the webhook, and is killed before it hears that it was taken: it has to come again, as the same.

use std::time::Duration;

use anyhow::{Result, bail};
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::smtp::{Mail, Manner};
use tokio::runtime::Runtime;

use super::System;
use crate::chaos::fault::{Part, Who};
use crate::chaos::webhook::Welcome;

/// How long it may take until something is to be told.
const TOLD_DEADLINE: Duration = Duration::from_secs(30);

impl System {
    /// Has events give up, and kills a process once what tells of that was taken and before it hears so.
    pub(super) fn kill_unanswered(
        &mut self,
        runtime: &Runtime,
        who: Who,
        part: Part,
    ) -> Result<u64> {
        self.quarantine(runtime, 1)?;
        self.hold(part, true)?;
        let before = self.taken(part)?.len();
        let taken = eventually_blocking("something to be told", TOLD_DEADLINE, || {
            match self.taken(part).map(|taken| taken.get(before).cloned()) {
                Ok(Some(id)) => Ok(id),
                other => Err(other.map_err(|error| format!("{error:#}"))),
            }
        });
        let killed = self.processes.get(who)?.kill();
        let is_killed = self.tally.note(who, killed);
        self.hold(part, false)?;
        self.end_quarantines(runtime)?;
        match taken {
            Ok(id) => {
                let is_unnoted = self.look()?.is_unnoted(part, &id)?;
                self.unanswered.push((part, id));
                Ok(is_killed.min(u64::from(is_unnoted)))
            }
            Err(error) => {
                self.tally.complain(format!("{part} was told nothing: {error:#}"));
                Ok(0)
            }
        }
    }

    /// Looks whether all of that came again, once nothing waits any more.
    pub(super) fn ensure_repeated(&mut self) -> Result<()> {
        for (part, id) in std::mem::take(&mut self.unanswered) {
            let times = self.taken(part)?.iter().filter(|taken| **taken == id).count();
            if times < 2 {
                self.tally.complain(format!(
                    "{part} took {id}, and whoever sent it was killed, but it did not come again"
                ));
            }
        }
        Ok(())
    }

    /// The ids of what was taken, oldest first.
    fn taken(&self, part: Part) -> Result<Vec<String>> {
        Ok(match part {
            Part::Mail => self.mails.mails().iter().map(Mail::message_id).collect(),
            Part::Webhook => self.webhook.calls(),
            _ => bail!("{part} is told nothing"),
        })
    }

    /// Whether who takes something does not say so.
    fn hold(&self, part: Part, is_held: bool) -> Result<()> {
        match part {
            Part::Mail => self.mails.be(if is_held { Manner::Hold } else { Manner::Accept }),
            Part::Webhook => {
                self.webhook.be(if is_held { Welcome::Hold } else { Welcome::Take });
                Ok(())
            }
            _ => bail!("{part} is told nothing"),
        }
    }
}
