//! The overview: whether the copy can be trusted, and what there is to see before and behind that.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Path, ServiceConfig};
use askama::Template;
use common::clock::Timestamp;
use common::http::{Problem, ProblemResult};
use common::telemetry::BrokerReport;
use engine::alerts::{self, Alert, AlertFilter};
use engine::stats::{self, Chart, Quantiles, TrendPoint, Window};

use super::context::{Frame, PageContext, page, see};
use super::show::{filters, grouped, span};
use crate::access::{Area, Role, Rule};
use crate::api::overview::{Overview, points, window};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "", Role::Viewer, Area::Overview),
    Rule::new("GET", "/", Role::Viewer, Area::Overview),
    Rule::new("GET", "/live", Role::Viewer, Area::Overview),
    Rule::new("GET", "/charts/{name}.svg", Role::Viewer, Area::Overview),
];

/// Alerts that the overview shows.
const ALERTS: i64 = 5;
/// An age of the counts, in seconds, from which on nobody should rely on them.
const STALE: f64 = 30.0;

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("").get(show).default_service(other()))
        .service(web::resource("/").get(move_on).default_service(other()))
        .service(web::resource("/live").get(live).default_service(other()))
        .service(web::resource("/charts/{name}.svg").get(chart).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/overview.html")]
struct OverviewPage<'a> {
    frame: Frame,
    state: &'a Overview,
    verdict: Verdict,
    alerts: Vec<Alert>,
    charts: Vec<Drawn>,
    window: Window,
}

/// What of the overview is asked for again and again.
#[derive(Template)]
#[template(path = "admin/live.html")]
struct LivePart<'a> {
    state: &'a Overview,
    verdict: Verdict,
    alerts: Vec<Alert>,
}

/// A chart, and what it shows.
struct Drawn {
    chart: Chart,
    svg: String,
}

/// Whether the copy can be trusted, in a word and a sentence.
#[derive(Debug, PartialEq)]
struct Verdict {
    class: &'static str,
    word: &'static str,
    sentence: String,
}

impl Verdict {
    /// The first thing that speaks against it, the worst first.
    fn of(state: &Overview, now: Timestamp) -> Self {
        let verdict = |class, word, sentence| Self { class, word, sentence };
        let to = state.consumers.first().map_or("the other service", |consumer| &consumer.name);
        let waiting = state.events.pending + state.events.sent;
        let age = state.oldest_unacknowledged.as_ref().map_or(0.0, |oldest| oldest.age_seconds);
        let silent: usize = state.consumers.iter().map(|consumer| consumer.silent_partitions).sum();
        let counted = now.since(state.as_of).as_secs_f64();
        if counted > STALE {
            let age = span(counted);
            return verdict(
                "warn",
                "Unknown.",
                format!(
                    "These counts are {age} old: the database can't be read, or counting takes too long."
                ),
            );
        }
        if state.events.exhausted > 0 {
            let missing = events(state.events.exhausted, "waits", "wait");
            return verdict(
                "bad",
                "Not for every key.",
                format!("{missing} for a person, since {to} did not take them."),
            );
        }
        if state.relay.paused.is_some() {
            let held = events(waiting, "waits", "wait");
            return verdict("bad", "Not up to date.", format!("The relay is paused; {held}."));
        }
        if silent > 0 {
            let held = events(waiting, "waits", "wait");
            return verdict("bad", "Not up to date.", format!("{to} does not answer; {held}."));
        }
        if matches!(state.broker, BrokerReport::Down { .. }) {
            let held = events(waiting, "waits", "wait");
            return verdict(
                "warn",
                "Not up to date.",
                format!("The broker can't be reached; {held}. Nothing is lost."),
            );
        }
        match waiting {
            0 => verdict("good", "Yes.", format!("Every change has arrived at {to}.")),
            _ if age > STALE => {
                let behind = events(waiting, "is", "are");
                let sentence =
                    format!("{behind} on the way to {to}, the oldest for {}.", span(age));
                verdict("warn", "It lags behind.", sentence)
            }
            _ => {
                let behind = events(waiting, "is", "are");
                verdict("good", "Yes.", format!("{behind} on the way to {to} just now."))
            }
        }
    }
}

fn events(count: i64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 event {one}"),
        count => format!("{} events {many}", grouped(count)),
    }
}

/// A rate, with a digit behind the point while it is small.
fn rate(per_second: &f64) -> String {
    if *per_second >= 10.0 {
        grouped(per_second.round() as i64)
    } else {
        format!("{per_second:.1}")
    }
}

/// The middle and the slow end; a dash where nothing was measured yet.
fn quantiles(found: &Option<Quantiles>) -> String {
    found.map_or("–".to_owned(), |found| format!("{} / {}", span(found.p50), span(found.p99)))
}

/// Why the broker is not reached, if it is not.
fn broker_fault(report: &BrokerReport) -> Option<&str> {
    match report {
        BrokerReport::Down { reason } => Some(reason),
        BrokerReport::Unknown | BrokerReport::Up => None,
    }
}

async fn show(context: PageContext) -> ProblemResult<HttpResponse> {
    let mut params = context.params()?;
    let window = window(&mut params)?;
    params.finish()?;
    let admin = &context.admin;
    let (state, course) = (Overview::newest(admin).await?, points(admin, window).await?);
    let drawn = |chart| Ok(Drawn { chart, svg: draw(chart, &course, window)? });
    let shown = OverviewPage {
        frame: context.frame().await?,
        verdict: Verdict::of(&state, context.admin.env.now()),
        alerts: newest_alerts(&context).await?,
        charts: Chart::ALL.into_iter().map(drawn).collect::<ProblemResult<_>>()?,
        window,
        state: &state,
    };
    page(StatusCode::OK, &shown)
}

async fn move_on() -> HttpResponse {
    see("/admin", "")
}

async fn live(context: PageContext) -> ProblemResult<HttpResponse> {
    let state = Overview::newest(&context.admin).await?;
    let alerts = newest_alerts(&context).await?;
    page(
        StatusCode::OK,
        &LivePart { verdict: Verdict::of(&state, context.admin.env.now()), alerts, state: &state },
    )
}

/// A chart in the page's own colours, to take the place of the one that the page came with.
async fn chart(context: PageContext, name: Path<String>) -> ProblemResult<HttpResponse> {
    let unknown = |known| Problem::not_found(format!("there is no chart {:?}; {known}", *name));
    let chart: Chart = name.parse().map_err(unknown)?;
    let mut params = context.params()?;
    let window = window(&mut params)?;
    params.finish()?;
    let course = points(&context.admin, window).await?;
    let svg = draw(chart, &course, window)?;
    Ok(HttpResponse::Ok().content_type("image/svg+xml").body(svg))
}

fn draw(chart: Chart, course: &[TrendPoint], window: Window) -> ProblemResult<String> {
    stats::chart(chart, course, window).map_err(|error| Problem::internal(&error))
}

async fn newest_alerts(context: &PageContext) -> ProblemResult<Vec<Alert>> {
    if !context.may(Role::Viewer, Area::Alerts) {
        return Ok(Vec::new());
    }
    let (filter, now) =
        (AlertFilter { open: Some(true), ..AlertFilter::default() }, context.admin.env.now());
    let read =
        move |conn: &mut _| alerts::list(conn, now, &filter, None, ALERTS).map_err(Problem::from);
    context.admin.db.read(read).await
}
