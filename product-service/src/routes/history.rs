//! What a product was: its history, and its state as of a version or a moment.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Data, Json, ServiceConfig, resource};
use actix_web::{HttpResponse, ResponseError as _};
use common::clock::Timestamp;
use common::http::{
    Params, Precondition, Problem, ProblemResult, checked_limit, reading, wrong_method,
};
use common::ids::EventId;
use common::inventory::{Cause, Sku};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::inventory::ProductView;
use crate::inventory::{self, HistoryError, HistoryPage, Inventory, PastState, Product};

/// `?version=` or `?at=` of a product.
#[derive(Debug, Clone, Copy, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AsOfQuery {
    /// What it was as this version.
    #[param(minimum = 1)]
    version: Option<i64>,
    /// What it was at this moment, by this service's clock; of several changes within its microsecond, after the last.
    at: Option<Timestamp>,
}

/// Which state of the past is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Past {
    Version(i64),
    Moment(Timestamp),
}

/// The 410 of what is not kept any more.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryGone {
    #[serde(flatten)]
    problem: Problem,
    /// The oldest version that is kept.
    oldest_version: i64,
    /// Since when that version held.
    oldest_at: Timestamp,
}

/// `?limit=&before_version=` of a history.
#[derive(Debug, Clone, Copy, IntoParams)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// At most this many versions, 1 to 1,000; 100 if left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// Versions below this one: the `next` of the page before.
    #[param(minimum = 1)]
    before_version: Option<i64>,
}

/// A page of a product's versions, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct History {
    /// The versions.
    items: Vec<HistoryItem>,
    /// What `before_version` has to be for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Nothing of before this version is kept: what there was is gone, or the product began with it. Absent where the
    /// history goes back to version 1, and on pages that another one follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_before: Option<i64>,
}

/// One version of a product.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryItem {
    version: i64,
    /// When it became so.
    at: Timestamp,
    /// What it was before, where the version before is kept; absent for version 1, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<StateView>,
    /// What it was as this version.
    after: StateView,
    /// What it came from. `resync`, `bootstrap` and `replay` say that only a state sent again is kept, and the event of
    /// the change is gone; absent where no event is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    /// The epoch that its event was made in; absent where that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    /// Its event; absent where that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<EventId>,
    /// The versions between this one and the next that is kept: their events are gone, or a repair passed over these
    /// numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
}

/// Versions that are not kept.
#[derive(Debug, Serialize, ToSchema)]
struct Gap {
    from: i64,
    to: i64,
}

/// What a product was.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PastState)]
struct StateView {
    description: String,
    quantity: i64,
    unit_price_minor: i64,
    allow_backorder: bool,
    /// Whether it was removed.
    removed: bool,
}

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        resource("/inventory/{sku:[^/]*}/history")
            .route(reading().to(list))
            .default_service(wrong_method("GET, HEAD")),
    );
}

/// What a product was, newest version first
///
/// As far back as its events are kept (`outbox.retention`); what is gone is told, as `gap` and `gone_before`.
#[utoipa::path(
    get,
    path = "/api/v1/inventory/{sku}/history",
    tag = "inventory",
    params(("sku" = Sku, Path, description = "Which product, removed or not"), HistoryQuery),
    responses(
        (status = 200, description = "A page", body = History),
        (status = 404, description = "There is no such product, and nothing is kept of one"),
    )
)]
async fn list(
    inventory: Data<Inventory>,
    sku: Sku,
    params: Params,
) -> ProblemResult<Json<History>> {
    let query = HistoryQuery::read(params)?;
    let (limit, before) = (checked_limit(query.limit)?, query.before_version);
    let page = inventory
        .db
        .read(move |conn| inventory::history(conn, &sku, before, limit).map_err(Problem::from))
        .await?;
    Ok(Json(History::of(page, before)))
}

/// A version that is asked for as `name`.
fn version(params: &mut Params, name: &str) -> ProblemResult<Option<i64>> {
    params.not_empty(name)?;
    match params.take::<i64>(name, "a version")? {
        Some(version) if version < 1 => Err(Problem::invalid(name, "versions begin with 1")),
        version => Ok(version),
    }
}

