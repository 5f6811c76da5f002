//! From when on it is told that alerts are over: switching it on must not tell of all that closed before.

use std::time::Duration;

use anyhow::Context;
use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::on;
use common::schema::service_state;
use diesel::QueryResult;
use diesel::prelude::*;

/// Notes the moment from which on closed alerts are `told` as over, or forgets it when they are not.
///
/// # Errors
/// When the database fails.
pub(super) async fn keep_start(db: &Db, env: &Env, told: bool) -> anyhow::Result<()> {
    let noted = db.read::<_, DbError>(|conn| Ok(start(conn)?)).await;
    let noted = noted.context("it can't be read whether alerts are told as over")?;
    let now = env.now();
    if noted.is_some() == told && noted.is_none_or(|noted| noted <= latest(now)) {
        return Ok(());
    }
    let from = told.then_some(now);
    db.write::<_, DbError>(move |conn| Ok(note(conn, from)?))
        .await
        .context("it can't be noted from when on alerts are told as over")?;
    Ok(())
}

/// What is noted of a later moment was so by a clock that ran ahead.
fn latest(now: Timestamp) -> Timestamp {
    now.latest(Duration::ZERO)
}

fn start(conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
    on!(conn, c => service_state::table.select(service_state::over_told_from_us).first(c))
}

fn note(conn: &mut Conn, from: Option<Timestamp>) -> QueryResult<usize> {
    let column = service_state::over_told_from_us;
    // Another instance may have been faster: its moment stays.
    on!(conn, c => match from {
        Some(from) => diesel::update(service_state::table)
            .filter(column.is_null().or(column.gt(latest(from))))
            .set(column.eq(from))
            .execute(c),
        None => diesel::update(service_state::table)
            .set(column.eq(None::<Timestamp>))
            .execute(c),
    })
}
