//! `GET /alerts`: what people were told, or will be, each with its mail.

use actix_web::web::{self, Data, Json, ServiceConfig};
use diesel::prelude::*;
use serde::Serialize;

use super::Admin;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::http::{Page, Params, Problem, ProblemResult, wrong_method};
use crate::ids::EventId;
use crate::on;
use crate::schema::{alert, mail};

/// An alert and how far its mail has got.
#[derive(Debug, Serialize)]
struct Alert {
    seq: String,
    kind: String,
    subject: String,
    event_id: Option<EventId>,
    event_type: Option<String>,
    key: Option<String>,
    epoch: Option<i64>,
    version: Option<i64>,
    attempt: Option<i32>,
    error: Option<String>,
    created_at: Timestamp,
    closed_at: Option<Timestamp>,
    closed_because: Option<String>,
    /// The mail that lists it; none while the alert waits for a digest, or if it was closed before.
    mail: Option<AlertMail>,
}

#[derive(Debug, Serialize)]
struct AlertMail {
    message_id: String,
    recipients: Vec<String>,
    tries: i32,
    /// When it left; none while it waits for its next try.
    sent_at: Option<Timestamp>,
    /// When it is tried next; none once it left.
    due_at: Option<Timestamp>,
    last_error: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = alert)]
struct AlertRow {
    seq: i64,
    kind: String,
    subject: String,
    event_id: Option<EventId>,
    event_type: Option<String>,
    key: Option<String>,
    epoch: Option<i64>,
    version: Option<i64>,
    attempt: Option<i32>,
    error: Option<String>,
    created_us: Timestamp,
    closed_us: Option<Timestamp>,
    closed_because: Option<String>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = mail)]
struct MailRow {
    message_id: String,
    recipients: String,
    tries: i32,
    due_us: Timestamp,
    sent_us: Option<Timestamp>,
    last_error: Option<String>,
}

impl From<(AlertRow, Option<MailRow>)> for Alert {
    fn from((row, mail): (AlertRow, Option<MailRow>)) -> Self {
        Self {
            seq: row.seq.to_string(),
            kind: row.kind,
            subject: row.subject,
            event_id: row.event_id,
            event_type: row.event_type,
            key: row.key,
            epoch: row.epoch,
            version: row.version,
            attempt: row.attempt,
            error: row.error,
            created_at: row.created_us,
            closed_at: row.closed_us,
            closed_because: row.closed_because,
            mail: mail.map(AlertMail::from),
        }
    }
}

impl From<MailRow> for AlertMail {
    fn from(row: MailRow) -> Self {
        Self {
            message_id: row.message_id,
            recipients: serde_json::from_str(&row.recipients).unwrap_or_default(),
            tries: row.tries,
            due_at: row.sent_us.is_none().then_some(row.due_us),
            sent_at: row.sent_us,
            last_error: row.last_error,
        }
    }
}

pub(super) fn configure(scope: &mut ServiceConfig) {
    let alerts = web::resource("/alerts")
        .get(list)
        .default_service(wrong_method("GET"));
    scope.service(alerts);
}

/// Newest first; `open=true` leaves the closed ones out, `open=false` the open ones.
async fn list(admin: Data<Admin>, mut params: Params) -> ProblemResult<Json<Page<Alert>>> {
    let open: Option<bool> = params.take("open", "true or false")?;
    let limit = params.limit()?;
    let after: Option<i64> = params.take("after", "the `next` of a page")?;
    params.finish()?;
    let before = after.unwrap_or(i64::MAX);
    let rows = admin
        .db
        .read(move |conn| rows_before(conn, before, open, limit + 1).map_err(Problem::from))
        .await?;
    let items = rows.into_iter().map(Alert::from).collect();
    Ok(Json(Page::cut(items, limit, |item: &Alert| {
        item.seq.clone()
    })))
}

fn rows_before(
    conn: &mut Conn,
    before: i64,
    open: Option<bool>,
    limit: i64,
) -> QueryResult<Vec<(AlertRow, Option<MailRow>)>> {
    on!(conn, c => {
        let mut query = alert::table
            .left_join(mail::table.on(alert::mail_seq.eq(mail::seq.nullable())))
            .filter(alert::seq.lt(before))
            .order(alert::seq.desc())
            .limit(limit)
            .select((AlertRow::as_select(), Option::<MailRow>::as_select()))
            .into_boxed();
        query = match open {
            Some(true) => query.filter(alert::closed_us.is_null()),
            Some(false) => query.filter(alert::closed_us.is_not_null()),
            None => query,
        };
        query.load(c)
    })
}
