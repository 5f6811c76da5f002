//! The copy of the inventory over HTTP: to be read only, with how fresh it is.

use std::time::Duration;

use actix_web::web::{Data, Query, ServiceConfig, resource};
use actix_web::{HttpResponse, web};
use common::clock::Timestamp;
use common::details::ProductDetails;
use common::http::{
    Page, PageQuery, Params, Precondition, Problem, ProblemResult, reading, wrong_method,
};
use common::inventory::Sku;
use serde::Serialize;
use utoipa::ToSchema;

use crate::details::{DetailsClient, DetailsLookup};
use crate::inventory::{self, Inventory, ProductCopy};

/// A product as its copy has it.
///
/// How old a copy is has two sides, and neither is "out of date": a product that nobody changes grows old at
/// the owner too. `replication_delay_ms` is how long this state was on its way; `age_seconds` how long it
/// has been here since. Only the owner's outbox knows whether a newer one is on its way.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProductCopy)]
struct ProductCopyView {
    sku: Sku,
    description: String,
    quantity: i64,
    /// Of these, reserved for orders that are not deducted from `quantity` yet.
    reserved: i64,
    /// `quantity - reserved`: what can still be ordered.
    available: i64,
    unit_price_minor: i64,
    allow_backorder: bool,
    /// The owner's version that this is.
    version: i64,
    /// When it got this version, by the owner's clock.
    updated_at: Timestamp,
    /// When it arrived here, by this service's clock.
    applied_at: Timestamp,
    /// `applied_at - updated_at` in milliseconds; 0 where the clocks disagree.
    #[schema(value_type = u64)]
    replication_delay_ms: u128,
    /// Now minus `applied_at`, in whole seconds.
    age_seconds: u64,
}

/// A product as its copy has it, with the details that its owner has, if they are available.
#[derive(Debug, Serialize)]
struct DetailedCopyView<'a> {
    #[serde(flatten)]
    view: ProductCopyView,
    details: Option<&'a ProductDetails>,
    details_status: DetailsStatus,
    /// How long ago they were asked for, in whole seconds; for cached ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    details_age_seconds: Option<u64>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    details_reason: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DetailsStatus {
    Fresh,
    Cached,
    /// The owner has no such product; the copy hasn't received its removal yet.
    Unknown,
    Unavailable,
}

/// The copy as it was asked for: what is said of details is there only with `details=true`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it is there for the documentation")]
struct CopyResponse<'a> {
    #[serde(flatten)]
    view: ProductCopyView,
    details: Option<&'a ProductDetails>,
    details_status: Option<DetailsStatus>,
    /// How long ago they were asked for, in whole seconds; for cached ones.
    details_age_seconds: Option<u64>,
    /// Why there are none.
    details_reason: Option<String>,
}

pub(super) fn configure(cfg: &mut ServiceConfig) {
    // A SKU of no characters is taken here too, to be told what is wrong with it.
    cfg.service(
        resource("/inventory").route(reading().to(list)).default_service(wrong_method("GET, HEAD")),
    )
    .service(
        resource("/inventory/{sku:[^/]*}")
            .route(reading().to(read))
            .default_service(wrong_method("GET, HEAD")),
    );
}

/// The copies of the products, by SKU
#[utoipa::path(
    get,
    path = "/api/v1/inventory",
    tag = "inventory",
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<ProductCopyView>))
)]
async fn list(
    inventory: Data<Inventory>,
    query: Query<PageQuery>,
) -> ProblemResult<web::Json<Page<ProductCopyView>>> {
    let (limit, after) = (query.limit()?, query.after::<Sku>()?);
    let copies = inventory
        .db
        .read(move |conn| inventory::page(conn, after.as_ref(), limit + 1).map_err(Problem::from))
        .await?;
    let now = inventory.env.now();
    let items = copies.into_iter().map(|copy| ProductCopyView::of(copy, now)).collect();
    Ok(web::Json(Page::cut(items, limit, |view: &ProductCopyView| view.sku.as_str().to_owned())))
}

