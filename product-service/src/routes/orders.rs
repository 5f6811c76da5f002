//! Orders at the owner of the stock over HTTP: to be read only, for whoever wants to know what an order took.

use actix_web::web::{self, Data, Path, ServiceConfig, resource};
use common::clock::Timestamp;
use common::http::{Problem, ProblemResult, reading, wrong_method};
use common::inventory::Sku;
use common::orders::{OrderId, Refusal, id_of_path};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::orders::{self, OrderDeduction, OrderRecord, OrderState, Orders};

/// An order as it was handled here.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderAtOwner)]
struct OrderView {
    id: OrderId,
    state: OrderState,
    /// What it took, by product; empty when it took nothing.
    lines: Vec<TakenLine>,
    /// Why it was refused, line by line.
    #[schema(value_type = Option<Refusal>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Box<RawValue>>,
    handled_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TakenLine {
    sku: Sku,
    quantity: i64,
    /// The product's version after the deduction.
    version: i64,
    /// The product's version after it was given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    returned_version: Option<i64>,
}

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        resource("/orders/{id}")
            .route(reading().to(read))
            .default_service(wrong_method("GET, HEAD")),
    );
}

/// Read what an order took, or why it took nothing
#[utoipa::path(
    get,
    path = "/api/v1/orders/{id}",
    tag = "orders",
    params(("id" = OrderId, Path, description = "The order's id")),
    responses(
        (status = 200, description = "The order as it was handled here", body = OrderView),
        (status = 404, description = "No command of such an order has arrived here"),
    )
)]
async fn read(orders: Data<Orders>, id: Path<String>) -> ProblemResult<web::Json<OrderView>> {
    let id = id_of_path(&id)?;
    let found = orders.db.read(move |conn| orders::find(conn, id).map_err(Problem::from)).await?;
    let Some((record, deductions)) = found else {
        return Err(Problem::not_found(format!(
            "no command of an order {id} has arrived here; if order-service has it, it is still on the way"
        ))
        .at("id"));
    };
    Ok(web::Json(OrderView::of(record, deductions)))
}

impl OrderView {
    fn of(record: OrderRecord, deductions: Vec<OrderDeduction>) -> Self {
        let line = |row: OrderDeduction| TakenLine {
            sku: row.sku,
            quantity: row.quantity,
            version: row.version,
            returned_version: row.returned_version,
        };
        Self {
            id: record.id,
            state: record.state,
            lines: deductions.into_iter().map(line).collect(),
            refusal: record.refusal.and_then(|text| RawValue::from_string(text).ok()),
            handled_at: record.handled_us,
            cancelled_at: record.cancelled_us,
        }
    }
}
