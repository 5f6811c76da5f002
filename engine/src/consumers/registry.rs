//! Who may change whose part, and how: by the settings at start, or by a person.

use std::collections::BTreeMap;

use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;
use common::on;
use common::schema::consumer_partition;
use diesel::prelude::*;
use thiserror::Error;

use super::model::{self, Consumer, ConsumerState};
use super::{MAX_CONSUMERS, MAX_NAME};
use crate::alerts::{self, AlertKind};

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
    #[error("there are {MAX_CONSUMERS} consumers, which is as many as can be")]
    Full,
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
    let earlier = model::lock(conn, new.name)?;
    if earlier.as_ref().is_some_and(|one| one.state == ConsumerState::Active) {
        return Err(RegistryError::Known(new.name.to_owned()));
    }
    let row = Consumer {
        required: new.role == Role::Required,
        since_id: new.since,
        registered_us: now,
        registered_by: by.to_owned(),
        reason: new.reason.map(str::to_owned),
        ..Consumer::implied(new.name)
    };
    if earlier.is_some() {
        forget_progress(conn, new.name)?;
        model::save(conn, &row)?;
    } else if model::all(conn)?.len() >= MAX_CONSUMERS {
        return Err(RegistryError::Full);
    } else if !model::insert(conn, &row)? {
        return Err(RegistryError::Known(new.name.to_owned()));
    }
    Ok(row)
}

/// Makes a consumer required, from the event `since` on, or watched: then it is let off what it owes.
///
/// # Errors
/// When there is no such consumer, it is retired, or it is the only required one.
pub fn set_role(
    conn: &mut Conn,
    name: &str,
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
    row.since_id = if required { since } else { row.since_id };
    (row.letting_off, row.cursor) = (!required, EventId::NIL);
    change(&mut row, now, by, reason);
    model::save(conn, &row)?;
    if !required {
        take_over(conn, &row, others)?;
    }
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
        take_over(conn, &row, others)?;
    }
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
    const BY: &str = "the settings";
    let mut told = Vec::new();
    if !first.is_empty()
        && model::insert(conn, &Consumer { registered_us: now, ..Consumer::implied(first) })?
    {
        name_progress(conn, first)?;
    }
    for (name, role) in others {
        match model::find(conn, name)? {
            None => {
                let new = NewConsumer { name, role: *role, since, reason: None };
                register(conn, &new, now, BY)?;
                told.push(format!("{name} is a consumer now"));
            }
            Some(one) if one.state == ConsumerState::Retired => {
                told.push(format!("the settings name the consumer {name}, which is retired"));
            }
            Some(one) if one.required != (*role == Role::Required) => {
                set_role(conn, name, *role, since, (now, BY, None))?;
                told.push(format!("the consumer {name} has another role now, by the settings"));
            }
            Some(_) => {}
        }
    }
    Ok(told)
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

/// What is open since before the others were registered waits for them now: else it would wait for nobody.
fn take_over(conn: &mut Conn, from: &Consumer, others: Vec<Consumer>) -> QueryResult<()> {
    let later = |one: &Consumer| one.required && one.since_id > from.since_id;
    for other in others.into_iter().filter(later) {
        model::save(conn, &Consumer { since_id: from.since_id, ..other })?;
    }
    Ok(())
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

/// What was known before consumers had names is that of the first.
fn name_progress(conn: &mut Conn, first: &str) -> QueryResult<()> {
    let nameless = consumer_partition::table.filter(consumer_partition::consumer.eq(""));
    let named = consumer_partition::consumer.eq(first);
    on!(conn, c => diesel::update(nameless).set(named).execute(c)).map(drop)
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(fits)
}
