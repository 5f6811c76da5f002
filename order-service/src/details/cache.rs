//! Answers that are kept for a while, and calls that are joined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::clock::Timestamp;
use common::details::ProductDetails;
use common::inventory::Sku;
use moka::Expiry;
use moka::future::Cache;

use super::client::Answer;
use super::{Fault, Found};

/// How long "there is no such product" is believed at the most: it may be put in at any moment.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// What an entry takes besides its answer's bytes, roughly.
const OVERHEAD: usize = 512;

/// An answer and when it came.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    details: Option<Arc<ProductDetails>>,
    bytes: u32,
    at: Timestamp,
}

/// The answers that are kept.
pub(super) struct Kept(Cache<Sku, Entry>);

struct Lifetime(Duration);

impl Entry {
    pub(super) fn new(answer: Answer, at: Timestamp) -> Self {
        let bytes = u32::try_from(answer.bytes + OVERHEAD).unwrap_or(u32::MAX);
        Self { details: answer.details.map(Arc::new), bytes, at }
    }

    pub(super) fn into_fresh(self) -> Found {
        self.details.map_or(Found::Unknown, Found::Fresh)
    }

    pub(super) fn into_cached(self, now: Timestamp) -> Found {
        let age = now.since(self.at);
        self.details.map_or(Found::Unknown, |details| Found::Cached { details, age })
    }
}

impl Kept {
    /// Keeps answers for `ttl`, and of `bytes` together at the most.
    pub(super) fn new(ttl: Duration, bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, entry: &Entry| entry.bytes)
            .expire_after(Lifetime(ttl))
            .build();
        Self(cache)
    }

    pub(super) async fn get(&self, sku: &Sku) -> Option<Entry> {
        self.0.get(sku).await
    }

    /// The entry of `sku`, or what `call` answers; of several calls at once for one SKU, one is made for all.
    ///
    /// A fault goes to all who wait for it, and is not kept.
    pub(super) async fn get_or(
        &self,
        sku: Sku,
        call: impl Future<Output = Result<Entry, Fault>>,
    ) -> Result<Entry, Arc<Fault>> {
        self.0.try_get_with(sku, call).await
    }

    /// The bytes that are kept, once everything due was dropped.
    #[cfg(test)]
    pub(super) async fn bytes(&self) -> u64 {
        self.0.run_pending_tasks().await;
        self.0.weighted_size()
    }
}

impl Lifetime {
    fn of(&self, entry: &Entry) -> Duration {
        if entry.details.is_some() { self.0 } else { self.0.min(UNKNOWN_FOR) }
    }
}

impl Expiry<Sku, Entry> for Lifetime {
    fn expire_after_create(&self, _: &Sku, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(self.of(entry))
    }

    fn expire_after_update(
        &self,
        _: &Sku,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.of(entry))
    }
}
