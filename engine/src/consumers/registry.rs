//! Who may change whose part, and how: by the settings at start, or by a person.

use std::collections::BTreeMap;

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::consumer_partition;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use thiserror::Error;

use super::model::{self, Consumer, ConsumerState};
use super::{MAX_CONSUMERS, MAX_KNOWN, MAX_NAME};
use crate::alerts::{self, AlertKind};

/// Who registers what the settings name.
pub(super) const BY_SETTINGS: &str = "the settings";

/// What is expected of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Events wait for its answers.
    Required,
    /// It is looked at, and never waited for.
    Watched,
}

/// A consumer to be registered.
#[derive(Debug, Clone)]
pub struct NewConsumer<'a> {
    /// What it calls itself in its answers.
    pub name: &'a str,
    /// What is expected of it.
    pub role: Role,
    /// The first event that it owes an answer; what is PROCESSED already stays so.
    pub since: EventId,
    /// Why, in a person's words.
    pub reason: Option<&'a str>,
}

/// Why the registry stays as it is.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// Names are short, and of letters, digits and few signs.
    #[error(
        "{0:?} is no name of a consumer: 1 to 100 letters, digits, dots, dashes and underscores"
    )]
    BadName(String),
    /// It is there already.
    #[error("there is a consumer {0:?} already")]
    Known(String),
    /// It is not there.
    #[error("there is no consumer {0:?}")]
    Unknown(String),
    /// It is retired.
    #[error("the consumer {0:?} is retired; register it again to ask it")]
    Retired(String),
    /// Without it nothing would ever be known to have arrived.
    #[error("{0:?} is the only required consumer: register or require another one first")]
    LastRequired(String),
    /// There are so many.
    #[error(
        "{MAX_CONSUMERS} consumers are asked, which is as many as can be: retire one that is gone"
    )]
    Full,
    /// So many were retired at once.
    #[error(
        "events that waited for retired consumers are still being settled, and {MAX_KNOWN} names are as many as can be \
         known: register it when that is over"
    )]
    Settling,
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
}

/// Registers a consumer, or one anew that was retired.
///
/// # Errors
/// When the name is none, or is that of another one.
pub fn register(
    conn: &mut Conn,
    new: &NewConsumer<'_>,
    now: Timestamp,
    by: &str,
) -> Result<Consumer, RegistryError> {
    if !is_name(new.name) {
        return Err(RegistryError::BadName(new.name.to_owned()));
    }
    let known = locked(conn)?;
    let earlier = known.iter().find(|one| one.name == new.name);
    if earlier.is_some_and(|one| one.state == ConsumerState::Active) {
        return Err(RegistryError::Known(new.name.to_owned()));
    }
    if known.iter().filter(|one| one.state == ConsumerState::Active).count() >= MAX_CONSUMERS {
        return Err(RegistryError::Full);
    }
    let row = Consumer {
        required: new.role == Role::Required,
        since_id: new.since,
        registered_us: now,
        registered_by: by.to_owned(),
        reason: new.reason.map(str::to_owned),
        ..Consumer::implied(new.name)
    };
    if let Some(earlier) = earlier {
        forget_progress(conn, new.name)?;
        // What it owed before, and was let off, is settled to the end.
        let Consumer { letting_off, cursor, let_off, .. } = *earlier;
        model::save(conn, &Consumer { letting_off, cursor, let_off, ..row.clone() })?;
    } else {
        make_room(conn, &known)?;
        if !model::insert(conn, &row)? {
            return Err(RegistryError::Known(new.name.to_owned()));
        }
    }
    if !row.required {
        begin_where_others_are(conn, new.name)?;
    }
    Ok(row)
}

