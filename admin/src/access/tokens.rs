//! Bearer tokens for scripts: shown once, kept as hashes, held to a role and, if wanted, to some areas.

use std::time::Duration;

use common::clock::Timestamp;
use common::db::Conn;
use common::env::Env;
use common::on;
use common::schema::operator_token;
use diesel::prelude::*;
use engine::audit::AuthMethod;
use serde::Serialize;
use utoipa::ToSchema;

use super::{AccessError, Area, Caller, Refused, Role, secret};

/// What tokens begin with, so that people and scanners recognise one that got into the wrong place.
const PREFIX: &str = "stockloop_";

/// How exactly it is known when a token was used last.
const USED_EVERY: Duration = Duration::from_secs(60);

/// A token as admins see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Token {
    /// Its number.
    pub seq: String,
    /// What it is for.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The areas it is restricted to; empty: all.
    pub areas: Vec<Area>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who created it.
    pub created_by: String,
    /// When it ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
}

/// A token to create.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for: 1 to 100 characters.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The areas it is restricted to; empty: all.
    pub areas: Vec<Area>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = operator_token)]
struct TokenRow {
    seq: i64,
    name: String,
    role: i16,
    areas: String,
    created_us: Timestamp,
    created_by: String,
    expires_us: Option<Timestamp>,
    used_us: Option<Timestamp>,
    revoked_us: Option<Timestamp>,
    revoked_by: Option<String>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            seq: row.seq.to_string(),
            areas: areas(&row.areas),
            name: row.name,
            role: Role::of_code(row.role),
            created_at: row.created_us,
            created_by: row.created_by,
            expires_at: row.expires_us,
            used_at: row.used_us,
            revoked_at: row.revoked_us,
            revoked_by: row.revoked_by,
        }
    }
}

/// Makes a token; its secret is in the answer and nowhere else. `by` is noted in the audit log.
///
/// # Errors
/// For a bad name, or an end that has passed.
pub fn add(
    conn: &mut Conn,
    env: &Env,
    new: &NewToken,
    by: &Caller,
) -> Result<(Token, String), AccessError> {
    let chars = new.name.chars().count();
    if !(1..=100).contains(&chars) || new.name.trim().is_empty() {
        return Err(Refused::TokenName.into());
    }
    let now = env.now();
    if new.expires_at.is_some_and(|end| end <= now) {
        return Err(Refused::TokenExpired.into());
    }
    let secret = format!("{PREFIX}{}", secret::random(env));
    let names: Vec<&str> = new.areas.iter().map(|area| area.name()).collect();
    let values = (
        operator_token::hash.eq(secret::fingerprint(&secret)),
        operator_token::name.eq(&new.name),
        operator_token::role.eq(new.role.code()),
        operator_token::areas.eq(names.join(",")),
        operator_token::created_us.eq(now),
        operator_token::created_by.eq(&by.name),
        operator_token::expires_us.eq(new.expires_at),
    );
    let row: TokenRow = on!(conn, c => diesel::insert_into(operator_token::table)
        .values(values)
        .returning(TokenRow::as_returning())
        .get_result(c))?;
    let detail = serde_json::json!({ "name": new.name, "role": new.role, "areas": new.areas, "expires_at": new.expires_at });
    by.note(conn, now, "token.add", Some(&row.seq.to_string()), Some(detail))?;
    Ok((row.into(), secret))
}

/// Ends a token for good; one that was revoked before stays as it is. `by` is noted in the audit log.
///
/// # Errors
/// When there is none of that number.
pub fn revoke(
    conn: &mut Conn,
    now: Timestamp,
    seq: i64,
    by: &Caller,
) -> Result<Token, AccessError> {
    let valid = operator_token::table.find(seq).filter(operator_token::revoked_us.is_null());
    let revoked = on!(conn, c => diesel::update(valid)
        .set((operator_token::revoked_us.eq(now), operator_token::revoked_by.eq(&by.name)))
        .execute(c))?;
    let row: Option<TokenRow> = on!(conn, c => operator_token::table
        .find(seq)
        .select(TokenRow::as_select())
        .first(c)
        .optional())?;
    let row = row.ok_or(Refused::UnknownToken(seq))?;
    if revoked > 0 {
        let detail = serde_json::json!({ "name": row.name });
        by.note(conn, now, "token.revoke", Some(&seq.to_string()), Some(detail))?;
    }
    Ok(row.into())
}

/// Tokens, newest first, from the one that follows number `after` on.
///
/// # Errors
/// When the statement fails.
pub fn list(conn: &mut Conn, after: Option<i64>, limit: i64) -> QueryResult<Vec<Token>> {
    let rows: Vec<TokenRow> = on!(conn, c => operator_token::table
        .filter(operator_token::seq.lt(after.unwrap_or(i64::MAX)))
        .order(operator_token::seq.desc())
        .limit(limit)
        .select(TokenRow::as_select())
        .load(c))?;
    Ok(rows.into_iter().map(Token::from).collect())
}

/// Whom a token acts for; with it the token's number where its use is to be noted again.
pub(super) fn find(
    conn: &mut Conn,
    secret: &str,
    now: Timestamp,
) -> QueryResult<Option<(Caller, Option<i64>)>> {
    let row: Option<TokenRow> = on!(conn, c => operator_token::table
        .filter(operator_token::hash.eq(secret::fingerprint(secret)))
        .filter(operator_token::revoked_us.is_null())
        .filter(operator_token::expires_us.is_null().or(operator_token::expires_us.gt(now)))
        .select(TokenRow::as_select())
        .first(c)
        .optional())?;
    Ok(row.map(|row| {
        let stale = row.used_us.is_none_or(|used| now.since(used) >= USED_EVERY);
        let caller =
            Caller::new(format!("token {}", row.name), Role::of_code(row.role), AuthMethod::Token);
        (Caller { areas: areas(&row.areas), ..caller }, stale.then_some(row.seq))
    }))
}

/// Notes that a token is used.
pub(super) fn touch(conn: &mut Conn, seq: i64, now: Timestamp) -> QueryResult<()> {
    on!(conn, c => diesel::update(operator_token::table.find(seq))
        .set(operator_token::used_us.eq(now))
        .execute(c))
    .map(drop)
}

fn areas(names: &str) -> Vec<Area> {
    names.split(',').filter_map(|name| name.parse().ok()).collect()
}
