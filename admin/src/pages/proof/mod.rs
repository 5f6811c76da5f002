//! Whether the copies have what this service owns: when that was verified, what differs, and what mends it.

mod course;
mod words;

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Path, ServiceConfig};
use askama::Template;
use common::db::Conn;
use common::http::{Page, Problem, ProblemResult};
use engine::consumers::{self, ConsumerState};
use engine::resync::{ResyncKind, ResyncSelection};
use engine::verify::{self, State};

use super::context::{Frame, PageContext, Paging, page, see};
use super::form::Form;
use super::show::{filters, grouped};
use super::tokens::number;
use crate::access::{Area, Role, Rule};
use crate::api::bootstraps::{self, FillingItem, filling_number};
use crate::api::resyncs::{self, ResyncItem, SkippedKey};
use crate::api::verifications::{
    self, Asked, DifferenceItem, LISTED, VerificationDetail, VerificationItem, checked_after,
};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/proof", Role::Viewer, Area::Events),
    Rule::new("POST", "/proof", Role::Operator, Area::Events),
    Rule::new("GET", "/proof/{seq}", Role::Viewer, Area::Events),
    Rule::new("POST", "/proof/{seq}/cancel", Role::Operator, Area::Events),
    Rule::new("GET", "/proof/{seq}/repair", Role::Operator, Area::Events),
    Rule::new("POST", "/proof/{seq}/repair", Role::Operator, Area::Events),
    Rule::new("GET", "/resyncs/{seq}", Role::Viewer, Area::Events),
    Rule::new("POST", "/resyncs/{seq}/cancel", Role::Operator, Area::Events),
    Rule::new("POST", "/bootstraps", Role::Operator, Area::Events),
    Rule::new("POST", "/bootstraps/{seq}/cancel", Role::Operator, Area::Events),
];

/// Verifications that the course shows.
const COURSE: i64 = 50;

/// Differences that the first page lists.
const SHOWN: i64 = 20;

/// Jobs that the first page lists.
const JOBS: i64 = 10;

/// Differences that a repair is previewed by.
const EXAMPLES: i64 = 5;

/// How much of the time a verification may be told to work: thousandths of it, and in words.
const SHARES: [(&str, &str); 3] =
    [("1", "all of the time"), ("0.2", "a fifth of the time"), ("0.05", "a twentieth of the time")];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let other = || web::to(super::wrong_method);
    scope
        .service(web::resource("/proof").get(list).post(verify_now).default_service(other()))
        .service(web::resource("/proof/{seq}").get(show).default_service(other()))
        .service(web::resource("/proof/{seq}/cancel").post(cancel).default_service(other()))
        .service(
            web::resource("/proof/{seq}/repair").get(preview).post(repair).default_service(other()),
        )
        .service(web::resource("/bootstraps").post(fill).default_service(other()))
        .service(
            web::resource("/bootstraps/{seq}/cancel").post(cancel_filling).default_service(other()),
        )
        .service(web::resource("/resyncs/{seq}").get(show_job).default_service(other()))
        .service(web::resource("/resyncs/{seq}/cancel").post(cancel_job).default_service(other()));
}

#[derive(Template)]
#[template(path = "admin/proof.html")]
struct ProofPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    consumers: Vec<ConsumerProof>,
    fillings: Vec<FillingItem>,
    jobs: Vec<ResyncItem>,
    shares: [(&'static str, &'static str); 3],
    may_act: bool,
}

/// What is known of one consumer's copy.
struct ConsumerProof {
    consumer: String,
    under_way: Option<VerificationItem>,
    /// The newest verification of all keys that came to its end.
    latest: Option<VerificationItem>,
    /// The newest look at the keys that differed there, after a repair.
    again: Option<VerificationItem>,
    /// What differs by the newer of both.
    differences: Vec<DifferenceItem>,
    course: Vec<VerificationItem>,
}

/// What is shown where nothing is owned.
#[derive(Template)]
#[template(path = "admin/proof_of_owner.html")]
struct OwnerElsewherePage {
    frame: Frame,
    owner: String,
}

#[derive(Template)]
#[template(path = "admin/verification.html")]
struct VerificationPage {
    frame: Frame,
    run: VerificationDetail,
    /// Whether the keys that were waited for are listed, instead of those that differ.
    waiting: bool,
    differences: Vec<DifferenceItem>,
    paging: Paging,
    may_act: bool,
}

#[derive(Template)]
#[template(path = "admin/repair.html")]
struct RepairPage<'a> {
    frame: Frame,
    problem: Option<&'a Problem>,
    run: VerificationDetail,
    examples: Vec<DifferenceItem>,
    /// What was filled in.
    reason: String,
}

#[derive(Template)]
#[template(path = "admin/resync.html")]
struct ResyncPage {
    frame: Frame,
    job: ResyncItem,
    skipped: Vec<SkippedKey>,
    paging: Paging,
    may_act: bool,
}