/// Makes a consumer required, from the event `since` on, or watched: then it is let off what it owes. `first` is the one
/// that the settings name.
///
/// # Errors
/// When there is no such consumer, it is retired, or it is the only required one.
pub fn set_role(
    conn: &mut Conn,
    (name, first): (&str, &str),
    role: Role,
    since: EventId,
    (now, by, reason): (Timestamp, &str, Option<&str>),
) -> Result<Consumer, RegistryError> {
    let (mut row, others) = active(conn, name)?;
    let required = role == Role::Required;
    if row.required == required {
        return Ok(row);
    }
    if !required {
        one_is_required(&others, name)?;
    }
    row.required = required;
    let owed_since = row.since_id;
    if required {
        // What it was let off before is settled to the end.
        row.since_id = since;
    } else {
        (row.letting_off, row.cursor, row.let_off) = (true, EventId::NIL, 0);
    }
    change(&mut row, now, by, reason);
    model::save(conn, &row)?;
    if !required {
        take_over(conn, owed_since, others)?;
        begin_where_others_are(conn, name)?;
    }
    forget_silence(conn, name)?;
    let key = (name != first).then_some(name);
    alerts::close_about(conn, now, AlertKind::Silent, key, "the consumer has another role")?;
    Ok(row)
}

/// Retires a consumer: nothing is expected of it any more, and what waits for it alone is settled step by step. Alerts
/// about it are over; `first` is the one that the settings name.
///
/// # Errors
/// When there is no such consumer, it is retired already, or it is the only required one.
pub fn retire(
    conn: &mut Conn,
    name: &str,
    first: &str,
    (now, by, reason): (Timestamp, &str, Option<&str>),
) -> Result<Consumer, RegistryError> {
    let (mut row, others) = active(conn, name)?;
    if row.required {
        one_is_required(&others, name)?;
    }
    (row.letting_off, row.cursor, row.let_off) = (row.required || row.letting_off, EventId::NIL, 0);
    row.state = ConsumerState::Retired;
    change(&mut row, now, by, reason);
    model::save(conn, &row)?;
    if row.required {
        take_over(conn, row.since_id, others)?;
    }
    forget_progress(conn, name)?;
    let key = (name != first).then_some(name);
    for kind in [AlertKind::Silent, AlertKind::Drift, AlertKind::NotVerified] {
        alerts::close_about(conn, now, kind, key, "the consumer is retired")?;
    }
    Ok(row)
}

