//! The inventory over HTTP: read, put in or replace, adjust, remove.

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Query, ServiceConfig, delete, post, put, resource};
use actix_web::{HttpResponse, web};
use common::clock::Timestamp;
use common::http::{
    GroupedRequest, IdempotencyKey, Page, PageQuery, Params, Precondition, Problem, ProblemResult,
    Reply, StrictJson, TraceParent, reading, wrong_method,
};
use common::inventory::Sku;
use serde::Serialize;
use utoipa::ToSchema;

use super::changing::ProductLanes;
use super::history::{AsOfQuery, HistoryGone};
use super::problems::problem_of_line;
use crate::inventory::{
    self, AdjustedLine, Adjustment, AdjustmentBatch, ChangeKind, ChangeRefusal, Inventory, Product,
    ProductBatch, ProductChange, ProductContent, PutLine, PutLineOutcome,
};

/// A product as clients see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Product)]
pub(super) struct ProductView {
    sku: Sku,
    description: String,
    quantity: i64,
    unit_price_minor: i64,
    allow_backorder: bool,
    version: i64,
    updated_at: Timestamp,
}

/// The answer to a batch: 200 even when every line is refused, since the batch itself was done.
#[derive(Debug, Serialize, ToSchema)]
struct BatchAnswer {
    accepted: usize,
    refused: usize,
    lines: Vec<LineAnswer>,
}

/// What became of one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
enum LineAnswer {
    /// It is done.
    Accepted {
        /// Its place in the batch, from 0.
        line: usize,
        /// The product.
        sku: Sku,
        /// The product's version after this line.
        version: i64,
        /// Pieces in stock after this line.
        quantity: i64,
    },
    /// It wrote nothing.
    Refused {
        /// Its place in the batch, from 0.
        line: usize,
        /// The product.
        sku: Sku,
        /// Why.
        problem: Problem,
    },
}

/// The answer to a batch of products: 200 even when every line is refused, since the batch itself was done.
#[derive(Debug, Default, Serialize, ToSchema)]
struct ProductBatchAnswer {
    accepted: usize,
    unchanged: usize,
    skipped: usize,
    refused: usize,
    lines: Vec<ProductLineAnswer>,
}

/// What became of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "lowercase")]
enum ProductLineAnswer {
    /// The product has what the line says, as a new version.
    Accepted {
        /// Its place in the batch, from 0.
        line: usize,
        /// The product.
        sku: Sku,
        /// The product's version after this line.
        version: i64,
    },
    /// The product had all that the line says: no new version, and no event.
    Unchanged {
        /// Its place in the batch, from 0.
        line: usize,
        /// The product.
        sku: Sku,
        /// The version that the product has.
        version: i64,
    },
    /// The product is there with another content, and `if_absent` leaves it.
    Skipped {
        /// Its place in the batch, from 0.
        line: usize,
        /// The product.
        sku: Sku,
        /// The version that the product has.
        version: i64,
    },
    /// It wrote nothing.
    Refused {
        /// Its place in the batch, from 0.
        line: usize,
        /// The product.
        sku: Sku,
        /// Why.
        problem: Problem,
    },
}

pub(super) fn configure(cfg: &mut ServiceConfig) {
    // A SKU of no characters is taken here too, to be told what is wrong with it.
    cfg.service(
        resource("/inventory")
            .route(reading().to(list))
            .route(post().to(put_batch))
            .default_service(wrong_method("GET, HEAD, POST")),
    )
    .service(
        resource("/inventory/{sku:[^/]*}")
            .route(reading().to(read))
            .route(put().to(replace))
            .route(delete().to(remove))
            .default_service(wrong_method("GET, HEAD, PUT, DELETE")),
    )
    .service(
        resource("/inventory/{sku:[^/]*}/adjustments")
            .route(post().to(adjust))
            .default_service(wrong_method("POST")),
    )
    .service(
        resource("/adjustments")
            .route(post().to(adjust_batch))
            .default_service(wrong_method("POST")),
    );
}

/// Products, by SKU
#[utoipa::path(
    get,
    path = "/api/v1/inventory",
    tag = "inventory",
    params(PageQuery),
    responses((status = 200, description = "A page", body = Page<ProductView>))
)]
async fn list(
    inventory: Data<Inventory>,
    query: Query<PageQuery>,
) -> ProblemResult<web::Json<Page<ProductView>>> {
    let (limit, after) = (query.limit()?, query.after::<Sku>()?);
    let products = inventory
        .db
        .read(move |conn| inventory::page(conn, after.as_ref(), limit + 1).map_err(Problem::from))
        .await?;
    let items = products.into_iter().map(ProductView::from).collect();
    Ok(web::Json(Page::cut(items, limit, |view: &ProductView| view.sku.as_str().to_owned())))
}

