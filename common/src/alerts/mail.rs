//! Mails as rows: fixed before their first try, claimed by one instance per try, kept until they have left.

use std::time::Duration;

use diesel::QueryResult;
use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::on;
use crate::schema::mail;

/// A mail to be written down; nothing of it changes afterwards.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = mail)]
pub(super) struct NewMail {
    /// With its angle brackets.
    pub(super) message_id: String,
    /// A JSON array of addresses.
    pub(super) recipients: String,
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    pub(super) created_us: Timestamp,
    /// When it may be tried first.
    pub(super) due_us: Timestamp,
}

/// A mail that has not left.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = mail)]
pub(super) struct MailRow {
    pub(super) seq: i64,
    pub(super) message_id: String,
    pub(super) recipients: String,
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    pub(super) created_us: Timestamp,
    /// Tries that failed.
    pub(super) tries: i32,
    /// From when on it may be tried, or until when the try of a crashed instance keeps it.
    pub(super) due_us: Timestamp,
}

/// Writes a mail down and returns its number.
pub(super) fn insert(conn: &mut Conn, new: &NewMail) -> QueryResult<i64> {
    on!(conn, c => diesel::insert_into(mail::table)
        .values(new)
        .returning(mail::seq)
        .get_result(c))
}

/// Takes the mail that is due longest for one try, which may last for `hold`.
///
/// Nothing is locked meanwhile: the mail is due again after `hold`, should its holder die. When another
/// instance was faster, the next one is looked at.
pub(super) fn claim(
    conn: &mut Conn,
    now: Timestamp,
    hold: Duration,
) -> QueryResult<Option<MailRow>> {
    let due = mail::table
        .filter(mail::sent_us.is_null())
        .filter(mail::due_us.le(now))
        .order((mail::due_us, mail::seq));
    loop {
        let found: Option<MailRow> =
            on!(conn, c => due.select(MailRow::as_select()).first(c).optional())?;
        let Some(found) = found else { return Ok(None) };
        let unclaimed = mail::table
            .find(found.seq)
            .filter(mail::due_us.eq(found.due_us))
            .filter(mail::sent_us.is_null());
        let claimed = on!(conn, c => diesel::update(unclaimed)
            .set(mail::due_us.eq(now.after(hold)))
            .execute(c))?;
        if claimed == 1 {
            return Ok(Some(found));
        }
    }
}

/// Notes that a mail has left.
pub(super) fn mark_sent(conn: &mut Conn, seq: i64, now: Timestamp) -> QueryResult<usize> {
    let unsent = mail::table.find(seq).filter(mail::sent_us.is_null());
    on!(conn, c => diesel::update(unsent)
        .set((mail::sent_us.eq(now), mail::last_error.eq(None::<String>)))
        .execute(c))
}

/// Notes that a try failed and when the next one may be.
pub(super) fn mark_failed(
    conn: &mut Conn,
    seq: i64,
    due: Timestamp,
    error: &str,
) -> QueryResult<usize> {
    let unsent = mail::table.find(seq).filter(mail::sent_us.is_null());
    on!(conn, c => diesel::update(unsent)
        .set((
            mail::tries.eq(mail::tries + 1),
            mail::due_us.eq(due),
            mail::last_error.eq(error),
        ))
        .execute(c))
}

/// Mails that have not left.
pub(super) fn count_unsent(conn: &mut Conn) -> QueryResult<i64> {
    on!(conn, c => mail::table
        .filter(mail::sent_us.is_null())
        .count()
        .get_result(c))
}
