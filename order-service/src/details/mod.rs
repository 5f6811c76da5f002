//! The details of a product that no event carries: asked of product-service when somebody wants to see them.
//!
//! The copy answers what is needed always, with nobody else there; a call answers what is needed now and then.
//! So a call may fail, and must not harm: an answer takes no longer than the timeout, whoever asks for a
//! product that is being asked for waits for that call instead of making another, what was answered is kept
//! for a while, and after repeated failures no calls are made until a pause is over.
//!
//! # Choices
//!
//! - **moka** keeps the answers and joins the calls. It is widely used and looked after, it is bounded by
//!   bytes, lets each entry live for its own time, and its `try_get_with` runs one of many calls for a key.
//! - **recloser** is the circuit breaker. It had three minor releases since August 2025, has a stable version,
//!   is small, and brings nothing that moka doesn't (crossbeam-epoch) but pin-project. failsafe, which is used
//!   more, had its last release in July 2024; tower-resilience-circuitbreaker is released often, but below 1.0
//!   with a new incompatible version each time, and wants a tower service around what is one function here.
//!   Two habits of recloser matter: it judges a window only when that is full, and it lets every call pass
//!   while it tries whether the peer is back; the number of calls at once is therefore limited here.
//! - **hyper** makes the calls ([`engine::peer`]). The TLS that reqwest brings by itself would be a second
//!   cryptographic library beside the mail's.
//!
//! The cache and the breaker read the monotonic clock by themselves; only the age of an answer is of the
//! injected one.

mod cache;
mod error;
mod http_client;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use cache::{CacheEntry, DetailsCache};
use common::config::PeerSettings;
use common::details::ProductDetails;
use common::env::Env;
use common::inventory::Sku;
pub use error::DetailsError;
use http_client::HttpClient;
use recloser::{AsyncRecloser, Error as BreakerError, Recloser};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Calls at once at the most: what a pool of connections can serve, and all that a failing peer gets.
const MAX_CALLS: usize = 64;

/// What there is to say about the details of a product.
#[derive(Debug, Clone)]
pub enum DetailsLookup {
    /// Asked for just now.
    Fresh(Arc<ProductDetails>),
    /// Asked for some time ago.
    Cached {
        /// As they were then.
        details: Arc<ProductDetails>,
        /// How long ago that was.
        age: Duration,
    },
    /// product-service has no such product: its removal is on the way here.
    Unknown,
    /// They can't be had now.
    Unavailable(Arc<DetailsError>),
}

/// Asks for details; cheap to clone, and all clones share one cache and one circuit breaker.
#[derive(Clone)]
pub struct DetailsClient(Arc<Inner>);

struct Inner {
    http: HttpClient,
    cache: DetailsCache,
    breaker: AsyncRecloser,
    permits: Semaphore,
    timeout: Duration,
    env: Env,
}

impl DetailsClient {
    /// Makes the client; nothing is asked yet.
    ///
    /// # Errors
    /// One line that names the setting that is wrong.
    pub fn new(settings: &PeerSettings, env: Env) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            http: HttpClient::new(settings)?,
            cache: DetailsCache::new(settings.cache_ttl, settings.cache_bytes),
            breaker: breaker(settings),
            permits: Semaphore::new(MAX_CALLS),
            timeout: settings.timeout,
            env,
        })))
    }

    /// The details of `sku`, within the timeout.
    pub async fn get(&self, sku: &Sku) -> DetailsLookup {
        let Inner { cache, env, timeout: limit, .. } = &*self.0;
        if let Some(entry) = cache.get(sku).await {
            return entry.into_cached(env.now());
        }
        let (inner, sku) = (Arc::clone(&self.0), sku.clone());
        // A task of its own: a client that hangs up must not end the call that others wait for.
        let call = tokio::spawn(async move { inner.load(sku).await });
        match timeout(*limit, call).await {
            Ok(Ok(Ok(entry))) => entry.into_fresh(),
            Ok(Ok(Err(error))) => DetailsLookup::Unavailable(error),
            Ok(Err(_stopped)) => DetailsLookup::Unavailable(Arc::new(DetailsError::Interrupted)),
            Err(_elapsed) => DetailsLookup::Unavailable(Arc::new(DetailsError::Timeout(*limit))),
        }
    }
}

impl Inner {
    async fn load(&self, sku: Sku) -> Result<CacheEntry, Arc<DetailsError>> {
        self.cache.get_or(sku.clone(), self.call(&sku)).await
    }

    async fn call(&self, sku: &Sku) -> Result<CacheEntry, DetailsError> {
        match self.breaker.call(self.fetch(sku)).await {
            Ok(entry) => Ok(entry),
            Err(BreakerError::Rejected) => Err(DetailsError::BreakerOpen),
            Err(BreakerError::Inner(fault)) => {
                tracing::warn!(%sku, %fault, cause = fault.cause(), "details could not be fetched");
                Err(fault)
            }
        }
    }

    /// Waiting for a permit is part of the time, so an overload opens the breaker too.
    async fn fetch(&self, sku: &Sku) -> Result<CacheEntry, DetailsError> {
        let fetched = timeout(self.timeout, async {
            let _permit =
                self.permits.acquire().await.map_err(|_closed| DetailsError::Interrupted)?;
            self.http.fetch(sku).await
        });
        let response = fetched.await.map_err(|_elapsed| DetailsError::Timeout(self.timeout))??;
        Ok(CacheEntry::new(response, self.env.now()))
    }
}

/// The window is full before it is looked at, so it is one shorter than the calls that it takes.
fn breaker(settings: &PeerSettings) -> AsyncRecloser {
    Recloser::custom()
        .error_rate(0.5)
        .closed_len(settings.breaker_calls.saturating_sub(1).max(1))
        .half_open_len(1)
        .open_wait(settings.breaker_pause)
        .build()
        .into()
}
