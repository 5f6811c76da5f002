//! What hangs while all else has to go on.

use std::time::Duration;

use anyhow::{Context, Result};
use common::clock::{Clock, SystemClock};
use engine::outbox::{partition_of, shard_of};

use super::System;
use crate::chaos::fault::{BrokerFault, Which};
use crate::chaos::load::adjusted;
use crate::chaos::readers::PARTITIONS;
use crate::chaos::waiting::wait_for;

/// How long it may take until something arrives beside what hangs: a group may have lost its coordinator, and a batch of
/// answers waits for a partition once.
const GO_ON_DEADLINE: Duration = Duration::from_secs(60);

/// Partitions from which nothing arrives: those of product-service's events, and of order-service's.
pub(super) struct Hung([Vec<i32>; 2]);

impl System {
    /// Lets a broker suffer; what only it has hangs if it freezes.
    pub(super) fn suffer_in_broker(&mut self, which: Which, fault: BrokerFault) -> Result<u64> {
        // Before: who is frozen can't be asked.
        let only_there = match fault {
            BrokerFault::Freeze => self.brokers.only_at(which)?,
            _ => None,
        };
        let met = self.brokers.suffer(which, fault)?;
        if let Some(partitions) = only_there {
            self.hung = Some(Hung(partitions));
        }
        Ok(met)
    }

    /// The partition of this adjusted product hangs, since whoever applies its events waits.
    pub(super) fn hang_with(&mut self, product: u32) {
        let partition = partition_of(shard_of(&adjusted(product)), PARTITIONS);
        self.hung = Some(Hung([vec![partition], Vec::new()]));
    }

    /// Waits until something has arrived of both services' events that are made from now on and do not hang; how much that is.
    /// What was made before says little: it may have been on its way when the rest of it came to hang.
    pub(super) fn others_go_on(&mut self) -> Result<u64> {
        let Hung(partitions) = self.hung.take().context("nothing hangs")?;
        let since = SystemClock.now();
        let mut looks = self.look()?;
        let look = || looks.arrived_beside(since, &partitions);
        let of_both = |arrived: &[u64; 2]| arrived.iter().all(|many| *many > 0);
        match wait_for("changes beside what hangs", GO_ON_DEADLINE, look, of_both) {
            Ok([product, order]) => Ok(product + order),
            Err(error) => {
                self.tally.complain(format!("what hangs keeps others from going on: {error:#}"));
                Ok(0)
            }
        }
    }
}
