//! `/view`: how far the copy of a view is that this service keeps.

use actix_web::web::{self, Data, Json, ServiceConfig};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{Params, Problem, ProblemResult, wrong_method};
use common::telemetry::{BrokerState, ConsumerReport};
use diesel::QueryResult;
use engine::alerts::{AlertKind, open_error};
use engine::views::{ViewLag, ViewPosition, positions};
use serde::Serialize;
use utoipa::ToSchema;

use super::Admin;
use crate::access::{Area, Role, Rule};

/// What its routes ask for.
pub(super) const RULES: &[Rule] = &[Rule::new("GET", "/view", Role::Viewer, Area::Relay)];

pub(super) fn configure(scope: &mut ServiceConfig) {
    scope.service(web::resource("/view").get(show).default_service(wrong_method("GET")));
}

/// The copy of a view that another program keeps on a topic.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ViewReport {
    /// The view's topic; none: this service keeps no copy of a view.
    pub(crate) topic: Option<String>,
    /// Messages that were not taken at the last look; none if that is not known.
    pub(crate) behind: Option<i64>,
    /// When that was: the oldest of the looks at the partitions.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) checked_at: Option<Timestamp>,
    /// Whether all partitions were looked at within the last minute.
    #[serde(skip)]
    pub(crate) is_of_now: bool,
    /// What receives it in this instance, with what keeps it from that.
    pub(crate) receiving: Option<ConsumerReport>,
    /// Why whoever waits for answers to its messages gets none, as an open alert says; none: none is open.
    pub(crate) unanswered: Option<String>,
    /// The partitions that were begun to be read.
    pub(crate) partitions: Vec<ViewPartition>,
}

/// How far the copy is in one partition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ViewPartition {
    pub(crate) partition: i32,
    /// The offset behind the last message that was taken.
    pub(crate) next_offset: i64,
    /// Where the partition ended at the last look.
    pub(crate) end_offset: Option<i64>,
    /// The difference.
    pub(crate) behind: Option<i64>,
    /// When that look was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) checked_at: Option<Timestamp>,
    /// When the newest message that was taken was written, by the clock of its writer or the broker.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) written_at: Option<Timestamp>,
    /// When it was taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) taken_at: Option<Timestamp>,
}

impl ViewReport {
    /// The copy that this service keeps, as it is now.
    ///
    /// # Errors
    /// When the database can't be read.
    pub(crate) async fn newest(admin: &Admin) -> ProblemResult<Self> {
        let (broker, now) = (admin.broker.clone(), admin.env.now());
        let topic = admin.view_topic().map(str::to_owned);
        admin.db.read(move |conn| Ok(Self::take(conn, &broker, topic, now)?)).await
    }

    /// The same, of the view on `topic`.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn take(
        conn: &mut Conn,
        broker: &BrokerState,
        topic: Option<String>,
        now: Timestamp,
    ) -> QueryResult<Self> {
        let Some(topic) = topic else { return Ok(Self::default()) };
        let positions = positions(conn, &topic)?;
        let lag = ViewLag::of(&topic, &positions);
        Ok(Self {
            behind: lag.as_ref().map(|lag| lag.behind),
            checked_at: lag.as_ref().map(|lag| lag.checked_at),
            is_of_now: lag.is_some_and(|lag| lag.is_of_now(now)),
            receiving: broker.consumers().into_iter().find(|one| one.topic == topic),
            unanswered: open_error(conn, AlertKind::NotAnswered)?,
            partitions: positions.into_iter().map(ViewPartition::from).collect(),
            topic: Some(topic),
        })
    }
}

impl From<ViewPosition> for ViewPartition {
    fn from(position: ViewPosition) -> Self {
        Self {
            partition: position.partition,
            next_offset: position.next_offset,
            end_offset: position.end_offset,
            behind: position.behind(),
            checked_at: position.checked_us,
            written_at: position.written_us,
            taken_at: position.taken_us,
        }
    }
}

/// How far the copy of a view is; `topic` is null in a service that keeps none.
#[utoipa::path(
    get, path = "/api/admin/v1/view", tag = "relay",
    responses(
        (status = 200, body = ViewReport),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(admin: Data<Admin>, params: Params) -> ProblemResult<Json<ViewReport>> {
    params.finish()?;
    Ok(Json(ViewReport::newest(&admin).await?))
}