/// Read a product, as it is or as it was
///
/// With `version` or `at`, what it was then: one of both, as far back as its events are kept.
#[utoipa::path(
    get,
    path = "/api/v1/inventory/{sku}",
    tag = "inventory",
    params(
        ("sku" = Sku, Path, description = "Which product"),
        AsOfQuery,
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these, in quotes, or * for any"),
        ("If-None-Match" = Option<String>, Header, description = "Only if the version is none of these, in quotes, or * for any"),
    ),
    responses(
        (status = 200, description = "The product", body = ProductView, headers(("etag" = String, description = "The version, in quotes"))),
        (status = 304, description = "If-None-Match names its version"),
        (status = 404, description = "There is no such product, or it was removed; the same for what is asked of the past"),
        (status = 410, description = "What it was then is not kept any more", body = HistoryGone, content_type = "application/problem+json"),
    )
)]
async fn read(
    inventory: Data<Inventory>,
    sku: Sku,
    params: Params,
    precondition: Precondition,
) -> ProblemResult<HttpResponse> {
    if let Some(past) = AsOfQuery::read(params)?.past(inventory.env.now())? {
        return past.respond(&inventory, sku, &precondition).await;
    }
    let product =
        inventory.db.read(move |conn| inventory::get(conn, &sku).map_err(Problem::from)).await?;
    precondition.respond(product.version, &ProductView::from(product))
}

/// Create or replace a product
///
/// A removed one continues from its version. With `If-None-Match: *` nothing is replaced.
#[utoipa::path(
    put,
    path = "/api/v1/inventory/{sku}",
    tag = "inventory",
    params(
        ("sku" = Sku, Path, description = "Which product"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these, in quotes, or * for any"),
        ("If-None-Match" = Option<String>, Header, description = "Only if the version is none of these, in quotes, or * for any"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew", min_length = 1, max_length = 255),
        ("traceparent" = Option<String>, Header, description = "The W3C trace that the events continue"),
    ),
    request_body(content = ProductContent, example = json!({
        "description": "WHITE HANGING HEART T-LIGHT HOLDER", "quantity": 100, "unit_price_minor": 255
    })),
    responses(
        (status = 200, description = "It was replaced", body = ProductView, headers(("etag" = String, description = "The version, in quotes"))),
        (
            status = 201,
            description = "It was created",
            body = ProductView,
            headers(
                ("etag" = String, description = "The version, in quotes"),
                ("location" = String, description = "Its address"),
            )
        ),
    )
)]
async fn replace(
    lanes: Data<ProductLanes>,
    sku: Sku,
    precondition: Precondition,
    key: IdempotencyKey,
    trace: TraceParent,
    body: StrictJson<ProductContent>,
) -> ProblemResult<HttpResponse> {
    let (kind, body) = (ChangeKind::Put(body.value), body.bytes);
    let change = ProductChange { sku, precondition, kind };
    lanes.write(GroupedRequest { change, key, body, trace }).await
}

/// Adjust a product's stock
#[utoipa::path(
    post,
    path = "/api/v1/inventory/{sku}/adjustments",
    tag = "inventory",
    params(
        ("sku" = Sku, Path, description = "Which product"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these, in quotes, or * for any"),
        ("If-None-Match" = Option<String>, Header, description = "Only if the version is none of these, in quotes, or * for any"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew", min_length = 1, max_length = 255),
        ("traceparent" = Option<String>, Header, description = "The W3C trace that the events continue"),
    ),
    request_body(content = Adjustment, example = json!({"delta": -2, "reason": "sale", "reference": "536365"})),
    responses(
        (status = 200, description = "The product as it is now", body = ProductView, headers(("etag" = String, description = "The version, in quotes"))),
        (status = 404, description = "There is no such product, or it was removed"),
        (status = 409, description = "There is not enough in stock, or a request with this key is still running"),
    )
)]
async fn adjust(
    lanes: Data<ProductLanes>,
    sku: Sku,
    precondition: Precondition,
    key: IdempotencyKey,
    trace: TraceParent,
    body: StrictJson<Adjustment>,
) -> ProblemResult<HttpResponse> {
    let (kind, body) = (ChangeKind::Adjust(body.value), body.bytes);
    let change = ProductChange { sku, precondition, kind };
    lanes.write(GroupedRequest { change, key, body, trace }).await
}

/// Adjust the stock of many products, in order, in one transaction
///
/// 200 even when every line is refused: a refused line writes nothing, the others take effect.
#[utoipa::path(
    post,
    path = "/api/v1/adjustments",
    tag = "inventory",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew", min_length = 1, max_length = 255),
        ("traceparent" = Option<String>, Header, description = "The W3C trace that the events continue"),
    ),
    request_body(content = AdjustmentBatch, example = json!({
        "lines": [{"sku": "85123A", "delta": -6, "reason": "sale", "reference": "536365"}]
    })),
    responses((status = 200, description = "The outcome of each line", body = BatchAnswer))
)]
async fn adjust_batch(
    inventory: Data<Inventory>,
    key: IdempotencyKey,
    trace: TraceParent,
    body: StrictJson<AdjustmentBatch>,
) -> ProblemResult<HttpResponse> {
    let lines = body.value.lines;
    let work = move |conn: &mut _, context: &_| {
        let outcomes = inventory::adjust_batch(conn, context, lines)?;
        let answers: Vec<LineAnswer> = outcomes
            .into_iter()
            .enumerate()
            .map(|(line, (sku, outcome))| LineAnswer::of(line, sku, outcome))
            .collect();
        Reply::json(StatusCode::OK, &BatchAnswer::from(answers))
    };
    inventory.write(key, &body.bytes, trace, work).await
}

