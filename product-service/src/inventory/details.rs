//! What is told of a product only when somebody asks: texts that no event carries, and its last adjustments.
//!
//! The texts are no part of the inventory: they have no version, changing them makes no event, and no copy
//! holds them. An event for each of their changes would have every consumer carry, and acknowledge, what
//! nobody reads from a copy, and a new version would tell them that a product's stock or price had changed.
//! They end with the product: one that is put in again begins without them.

use std::collections::BTreeSet;

use common::clock::Timestamp;
use common::db::Conn;
use common::details::{AdjustmentDetails, LAST_ADJUSTMENTS, ProductDetails};
use common::http::Text;
use common::inventory::Sku;
use common::on;
use diesel::prelude::*;
use serde::Deserialize;
use thiserror::Error;
use utoipa::ToSchema;

use super::{ChangeError, existing, get, model};
use crate::schema::{adjustment, product_detail};

/// The characters that a long description has at the most.
const MAX_LONG_DESCRIPTION: usize = 4_000;

/// Who delivers a product: 1 to 200 characters.
type Supplier = Text<1, 200>;

/// What a product is, at length: 1 to 4,000 characters in one line or several, not blank.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 4000)]
pub struct LongDescription(String);

/// Why a text is no [`LongDescription`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LongDescriptionError {
    /// Too few or too many characters.
    #[error("must have 1 to {MAX_LONG_DESCRIPTION} characters")]
    Length,
    /// Nothing but white space.
    #[error("must not be blank; leave it out to have none")]
    Blank,
    /// A control character that is no line break.
    #[error("must not hold control characters other than line breaks (\\n)")]
    Control,
}

impl TryFrom<String> for LongDescription {
    type Error = LongDescriptionError;

    fn try_from(text: String) -> Result<Self, LongDescriptionError> {
        if !(1..=MAX_LONG_DESCRIPTION).contains(&text.chars().count()) {
            Err(LongDescriptionError::Length)
        } else if text.chars().any(|c| c.is_control() && c != '\n') {
            Err(LongDescriptionError::Control)
        } else if text.trim().is_empty() {
            Err(LongDescriptionError::Blank)
        } else {
            Ok(Self(text))
        }
    }
}

/// The body of a PUT of a product's texts; what is left out, or null, is there no longer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DetailsContent {
    /// What it is, at length.
    pub long_description: Option<LongDescription>,
    /// Who delivers it.
    pub supplier: Option<Supplier>,
}

#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = product_detail, primary_key(sku), treat_none_as_null = true)]
struct ProductDetailRow {
    sku: Sku,
    long_description: Option<String>,
    supplier: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = adjustment)]
struct AdjustmentRow {
    delta: i64,
    quantity: i64,
    version: i64,
    reason: String,
    reference: Option<String>,
    at_us: Timestamp,
}

/// The details of a product.
///
/// # Errors
/// Refused when there is no such product.
pub fn details(conn: &mut Conn, sku: &Sku) -> Result<ProductDetails, ChangeError> {
    let product = get(conn, sku)?;
    let row = find(conn, sku)?;
    let (long_description, supplier) =
        row.map_or((None, None), |row| (row.long_description, row.supplier));
    Ok(ProductDetails {
        sku: product.sku,
        version: product.version,
        long_description,
        supplier,
        last_adjustments: last_adjustments(conn, sku, product.version)?,
    })
}

/// Sets a product's texts, both of them, and returns its details.
///
/// # Errors
/// Refused when there is no such product.
pub fn put_details(
    conn: &mut Conn,
    sku: &Sku,
    content: DetailsContent,
) -> Result<ProductDetails, ChangeError> {
    // Locked, so that a removal at the same time comes before, and is seen, or after, and drops these too.
    existing(model::lock(conn, sku)?, sku)?;
    let row = ProductDetailRow {
        sku: sku.clone(),
        long_description: content.long_description.map(|text| text.0),
        supplier: content.supplier.map(Supplier::into_inner),
    };
    on!(conn, c => diesel::insert_into(product_detail::table)
        .values(&row)
        .on_conflict(product_detail::sku)
        .do_update()
        .set(&row)
        .execute(c))?;
    details(conn, sku)
}

/// Drops the texts of products that are removed.
pub(super) fn delete_all(conn: &mut Conn, skus: &BTreeSet<Sku>) -> QueryResult<()> {
    if skus.is_empty() {
        return Ok(());
    }
    let texts = product_detail::table.filter(product_detail::sku.eq_any(skus));
    on!(conn, c => diesel::delete(texts).execute(c))?;
    Ok(())
}

fn find(conn: &mut Conn, sku: &Sku) -> QueryResult<Option<ProductDetailRow>> {
    on!(conn, c => product_detail::table
        .find(sku)
        .select(ProductDetailRow::as_select())
        .first(c)
        .optional())
}

/// The newest adjustments of `sku` up to `version`: one that is committed meanwhile would not fit to the rest.
fn last_adjustments(
    conn: &mut Conn,
    sku: &Sku,
    version: i64,
) -> QueryResult<Vec<AdjustmentDetails>> {
    let limit = i64::try_from(LAST_ADJUSTMENTS).unwrap_or(i64::MAX);
    let rows: Vec<AdjustmentRow> = on!(conn, c => adjustment::table
        .filter(adjustment::sku.eq(sku).and(adjustment::version.le(version)))
        .order(adjustment::seq.desc())
        .limit(limit)
        .select(AdjustmentRow::as_select())
        .load(c))?;
    Ok(rows.into_iter().map(AdjustmentDetails::from).collect())
}

impl From<AdjustmentRow> for AdjustmentDetails {
    fn from(row: AdjustmentRow) -> Self {
        Self {
            delta: row.delta,
            quantity: row.quantity,
            version: row.version,
            reason: row.reason,
            reference: row.reference,
            at: row.at_us,
        }
    }
}
