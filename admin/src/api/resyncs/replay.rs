//! What is asked of a replay, and what it would send.

use std::sync::Arc;

use actix_web::web::{Data, Json};
use common::clock::Timestamp;
use common::config::Settings;
use common::db::Conn;
use common::http::{Problem, ProblemResult, StrictJson};
use engine::consumers::{self, ConsumerState};
use engine::outbox::{KeptCount, count_kept_of, count_kept_since};
use engine::resync::KeptStates;
use engine::verify::{Owner, versions_of};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::Admin;
use super::asked::{checked_keys, checked_text};
use super::into_topic::checked_topic;

/// Exactly one of a consumer and a topic, and of a moment that is not to come and keys, each key once.
pub(super) fn checked_kept(kept: KeptStates, now: Timestamp) -> ProblemResult<KeptStates> {
    match (&kept.consumer, &kept.into) {
        (Some(consumer), None) => checked_text(consumer, "selection.kept.consumer")?,
        (None, Some(_)) => {}
        _ => {
            let detail =
                "name either the consumer that they are for, or the topic that they go into";
            return Err(Problem::invalid("selection.kept", detail));
        }
    }
    let one_key = kept.keys.len() == 1;
    match (kept.since, kept.keys.is_empty(), kept.from_version) {
        (Some(since), true, None) if since > now => Err(Problem::invalid(
            "selection.kept.since",
            format!("{since} is to come: it is {now} now"),
        )),
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
pub(super) fn checked_consumer(
    conn: &mut Conn,
    first: &str,
    consumer: Option<&str>,
) -> ProblemResult<()> {
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
    /// So many states of before it sends at the most: the kept events since the moment, or of the keys. A state that was
    /// sent again has several of them and is replayed once; through the loop, each key ends with its present state
    /// besides.
    events: i64,
    /// Whether there may be more: counting ends at 10,000.
    more: bool,
    /// When the first of these events was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// When the last of these events was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// States that are asked for may be gone where their events were made and settled before this moment: those are kept
    /// for `outbox.retention` only, or `retention.resolved_events` where that is shorter. `null`: none is asked for from
    /// before it; of named keys, `gone` says it.
    #[schema(value_type = Option<String>, format = DateTime)]
    may_be_gone_before: Option<Timestamp>,
    /// Named keys of which not all is kept that is asked for: the first versions are not, or none is; at most 100 of them.
    gone: Vec<GoneKey>,
}

/// A key of which not all is kept that is asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GoneKey {
    key: String,
    /// The oldest version that is kept of those that are asked for; `null`: none is; only the present state would be
    /// sent, or nothing, into another topic.
    kept_from_version: Option<i64>,
    /// Its present version; `null`: there is no such key, and a replay through the loop skips it.
    newest_version: Option<i64>,
}

/// Events that a preview counts, of all keys together.
const COUNTED: i64 = 10_000;

/// Keys with a gone part that a preview names.
const GONE_NAMED: usize = 100;

/// What a replay would send at the most, of which time, and what may be gone; nothing is put down
#[utoipa::path(
    post, path = "/api/admin/v1/resyncs/replay-preview", tag = "verification",
    request_body = KeptStates,
    responses(
        (status = 200, body = ReplayPreview),
        (status = 404, description = "This service owns nothing whose states could be sent"),
        (status = 503, description = "The broker can't be asked for the topic", body = Problem, content_type = "application/problem+json"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn preview(
    admin: Data<Admin>,
    body: StrictJson<KeptStates>,
) -> ProblemResult<Json<ReplayPreview>> {
    let owner = Arc::clone(&admin.verifier()?.owner);
    let now = admin.env.now();
    let kept = checked_kept(body.value, now)?;
    let gone_before = may_be_gone_before(&admin.settings, &kept, now);
    checked_topic(&admin, kept.into.as_deref()).await?;
    let first = admin.settings.kafka.outbound_consumer.clone();
    let read = move |conn: &mut Conn| {
        checked_consumer(conn, &first, kept.consumer.as_deref())?;
        ReplayPreview::of(conn, &kept, gone_before, &*owner).map(Json)
    };
    admin.db.read(read).await
}

/// The moment before which settled events may be deleted, where it is asked for older ones.
fn may_be_gone_before(settings: &Settings, kept: &KeptStates, now: Timestamp) -> Option<Timestamp> {
    // Those that a person or a newer version resolved have a retention of their own.
    let retention = settings.outbox.retention.min(settings.retention.resolved_events);
    let kept_since = now.before(retention);
    kept.since.filter(|since| *since < kept_since).map(|_| kept_since)
}

impl ReplayPreview {
    fn of(
        conn: &mut Conn,
        kept: &KeptStates,
        may_be_gone_before: Option<Timestamp>,
        owner: &dyn Owner,
    ) -> ProblemResult<Self> {
        let mut preview = Self {
            events: 0,
            more: false,
            from: None,
            to: None,
            may_be_gone_before,
            gone: Vec::new(),
        };
        if let Some(since) = kept.since {
            preview.add(count_kept_since(conn, since, COUNTED)?);
            return Ok(preview);
        }
        let from = kept.from_version.unwrap_or(1);
        for key in &kept.keys {
            // One at the least, which says what is gone.
            let rest = (COUNTED - preview.events).max(1);
            let count = count_kept_of(conn, key, from, rest)?;
            preview.add(count);
            let whole = count.oldest_version.is_some_and(|oldest| oldest <= from);
            if !whole && preview.gone.len() < GONE_NAMED {
                let kept_from_version = count.oldest_version;
                let key = key.clone();
                preview.gone.push(GoneKey { key, kept_from_version, newest_version: None });
            }
        }
        note_newest(conn, owner, &mut preview.gone)?;
        Ok(preview)
    }

    fn add(&mut self, count: KeptCount) {
        self.events += count.events;
        self.more |= self.events >= COUNTED;
        self.from = self.from.into_iter().chain(count.first).min();
        self.to = self.to.max(count.last);
    }
}

/// Looks up the present versions of `gone`.
fn note_newest(conn: &mut Conn, owner: &dyn Owner, gone: &mut [GoneKey]) -> ProblemResult<()> {
    let keys: Vec<String> = gone.iter().map(|one| one.key.clone()).collect();
    let mut newest = versions_of(owner, conn, &keys)?;
    for one in gone {
        one.newest_version = newest.remove(&one.key);
    }
    Ok(())
}
