//! `/resyncs`: states sent again as events, to repair what differs or because a person wants it.

use std::collections::BTreeSet;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{
    IdempotencyKey, Page, PageQuery, Params, Problem, ProblemResult, Reply, StrictJson,
    wrong_method,
};
use engine::bulk::JobState;
use engine::consumers::{self, ConsumerState};
use engine::outbox::{KeptCount, count_kept_of, count_kept_since, oldest_kept};
use engine::resync::{
    self, KeptStates, MAX_KEYS, NewResync, ResyncJob, ResyncKind, ResyncSelection, Skipped, Which,
};
use engine::verify::Verification;
use engine::verify::wire::MAX_KEY;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::verifications::{Asked, LISTED, checked_after};
use super::{Admin, checked_reason, number};
use crate::access::{Area, Caller, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[
    Rule::new("GET", "/resyncs", Role::Viewer, Area::Events),
    Rule::new("POST", "/resyncs", Role::Operator, Area::Events),
    Rule::new("POST", "/resyncs/replay-preview", Role::Viewer, Area::Events),
    Rule::new("GET", "/resyncs/{seq}", Role::Viewer, Area::Events),
    Rule::new("GET", "/resyncs/{seq}/skipped", Role::Viewer, Area::Events),
    Rule::new("POST", "/resyncs/{seq}/cancel", Role::Operator, Area::Events),
];

pub(super) fn configure(scope: &mut ServiceConfig) {
    let resource = |path: &str| web::resource(format!("/resyncs{path}"));
    let other = wrong_method;
    scope
        .service(resource("").get(list).post(create).default_service(other("GET, POST")))
        .service(resource("/replay-preview").post(preview).default_service(other("POST")))
        .service(resource("/{seq}").get(show).default_service(other("GET")))
        .service(resource("/{seq}/skipped").get(skipped).default_service(other("GET")))
        .service(resource("/{seq}/cancel").post(cancel).default_service(other("POST")));
}

/// A job that sends states again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResyncJob)]
pub(crate) struct ResyncItem {
    pub(crate) seq: String,
    #[schema(value_type = ResyncKind)]
    pub(crate) kind: ResyncKind,
    /// Which keys.
    #[schema(value_type = ResyncSelection)]
    pub(crate) selection: Box<RawValue>,
    pub(crate) reason: Option<String>,
    pub(crate) state: JobState,
    /// How many keys it is for, if that is known.
    pub(crate) expected: Option<i64>,
    /// Keys whose states were sent again so far.
    pub(crate) done: i64,
    /// Keys left as they are so far.
    pub(crate) skipped: i64,
    /// The key that it has got to.
    pub(crate) cursor: Option<String>,
    /// The verification of the same keys that a repair ends with.
    pub(crate) verification: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
    /// Who cancelled it.
    pub(crate) ended_by: Option<String>,
}

/// A key that a job left as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SkippedKey {
    pub(crate) key: String,
    pub(crate) why: String,
}

/// A job that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewResync)]
pub(crate) struct Create {
    /// A repair sends the `differences` of a verification, and verifies these keys at its end; a resync sends `keys`,
    /// or all `where` something is true; a replay sends the states that are `kept`, and ends with each key's present one.
    #[schema(value_type = ResyncKind)]
    pub(crate) kind: ResyncKind,
    pub(crate) selection: ResyncSelection,
    /// Why, for the audit log and the causes of the events.
    pub(crate) reason: Option<String>,
    /// How many keys there were said to be: the differences of the verification, or the keys that are named. The job is
    /// refused with 409 if there is another number.
    #[schema(minimum = 0)]
    pub(crate) expected: Option<i64>,
    /// Confirms that a repair covers what is listed, though more keys differ. No, if left out.
    #[serde(default)]
    pub(crate) only_listed: bool,
}

/// A job whose form is right; whether it fits what there is, [`create_now`] finds out.
pub(crate) struct Checked {
    new: NewResync,
    /// What a repair repairs.
    verification: Option<i64>,
    /// Whom a replay is for.
    consumer: Option<String>,
    only_listed: bool,
}

impl TryFrom<ResyncJob> for ResyncItem {
    type Error = Problem;

    fn try_from(job: ResyncJob) -> ProblemResult<Self> {
        Ok(Self {
            seq: job.seq.to_string(),
            kind: job.kind,
            selection: RawValue::from_string(job.selection)
                .map_err(|error| Problem::internal(&error))?,
            reason: job.reason,
            state: job.state,
            expected: job.expected,
            done: job.done,
            skipped: job.skipped,
            cursor: job.cursor,
            verification: job.verification.map(|seq| seq.to_string()),
            created_at: job.created_us,
            created_by: job.created_by,
            started_at: job.started_us,
            ended_at: job.ended_us,
            ended_by: job.ended_by,
        })
    }
}

