//! Operators: people with a password and a role.

use common::clock::Timestamp;
use common::db::Conn;
use common::env::Env;
use common::on;
use common::schema::{operator, operator_session, operator_setup};
use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use super::{AccessError, Caller, Hashed, Refused, Role};

/// The longest name, in characters.
const NAME_CHARS: usize = 64;

/// An operator as admins see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Operator {
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When they were created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who created them.
    pub created_by: String,
    /// Since when they may not sign in; none: they may.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = operator)]
pub(super) struct OperatorRow {
    pub(super) name: String,
    pub(super) password_hash: String,
    pub(super) role: i16,
    pub(super) created_us: Timestamp,
    pub(super) created_by: String,
    pub(super) disabled_us: Option<Timestamp>,
}

impl From<OperatorRow> for Operator {
    fn from(row: OperatorRow) -> Self {
        Self {
            name: row.name,
            role: Role::of_code(row.role),
            created_at: row.created_us,
            created_by: row.created_by,
            disabled_at: row.disabled_us,
        }
    }
}

/// An operator to create.
#[derive(Clone)]
pub struct NewOperator {
    /// Their name: 1 to 64 letters, digits, dots, dashes, underscores or @.
    pub name: String,
    /// Their password.
    pub password: Hashed,
    /// What they may do.
    pub role: Role,
}

/// Changes to an operator; what is left out stays.
#[derive(Clone, Default)]
pub struct Change {
    /// Another role.
    pub role: Option<Role>,
    /// Another password; ends their sessions.
    pub password: Option<Hashed>,
    /// Whether they may not sign in; ends their sessions.
    pub disabled: Option<bool>,
}

/// Makes an operator; `by` is noted in the audit log.
///
/// # Errors
/// For a bad name, or one that is taken.
pub fn add(
    conn: &mut Conn,
    env: &Env,
    new: &NewOperator,
    by: &Caller,
) -> Result<Operator, AccessError> {
    check_name(&new.name)?;
    let row = OperatorRow {
        name: new.name.clone(),
        password_hash: new.password.0.clone(),
        role: new.role.code(),
        created_us: env.now(),
        created_by: by.name.clone(),
        disabled_us: None,
    };
    let added = on!(conn, c => diesel::insert_into(operator::table)
        .values(&row)
        .on_conflict_do_nothing()
        .execute(c))?;
    if added == 0 {
        return Err(Refused::NameTaken(new.name.clone()).into());
    }
    // From now on there is somebody who can make the others.
    on!(conn, c => diesel::delete(operator_setup::table).execute(c))?;
    let detail = serde_json::json!({ "role": new.role });
    by.note(conn, env.now(), "operator.add", Some(&new.name), Some(detail))?;
    Ok(row.into())
}

/// Changes an operator; `by` is noted in the audit log.
///
/// # Errors
/// When there is none of that name, or when it would leave nobody who can admit others.
pub fn change(
    conn: &mut Conn,
    env: &Env,
    name: &str,
    change: &Change,
    by: &Caller,
) -> Result<Operator, AccessError> {
    let mut row = find(conn, name)?.ok_or_else(|| Refused::UnknownOperator(name.to_owned()))?;
    let was_admin = row.role == Role::Admin.code() && row.disabled_us.is_none();
    if let Some(role) = change.role {
        row.role = role.code();
    }
    if let Some(password) = &change.password {
        row.password_hash.clone_from(&password.0);
    }
    if let Some(disabled) = change.disabled {
        row.disabled_us = disabled.then(|| row.disabled_us.unwrap_or_else(|| env.now()));
    }
    on!(conn, c => diesel::update(operator::table.find(name))
        .set((
            operator::role.eq(row.role),
            operator::password_hash.eq(&row.password_hash),
            operator::disabled_us.eq(row.disabled_us),
        ))
        .execute(c))?;
    if was_admin && active_admins(conn)? == 0 {
        return Err(Refused::LastAdmin(name.to_owned()).into());
    }
    if change.password.is_some() || row.disabled_us.is_some() {
        let theirs = operator_session::table.filter(operator_session::operator.eq(name));
        on!(conn, c => diesel::delete(theirs).execute(c))?;
    }
    let detail = serde_json::json!({
        "role": change.role,
        "password": change.password.as_ref().map(|_| "changed"),
        "disabled": change.disabled,
    });
    by.note(conn, env.now(), "operator.change", Some(name), Some(detail))?;
    Ok(row.into())
}

/// Operators by name, from the one behind `after` on.
///
/// # Errors
/// When the statement fails.
pub fn list(conn: &mut Conn, after: &str, limit: i64) -> QueryResult<Vec<Operator>> {
    let rows: Vec<OperatorRow> = on!(conn, c => operator::table
        .filter(operator::name.gt(after))
        .order(operator::name)
        .limit(limit)
        .select(OperatorRow::as_select())
        .load(c))?;
    Ok(rows.into_iter().map(Operator::from).collect())
}

/// Whether there is any operator.
///
/// # Errors
/// When the statement fails.
pub fn any(conn: &mut Conn) -> QueryResult<bool> {
    let first: Option<String> =
        on!(conn, c => operator::table.select(operator::name).first(c).optional())?;
    Ok(first.is_some())
}

pub(super) fn find(conn: &mut Conn, name: &str) -> QueryResult<Option<OperatorRow>> {
    // No name holds it, and not every database can be asked for it.
    if name.contains('\0') {
        return Ok(None);
    }
    on!(conn, c => operator::table.find(name).select(OperatorRow::as_select()).first(c).optional())
}

/// Counted under a lock on them where the database locks rows: two admins may disable each other at once.
fn active_admins(conn: &mut Conn) -> QueryResult<usize> {
    let admins = operator::table
        .filter(operator::role.eq(Role::Admin.code()))
        .filter(operator::disabled_us.is_null())
        .order(operator::name)
        .select(operator::name);
    let names: Vec<String> = match conn {
        Conn::Pg(c) => admins.for_update().load(c)?,
        Conn::Sqlite(c) => admins.load(c)?,
    };
    Ok(names.len())
}

fn check_name(name: &str) -> Result<(), Refused> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    match name.chars().count() {
        1..=NAME_CHARS if name.chars().all(allowed) => Ok(()),
        _ => Err(Refused::InvalidName),
    }
}
