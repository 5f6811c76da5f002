//! Clients that change products, place orders, cancel them and read, as careful ones do: each write has an
//! `Idempotency-Key`, and what got no answer is asked again, of the next process, until there is one. A [`shopper`] is one of
//! them, [`mod@products`] says what they change, and [`seen`] what a client was shown, which counts until there are
//! [`setbacks`]. All of them may [`rest`]. A [`mod@flood`] is many new products at once.

mod flood;
mod products;
mod rest;
mod seen;
mod setbacks;
mod shopper;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub(super) use self::flood::flood;
pub(super) use self::products::{
    ADJUSTED, FLOOD, OPENING_DESCRIPTION, PUT, adjusted, product, products, withdrawn,
};
pub(super) use self::rest::Rest;
pub(super) use self::setbacks::Setbacks;
use self::shopper::Shopper;
use super::ledger::Ledger;
use crate::check::Side;

/// How long clients go on with what is not answered, once all is well again.
const CLOSING: Duration = Duration::from_secs(60);

/// Where the processes of each service listen, as `host:port`, whether they run or not.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    pub(super) product: Vec<String>,
    pub(super) order: Vec<String>,
}

impl Addresses {
    pub(super) fn of(&self, side: Side) -> &[String] {
        match side {
            Side::Product => &self.product,
            Side::Order => &self.order,
        }
    }
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stage {
    /// They ask for more and more.
    Asking,
    /// They only finish what they have begun.
    Closing,
    /// They end.
    Ended,
}

/// What clients have to know before they begin.
#[derive(Debug, Clone, Default)]
pub(super) struct Habits {
    /// How many there are.
    pub(super) clients: u16,
    /// Where they begin.
    pub(super) seed: u64,
    /// Whether they remove their own products, too, and order those of others, which may be gone by then.
    pub(super) remove: bool,
    /// Whether they describe their own products at length.
    pub(super) is_wordy: bool,
    pub(super) setbacks: Setbacks,
    pub(super) rest: Rest,
}

/// A load under way.
pub(super) struct Load {
    clients: JoinSet<Ledger>,
    stage: Arc<AtomicU8>,
}

impl Load {
    /// Lets clients begin.
    pub(super) fn start(runtime: &Runtime, addresses: &Addresses, habits: &Habits) -> Self {
        let stage = Arc::new(AtomicU8::new(Stage::Asking as u8));
        let mut all = JoinSet::new();
        for number in 0..habits.clients {
            let shopper = Shopper::new(number, addresses, habits, Arc::clone(&stage));
            all.spawn_on(shopper.run(), runtime.handle());
        }
        Self { clients: all, stage }
    }

    /// Lets the clients finish what they have begun, and returns what they know.
    pub(super) fn finish(mut self, runtime: &Runtime) -> Result<Ledger> {
        self.enter(Stage::Closing);
        let mut known = Ledger::default();
        runtime.block_on(async {
            let deadline = Instant::now() + CLOSING;
            loop {
                match timeout_at(deadline, self.clients.join_next()).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(ended)) => known.take(ended?),
                    Err(_) => break,
                }
            }
            self.enter(Stage::Ended);
            while let Some(ended) = self.clients.join_next().await {
                known.take(ended?);
            }
            anyhow::Ok(())
        })?;
        Ok(known)
    }

    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::SeqCst);
    }
}
