//! What customers bought last, over HTTP: to be read only, with how old it is.

use actix_web::web::{Data, Json, Path, ServiceConfig, resource};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{Params, Problem, ProblemResult, reading, wrong_method};
use common::purchases::{Purchase, PurchasesCustomer};
use engine::views::{ViewLag, positions};
use serde::Serialize;
use utoipa::ToSchema;

use crate::purchases::{self, CustomerPurchases, Purchases};

/// What a customer bought last, as the copy of the view has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Purchases)]
struct PurchasesResponse {
    customer: String,
    /// How often the view of this customer changed.
    version: i64,
    /// At most five, the newest first; none if all were cancelled.
    purchases: Vec<Purchase>,
    /// When the view got this version: when its message was written, by the clock of its writer or the broker.
    as_of: Timestamp,
    /// When it arrived here, by this service's clock.
    stored_at: Timestamp,
    view: ViewState,
}

/// How far the copy of the view is.
#[derive(Debug, Serialize, ToSchema)]
struct ViewState {
    /// Messages of all customers that were not read at the last look; null if that is not known.
    behind: Option<i64>,
    /// When that was, by this service's clock.
    checked_at: Option<Timestamp>,
}

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        resource("/customers/{id}/purchases")
            .route(reading().to(read))
            .default_service(wrong_method("GET, HEAD")),
    );
}

/// What a customer bought last, in all channels
///
/// From the copy of a view that another program keeps: a purchase of just now may not be in it yet.
#[utoipa::path(
    get,
    path = "/api/v1/customers/{id}/purchases",
    tag = "purchases",
    params(("id" = String, Path, description = "Which customer", min_length = 1, max_length = 200)),
    responses(
        (status = 200, description = "The last five purchases, with how old they are", body = PurchasesResponse),
        (status = 404, description = "The customer is not in the view, or this service keeps no copy of it"),
    )
)]
async fn read(
    purchases: Data<Purchases>,
    id: Path<String>,
    params: Params,
) -> ProblemResult<Json<PurchasesResponse>> {
    params.finish()?;
    let customer = PurchasesCustomer::try_from(id.into_inner())
        .map_err(|error| Problem::invalid("id", format!("a customer {error}")))?;
    let topic = purchases.topic.clone().ok_or_else(|| {
        Problem::not_found(
            "this service keeps no copy of the purchases: set views.purchases_topic to the view's topic",
        )
    })?;
    let read = move |conn: &mut Conn| -> ProblemResult<Json<PurchasesResponse>> {
        let found = purchases::find(conn, customer.as_str())?;
        let lag = ViewLag::of(&topic, &positions(conn, &topic)?);
        let response = found.map(|found| PurchasesResponse::of(found, lag)).transpose()?;
        response.flatten().map(Json).ok_or_else(|| unknown(customer.as_str()))
    };
    purchases.db.read(read).await
}

impl PurchasesResponse {
    /// None of a customer who was taken out of the view.
    fn of(found: CustomerPurchases, lag: Option<ViewLag>) -> ProblemResult<Option<Self>> {
        let Some(json) = found.purchases else { return Ok(None) };
        let purchases = serde_json::from_str(&json).map_err(|error| Problem::internal(&error))?;
        Ok(Some(Self {
            customer: found.customer,
            version: found.version,
            purchases,
            as_of: found.written_us,
            stored_at: found.stored_us,
            view: ViewState {
                behind: lag.as_ref().map(|lag| lag.behind),
                checked_at: lag.as_ref().map(|lag| lag.checked_at),
            },
        }))
    }
}

fn unknown(customer: &str) -> Problem {
    Problem::not_found(format!(
        "the view has no customer {customer:?}: nothing was sold to them by name, or it has not arrived here yet"
    ))
    .at("id")
}
