//! Why details can't be had.

use std::error::Error as _;
use std::time::Duration;

use common::details::MAX_BYTES;
use engine::peer::PeerError;
use thiserror::Error;

/// Why there are no details now; what it displays is fit for clients, its cause for the log.
#[derive(Debug, Error)]
pub enum DetailsError {
    /// No connection, or one that broke off.
    #[error("product-service can't be reached")]
    Connection(#[source] PeerError),
    /// No answer in time.
    #[error("product-service did not answer within {0:?}")]
    Timeout(Duration),
    /// Not asked at all: the circuit breaker is open.
    #[error("product-service failed repeatedly and is not asked for a while")]
    BreakerOpen,
    /// An answer that is neither the details nor that there are none.
    #[error("product-service answered with status {0}")]
    Status(u16),
    /// An answer of another shape.
    #[error("product-service's answer can't be read")]
    Unreadable(#[source] serde_json::Error),
    /// An answer about another product.
    #[error("product-service answered for another product")]
    OtherProduct,
    /// An answer that was not read to its end.
    #[error("product-service's answer is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// This service is stopping.
    #[error("the call was interrupted")]
    Interrupted,
}

impl DetailsError {
    /// What is behind it, each cause after the one that it led to.
    pub(super) fn cause(&self) -> String {
        let causes = std::iter::successors(self.source(), |&error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}