/// Create or replace many products, in order, in one transaction
///
/// 200 even when every line is refused: a refused line writes nothing, the others take effect. A line that says what
/// the product has already makes no version. With `dry_run`, nothing is written.
#[utoipa::path(
    post,
    path = "/api/v1/inventory",
    tag = "inventory",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew", min_length = 1, max_length = 255),
        ("traceparent" = Option<String>, Header, description = "The W3C trace that the events continue"),
    ),
    request_body(content = ProductBatch, example = json!({
        "mode": "if_absent",
        "lines": [{"sku": "85123A", "description": "WHITE HANGING HEART T-LIGHT HOLDER", "quantity": 100, "unit_price_minor": 255}]
    })),
    responses((status = 200, description = "The outcome of each line", body = ProductBatchAnswer))
)]
async fn put_batch(
    inventory: Data<Inventory>,
    key: IdempotencyKey,
    trace: TraceParent,
    body: StrictJson<ProductBatch>,
) -> ProblemResult<HttpResponse> {
    let mode =
        body.value.mode().map_err(|(field, why)| Problem::invalid(field, why.to_string()))?;
    let (lines, trial) = (body.value.lines, body.value.dry_run);
    let work = move |conn: &mut _, context: &_| {
        let outcomes = inventory::put_batch(conn, context, &mode, lines, trial)?;
        Reply::json(StatusCode::OK, &ProductBatchAnswer::from(outcomes))
    };
    inventory.write(key, &body.bytes, trace, work).await
}

/// Remove a product; a tombstone keeps its version
#[utoipa::path(
    delete,
    path = "/api/v1/inventory/{sku}",
    tag = "inventory",
    params(
        ("sku" = Sku, Path, description = "Which product"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is one of these, in quotes, or * for any"),
        ("If-None-Match" = Option<String>, Header, description = "Only if the version is none of these, in quotes, or * for any"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew", min_length = 1, max_length = 255),
        ("traceparent" = Option<String>, Header, description = "The W3C trace that the events continue"),
    ),
    responses(
        (status = 204, description = "It was removed"),
        (status = 404, description = "There is no such product, or it was removed before"),
    )
)]
async fn remove(
    lanes: Data<ProductLanes>,
    sku: Sku,
    precondition: Precondition,
    key: IdempotencyKey,
    trace: TraceParent,
) -> ProblemResult<HttpResponse> {
    let change = ProductChange { sku, precondition, kind: ChangeKind::Remove };
    lanes.write(GroupedRequest { change, key, body: Bytes::new(), trace }).await
}

impl From<Product> for ProductView {
    fn from(product: Product) -> Self {
        Self {
            sku: product.sku,
            description: product.description,
            quantity: product.quantity,
            unit_price_minor: product.unit_price_minor,
            allow_backorder: product.allow_backorder,
            version: product.version,
            updated_at: product.updated_us,
        }
    }
}

impl LineAnswer {
    fn of(line: usize, sku: Sku, outcome: Result<AdjustedLine, ChangeRefusal>) -> Self {
        match outcome {
            Ok(AdjustedLine { version, quantity }) => {
                Self::Accepted { line, sku, version, quantity }
            }
            Err(refusal) => Self::Refused { line, sku, problem: problem_of_line(line, &refusal) },
        }
    }
}

impl From<Vec<LineAnswer>> for BatchAnswer {
    fn from(lines: Vec<LineAnswer>) -> Self {
        let accepted =
            lines.iter().filter(|line| matches!(line, LineAnswer::Accepted { .. })).count();
        Self { accepted, refused: lines.len() - accepted, lines }
    }
}

impl ProductLineAnswer {
    fn of(line: usize, sku: Sku, outcome: Result<PutLine, ChangeRefusal>) -> Self {
        match outcome {
            Ok(PutLine::Accepted { version }) => Self::Accepted { line, sku, version },
            Ok(PutLine::Unchanged { version }) => Self::Unchanged { line, sku, version },
            Ok(PutLine::Skipped { version }) => Self::Skipped { line, sku, version },
            Err(refusal) => Self::Refused { line, sku, problem: problem_of_line(line, &refusal) },
        }
    }
}

impl From<Vec<PutLineOutcome>> for ProductBatchAnswer {
    fn from(outcomes: Vec<PutLineOutcome>) -> Self {
        let mut answer = Self::default();
        for (line, (sku, outcome)) in outcomes.into_iter().enumerate() {
            let line = ProductLineAnswer::of(line, sku, outcome);
            *match line {
                ProductLineAnswer::Accepted { .. } => &mut answer.accepted,
                ProductLineAnswer::Unchanged { .. } => &mut answer.unchanged,
                ProductLineAnswer::Skipped { .. } => &mut answer.skipped,
                ProductLineAnswer::Refused { .. } => &mut answer.refused,
            } += 1;
            answer.lines.push(line);
        }
        answer
    }
}
