//! `/events/{id}/peer`: what the other service says about the same event.

use std::error::Error;

use actix_web::web::{Data, Json, Path};
use common::http::{Problem, ProblemResult};
use common::ids::EventId;
use common::on;
use common::schema::outbox_event;
use diesel::prelude::*;
use engine::inbox::CopyVersion;
use engine::peer::{InboxRecord, InboxView, KeyInQuarantine, Peer, body_of};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{event_id, unknown};
use crate::api::Admin;

/// More than any such answer has.
const MAX_BYTES: usize = 256 << 10;

/// What the other service says about an event, or why it says nothing.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct PeerView {
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

/// What the other service says about this event; it is asked now, and may not be reachable.
#[utoipa::path(
    get, path = "/api/admin/v1/events/{id}/peer", tag = "events",
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = PeerView),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn peer(admin: Data<Admin>, id: Path<String>) -> ProblemResult<Json<PeerView>> {
    Ok(Json(PeerView::ask(&admin, event_id(&id)?).await?))
}

impl PeerView {
    /// Asks the other service about an event of this one.
    ///
    /// # Errors
    /// 404 when there is no such event here.
    pub(crate) async fn ask(admin: &Admin, id: EventId) -> ProblemResult<Self> {
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
        let limit = admin.peer.timeout();
        let asked = timeout(limit, ask(&admin.peer, id, &key)).await;
        let answer = asked.unwrap_or_else(|_elapsed| {
            Err(format!("the other service did not answer within {limit:?} (peer.timeout)"))
        });
        Ok(match answer {
            Ok(view) => Self::from(view),
            Err(reason) => Self { reason: Some(reason), ..Self::default() },
        })
    }
}

impl From<InboxView> for PeerView {
    fn from(view: InboxView) -> Self {
        Self {
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

async fn ask(peer: &Peer, id: EventId, key: &str) -> Result<InboxView, String> {
    let request = peer.get(&format!("/api/v1/inbox/{id}"), &[("key", key)]);
    let response = request
        .send()
        .await
        .map_err(|error| format!("the other service can't be reached: {}", root_of(&error)))?;
    match response.status().as_u16() {
        200 => {}
        401 => return Err("the other service refuses this service's token (peer.api_token)".into()),
        status => {
            return Err(format!(
                "the other service answered with status {status}; check peer.url, and that both services have the same version"
            ));
        }
    }
    let body = body_of(response, MAX_BYTES).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&body)
        .map_err(|error| format!("the other service's answer can't be read: {error}"))
}

/// The last cause: what reqwest says first names the URL and little more.
fn root_of(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}