impl ResyncItem {
    /// One job.
    ///
    /// # Errors
    /// 404 if there is none of that number.
    pub(crate) fn find(conn: &mut Conn, seq: i64) -> ProblemResult<Self> {
        resync::find(conn, seq)?.ok_or_else(|| unknown(seq)).and_then(Self::try_from)
    }

    /// A page of jobs, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        after: Option<i64>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let jobs = resync::list(conn, after.unwrap_or(i64::MAX), limit + 1)?;
        let items = jobs.into_iter().map(Self::try_from).collect::<ProblemResult<_>>()?;
        Ok(Page::cut(items, limit, |job: &Self| job.seq.clone()))
    }
}

impl SkippedKey {
    /// Keys that a job left as they are, behind `after`.
    ///
    /// # Errors
    /// 404 if there is no such job.
    pub(crate) fn page(
        conn: &mut Conn,
        job: i64,
        after: &str,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        resync::find(conn, job)?.ok_or_else(|| unknown(job))?;
        let keys = resync::skipped(conn, job, after, limit + 1)?;
        let items = keys.into_iter().map(|Skipped { key, why, .. }| Self { key, why }).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.key.clone()))
    }
}

/// All jobs that send states again, newest first.
#[utoipa::path(
    get, path = "/api/admin/v1/resyncs", tag = "verification",
    params(PageQuery),
    responses(
        (status = 200, body = Page<ResyncItem>),
        (status = 404, description = "This service owns nothing whose states could be sent"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    admin: Data<Admin>,
    mut params: Params,
) -> ProblemResult<Json<Page<ResyncItem>>> {
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    admin.verifier()?;
    admin.db.read(move |conn| ResyncItem::page(conn, after, limit).map(Json)).await
}

/// One job that sends states again, with its progress.
#[utoipa::path(
    get, path = "/api/admin/v1/resyncs/{seq}", tag = "verification",
    params(("seq" = String, Path)),
    responses(
        (status = 200, body = ResyncItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(admin: Data<Admin>, seq: Path<String>) -> ProblemResult<Json<ResyncItem>> {
    let seq = resync_number(&seq)?;
    admin.verifier()?;
    admin.db.read(move |conn| ResyncItem::find(conn, seq).map(Json)).await
}

/// The keys that a job left as they are, and why.
#[utoipa::path(
    get, path = "/api/admin/v1/resyncs/{seq}/skipped", tag = "verification",
    params(("seq" = String, Path), PageQuery),
    responses(
        (status = 200, body = Page<SkippedKey>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn skipped(
    admin: Data<Admin>,
    seq: Path<String>,
    mut params: Params,
) -> ProblemResult<Json<Page<SkippedKey>>> {
    let seq = resync_number(&seq)?;
    let limit = params.limit()?;
    let after = checked_after(params.text("after"))?;
    params.finish()?;
    admin.verifier()?;
    admin.db.read(move |conn| SkippedKey::page(conn, seq, &after, limit).map(Json)).await
}

/// Sends states again, as events through the loop; answers with the job, which runs in the background.
#[utoipa::path(
    post, path = "/api/admin/v1/resyncs", tag = "verification",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = Create,
    responses(
        (status = 201, body = ResyncItem),
        (status = 404, description = "This service owns nothing whose states could be sent"),
        (status = 409, description = "The verification is not at its end, found nothing, or another number of keys"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    admin: Data<Admin>,
    by: Caller,
    key: IdempotencyKey,
    body: StrictJson<Create>,
) -> ProblemResult<HttpResponse> {
    admin.verifier()?;
    let now = admin.env.now();
    let job = body.value.check((&by, now))?;
    let first = admin.settings.kafka.outbound_consumer.clone();
    let work = move |conn: &mut Conn| {
        checked_consumer(conn, &first, job.consumer.as_deref())?;
        let job = create_now(conn, (&by, now), job)?;
        let location = format!("/api/admin/v1/resyncs/{}", job.seq);
        Ok(Reply::json(StatusCode::CREATED, &job)?.with_location(location))
    };
    let response = admin.act(key, &body.bytes, work).await?;
    admin.resync.wake();
    Ok(response)
}

impl Create {
    /// The job that is asked for.
    ///
    /// # Errors
    /// 422 at the field that is wrong.
    pub(crate) fn check(self, (by, now): (&Caller, Timestamp)) -> ProblemResult<Checked> {
        self.reason.as_deref().map_or(Ok(()), checked_reason)?;
        let (selection, counted) = checked_selection(self.kind, self.selection)?;
        let verification = match selection {
            ResyncSelection::Differences(seq) => Some(seq),
            ResyncSelection::Keys(_) | ResyncSelection::Where(_) | ResyncSelection::Kept(_) => None,
        };
        let consumer = match &selection {
            ResyncSelection::Kept(kept) => Some(kept.consumer.clone()),
            _ => None,
        };
        let expected = checked_expected(self.expected, counted, verification.is_some())?;
        Ok(Checked {
            new: NewResync {
                kind: self.kind,
                selection: serde_json::to_string(&selection)
                    .map_err(|error| Problem::internal(&error))?,
                reason: self.reason,
                state: JobState::Waiting,
                expected,
                created_us: now,
                created_by: by.name.clone(),
                created_via: by.via.name().to_owned(),
            },
            verification,
            consumer,
            only_listed: self.only_listed,
        })
    }
}

/// The selection with each key once, and how many keys it names.
fn checked_selection(
    kind: ResyncKind,
    selection: ResyncSelection,
) -> ProblemResult<(ResyncSelection, Option<i64>)> {
    let wrong = |detail: &str| Err(Problem::invalid("selection", detail));
    match (kind, selection) {
        (ResyncKind::Repair, differences @ ResyncSelection::Differences(_)) => {
            Ok((differences, None))
        }
        (ResyncKind::Bootstrap, _) => Err(Problem::invalid(
            "kind",
            "a copy is filled by POST /api/admin/v1/bootstraps; use the kind resync",
        )),
        (ResyncKind::Repair, _) => wrong(
            "a repair is of the differences of a verification; name it, or use the kind resync",
        ),
        (ResyncKind::Restored, _) => Err(Problem::invalid(
            "kind",
            "a database that came back from a backup is mended at /api/admin/v1/restored",
        )),
        (ResyncKind::Replay, ResyncSelection::Kept(kept)) => {
            Ok((ResyncSelection::Kept(checked_kept(kept)?), None))
        }
        (ResyncKind::Replay, _) => {
            wrong("a replay is of states that are kept; name them as kept, or use the kind resync")
        }
        (ResyncKind::Resync, ResyncSelection::Kept(_)) => {
            wrong("a resync sends present states; use the kind replay for those that are kept")
        }
        (ResyncKind::Resync, ResyncSelection::Differences(_)) => {
            wrong("differences are repaired; use the kind repair")
        }
        (ResyncKind::Resync, ResyncSelection::Keys(keys)) => {
            let keys = checked_keys(keys)?;
            let counted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
            Ok((ResyncSelection::Keys(keys), Some(counted)))
        }
        (ResyncKind::Resync, ResyncSelection::Where(which)) => {
            checked_which(&which)?;
            Ok((ResyncSelection::Where(which), None))
        }
    }
}

/// Exactly one of a moment and keys, each key once.
fn checked_kept(kept: KeptStates) -> ProblemResult<KeptStates> {
    checked_text(&kept.consumer, "selection.kept.consumer")?;
    let one_key = kept.keys.len() == 1;
    match (kept.since, kept.keys.is_empty(), kept.from_version) {
        (Some(_), true, None) => Ok(kept),
        (Some(_), ..) => Err(Problem::invalid(
            "selection.kept.since",
            "a moment selects by itself; leave out keys and from_version",
        )),
        (None, true, _) => {
            Err(Problem::invalid("selection.kept", "say since when, or of which keys"))
        }
        (None, _, Some(_)) if !one_key => Err(Problem::invalid(
            "selection.kept.from_version",
            "versions are those of one key; name that alone",
        )),
        (None, _, Some(version)) if version < 1 => {
            Err(Problem::invalid("selection.kept.from_version", "versions begin with 1"))
        }
        (None, ..) => Ok(KeptStates { keys: checked_keys(kept.keys)?, ..kept }),
    }
}

/// A replay is for somebody who is asked for answers: else nobody would prove that it arrived.
fn checked_consumer(conn: &mut Conn, first: &str, consumer: Option<&str>) -> ProblemResult<()> {
    let Some(name) = consumer else { return Ok(()) };
    let known = consumers::list(conn, first)?;
    let active = known.iter().filter(|one| one.state == ConsumerState::Active);
    let names: Vec<&str> = active.map(|one| one.name.as_str()).collect();
    match names.contains(&name) {
        true => Ok(()),
        false => Err(Problem::invalid(
            "selection.kept.consumer",
            format!(
                "{name} is no consumer that is asked for answers; there are: {}",
                names.join(", ")
            ),
        )),
    }
}

/// What a replay would send, before it is asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayPreview {
    /// Kept events that it covers: of all events since the moment, or of the keys. States that were sent again are
    /// counted here and replayed once, and each key ends with its present state besides.
    events: i64,
    /// Whether there may be more: counting ends at 10,000 of a key, or since a moment.
    more: bool,
    /// When the first of them was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// When the last of them was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// When the oldest event was made that is kept of any key: what was before is gone.
    #[schema(value_type = Option<String>, format = DateTime)]
    kept_from: Option<Timestamp>,
    /// Keys of which the beginning is gone, or all; at most 100 of them.
    gone: Vec<GoneKey>,
}

/// A key of which not all is kept that is asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GoneKey {
    key: String,
    /// The oldest version that is kept; `null`: none is, and only the present state would be sent.
    kept_from_version: Option<i64>,
}

/// Events of a key, or since a moment, that a preview counts.
const COUNTED: i64 = 10_000;

/// Keys with a gone part that a preview names.
const GONE_NAMED: usize = 100;

/// What a replay would send: how many events, of which time, and what is gone; nothing is put down
#[utoipa::path(
    post, path = "/api/admin/v1/resyncs/replay-preview", tag = "verification",
    request_body = KeptStates,
    responses(
        (status = 200, body = ReplayPreview),
        (status = 404, description = "This service owns nothing whose states could be sent"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn preview(
    admin: Data<Admin>,
    body: StrictJson<KeptStates>,
) -> ProblemResult<Json<ReplayPreview>> {
    admin.verifier()?;
    let kept = checked_kept(body.value)?;
    let first = admin.settings.kafka.outbound_consumer.clone();
    let read = move |conn: &mut Conn| {
        checked_consumer(conn, &first, Some(&kept.consumer))?;
        ReplayPreview::of(conn, &kept).map(Json)
    };
    admin.db.read(read).await
}

impl ReplayPreview {
    fn of(conn: &mut Conn, kept: &KeptStates) -> ProblemResult<Self> {
        let mut preview = Self {
            events: 0,
            more: false,
            from: None,
            to: None,
            kept_from: oldest_kept(conn)?,
            gone: Vec::new(),
        };
        if let Some(since) = kept.since {
            preview.add(count_kept_since(conn, since, COUNTED)?);
            return Ok(preview);
        }
        let from = kept.from_version.unwrap_or(1);
        for key in &kept.keys {
            let count = count_kept_of(conn, key, from, COUNTED)?;
            preview.add(count);
            let whole = count.oldest_version.is_some_and(|oldest| oldest <= from);
            if !whole && preview.gone.len() < GONE_NAMED {
                let kept_from_version = count.oldest_version;
                preview.gone.push(GoneKey { key: key.clone(), kept_from_version });
            }
        }
        Ok(preview)
    }

    fn add(&mut self, count: KeptCount) {
        self.events += count.events;
        self.more |= count.events >= COUNTED;
        self.from = self.from.into_iter().chain(count.first).min();
        self.to = self.to.max(count.last);
    }
}

fn checked_keys(keys: Vec<String>) -> ProblemResult<Vec<String>> {
    let keys: BTreeSet<String> = keys.into_iter().collect();
    if keys.is_empty() || keys.len() > MAX_KEYS {
        let detail = format!("name 1 to {MAX_KEYS} keys; a prefix can match more");
        return Err(Problem::invalid("selection.keys", detail));
    }
    keys.iter().try_for_each(|key| checked_text(key, "selection.keys"))?;
    Ok(keys.into_iter().collect())
}

fn checked_which(which: &Which) -> ProblemResult<()> {
    which.prefix.as_deref().map_or(Ok(()), |prefix| checked_text(prefix, "selection.where.prefix"))
}

fn checked_text(text: &str, field: &str) -> ProblemResult<()> {
    match text {
        "" => Err(Problem::invalid(field, "it must not be empty")),
        text if text.len() > MAX_KEY => {
            Err(Problem::invalid(field, format!("a key has {MAX_KEY} bytes at the most")))
        }
        text if text.contains('\0') => Err(Problem::invalid(field, "a key holds no U+0000")),
        _ => Ok(()),
    }
}

/// How many keys the job is for, as far as its selection tells.
fn checked_expected(
    expected: Option<i64>,
    counted: Option<i64>,
    repairs: bool,
) -> ProblemResult<Option<i64>> {
    match (expected, counted) {
        (Some(expected), _) if expected < 0 => {
            Err(Problem::invalid("expected", "a number of keys is not below 0"))
        }
        (Some(expected), Some(counted)) if expected != counted => Err(changed(format!(
            "{counted} keys are named, not {expected}; count them again, each once"
        ))),
        (Some(_), None) if !repairs => {
            let detail = "how many keys this is true of is not counted before; leave this out";
            Err(Problem::invalid("expected", detail))
        }
        (expected, counted) => Ok(counted.or(expected)),
    }
}

/// Cancels a job; what it has sent stays sent.
#[utoipa::path(
    post, path = "/api/admin/v1/resyncs/{seq}/cancel", tag = "verification",
    params(("seq" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = ResyncItem),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    admin: Data<Admin>,
    seq: Path<String>,
    by: Caller,
    key: IdempotencyKey,
) -> ProblemResult<HttpResponse> {
    let seq = resync_number(&seq)?;
    admin.verifier()?;
    let now = admin.env.now();
    let work =
        move |conn: &mut Conn| Reply::json(StatusCode::OK, &cancel_now(conn, (&by, now), seq)?);
    admin.act(key, &[], work).await
}

/// Puts a job down; the caller wakes the resync once that is committed.
///
/// # Errors
/// 409 when the verification that it repairs is not at its end, or does not have the differences that were announced.
pub(crate) fn create_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    checked: Checked,
) -> ProblemResult<ResyncItem> {
    let Checked { mut new, verification, only_listed, consumer: _ } = checked;
    if let Some(seq) = verification {
        let repaired = Asked::Number(seq).find(conn)?;
        new.expected = Some(repairable(&repaired, new.expected, only_listed)?);
    }
    let seq = resync::insert(conn, &new)?;
    let job = ResyncItem::find(conn, seq)?;
    let detail = serde_json::json!({
        "kind": job.kind, "selection": job.selection, "reason": job.reason, "expected": job.expected,
    });
    by.note(conn, now, "resync.create", Some(&job.seq), Some(detail))?;
    Ok(job)
}

/// How many keys the repair of a verification's differences is for.
fn repairable(
    verification: &Verification,
    expected: Option<i64>,
    only_listed: bool,
) -> ProblemResult<i64> {
    let Verification { seq, differences, cut, .. } = verification;
    if verification.ended_us.is_none() {
        let detail = format!("verification {seq} is not at its end; wait for it, or cancel it");
        return Err(Problem::conflict("verification-open", detail));
    }
    if *differences == 0 {
        let detail = format!("verification {seq} found no difference; there is nothing to repair");
        return Err(Problem::conflict("nothing-differs", detail));
    }
    if *cut && !only_listed {
        return Err(Problem::conflict(
            "verification-cut",
            format!(
                "verification {seq} ended when it had found {LISTED} differences, and there may be more: resync all \
                 keys, or confirm with only_listed that the listed ones are enough"
            ),
        ));
    }
    match expected {
        Some(expected) if expected != *differences => Err(changed(format!(
            "verification {seq} found {differences} differences, not {expected}; look at them again"
        ))),
        _ => Ok(*differences),
    }
}

fn changed(detail: String) -> Problem {
    Problem::conflict("preview-changed", detail)
}

/// Stops a job.
///
/// # Errors
/// 404 when there is none of that number, 409 when it has ended.
pub(crate) fn cancel_now(
    conn: &mut Conn,
    (by, now): (&Caller, Timestamp),
    seq: i64,
) -> ProblemResult<ResyncItem> {
    let cancelled = resync::cancel(conn, seq, now, &by.name)?;
    let job = ResyncItem::find(conn, seq)?;
    if !cancelled {
        let why = format!("job {seq} is already {}", job.state.name());
        return Err(Problem::conflict("job-ended", why));
    }
    let detail = serde_json::json!({ "done": job.done, "skipped": job.skipped });
    by.note(conn, now, "resync.cancel", Some(&job.seq), Some(detail))?;
    Ok(job)
}

pub(crate) fn resync_number(seq: &str) -> ProblemResult<i64> {
    number(seq, "seq", "a job's")
}

fn unknown(seq: i64) -> Problem {
    Problem::not_found(format!("there is no job {seq} that sends states again"))
}
