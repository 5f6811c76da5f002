//! The first admin: created with a one-time token that the program prints while there is no operator.

use std::time::Duration;

use common::db::Conn;
use common::env::Env;
use common::on;
use common::schema::operator_setup;
use diesel::prelude::*;
use engine::audit::AuthMethod;

use super::operators::{self, NewOperator, Operator};
use super::{AccessError, Caller, Hashed, Refused, Role, secret};

/// How long a one-time token holds; the next start prints another.
pub const VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A new one-time token, if there is no operator yet. Earlier ones stay valid: another instance may have printed one.
///
/// # Errors
/// When a statement fails.
pub fn offer(conn: &mut Conn, env: &Env) -> QueryResult<Option<String>> {
    if operators::any(conn)? {
        return Ok(None);
    }
    let now = env.now();
    let old = operator_setup::table.filter(operator_setup::created_us.le(now.before(VALID_FOR)));
    on!(conn, c => diesel::delete(old).execute(c))?;
    let secret = secret::random(env);
    let row =
        (operator_setup::hash.eq(secret::fingerprint(&secret)), operator_setup::created_us.eq(now));
    on!(conn, c => diesel::insert_into(operator_setup::table).values(row).execute(c))?;
    Ok(Some(secret))
}

/// Makes the first admin with a one-time token.
///
/// # Errors
/// For a token that is wrong, too old or used, and for a bad name.
pub fn accept(
    conn: &mut Conn,
    env: &Env,
    token: &str,
    (name, password): (String, Hashed),
) -> Result<Operator, AccessError> {
    let valid = operator_setup::table
        .find(secret::fingerprint(token))
        .filter(operator_setup::created_us.gt(env.now().before(VALID_FOR)));
    // Taken by deleting: of two at once, one finds nothing.
    let taken = on!(conn, c => diesel::delete(valid).execute(c))?;
    if taken == 0 || operators::any(conn)? {
        return Err(Refused::InvalidSetupToken.into());
    }
    let by = Caller::new(name.clone(), Role::Admin, AuthMethod::Setup);
    operators::add(conn, env, &NewOperator { name, password, role: Role::Admin }, &by)
}