/// Read the copy of a product, on request with the details that its owner has
#[utoipa::path(
    get,
    path = "/api/v1/inventory/{sku}",
    tag = "inventory",
    params(
        ("sku" = Sku, Path, description = "Which product"),
        ("details" = Option<bool>, Query, description = "Whether to ask the owner for the details; they come without etag"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these, in quotes, or * for any"),
        ("If-None-Match" = Option<String>, Header, description = "Only if the version is none of these, in quotes, or * for any"),
    ),
    responses(
        (
            status = 200,
            description = "The copy",
            body = inline(CopyResponse),
            headers(("etag" = Option<String>, description = "The version, in quotes, while nothing is reserved"))
        ),
        (status = 304, description = "If-None-Match names its version"),
        (status = 404, description = "No such product has arrived here, or it was removed"),
    )
)]
async fn read(
    inventory: Data<Inventory>,
    details: Data<DetailsClient>,
    sku: Sku,
    precondition: Precondition,
    mut params: Params,
) -> ProblemResult<HttpResponse> {
    let with_details = params.take("details", "true or false")?.unwrap_or(false);
    let asked = sku.clone();
    let found =
        inventory.db.read(move |conn| inventory::find(conn, &asked).map_err(Problem::from)).await?;
    let copy = match found {
        Some(copy) if !copy.removed => copy,
        // 404 and not 410: it may be put in again, and the copy has to say the same as its owner.
        Some(tombstone) => return Err(removed(&tombstone)),
        None => return Err(unknown(&sku)),
    };
    let (version, reserved) = (copy.version, copy.reserved);
    let view = ProductCopyView::of(copy, inventory.env.now());
    if with_details {
        // Without ETag and conditions: details change while the version stays.
        let found = details.get(&sku).await;
        return Ok(HttpResponse::Ok().json(DetailedCopyView::of(view, &found)));
    }
    if reserved == 0 {
        return precondition.respond(version, &view);
    }
    // The version names the state without reservations only: with some, `available` moves on its own.
    if !precondition.knows(version) {
        precondition.check(Some(version))?;
    }
    Ok(HttpResponse::Ok().json(view))
}

fn removed(tombstone: &ProductCopy) -> Problem {
    let ProductCopy { sku, version, .. } = tombstone;
    Problem::not_found(format!("the product {sku} was removed at version {version}")).at("sku")
}

fn unknown(sku: &Sku) -> Problem {
    Problem::not_found(format!(
        "no product {sku} has arrived here; if its owner has it, its event is still on the way"
    ))
    .at("sku")
}

impl ProductCopyView {
    fn of(copy: ProductCopy, now: Timestamp) -> Self {
        let available = copy.available();
        let delay: Duration = copy.applied_us.since(copy.updated_us);
        Self {
            sku: copy.sku,
            description: copy.description,
            quantity: copy.quantity,
            reserved: copy.reserved,
            available,
            unit_price_minor: copy.unit_price_minor,
            allow_backorder: copy.allow_backorder,
            version: copy.version,
            updated_at: copy.updated_us,
            applied_at: copy.applied_us,
            replication_delay_ms: delay.as_millis(),
            age_seconds: now.since(copy.applied_us).as_secs(),
        }
    }
}

impl<'a> DetailedCopyView<'a> {
    fn of(view: ProductCopyView, found: &'a DetailsLookup) -> Self {
        let (details, details_status, age, details_reason) = match found {
            DetailsLookup::Fresh(details) => (Some(&**details), DetailsStatus::Fresh, None, None),
            DetailsLookup::Cached { details, age } => {
                (Some(&**details), DetailsStatus::Cached, Some(age.as_secs()), None)
            }
            DetailsLookup::Unknown => (None, DetailsStatus::Unknown, None, None),
            DetailsLookup::Unavailable(fault) => {
                (None, DetailsStatus::Unavailable, None, Some(fault.to_string()))
            }
        };
        Self { view, details, details_status, details_age_seconds: age, details_reason }
    }
}
