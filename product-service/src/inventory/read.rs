//! Reading one product: a removed one is refused as one that never was.

use common::db::Conn;
use common::inventory::Sku;

use super::{ChangeError, ChangeRefusal, Product, model};

/// The product of `sku`.
///
/// # Errors
/// Refused when there is no such product.
pub fn get(conn: &mut Conn, sku: &Sku) -> Result<Product, ChangeError> {
    Ok(existing(model::find(conn, sku)?, sku)?)
}

/// The product that was found, unless it never was or is a tombstone.
pub(crate) fn existing(found: Option<Product>, sku: &Sku) -> Result<Product, ChangeRefusal> {
    match found {
        None => Err(ChangeRefusal::Unknown(sku.clone())),
        Some(tombstone) if tombstone.removed => {
            Err(ChangeRefusal::Removed { sku: tombstone.sku, version: tombstone.version })
        }
        Some(product) => Ok(product),
    }
}
