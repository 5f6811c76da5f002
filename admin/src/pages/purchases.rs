//! What a customer bought last, by the copy of a view that this service keeps.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use askama::Template;
use common::db::Conn;
use common::http::{Problem, ProblemResult};
use common::purchases::{Purchase, PurchasesCustomer};
use engine::views::ViewEntry;

use super::context::{Fields, Frame, PageContext, page};
use super::show::filters;
use crate::access::{Area, Role, Rule};
use crate::api::view::ViewReport;

/// What its routes ask for: as much as events, which say what customers order.
pub(super) const RULES: &[Rule] = &[Rule::new("GET", "/purchases", Role::Viewer, Area::Events)];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = web::to(super::wrong_method);
    scope.service(web::resource("/purchases").get(show).default_service(other));
}

#[derive(Template)]
#[template(path = "admin/purchases.html")]
struct PurchasesPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    filled: &'a Fields,
    view: ViewReport,
    found: Option<Found>,
}

/// What the copy has of a customer.
struct Found {
    entry: ViewEntry,
    purchases: Vec<Purchase>,
}

async fn show(context: PageContext) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let customer = params.text("customer");
    params.finish()?;
    let (found, problem) = match found(&context, customer).await {
        Ok(found) => (found, None),
        Err(problem) if problem.status().is_client_error() => (None, Some(problem)),
        Err(problem) => return Err(problem),
    };
    let shown = PurchasesPage {
        frame: context.frame().await?,
        problem: problem.as_ref(),
        filled: &context.query,
        view: ViewReport::newest(&context.admin).await?,
        found,
    };
    page(problem.as_ref().map_or(StatusCode::OK, Problem::status), &shown)
}

/// None where nobody is asked for, or no copy is kept.
async fn found(context: &PageContext, customer: Option<String>) -> ProblemResult<Option<Found>> {
    let (Some(customer), Some(copy)) = (customer, context.admin.view.clone()) else {
        return Ok(None);
    };
    let customer = PurchasesCustomer::try_from(customer)
        .map_err(|error| Problem::invalid("customer", format!("a customer {error}")))?;
    let read = move |conn: &mut Conn| -> ProblemResult<Found> {
        let entry = copy.view.find(conn, customer.as_str())?;
        Found::of(entry.ok_or_else(|| unknown(customer.as_str()))?)
    };
    context.admin.db.read(read).await.map(Some)
}

impl Found {
    fn of(entry: ViewEntry) -> ProblemResult<Self> {
        let purchases = serde_json::from_str(&entry.value);
        let purchases = purchases.map_err(|error| Problem::internal(&error))?;
        Ok(Self { entry, purchases })
    }
}

fn unknown(customer: &str) -> Problem {
    Problem::not_found(format!(
        "the view has no customer {customer:?}: nothing was sold to them by name, or it has not arrived here yet"
    ))
    .at("customer")
}
