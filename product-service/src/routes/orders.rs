//! Orders at the owner of the stock over HTTP: to be read only, for whoever wants to know what an order took.

use actix_web::web::{self, Data, Path, ServiceConfig, resource};
use common::clock::Timestamp;
use common::http::{Problem, ProblemResult, reading, wrong_method};
use common::inventory::Sku;
use common::orders::{OrderId, id_of_path};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::orders::{self, Deducted, OrderRecord, Orders, State};

/// An order as it was handled here.
#[derive(Debug, Serialize)]
struct View {
    id: OrderId,
    state: State,
    /// What it took, by product; empty when it took nothing.
    lines: Vec<Line>,
    /// Why it was refused, line by line.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Box<RawValue>>,
    handled_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
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