/// Registers whom the settings name, and gives each the role that they say; who is retired stays so.
///
/// `first` was asked before there was a registry, so it owes an answer to all that is open; the `others` from `since` on.
///
/// # Errors
/// When a statement fails, or a name is none.
pub fn sync(
    conn: &mut Conn,
    first: &str,
    others: &BTreeMap<String, Role>,
    since: EventId,
    now: Timestamp,
) -> Result<Vec<String>, RegistryError> {
    let mut told = Vec::new();
    let known = locked(conn)?;
    if !first.is_empty() && !known.iter().any(|one| one.name == first) {
        make_room(conn, &known)?;
        if model::insert(conn, &Consumer { registered_us: now, ..Consumer::implied(first) })? {
            name_progress(conn, first)?;
        }
    }
    // Required ones first: one of them may take the place of another that is only to be watched.
    let mut by_role: Vec<(&String, &Role)> = others.iter().collect();
    by_role.sort_by_key(|(_, role)| **role != Role::Required);
    for (name, role) in by_role {
        match model::find(conn, name)? {
            None => {
                let new = NewConsumer { name, role: *role, since, reason: None };
                match register(conn, &new, now, BY_SETTINGS) {
                    Ok(_) => told.push(format!("{name} is a consumer now")),
                    // Another instance that starts at the same time was faster.
                    Err(RegistryError::Known(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Some(one) if one.state == ConsumerState::Retired => {
                told.push(format!("the settings name the consumer {name}, which is retired"));
            }
            Some(one) if one.required != (*role == Role::Required) => {
                set_role(conn, (name, first), *role, since, (now, BY_SETTINGS, None))?;
                told.push(format!("the consumer {name} has another role now, by the settings"));
            }
            Some(_) => {}
        }
    }
    for one in model::all(conn)? {
        let is_named = one.name == first || others.contains_key(&one.name);
        if one.registered_by == BY_SETTINGS && one.state == ConsumerState::Active && !is_named {
            let role = if one.required { "required" } else { "watched" };
            told.push(format!(
                "the consumer {} is {role}, and no setting names it any more; retire it if it is gone",
                one.name
            ));
        }
    }
    Ok(told)
}

/// All consumers, locked in the order of their names: whoever registers another one waits, and then finds it.
fn locked(conn: &mut Conn) -> QueryResult<Vec<Consumer>> {
    model::all_locked(conn)?;
    model::all(conn)
}

/// Forgets the name that was retired first, where so many are known: it is not asked, whether it is known or not. What the
/// settings registered goes last, since they register it again at the next start if they still name it.
fn make_room(conn: &mut Conn, known: &[Consumer]) -> Result<(), RegistryError> {
    if known.len() < MAX_KNOWN {
        return Ok(());
    }
    let over = known.iter().filter(|one| one.state == ConsumerState::Retired && !one.letting_off);
    let first = over.min_by_key(|one| (one.registered_by == BY_SETTINGS, one.changed_us));
    Ok(model::forget(conn, &first.ok_or(RegistryError::Settling)?.name)?)
}

/// The consumer and the others, all locked: two that are retired at once could each count on the other.
fn active(conn: &mut Conn, name: &str) -> Result<(Consumer, Vec<Consumer>), RegistryError> {
    let (mut named, others): (Vec<_>, Vec<_>) =
        model::all_locked(conn)?.into_iter().partition(|one| one.name == name);
    let row = named.pop().ok_or_else(|| RegistryError::Unknown(name.to_owned()))?;
    match row.state {
        ConsumerState::Active => Ok((row, others)),
        ConsumerState::Retired => Err(RegistryError::Retired(name.to_owned())),
    }
}

fn one_is_required(others: &[Consumer], name: &str) -> Result<(), RegistryError> {
    match others.iter().any(|one| one.required && one.state == ConsumerState::Active) {
        true => Ok(()),
        false => Err(RegistryError::LastRequired(name.to_owned())),
    }
}

/// What is open since before any of the others was registered waits for the oldest of them now: else it would wait for
/// nobody, and be called PROCESSED though nobody has it.
fn take_over(conn: &mut Conn, since: EventId, others: Vec<Consumer>) -> QueryResult<()> {
    let required =
        others.into_iter().filter(|one| one.required && one.state == ConsumerState::Active);
    match required.min_by_key(|one| one.since_id) {
        Some(oldest) if oldest.since_id > since => {
            model::save(conn, &Consumer { since_id: since, ..oldest })
        }
        _ => Ok(()),
    }
}

fn change(row: &mut Consumer, now: Timestamp, by: &str, reason: Option<&str>) {
    row.changed_us = Some(now);
    row.changed_by = Some(by.to_owned());
    row.reason = reason.map(str::to_owned);
}

/// How far it was when it was retired says nothing of how far it is now.
fn forget_progress(conn: &mut Conn, name: &str) -> QueryResult<()> {
    let old = consumer_partition::table.filter(consumer_partition::consumer.eq(name));
    on!(conn, c => diesel::delete(old).execute(c)).map(drop)
}

/// Of what lies before nothing is expected of it: a watched one is as far as the furthest other one.
fn begin_where_others_are(conn: &mut Conn, name: &str) -> QueryResult<()> {
    let sql = "INSERT INTO consumer_partition (topic, partition, consumer, last_ack_us, acked_offset) \
               SELECT topic, partition, $1, 0, max(acked_offset) FROM consumer_partition \
               WHERE consumer <> $2 GROUP BY topic, partition \
               ON CONFLICT (topic, partition, consumer) DO UPDATE SET acked_offset = excluded.acked_offset";
    on!(conn, c => sql_query(sql).bind::<Text, _>(name).bind::<Text, _>(name).execute(c)).map(drop)
}

/// A silence of another role says nothing of this one.
fn forget_silence(conn: &mut Conn, name: &str) -> QueryResult<()> {
    use consumer_partition as p;
    let quiet = (
        p::silent_us.eq(None::<Timestamp>),
        p::probe_due_us.eq(None::<Timestamp>),
        p::probes.eq(0),
        p::behind_us.eq(None::<Timestamp>),
    );
    let own = p::table.filter(p::consumer.eq(name));
    on!(conn, c => diesel::update(own).set(quiet).execute(c)).map(drop)
}

/// What was known before consumers had names is that of the first.
fn name_progress(conn: &mut Conn, first: &str) -> QueryResult<()> {
    let nameless = consumer_partition::table.filter(consumer_partition::consumer.eq(""));
    let named = consumer_partition::consumer.eq(first);
    on!(conn, c => diesel::update(nameless).set(named).execute(c)).map(drop)
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins_well && text.len() <= MAX_NAME && text.chars().all(fits)
}
