//! How much may be sent and unanswered.
//!
//! What is in flight belongs to whoever holds its shard: a relay counts its own shards, and takes the part of each
//! partition's cap that these shards are of it. So several instances together never send more than one may.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::db::{Conn, Db, DbError};
use tokio::time::Instant;

use super::lease::LeaseSet;
use super::{SHARDS, partition_of, store};

/// Events and bytes.
type Amount = (i64, i64);

/// For how long what was counted is believed: other instances settle, too.
const TRUSTED_FOR: Duration = Duration::from_secs(5);

/// How soon it is counted again where a partition seems to be full; at once where somebody is known to have settled,
/// since nothing else may wake the relay later.
const FULL_FOR: Duration = Duration::from_secs(1);

/// What a partition may hold unanswered, and what each shard does hold; shared by relay and settler.
#[derive(Debug, Clone)]
pub struct InFlight {
    max_events: i64,
    max_bytes: i64,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// When the database was asked.
    counted: Option<Instant>,
    /// Whose shards were counted: tokens by shard.
    tokens: BTreeMap<i16, i64>,
    /// Whether somebody settled what was not taken off here.
    is_behind: bool,
    /// Raised before and after the database is asked: odd while it is.
    generation: u64,
    /// SENT and unanswered, by shard: never less than there is.
    sent: BTreeMap<i16, Amount>,
    /// On the way to the broker, by shard.
    leaving: BTreeMap<i16, Amount>,
}

impl InFlight {
    /// Nothing in flight; at most `max_events` and `max_bytes` per partition.
    pub fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            max_events: i64::try_from(max_events).unwrap_or(i64::MAX),
            max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
            held: Arc::default(),
        }
    }

    /// Asks the database again, if what is known is old, was counted under other leases, or leaves a partition no room.
    ///
    /// # Errors
    /// When the database fails; the old numbers stay.
    pub(super) async fn refresh(
        &self,
        db: &Db,
        leases: &LeaseSet,
        partitions: i32,
    ) -> Result<(), DbError> {
        let own: BTreeSet<i32> =
            leases.tokens.keys().map(|shard| partition_of(*shard, partitions)).collect();
        let is_full = self.room(leases, partitions).len() < own.len();
        if self.lock().is_fresh(leases, is_full) {
            return Ok(());
        }
        {
            let mut held = self.lock();
            held.generation += 1;
            held.is_behind = false;
        }
        // Twice what all may hold: where another program has sent more, each partition counts as full.
        let most = self.max_events.saturating_mul(2 * i64::from(partitions.max(1)));
        let full = (self.max_events, self.max_bytes);
        let count = move |conn: &mut Conn| {
            let sent = store::in_flight(conn, most)?;
            let is_cut = sent.values().map(|(events, _)| events).sum::<i64>() >= most;
            Ok::<_, DbError>(if is_cut {
                (0..SHARDS).map(|shard| (shard, full)).collect()
            } else {
                sent
            })
        };
        let sent = db.read(count).await;
        let mut held = self.lock();
        held.generation += 1;
        held.is_behind |= sent.is_err();
        held.sent = sent?;
        held.counted = Some(Instant::now());
        held.tokens.clone_from(&leases.tokens);
        Ok(())
    }

    /// What [`InFlight::settled`] is to be told of a transaction that begins now.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Notes that a transaction which began at `generation` took events out of flight: by shard, events and bytes.
    ///
    /// If the database was asked since, it may have left them out already; then the next count tells.
    pub fn settled(&self, generation: u64, released: &BTreeMap<i16, (i64, i64)>) {
        let mut held = self.lock();
        if held.generation == generation && generation.is_multiple_of(2) {
            released.iter().for_each(|(shard, amount)| held.take(*shard, *amount));
        } else {
            held.is_behind = true;
        }
    }

    /// Notes that another instance may have settled something: where there seems to be no room, it is counted again.
    pub fn settled_elsewhere(&self) {
        self.lock().is_behind = true;
    }

    /// Notes that an event leaves for the broker.
    pub(super) fn leaves(&self, shard: i16, bytes: i64) {
        add(self.lock().leaving.entry(shard).or_default(), (1, bytes), 1);
    }

    /// Notes that an event has left: whether it is SENT now.
    pub(super) fn left(&self, shard: i16, bytes: i64, is_sent: bool) {
        let mut held = self.lock();
        add(held.leaving.entry(shard).or_default(), (1, bytes), -1);
        if is_sent {
            add(held.sent.entry(shard).or_default(), (1, bytes), 1);
        }
    }

    /// The partitions of which `leases` hold shards and that have room, and how much each has for these.
    pub(super) fn room(&self, leases: &LeaseSet, partitions: i32) -> BTreeMap<i32, Amount> {
        let held = self.lock();
        // By partition: all its shards, the own ones, what all hold, and what the own ones hold.
        let mut room: BTreeMap<i32, (i64, i64, Amount, Amount)> = BTreeMap::new();
        for shard in 0..SHARDS {
            let of = room.entry(partition_of(shard, partitions)).or_default();
            let (all, own, of_all, of_own) = of;
            let is_own = i64::from(leases.tokens.contains_key(&shard));
            *all += 1;
            *own += is_own;
            for amounts in [&held.sent, &held.leaving] {
                let amount = amounts.get(&shard).copied().unwrap_or_default();
                add(of_all, amount, 1);
                add(of_own, amount, is_own);
            }
        }
        let left = |cap: i64, (all, own): (i64, i64), (of_all, of_own): (i64, i64)| {
            // At least one, so that no shard waits for ever where the cap is smaller than there are instances.
            let part = (cap.saturating_mul(own) / all.max(1)).max(1);
            (part - of_own).min(cap - of_all)
        };
        let own = |(partition, (all, own, of_all, of_own)): (i32, (i64, i64, Amount, Amount))| {
            let events = left(self.max_events, (all, own), (of_all.0, of_own.0));
            let bytes = left(self.max_bytes, (all, own), (of_all.1, of_own.1));
            (own > 0 && events > 0 && bytes > 0).then_some((partition, (events, bytes)))
        };
        room.into_iter().filter_map(own).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is_fresh(&self, leases: &LeaseSet, is_full: bool) -> bool {
        let trusted_for = match (is_full, self.is_behind) {
            (true, true) => Duration::ZERO,
            (true, false) => FULL_FOR,
            (false, _) => TRUSTED_FOR,
        };
        self.tokens == leases.tokens
            && self.counted.is_some_and(|counted| counted.elapsed() < trusted_for)
    }

    fn take(&mut self, shard: i16, amount: Amount) {
        add(self.sent.entry(shard).or_default(), amount, -1);
    }
}

