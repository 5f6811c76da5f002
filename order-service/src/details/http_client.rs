//! Asks product-service over HTTP.

use common::config::PeerSettings;
use common::details::{MAX_BYTES, ProductDetails};
use common::http::Problem;
use common::inventory::Sku;
use engine::peer::{BodyError, Peer, body_of};

use super::DetailsError;

/// What product-service answered.
#[derive(Debug)]
pub(super) struct DetailsResponse {
    /// None: it has no such product.
    pub(super) details: Option<ProductDetails>,
    /// The size of the body.
    pub(super) bytes: usize,
}

/// The way to product-service.
pub(super) struct HttpClient(Peer);

impl HttpClient {
    pub(super) fn new(settings: &PeerSettings) -> anyhow::Result<Self> {
        Ok(Self(Peer::new(settings)?))
    }

    pub(super) async fn fetch(&self, sku: &Sku) -> Result<DetailsResponse, DetailsError> {
        let path = format!("/api/v1/inventory/{}/details", sku.path_segment());
        let response = self.0.get(&path, &[]).send().await.map_err(DetailsError::Connection)?;
        let status = response.status().as_u16();
        match status {
            200 => found(sku, &body_of(response, MAX_BYTES).await?),
            404 => not_found(&body_of(response, MAX_BYTES).await?),
            status => Err(DetailsError::Status(status)),
        }
    }
}

impl From<BodyError> for DetailsError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Connection(error) => Self::Connection(error),
            BodyError::TooLarge(_) => Self::TooLarge,
        }
    }
}

fn found(sku: &Sku, body: &[u8]) -> Result<DetailsResponse, DetailsError> {
    let details: ProductDetails = serde_json::from_slice(body).map_err(DetailsError::Unreadable)?;
    if details.sku != *sku {
        return Err(DetailsError::OtherProduct);
    }
    Ok(DetailsResponse { details: Some(details), bytes: body.len() })
}

/// Only the owner's own 404 says that there is no such product; a wrong address or a proxy has a 404 too.
fn not_found(body: &[u8]) -> Result<DetailsResponse, DetailsError> {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if problem.field.as_deref() == Some("sku") => {
            Ok(DetailsResponse { details: None, bytes: 0 })
        }
        _ => Err(DetailsError::Status(404)),
    }
}
