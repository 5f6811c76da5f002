//! Orders over HTTP: place, cancel, read, list.

use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;
use actix_web::web::{self, Data, Path, ServiceConfig, post, resource};
use actix_web::{HttpRequest, HttpResponse};
use common::clock::Timestamp;
use common::http::{
    GroupedRequest, IdempotencyKey, OptionalJson, Page, PageQuery, Params, Problem, ProblemResult,
    Reply, StrictJson, TraceParent, reading, wrong_method,
};
use common::inventory::Sku;
use common::orders::{OrderId, id_of_path};
use serde::Serialize;
use utoipa::ToSchema;

use super::placing::OrderLanes;
use super::stream;
use crate::orders::{
    self, CancelOrder, Order, OrderFilter, OrderLineRow, OrderRow, OrderStatus, OrderStepRow,
    Orders, PlaceOrder,
};

/// An order as clients see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderView {
    #[serde(flatten)]
    order: OrderSummary,
    lines: Vec<LineView>,
    timeline: Vec<StepView>,
}

/// An order as lists show it.
#[derive(Debug, Serialize, ToSchema)]
struct OrderSummary {
    id: OrderId,
    status: OrderStatus,
    customer: String,
    /// Grows with each step of the timeline.
    revision: i64,
    placed_at: Timestamp,
    changed_at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderLine)]
struct LineView {
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

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderStep)]
struct StepView {
    at: Timestamp,
    /// The status from then on.
    status: OrderStatus,
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

/// Place an order
///
/// Its pieces are reserved at once, in the copy of the inventory; this needs neither the owner of the stock nor
/// the broker. The owner takes the stock, or refuses, soon after.
#[utoipa::path(
    post,
    path = "/api/v1/orders",
    tag = "orders",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew", min_length = 1, max_length = 255),
        ("traceparent" = Option<String>, Header, description = "The W3C trace that the events continue"),
    ),
    request_body(content = PlaceOrder, example = json!({
        "customer": "17850", "lines": [{"sku": "85123A", "quantity": 6}]
    })),
    responses(
        (
            status = 201,
            description = "The order, PENDING",
            body = OrderView,
            headers(("location" = String, description = "Its address"))
        ),
        (status = 409, description = "Some lines can't be fulfilled, all named in `errors`; or a request with this key is still running"),
        (status = 503, description = "Some products are not known here and the copy of the inventory is not complete yet: `copy-not-complete`; or the database is not there for now; or it did not say whether the order was placed: `outcome-not-known`"),
    )
)]
async fn place(
    lanes: Data<OrderLanes>,
    key: IdempotencyKey,
    trace: TraceParent,
    body: StrictJson<PlaceOrder>,
) -> ProblemResult<HttpResponse> {
    let (change, body) = (body.value, body.bytes);
    lanes.write(GroupedRequest { change, key, body, trace }).await
}

/// Cancel an order: CANCELLING until the owner of the stock has answered
#[utoipa::path(
    post,
    path = "/api/v1/orders/{id}/cancel",
    tag = "orders",
    params(
        ("id" = OrderId, Path, description = "The order's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same request again gets the same answer, once it was done; a refused one is decided anew", min_length = 1, max_length = 255),
        ("traceparent" = Option<String>, Header, description = "The W3C trace that the events continue"),
    ),
    request_body = Option<CancelOrder>,
    responses(
        (status = 202, description = "The order as it is now", body = OrderView),
        (status = 404, description = "There is no such order"),
        (status = 409, description = "There is nothing left to cancel, or a request with this key is still running"),
    )
)]
async fn cancel(
    orders: Data<Orders>,
    id: Path<String>,
    key: IdempotencyKey,
    trace: TraceParent,
    OptionalJson(body): OptionalJson<CancelOrder>,
) -> ProblemResult<HttpResponse> {
    let id = id_of_path(&id)?;
    let request = body.value;
    let work = move |conn: &mut _, context: &_| {
        let order = orders::cancel(conn, context, id, &request)?;
        Reply::json(StatusCode::ACCEPTED, &OrderView::from(order))
    };
    orders.write(key, &body.bytes, trace, work).await
}

/// Read an order, or follow it
///
/// With `accept: text/event-stream` it is a stream of server-sent events, each named `order` with the order as data:
/// its state now, then each change, until it is settled.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}",
    tag = "orders",
    params(("id" = OrderId, Path, description = "The order's id")),
    responses(
        (
            status = 200,
            description = "The order",
            content(
                (OrderView = "application/json"),
                (String = "text/event-stream")
            )
        ),
        (status = 404, description = "There is no such order"),
    )
)]
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
pub(super) async fn find(orders: &Orders, id: OrderId) -> ProblemResult<(OrderView, OrderStatus)> {
    let found = orders.db.read(move |conn| orders::find(conn, id).map_err(Problem::from)).await?;
    let order =
        found.ok_or_else(|| Problem::not_found(format!("there is no order {id}")).at("id"))?;
    let status = order.row.status;
    Ok((OrderView::from(order), status))
}

/// Orders, the newest first
#[utoipa::path(
    get,
    path = "/api/v1/orders",
    tag = "orders",
    params(
        ("status" = Option<OrderStatus>, Query, description = "Only orders of this status"),
        ("customer" = Option<String>, Query, description = "Only orders of this customer"),
        PageQuery,
    ),
    responses((status = 200, description = "A page", body = Page<OrderSummary>))
)]
async fn list(
    orders: Data<Orders>,
    mut params: Params,
) -> ProblemResult<web::Json<Page<OrderSummary>>> {
    let limit = params.limit()?;
    let filter = OrderFilter {
        status: params.take("status", "an order's status")?,
        customer: params.text("customer"),
        after: params.take("after", "an order's id")?,
    };
    params.finish()?;
    let rows = orders
        .db
        .read(move |conn| orders::page(conn, &filter, limit + 1).map_err(Problem::from))
        .await?;
    let items = rows.into_iter().map(OrderSummary::from).collect();
    Ok(web::Json(Page::cut(items, limit, |order: &OrderSummary| order.id.to_string())))
}

impl OrderView {
    /// Grows with each step of the timeline.
    pub(super) fn revision(&self) -> i64 {
        self.order.revision
    }
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        Self {
            order: order.row.into(),
            lines: order.lines.into_iter().map(LineView::from).collect(),
            timeline: order.steps.into_iter().map(StepView::from).collect(),
        }
    }
}

impl From<OrderRow> for OrderSummary {
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

impl From<OrderLineRow> for LineView {
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

impl From<OrderStepRow> for StepView {
    fn from(step: OrderStepRow) -> Self {
        Self { at: step.at_us, status: step.status, what: step.what, note: step.note }
    }
}
