//! Asks product-service over HTTP.

use common::config::PeerSettings;
use common::details::{MAX_BYTES, ProductDetails};
use common::http::Problem;
use common::inventory::Sku;
use common::peer::{BodyError, Peer, body_of};

use super::Fault;

/// What product-service answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// None: it has no such product.
    pub(super) details: Option<ProductDetails>,
    /// The size of the answer.
    pub(super) bytes: usize,
}

/// The way to product-service.
pub(super) struct Client(Peer);

impl Client {
    pub(super) fn new(settings: &PeerSettings) -> anyhow::Result<Self> {
        Ok(Self(Peer::new(settings)?))
    }

    pub(super) async fn fetch(&self, sku: &Sku) -> Result<Answer, Fault> {
        let path = format!("/api/v1/inventory/{}/details", sku.path_segment());
        let response = self.0.get(&path, &[]).send().await.map_err(Fault::Connection)?;
        let status = response.status().as_u16();
        match status {
            200 => known(sku, &body_of(response, MAX_BYTES).await?),
            404 => unknown(&body_of(response, MAX_BYTES).await?),
            status => Err(Fault::Status(status)),
        }
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Connection(error) => Self::Connection(error),
            BodyError::TooLarge(_) => Self::TooLarge,
        }
    }
}

fn known(sku: &Sku, body: &[u8]) -> Result<Answer, Fault> {
    let details: ProductDetails = serde_json::from_slice(body).map_err(Fault::Unreadable)?;
    if details.sku != *sku {
        return Err(Fault::Mistaken);
    }
    Ok(Answer { details: Some(details), bytes: body.len() })
}

/// Only the owner's own 404 says that there is no such product; a wrong address or a proxy has a 404 too.
fn unknown(body: &[u8]) -> Result<Answer, Fault> {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if problem.field.as_deref() == Some("sku") => {
            Ok(Answer { details: None, bytes: 0 })
        }
        _ => Err(Fault::Status(404)),
    }
}
