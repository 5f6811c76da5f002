//! Responses that are kept for a while, and calls that are joined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::clock::Timestamp;
use common::details::ProductDetails;
use common::inventory::Sku;
use moka::Expiry;
use moka::future::Cache;

use super::http_client::DetailsResponse;
use super::{DetailsError, DetailsLookup};

/// How long "there is no such product" is believed at the most: it may be put in at any moment.
const UNKNOWN_TTL: Duration = Duration::from_secs(1);

/// What an entry takes besides its response's bytes, roughly.
const OVERHEAD: usize = 512;

/// A response and when it came.
#[derive(Debug, Clone)]
pub(super) struct CacheEntry {
    details: Option<Arc<ProductDetails>>,
    bytes: u32,
    at: Timestamp,
}

/// The responses that are kept.
pub(super) struct DetailsCache(Cache<Sku, CacheEntry>);

struct TimeToLive(Duration);

impl CacheEntry {
    pub(super) fn new(response: DetailsResponse, at: Timestamp) -> Self {
        let bytes = u32::try_from(response.bytes + OVERHEAD).unwrap_or(u32::MAX);
        Self { details: response.details.map(Arc::new), bytes, at }
    }

    pub(super) fn into_fresh(self) -> DetailsLookup {
        self.details.map_or(DetailsLookup::Unknown, DetailsLookup::Fresh)
    }

    pub(super) fn into_cached(self, now: Timestamp) -> DetailsLookup {
        let age = now.since(self.at);
        self.details
            .map_or(DetailsLookup::Unknown, |details| DetailsLookup::Cached { details, age })
    }
}

impl DetailsCache {
    /// Keeps responses for `ttl`, and of `bytes` together at the most.
    pub(super) fn new(ttl: Duration, bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, entry: &CacheEntry| entry.bytes)
            .expire_after(TimeToLive(ttl))
            .build();
        Self(cache)
    }

    pub(super) async fn get(&self, sku: &Sku) -> Option<CacheEntry> {
        self.0.get(sku).await
    }

    /// The entry of `sku`, or what `call` brings; of several calls at once for one SKU, one is made for all.
    ///
    /// An error goes to all who wait for it, and is not kept.
    pub(super) async fn get_or(
        &self,
        sku: Sku,
        call: impl Future<Output = Result<CacheEntry, DetailsError>>,
    ) -> Result<CacheEntry, Arc<DetailsError>> {
        self.0.try_get_with(sku, call).await
    }

    /// The bytes that are kept, once everything due was dropped.
    #[cfg(test)]
    pub(super) async fn bytes(&self) -> u64 {
        self.0.run_pending_tasks().await;
        self.0.weighted_size()
    }
}

impl TimeToLive {
    fn of(&self, entry: &CacheEntry) -> Duration {
        if entry.details.is_some() { self.0 } else { self.0.min(UNKNOWN_TTL) }
    }
}

impl Expiry<Sku, CacheEntry> for TimeToLive {
    fn expire_after_create(&self, _: &Sku, entry: &CacheEntry, _: Instant) -> Option<Duration> {
        Some(self.of(entry))
    }

    fn expire_after_update(
        &self,
        _: &Sku,
        entry: &CacheEntry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.of(entry))
    }
}
