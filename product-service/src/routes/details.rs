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

async fn read(inventory: Data<Inventory>, sku: Sku) -> ProblemResult<Json<ProductDetails>> {
    let found =
        inventory.db.read(move |conn| inventory::details(conn, &sku).map_err(Problem::from));
    found.await.map(Json)
}

/// Kept apart from [`Inventory::change`]: there is no event, so there is nothing to wake the relay for.
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
    let reply = idempotent(&inventory.db, &inventory.running, key, &body.bytes, now, work).await?;
    Ok(reply.into_response())
}