fn add(sum: &mut Amount, (events, bytes): Amount, times: i64) {
    sum.0 = (sum.0 + times * events).max(0);
    sum.1 = (sum.1 + times * bytes).max(0);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn leases(shards: impl Iterator<Item = i16>) -> LeaseSet {
        let tokens = shards.map(|shard| (shard, 1)).collect();
        LeaseSet { tokens, ..LeaseSet::nothing("test".to_owned()) }
    }

    #[test]
    fn instances_together_have_the_cap_and_no_more() {
        let in_flight = InFlight::new(1_000, 1 << 20);
        let (low, high) = (leases(0..20), leases(20..64));
        let all = leases(0..64);
        let room = |leases| in_flight.room(leases, 4).values().map(|room| room.0).sum::<i64>();
        assert_eq!(room(&all), 4_000);
        assert_eq!(room(&low), 1_248, "5 of 16 shards of each partition");
        assert_eq!(room(&high), 2_748, "the other 11, rounded down");
        // One shard holds all that its partition may: there is room for nobody, whoever has which shards.
        in_flight.lock().sent.insert(0, (1_000, 10));
        assert_eq!(room(&high), 2_748 - 687);
    }

    #[test]
    fn what_leaves_counts_until_it_is_settled_once() {
        let in_flight = InFlight::new(2, 1 << 20);
        let all = leases(0..64);
        let room = || in_flight.room(&all, 1).get(&0).map_or(0, |room| room.0);
        in_flight.leaves(3, 10);
        assert_eq!(room(), 1);
        in_flight.left(3, 10, true);
        in_flight.leaves(3, 10);
        in_flight.left(3, 10, false);
        assert_eq!(room(), 1);
        let released = BTreeMap::from([(3, (1, 10))]);
        let before = in_flight.generation();
        in_flight.lock().generation += 2;
        in_flight.settled(before, &released);
        assert_eq!(room(), 1, "the count of the database may know of it already");
        in_flight.settled(before + 2, &released);
        assert_eq!(room(), 2);
    }
}