impl ConsumerProof {
    fn drawn(&self) -> String {
        course::course(&self.course)
    }

    fn read(conn: &mut Conn, consumer: String) -> ProblemResult<Self> {
        let course = VerificationItem::page(conn, Some(&consumer), None, COURSE)?.items;
        let under_way = verify::under_way(conn, &consumer)?.map(VerificationItem::from);
        let latest = verify::latest(conn, Some(&consumer))?.map(VerificationItem::from);
        let ended = verify::list(conn, Some(&consumer), i64::MAX, COURSE)?.into_iter();
        let again = ended.map(VerificationItem::from).find(|one| {
            let of_latest = one.keys_of.is_some()
                && one.keys_of == latest.as_ref().map(|latest| latest.seq.clone());
            of_latest && one.ended_at.is_some() && one.state != State::Cancelled
        });
        let newest = again.as_ref().or(latest.as_ref()).map(|one| one.seq.as_str());
        let differences = newest.map_or(Ok(Vec::new()), |seq| differing(conn, seq, SHOWN))?;
        Ok(Self { consumer, under_way, latest, again, differences, course })
    }

    /// The verification whose differences are shown.
    fn newest(&self) -> Option<&VerificationItem> {
        self.again.as_ref().or(self.latest.as_ref())
    }
}

/// The first differences of a verification.
fn differing(conn: &mut Conn, seq: &str, limit: i64) -> ProblemResult<Vec<DifferenceItem>> {
    Ok(DifferenceItem::page(conn, Asked::parse(seq)?, false, "", limit)?.items)
}

impl ProofPage<'_> {
    /// The copy that is being filled.
    fn filling(&self) -> Option<&FillingItem> {
        self.fillings.iter().find(|one| one.state.is_open())
    }
}

async fn list(context: PageContext) -> ProblemResult<HttpResponse> {
    context.params()?.finish()?;
    if context.admin.verifier.is_none() {
        let owner = context.admin.settings.kafka.outbound_consumer.clone();
        let shown = OwnerElsewherePage { frame: context.frame().await?, owner };
        return page(StatusCode::OK, &shown);
    }
    shown(&context, None).await
}

async fn shown(context: &PageContext, problem: Option<&Problem>) -> ProblemResult<HttpResponse> {
    let admin = &context.admin;
    let (remotes, first) =
        (Arc::clone(&admin.remotes), admin.settings.kafka.outbound_consumer.clone());
    let now = admin.env.now();
    let read = admin.db.read(move |conn| {
        let known = consumers::list(conn, &first)?.into_iter();
        let active = known.filter(|one| one.state == ConsumerState::Active).map(|one| one.name);
        let consumers = active
            .filter(|name| remotes.contains_key(name))
            .map(|one| ConsumerProof::read(conn, one));
        let consumers = consumers.collect::<ProblemResult<Vec<_>>>()?;
        let fillings = FillingItem::page(conn, None, JOBS, now)?.items;
        Ok::<_, Problem>((consumers, fillings, ResyncItem::page(conn, None, JOBS)?.items))
    });
    let (consumers, fillings, jobs) = read.await?;
    let shown = ProofPage {
        frame: context.frame().await?,
        problem,
        consumers,
        fillings,
        jobs,
        shares: SHARES,
        may_act: context.may(Role::Operator, Area::Events),
    };
    page(problem.map_or(StatusCode::OK, Problem::status), &shown)
}

