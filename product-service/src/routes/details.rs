//! The details of a product over HTTP: read, and its texts set.
//!
//! No `ETag` here: the texts change without a version of their own.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, ServiceConfig, put, resource};
use common::details::ProductDetails;
use common::http::{
    IdempotencyKey, Problem, ProblemResult, Reply, StrictJson, idempotent, reading, wrong_method,
};
use common::inventory::Sku;

use crate::inventory::{self, DetailsContent, Inventory};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        resource("/inventory/{sku:[^/]*}/details")
            .route(reading().to(read))
            .route(put().to(replace))
            .default_service(wrong_method("GET, HEAD, PUT")),
    );
}

/// Read a product's details: its texts and its newest adjustments
#[utoipa::path(
    get,
    path = "/api/v1/inventory/{sku}/details",
    tag = "details",
    params(("sku" = Sku, Path, description = "Which product")),
    responses((status = 200, description = "The details", body = ProductDetails))
)]
async fn read(inventory: Data<Inventory>, sku: Sku) -> ProblemResult<Json<ProductDetails>> {
    let found =
        inventory.db.read(move |conn| inventory::details(conn, &sku).map_err(Problem::from));
    found.await.map(Json)
}

/// Set both texts of a product
///
/// There is no event: the texts are no part of the inventory.
#[utoipa::path(
    put,
    path = "/api/v1/inventory/{sku}/details",
    tag = "details",
    params(
        ("sku" = Sku, Path, description = "Which product"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew", min_length = 1, max_length = 255),
    ),
    request_body = DetailsContent,
    responses((status = 200, description = "The details as they are now", body = ProductDetails))
)]
// Kept apart from `Inventory::write`: there is nothing to wake the relay for.
async fn replace(
    inventory: Data<Inventory>,
    sku: Sku,
    key: IdempotencyKey,
    body: StrictJson<DetailsContent>,
) -> ProblemResult<HttpResponse> {
    let (content, now) = (body.value, inventory.env.now());
    let work = move |conn: &mut _| {
        Reply::json(StatusCode::OK, &inventory::put_details(conn, &sku, content)?)
    };
    let reply = idempotent(&inventory.db, &inventory.keys, key, &body.bytes, now, work).await?;
    Ok(reply.into_response())
}
