//! Orders over HTTP: place, cancel, read, list.

use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;
use actix_web::web::{self, Data, Path, ServiceConfig, post, resource};
use actix_web::{HttpRequest, HttpResponse};
use common::clock::Timestamp;
use common::http::{
    IdempotencyKey, OptionalJson, Page, Params, Problem, ProblemResult, Reply, StrictJson,
    TraceParent, reading, wrong_method,
};
use common::inventory::Sku;
use common::orders::{OrderId, id_of_path};
use serde::Serialize;

use super::stream;
use crate::orders::{
    self, Cancelling, Filter, Order, OrderLineRow, OrderRow, OrderStep, Orders, Placing, Status,
};

/// An order as clients see it.
#[derive(Debug, Serialize)]
pub(super) struct View {
    #[serde(flatten)]
    order: Summary,
    lines: Vec<Line>,
    timeline: Vec<Step>,
}

/// An order as lists show it.
#[derive(Debug, Serialize)]
struct Summary {
    id: OrderId,
    status: Status,
    customer: String,
    /// Grows with each step of the timeline.
    revision: i64,
    placed_at: Timestamp,
    changed_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Line {
    sku: Sku,
    quantity: i64,
    /// The product's version after the deduction, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    /// Why the owner refused this line, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Debug, Serialize)]
struct Step {
    at: Timestamp,
    /// The status from then on.
    status: Status,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        resource("/orders")
            .route(reading().to(list))
            .route(post().to(place))
            .default_service(wrong_method("GET, HEAD, POST")),
    )
    .service(
        resource("/orders/{id}")
            .route(reading().to(read))
            .default_service(wrong_method("GET, HEAD")),
    )
    .service(
        resource("/orders/{id}/cancel")
            .route(post().to(cancel))
            .default_service(wrong_method("POST")),
    );
}

/// 201 at once: it needs neither the owner of the stock nor the broker.
async fn place(
    orders: Data<Orders>,
    key: IdempotencyKey,
    trace: TraceParent,
    body: StrictJson<Placing>,
) -> ProblemResult<HttpResponse> {
    let placing = body.value;
    let work = move |conn: &mut _, writing: &_| {
        let order = orders::place(conn, writing, &placing)
            .map_err(|error| error.into_problem(placing.lines.as_slice()))?;
        let location = format!("/api/v1/orders/{}", order.row.id);
        Ok(Reply::json(StatusCode::CREATED, &View::from(order))?.with_location(location))
    };
    orders.write(key, &body.bytes, trace, work).await
}

/// 202: the order is CANCELLING until the owner of the stock has answered.
async fn cancel(
    orders: Data<Orders>,
    id: Path<String>,
    key: IdempotencyKey,
    trace: TraceParent,
    OptionalJson(body): OptionalJson<Cancelling>,
) -> ProblemResult<HttpResponse> {
    let id = id_of_path(&id)?;
    let cancelling = body.value;
    let work = move |conn: &mut _, writing: &_| {
        let order = orders::cancel(conn, writing, id, &cancelling)?;
        Reply::json(StatusCode::ACCEPTED, &View::from(order))
    };
    orders.write(key, &body.bytes, trace, work).await
}

async fn read(
    orders: Data<Orders>,
    id: Path<String>,
    request: HttpRequest,
) -> ProblemResult<HttpResponse> {
    let id = id_of_path(&id)?;
    if wants_stream(&request) {
        return stream::open(&orders, id).await;
    }
    Ok(HttpResponse::Ok().json(find(&orders, id).await?.0))
}

fn wants_stream(request: &HttpRequest) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// The order, with its status.
pub(super) async fn find(orders: &Orders, id: OrderId) -> ProblemResult<(View, Status)> {
    let found = orders.db.read(move |conn| orders::find(conn, id).map_err(Problem::from)).await?;
    let order =
        found.ok_or_else(|| Problem::not_found(format!("there is no order {id}")).at("id"))?;
    let status = order.row.status;
    Ok((View::from(order), status))
}

/// The newest first.
async fn list(orders: Data<Orders>, mut params: Params) -> ProblemResult<web::Json<Page<Summary>>> {
    let limit = params.limit()?;
    let filter = Filter {
        status: params.take("status", "an order's status")?,
        customer: params.text("customer"),
        after: params.take("after", "an order's id")?,
    };
    params.finish()?;
    let rows = orders
        .db
        .read(move |conn| orders::page(conn, &filter, limit + 1).map_err(Problem::from))
        .await?;
    let items = rows.into_iter().map(Summary::from).collect();
    Ok(web::Json(Page::cut(items, limit, |order: &Summary| order.id.to_string())))
}

impl View {
    /// Grows with each step of the timeline.
    pub(super) fn revision(&self) -> i64 {
        self.order.revision
    }
}

impl From<Order> for View {
    fn from(order: Order) -> Self {
        Self {
            order: order.row.into(),
            lines: order.lines.into_iter().map(Line::from).collect(),
            timeline: order.steps.into_iter().map(Step::from).collect(),
        }
    }
}

impl From<OrderRow> for Summary {
    fn from(row: OrderRow) -> Self {
        Self {
            id: row.id,
            status: row.status,
            customer: row.customer,
            revision: row.revision,
            placed_at: row.placed_us,
            changed_at: row.changed_us,
        }
    }
}

impl From<OrderLineRow> for Line {
    fn from(row: OrderLineRow) -> Self {
        Self {
            sku: row.sku,
            quantity: row.quantity,
            version: row.version,
            reason: row.reason,
            detail: row.detail,
        }
    }
}

impl From<OrderStep> for Step {
    fn from(step: OrderStep) -> Self {
        Self { at: step.at_us, status: step.status, what: step.what, note: step.note }
    }
}
