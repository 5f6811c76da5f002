//! `/events/{id}/peer` and `/events/{id}/peers`: what the services that receive it say about the same event.

use std::time::Duration;

use actix_web::web::{Data, Json, Path};
use common::http::{Problem, ProblemResult};
use common::ids::EventId;
use common::on;
use common::schema::outbox_event;
use diesel::prelude::*;
use engine::inbox::CopyVersion;
use engine::peer::{InboxRecord, InboxView, KeyInQuarantine, body_of};
use engine::verify::Remote;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{event_id, unknown};
use crate::api::Admin;

/// More than any such answer has.
const MAX_BYTES: usize = 256 << 10;

/// What each consumer says about an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PeerViews {
    /// In the order of their names; one without an address in the settings can't be asked, and is not among them.
    pub(crate) items: Vec<PeerView>,
}

/// What another service says about an event, or why it says nothing.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct PeerView {
    /// Which consumer was asked.
    pub(crate) consumer: String,
    /// Whether it answered.
    pub(crate) reachable: bool,
    /// Why there is no answer, if there is none.
    pub(crate) reason: Option<String>,
    /// Which service it is.
    pub(crate) service: Option<String>,
    /// What it answered for good; none while the event has not been applied there.
    pub(crate) inbox: Option<InboxRecord>,
    /// Whether it refuses the key's events.
    pub(crate) quarantine: Option<KeyInQuarantine>,
    /// Its dead letters with that event id.
    pub(crate) dead_letters: Vec<String>,
    /// The version of its copy of the key.
    pub(crate) copy: Option<CopyVersion>,
}

/// What the first consumer says about this event; it is asked now, and may not be reachable.
#[utoipa::path(
    get, path = "/api/admin/v1/events/{id}/peer", tag = "events",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = PeerView),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn peer(admin: Data<Admin>, id: Path<String>) -> ProblemResult<Json<PeerView>> {
    let first = &admin.settings.kafka.outbound_consumer;
    let mut views = ask_all(&admin, event_id(&id)?, |name| name == first).await?;
    Ok(Json(views.pop().unwrap_or_default()))
}

/// What each consumer says about this event; they are asked now, all at once, and may not be reachable.
#[utoipa::path(
    get, path = "/api/admin/v1/events/{id}/peers", tag = "events",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = PeerViews),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn peers(admin: Data<Admin>, id: Path<String>) -> ProblemResult<Json<PeerViews>> {
    Ok(Json(PeerViews { items: ask_all(&admin, event_id(&id)?, |_| true).await? }))
}

/// Asks the consumers that `which` says about an event of this service.
///
/// # Errors
/// 404 when there is no such event here.
pub(crate) async fn ask_all(
    admin: &Admin,
    id: EventId,
    which: impl Fn(&String) -> bool,
) -> ProblemResult<Vec<PeerView>> {
    let key: Option<String> = admin
        .db
        .read(move |conn| {
            on!(conn, c => outbox_event::table
                .find(id)
                .select(outbox_event::key)
                .first(c)
                .optional())
            .map_err(Problem::from)
        })
        .await?;
    let key = key.ok_or_else(|| unknown(id))?;
    let asked = admin.remotes.values().filter(|remote| which(&remote.consumer));
    let limit = admin.peer.timeout();
    Ok(join_all(asked.map(|remote| PeerView::ask(remote, limit, id, &key))).await)
}

impl PeerView {
    async fn ask(remote: &Remote, limit: Duration, id: EventId, key: &str) -> Self {
        let answer = timeout(limit, ask(remote, id, key)).await.unwrap_or_else(|_elapsed| {
            let consumer = &remote.consumer;
            Err(format!("{consumer} did not answer within {limit:?} (peer.timeout)"))
        });
        let consumer = remote.consumer.clone();
        match answer {
            Ok(view) => Self { consumer, ..Self::from(view) },
            Err(reason) => Self { consumer, reason: Some(reason), ..Self::default() },
        }
    }
}

impl From<InboxView> for PeerView {
    fn from(view: InboxView) -> Self {
        Self {
            consumer: String::new(),
            reachable: true,
            reason: None,
            service: Some(view.service),
            inbox: view.inbox,
            quarantine: view.quarantine,
            dead_letters: view.dead_letters,
            copy: view.copy,
        }
    }
}

async fn ask(remote: &Remote, id: EventId, key: &str) -> Result<InboxView, String> {
    let Remote { consumer, peer, section, .. } = remote;
    let request = peer.get(&format!("/api/v1/inbox/{id}"), &[("key", key)]);
    let response = request
        .send()
        .await
        .map_err(|error| format!("{consumer} can't be reached: {}", error.root()))?;
    match response.status().as_u16() {
        200 => {}
        401 => {
            return Err(format!("{consumer} refuses this service's token ({section}.api_token)"));
        }
        status => {
            return Err(format!(
                "{consumer} answered with status {status}; check {section}.url, and that both services have the same version"
            ));
        }
    }
    let body = body_of(response, MAX_BYTES).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body)
        .map_err(|error| format!("what {consumer} answered can't be read: {error}"))
}