async fn verify_now(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    match start(&context, &form).await {
        Ok(started) => Ok(see(&format!("/admin/proof/{}", started.seq), "verification-started")),
        Err(problem) if problem.status().is_client_error() && context.admin.verifier.is_some() => {
            shown(&context, Some(&problem)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn start(context: &PageContext, form: &Form) -> ProblemResult<VerificationItem> {
    let admin = &context.admin;
    let verifier = admin.verifier()?;
    let (by, now) = (context.caller.clone(), admin.env.now());
    let create = verifications::Create {
        consumer: form.text("consumer"),
        share: form.take("share", "a share of the time")?,
    };
    let new = create.check(admin, (&by, now))?;
    let started =
        admin.db.write(move |conn| verifications::create_now(conn, (&by, now), &new)).await?;
    verifier.wake();
    Ok(started)
}

async fn show(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    context.admin.verifier()?;
    let seq = number(&seq)?;
    let mut params = context.params()?;
    let limit = params.limit()?;
    let waiting = params.take("waiting", "true or false")?.unwrap_or(false);
    let after = checked_after(params.text("after"))?;
    params.finish()?;
    let read = context.admin.db.read(move |conn| {
        let asked = Asked::Number(seq);
        let run = VerificationDetail::find(conn, asked)?;
        Ok::<_, Problem>((run, DifferenceItem::page(conn, asked, waiting, &after, limit)?))
    });
    let (run, Page { items: differences, next }) = read.await?;
    let paging = context.next_page(next.as_deref());
    let may_act = context.may(Role::Operator, Area::Events);
    let frame = context.frame().await?;
    page(StatusCode::OK, &VerificationPage { frame, run, waiting, differences, paging, may_act })
}

async fn cancel(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    context.admin.verifier()?;
    let seq = number(&seq)?;
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    let cancelled = move |conn: &mut Conn| verifications::cancel_now(conn, (&by, now), seq);
    context.admin.db.write(cancelled).await?;
    Ok(see(&format!("/admin/proof/{seq}"), "verification-cancelled"))
}

/// Shows what a repair would send, and asks for confirmation.
async fn preview(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    context.admin.verifier()?;
    confirm(&context, number(&seq)?, &Form::default(), None).await
}

async fn confirm(
    context: &PageContext,
    seq: i64,
    form: &Form,
    problem: Option<&Problem>,
) -> ProblemResult<HttpResponse> {
    let read = context.admin.db.read(move |conn| {
        let run = VerificationDetail::find(conn, Asked::Number(seq))?;
        let examples = differing(conn, &run.item.seq, EXAMPLES)?;
        Ok::<_, Problem>((run, examples))
    });
    let (run, examples) = read.await?;
    let reason = form.text("reason").unwrap_or_default();
    let frame = context.frame().await?;
    page(
        problem.map_or(StatusCode::OK, Problem::status),
        &RepairPage { frame, problem, run, examples, reason },
    )
}

async fn repair(
    context: PageContext,
    seq: Path<String>,
    form: Form,
) -> ProblemResult<HttpResponse> {
    context.admin.verifier()?;
    let seq = number(&seq)?;
    match repair_asked(&context, &form, seq).await {
        Ok(job) => Ok(see(&format!("/admin/resyncs/{}", job.seq), "")),
        // What was filled in was wrong, or it is not what differs any more: asked again, with what differs now.
        Err(problem) if problem.status().is_client_error() => {
            confirm(&context, seq, &form, Some(&problem)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn repair_asked(context: &PageContext, form: &Form, seq: i64) -> ProblemResult<ResyncItem> {
    let admin = &context.admin;
    let (by, now) = (context.caller.clone(), admin.env.now());
    let create = resyncs::Create {
        kind: ResyncKind::Repair,
        selection: ResyncSelection::Differences(seq),
        reason: form.text("reason"),
        expected: form.take("expected", "a number")?,
        only_listed: form.text("only_listed").is_some(),
    };
    let job = create.check((&by, now))?;
    let job = admin.db.write(move |conn| resyncs::create_now(conn, (&by, now), job)).await?;
    admin.resync.wake();
    Ok(job)
}

async fn show_job(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    context.admin.verifier()?;
    let seq = number(&seq)?;
    let mut params = context.params()?;
    let limit = params.limit()?;
    let after = checked_after(params.text("after"))?;
    params.finish()?;
    let read = context.admin.db.read(move |conn| {
        let job = ResyncItem::find(conn, seq)?;
        Ok::<_, Problem>((job, SkippedKey::page(conn, seq, &after, limit)?))
    });
    let (job, Page { items: skipped, next }) = read.await?;
    let paging = context.next_page(next.as_deref());
    let may_act = context.may(Role::Operator, Area::Events);
    let frame = context.frame().await?;
    page(StatusCode::OK, &ResyncPage { frame, job, skipped, paging, may_act })
}

async fn cancel_job(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    context.admin.verifier()?;
    let seq = number(&seq)?;
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    context.admin.db.write(move |conn| resyncs::cancel_now(conn, (&by, now), seq)).await?;
    Ok(see(&format!("/admin/resyncs/{seq}"), "resync-cancelled"))
}

async fn fill(context: PageContext, form: Form) -> ProblemResult<HttpResponse> {
    let admin = &context.admin;
    admin.verifier()?;
    let consumer = verifications::checked_consumer(form.text("consumer"), admin)?;
    let (by, now) = (context.caller.clone(), admin.env.now());
    let create = move |conn: &mut Conn| bootstraps::create_now(conn, (&by, now), &consumer);
    match admin.db.write(create).await {
        Ok(_) => {
            admin.wake_bootstrap();
            Ok(see("/admin/proof", "bootstrap-started"))
        }
        Err(problem) if problem.status().is_client_error() => shown(&context, Some(&problem)).await,
        Err(problem) => Err(problem),
    }
}

async fn cancel_filling(context: PageContext, seq: Path<String>) -> ProblemResult<HttpResponse> {
    context.admin.verifier()?;
    let seq = filling_number(&seq)?;
    let (by, now) = (context.caller.clone(), context.admin.env.now());
    context.admin.db.write(move |conn| bootstraps::cancel_now(conn, (&by, now), seq)).await?;
    Ok(see("/admin/proof", "bootstrap-cancelled"))
}

/// How many keys, in words.
fn keys(count: i64) -> String {
    let keys = if count == 1 { "key" } else { "keys" };
    format!("{} {keys}", grouped(count))
}
