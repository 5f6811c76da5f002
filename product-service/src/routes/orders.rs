//! Orders at the owner of the stock over HTTP: to be read only, for whoever wants to know what an order took.

use actix_web::web::{self, Data, Path, ServiceConfig, resource};
use common::clock::Timestamp;
use common::http::{Problem, ProblemResult, reading, wrong_method};
use common::inventory::Sku;
use common::orders::{OrderId, Refusal, id_of_path};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::orders::{self, Deducted, OrderRecord, Orders, State};

/// An order as it was handled here.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrderAtOwner)]
struct View {
    id: OrderId,
    state: State,
    /// What it took, by product; empty when it took nothing.
    lines: Vec<Line>,
    /// Why it was refused, line by line.
    #[schema(value_type = Option<Refusal>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Box<RawValue>>,
    handled_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TakenLine)]
struct Line {
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
        (status = 200, description = "The order as it was handled here", body = View),
        (status = 404, description = "No command of such an order has arrived here"),
    )
)]
async fn read(orders: Data<Orders>, id: Path<String>) -> ProblemResult<web::Json<View>> {
    let id = id_of_path(&id)?;
    let found = orders.db.read(move |conn| orders::find(conn, id).map_err(Problem::from)).await?;
    let Some((record, deducted)) = found else {
        return Err(Problem::not_found(format!(
            "no command of an order {id} has arrived here; if order-service has it, it is still on the way"
        ))
        .at("id"));
    };
    Ok(web::Json(View::of(record, deducted)))
}

impl View {
    fn of(record: OrderRecord, deducted: Vec<Deducted>) -> Self {
        let line = |row: Deducted| Line {
            sku: row.sku,
            quantity: row.quantity,
            version: row.version,
            returned_version: row.returned_version,
        };
        Self {
            id: record.id,
            state: record.state,
            lines: deducted.into_iter().map(line).collect(),
            refusal: record.refusal.and_then(|text| RawValue::from_string(text).ok()),
            handled_at: record.handled_us,
            cancelled_at: record.cancelled_us,
        }
    }
}
