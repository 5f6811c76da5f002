//! What may happen to a system: each scenario is a function that draws its plan. [`all`] lists them, and [`needs`] has what
//! some of them need. The other files are by what is met: [`mixed`] has those that meet several things, [`amounts`] what
//! there is much of, or what goes again, and [`chores`] what goes on for longer.

mod all;
mod amounts;
mod broker;
mod chores;
mod instances;
mod mails;
mod messages;
mod mixed;
mod needs;
mod network;
mod postgres;
mod rights;
mod sqlite;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
mod topics;

use clap::builder::{PossibleValue, PossibleValuesParser};

pub(super) use self::all::ALL;
pub(super) use self::amounts::KEPT;
use super::instance::Releases;
use super::plan::Draw;

/// What the services keep everything in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// PostgreSQL.
    Server,
    /// The same, reached by a pooler.
    Pooled,
    /// The same, on a small disk of its own.
    SmallDisk,
    /// The same, with a standby that has all that is committed.
    Standby,
    /// The same, with a standby that may be behind.
    LateStandby,
    /// SQLite.
    Files,
}

impl Store {
    pub(super) const fn has_standby(self) -> bool {
        matches!(self, Self::Standby | Self::LateStandby)
    }

    /// Whether what was answered may be gone again, so that the services have to find that.
    pub(super) const fn may_lose(self) -> bool {
        matches!(self, Self::LateStandby)
    }
}

/// Which brokers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cluster {
    /// One.
    Alone,
    /// One that asks who may do what.
    Guarded,
    /// Several, each with a replica of everything.
    Replicated,
    /// Several, each with partitions that no other has.
    Apart,
}

impl Cluster {
    /// How many.
    pub(super) const fn brokers(self) -> usize {
        match self {
            Self::Alone | Self::Guarded => 1,
            Self::Replicated | Self::Apart => broker::CLUSTER,
        }
    }
}

/// Something that may happen.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What happens, in a line.
    pub(super) about: &'static str,
    /// Processes of each service that run when all is well.
    pub(super) instances: usize,
    /// Processes of each service that run at once, at the most.
    pub(super) most: usize,
    pub(super) cluster: Cluster,
    pub(super) store: Store,
    /// What the services are told besides.
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// Whether all processes are of the release before at first.
    pub(super) is_upgraded: bool,
    /// Whether what a process stands on may be away when it is started.
    pub(super) may_start_late: bool,
    /// Whether clocks of processes can jump while they run.
    pub(super) clocks_jump: bool,
    /// Whether clients remove products, too.
    pub(super) removes: bool,
    /// Whether clients describe products at length, so that events differ in size.
    pub(super) is_wordy: bool,
    /// Whether no event may be blamed for what happens: none may give up, be answered FAILED or count as one that can't be sent.
    pub(super) blames_nobody: bool,
    /// Whether who calls the services reaches them by a network that may be bad. Else it is known of a call that nobody takes
    /// that it had no effect.
    pub(super) is_called_by_network: bool,
    /// What it needs that is not on this machine, if it needs that.
    pub(super) missing: fn(&Releases) -> Option<String>,
    pub(super) draw: fn(&mut Draw),
}

impl Scenario {
    const fn new(name: &'static str, about: &'static str, draw: fn(&mut Draw)) -> Self {
        Self {
            name,
            about,
            instances: 1,
            most: 1,
            cluster: Cluster::Alone,
            store: Store::Server,
            settings: &[],
            is_upgraded: false,
            may_start_late: false,
            clocks_jump: false,
            removes: false,
            is_wordy: false,
            blames_nobody: false,
            is_called_by_network: false,
            missing: needs::nothing,
            draw,
        }
    }

    const fn with_instances(self, instances: usize, most: usize) -> Self {
        Self { instances, most, ..self }
    }

    const fn with_cluster(self) -> Self {
        Self { cluster: Cluster::Replicated, ..self }
    }

    const fn with_brokers_apart(self) -> Self {
        Self { cluster: Cluster::Apart, ..self }
    }

    const fn with_guard(self) -> Self {
        Self { cluster: Cluster::Guarded, ..self }
    }

    const fn with_many_words(self) -> Self {
        Self { is_wordy: true, ..self }
    }

    const fn without_blame(self) -> Self {
        Self { blames_nobody: true, ..self }
    }

    const fn with_pooler(self) -> Self {
        Self { store: Store::Pooled, missing: needs::pooler, ..self }
    }

    const fn with_small_disk(self) -> Self {
        Self { store: Store::SmallDisk, missing: needs::small_disk, ..self }
    }

    const fn with_standby(self, store: Store) -> Self {
        Self { store, missing: needs::standby, ..self }
    }

    const fn with_files(self) -> Self {
        Self { store: Store::Files, ..self }
    }

    const fn with_settings(self, settings: &'static [(&'static str, &'static str)]) -> Self {
        Self { settings, ..self }
    }

    const fn with_release_before(self) -> Self {
        Self { is_upgraded: true, missing: needs::release_before, ..self }
    }

    const fn with_late_starts(self) -> Self {
        Self { may_start_late: true, ..self }
    }

    const fn with_removals(self) -> Self {
        Self { removes: true, ..self }
    }

    const fn with_network_to_clients(self) -> Self {
        Self { is_called_by_network: true, ..self }
    }

    const fn with_wrong_clocks(self) -> Self {
        Self { missing: needs::library, ..self }
    }

    const fn with_clocks_that_jump(self) -> Self {
        Self { clocks_jump: true, ..self.with_wrong_clocks() }
    }
}

/// The name that stands for every scenario.
pub(super) const EVERY: &str = "all";

/// What `--scenario` may say.
pub(super) fn names() -> PossibleValuesParser {
    let every = PossibleValue::new(EVERY).help("each of them");
    let one = |scenario: &'static Scenario| PossibleValue::new(scenario.name).help(scenario.about);
    PossibleValuesParser::new(std::iter::once(every).chain(ALL.iter().map(one)))
}