impl HistoryQuery {
    fn read(mut params: Params) -> ProblemResult<Self> {
        let limit = params.take("limit", "a number")?;
        let before_version = version(&mut params, "before_version")?;
        params.finish()?;
        Ok(Self { limit, before_version })
    }
}

impl AsOfQuery {
    /// What is asked for; empty is not the same as left out, which asks for the present.
    pub(super) fn read(mut params: Params) -> ProblemResult<Self> {
        params.not_empty("at")?;
        let at = params.take("at", "a moment such as 2026-01-31T12:00:00Z")?;
        let version = version(&mut params, "version")?;
        params.finish()?;
        Ok(Self { version, at })
    }

    /// The state that is asked for; none: the present one.
    pub(super) fn past(&self, now: Timestamp) -> ProblemResult<Option<Past>> {
        match (self.version, self.at) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(Problem::invalid("at", "give version or at, not both: each names one state"))
            }
            (None, Some(at)) if at > now => Err(Problem::invalid(
                "at",
                format!("{at} is to come: it is {now} now; leave it out for what is"),
            )),
            (Some(version), None) => Ok(Some(Past::Version(version))),
            (None, Some(at)) => Ok(Some(Past::Moment(at))),
        }
    }
}

impl Past {
    /// The product as it was, with its version as `ETag`.
    pub(super) async fn respond(
        self,
        inventory: &Inventory,
        sku: Sku,
        precondition: &Precondition,
    ) -> ProblemResult<HttpResponse> {
        let read = move |conn: &mut _| {
            let found = match self {
                Self::Version(version) => inventory::at_version(conn, &sku, version),
                Self::Moment(at) => inventory::at_moment(conn, &sku, at),
            };
            match found {
                Ok(product) => Ok(Ok(product)),
                Err(HistoryError::Query(error)) => Err(Problem::from(error)),
                Err(refusal) => Ok(Err(refusal)),
            }
        };
        match inventory.db.read(read).await? {
            Ok(product) => precondition.respond(product.version, &ProductView::from(product)),
            Err(refusal) => refused(refusal),
        }
    }
}

fn refused(refusal: HistoryError) -> ProblemResult<HttpResponse> {
    let HistoryError::Gone { oldest, .. } = refusal else { return Err(refusal.into()) };
    let problem = Problem::from(refusal);
    let mut response = HttpResponse::build(problem.status_code());
    response.insert_header((CONTENT_TYPE, "application/problem+json"));
    Ok(response.json(HistoryGone { problem, oldest_version: oldest.version, oldest_at: oldest.at }))
}

impl History {
    /// The page of the versions below `asked`.
    fn of(page: HistoryPage, asked: Option<i64>) -> Self {
        let HistoryPage { states, before } = page;
        let last = states.last().map(|state| state.product.version).or(asked);
        let next = before.as_ref().and(last).map(|version| version.to_string());
        let gone_before = last.filter(|version| before.is_none() && *version > 1);
        let mut items = Vec::with_capacity(states.len());
        let mut states = states.into_iter().peekable();
        while let Some(state) = states.next() {
            let older = states.peek().or(before.as_ref());
            items.push(HistoryItem::of(state, older.map(|older| &older.product)));
        }
        Self { items, next, gone_before }
    }
}

impl HistoryItem {
    fn of(state: PastState, older: Option<&Product>) -> Self {
        let PastState { product, event } = state;
        let before = older.filter(|older| older.version == product.version - 1);
        let gap = older.filter(|older| older.version < product.version - 1);
        let (event_id, epoch, cause) = match event {
            Some(event) => (Some(event.id), Some(event.epoch), event.cause),
            None => (None, None, None),
        };
        Self {
            version: product.version,
            at: product.updated_us,
            before: before.map(StateView::of),
            gap: gap.map(|older| Gap { from: older.version + 1, to: product.version - 1 }),
            after: StateView::of(&product),
            cause,
            epoch,
            event_id,
        }
    }
}

impl StateView {
    fn of(product: &Product) -> Self {
        Self {
            description: product.description.clone(),
            quantity: product.quantity,
            unit_price_minor: product.unit_price_minor,
            allow_backorder: product.allow_backorder,
            removed: product.removed,
        }
    }
}
