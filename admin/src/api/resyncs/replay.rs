//! What is asked of a replay, and what it would send.

use actix_web::web::{Data, Json};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{Problem, ProblemResult, StrictJson};
use engine::consumers::{self, ConsumerState};
use engine::outbox::{KeptCount, count_kept_of, count_kept_since, oldest_kept};
use engine::resync::KeptStates;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::Admin;
use super::asked::{checked_keys, checked_text};

/// Exactly one of a moment and keys, each key once.
pub(super) fn checked_kept(kept: KeptStates) -> ProblemResult<KeptStates> {
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
    /// Kept events that it covers: of all events since the moment, or of the keys. States that were sent again are
    /// counted here and replayed once, and each key ends with its present state besides.
    events: i64,
    /// Whether there may be more: counting ends at 10,000.
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

/// Events that a preview counts, of all keys together.
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
            // One at the least, which says what is gone.
            let rest = (COUNTED - preview.events).max(1);
            let count = count_kept_of(conn, key, from, rest)?;
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
        self.more |= self.events >= COUNTED;
        self.from = self.from.into_iter().chain(count.first).min();
        self.to = self.to.max(count.last);
    }
}
