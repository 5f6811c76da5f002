//! The audit log's rows and how they are found.

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use common::schema::audit;
use diesel::QueryResult;
use diesel::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

/// An action, to be noted.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = audit)]
pub struct NewEntry {
    /// When.
    pub at_us: Timestamp,
    /// Who.
    pub who: String,
    /// How they were authenticated, as [`super::AuthMethod::name`] has it.
    pub via: &'static str,
    /// What they did, such as `event.retry`.
    pub action: String,
    /// To what: an event's id, a key, a name.
    pub subject: Option<String>,
    /// Further details, JSON.
    pub detail: Option<String>,
}

/// An action, as it is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct Entry {
    /// Its number, which grows.
    pub seq: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// How they were authenticated: session, token, setting, open, setup or command.
    pub via: String,
    /// What they did, such as `event.retry`.
    pub action: String,
    /// To what: an event's id, a key, a name.
    pub subject: Option<String>,
    /// Further details.
    #[schema(value_type = Option<Value>)]
    pub detail: Option<Box<RawValue>>,
}

/// Which actions to list; what is left out matches all.
#[derive(Debug, Clone, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// By whom.
    pub who: Option<String>,
    /// An action, or all with a prefix that ends with a dot (`event.`).
    pub action: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// At this moment or later.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
}

/// Notes an action.
///
/// # Errors
/// When the statement fails.
pub fn append(conn: &mut Conn, entry: &NewEntry) -> QueryResult<()> {
    on!(conn, c => diesel::insert_into(audit::table).values(entry).execute(c)).map(drop)
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = audit)]
struct AuditRow {
    seq: i64,
    at_us: Timestamp,
    who: String,
    via: String,
    action: String,
    subject: Option<String>,
    detail: Option<String>,
}

/// Up to `limit` actions, newest first, that come after number `after` in that order.
///
/// # Errors
/// When the statement fails.
pub fn list(
    conn: &mut Conn,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<Entry>> {
    let rows: Vec<AuditRow> = on!(conn, c => {
        let mut entries =
            audit::table.filter(audit::seq.lt(after.unwrap_or(i64::MAX))).into_boxed();
        if let Some(who) = &filter.who {
            entries = entries.filter(audit::who.eq(who));
        }
        if let Some(action) = &filter.action {
            entries = match action.ends_with('.') {
                // From the dot to what follows it: a range that the index knows.
                true => entries
                    .filter(audit::action.ge(action))
                    .filter(audit::action.lt(format!("{}/", &action[..action.len() - 1]))),
                false => entries.filter(audit::action.eq(action)),
            };
        }
        if let Some(subject) = &filter.subject {
            entries = entries.filter(audit::subject.eq(subject));
        }
        if let Some(since) = filter.since {
            entries = entries.filter(audit::at_us.ge(since));
        }
        if let Some(until) = filter.until {
            entries = entries.filter(audit::at_us.lt(until));
        }
        entries.order(audit::seq.desc()).limit(limit).select(AuditRow::as_select()).load(c)
    })?;
    Ok(rows.into_iter().map(Entry::from).collect())
}

impl From<AuditRow> for Entry {
    fn from(row: AuditRow) -> Self {
        Self {
            seq: row.seq.to_string(),
            at: row.at_us,
            who: row.who,
            via: row.via,
            action: row.action,
            subject: row.subject,
            detail: row.detail.and_then(|text| RawValue::from_string(text).ok()),
        }
    }
}
