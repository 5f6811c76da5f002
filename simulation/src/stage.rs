//! Where scripts are played: databases that are made once, and emptied for each run.

use std::io;

use common::db::{DbError, ENGINE_MIGRATIONS, MemoryDatabase};
use tokio::runtime::Runtime;

use crate::checks::MARKS;
use crate::consumer::EFFECTS;
use crate::flaw::Flaw;
use crate::script::Script;
use crate::surroundings::RunClock;
use crate::violation::Violation;
use crate::world::World;

/// The databases of a sender and of two consumers, for one run after another.
pub struct Stage {
    pub(crate) clock: RunClock,
    pub(crate) sender: MemoryDatabase,
    pub(crate) consumers: [MemoryDatabase; 2],
}

/// What came of a script.
#[derive(Debug)]
pub struct Run {
    /// Each step, with how everything stood after it.
    pub trace: Vec<String>,
    /// What was found not to hold.
    pub violation: Option<Violation>,
}

impl Stage {
    /// A new one.
    ///
    /// # Errors
    /// When a database can't be made.
    pub fn new() -> Result<Self, DbError> {
        let clock = RunClock::new();
        let database = |more: &str| {
            let database = MemoryDatabase::new(&[ENGINE_MIGRATIONS], clock.clone())?;
            database.run(|conn| conn.batch_execute(more))?;
            database.keep()?;
            Ok::<_, DbError>(database)
        };
        let consumers = [database(EFFECTS)?, database(EFFECTS)?];
        Ok(Self { sender: database(MARKS)?, consumers, clock })
    }

    /// Plays `script`, with the loop as it is, or broken by `flaw`.
    pub fn play(&self, script: &Script, flaw: Option<Flaw>) -> Run {
        let mut trace = Vec::new();
        let violation = self.try_to_play(script, flaw, &mut trace).err();
        Run { trace, violation }
    }

    fn try_to_play(
        &self,
        script: &Script,
        flaw: Option<Flaw>,
        trace: &mut Vec<String>,
    ) -> Result<(), Violation> {
        self.sender.clear()?;
        self.consumers.iter().try_for_each(MemoryDatabase::clear)?;
        runtime()?.block_on(async {
            self.clock.begin();
            World::begin(self, script, flaw)?.play(script, trace).await
        })
    }
}

/// One thread, whose time stands still until nothing is left to do.
#[cfg(feature = "paused")]
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()
}

/// By the machine's time, a seed would be no run that comes again, nor one that ends soon.
#[cfg(not(feature = "paused"))]
fn runtime() -> io::Result<Runtime> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "it is not built with the feature `paused`"))
}
