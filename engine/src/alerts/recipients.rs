//! What became of a mail for each recipient: whoever refuses it costs the others nothing, and is not asked again.

use std::collections::HashMap;

use common::clock::Timestamp;
use common::db::Conn;
use common::on;
use common::schema::mail_recipient;
use diesel::QueryResult;
use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use super::outgoing::{Noted, Progress};
use super::text::one_line;

/// Characters of an error that are kept for a recipient.
const ERROR_CHARS: usize = 500;

/// What the mail server said to one recipient in one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has the mail.
    Taken,
    /// Not now.
    Later(String),
    /// Never.
    Refused(String),
}

impl Verdict {
    /// Whether a reply to `RCPT TO` is about this recipient and for good, so that asking again is no use.
    ///
    /// 50x and 53x are about the conversation (syntax, sequence, authentication), which an operator can mend; 552 has
    /// to be taken for "later" (RFC 5321, 4.5.3.1.10).
    pub(super) fn is_final(code: u16) -> bool {
        (500..=599).contains(&code) && !matches!(code, 500..=504 | 530..=539 | 552)
    }
}

/// What one try said to each recipient that was still waiting, by address.
pub(super) type Verdicts = Vec<(String, Verdict)>;

/// How far a mail has got with one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecipientState {
    /// It is still to be sent.
    Waiting,
    /// The mail server accepted it.
    Sent,
    /// The mail server refused it for good.
    Refused,
}

impl RecipientState {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Refused => "refused",
        }
    }
}

/// How far a mail has got with all of its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailProgress {
    /// Somebody is still to get it.
    Waiting,
    /// Everybody got it.
    Sent,
    /// Some got it, the others were refused for good.
    Partly,
    /// Every recipient was refused for good.
    Failed,
}

impl MailProgress {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Partly => "partly",
            Self::Failed => "failed",
        }
    }

    /// `done`: nobody is left to try.
    pub(super) fn of(done: bool, recipients: &[MailRecipient]) -> Self {
        let any = |state| recipients.iter().any(|recipient| recipient.state == state);
        match (done, any(RecipientState::Refused), any(RecipientState::Sent)) {
            (false, ..) => Self::Waiting,
            (true, false, _) => Self::Sent,
            (true, true, true) => Self::Partly,
            (true, true, false) => Self::Failed,
        }
    }
}

/// A recipient of a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MailRecipient {
    /// Its address.
    pub address: String,
    /// How far the mail has got with it.
    pub state: RecipientState,
    /// Tries that were refused for now.
    pub tries: i32,
    /// When the mail server accepted it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
    /// When the mail server refused it for good.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub refused_at: Option<Timestamp>,
    /// What the mail server said when it refused it; none once it was sent.
    pub last_error: Option<String>,
}

/// A recipient as it is stored.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = mail_recipient)]
pub(super) struct RecipientRow {
    mail_seq: i64,
    address: String,
    tries: i32,
    sent_us: Option<Timestamp>,
    refused_us: Option<Timestamp>,
    last_error: Option<String>,
}

impl RecipientRow {
    fn is_waiting(&self) -> bool {
        self.sent_us.is_none() && self.refused_us.is_none()
    }
}

#[derive(Insertable)]
#[diesel(table_name = mail_recipient, treat_none_as_default_value = false)]
struct NewRecipient<'a> {
    mail_seq: i64,
    address: &'a str,
    position: i32,
}

/// Stores whom mail number `seq` goes to; an address that is named twice gets it once.
pub(super) fn insert(conn: &mut Conn, seq: i64, addresses: &[String]) -> QueryResult<()> {
    let mut rows: Vec<NewRecipient<'_>> = Vec::with_capacity(addresses.len());
    for (address, position) in addresses.iter().zip(0..) {
        let address = address.as_str();
        if !rows.iter().any(|row| row.address == address) {
            rows.push(NewRecipient { mail_seq: seq, address, position });
        }
    }
    on!(conn, c => diesel::insert_into(mail_recipient::table)
        .values(rows.as_slice())
        .on_conflict_do_nothing()
        .execute(c))?;
    Ok(())
}

/// Who is still to get mail number `seq`, which was written to `addresses`.
pub(super) fn left(conn: &mut Conn, seq: i64, addresses: &[String]) -> QueryResult<Vec<String>> {
    let mut rows = of_mail(conn, seq)?;
    if rows.is_empty() {
        // The last release wrote it.
        insert(conn, seq, addresses)?;
        rows = of_mail(conn, seq)?;
    }
    Ok(rows.into_iter().filter(RecipientRow::is_waiting).map(|row| row.address).collect())
}

/// Notes what the mail server said, and what that makes of the mail.
pub(super) fn note(
    conn: &mut Conn,
    seq: i64,
    verdicts: &Verdicts,
    now: Timestamp,
) -> QueryResult<Noted> {
    for (address, verdict) in verdicts {
        note_one(conn, seq, address, verdict, now)?;
    }
    let rows = of_mail(conn, seq)?;
    let refused = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Refused(_)));
    let progress = if rows.iter().any(RecipientRow::is_waiting) {
        Progress::Left
    } else if rows.iter().all(|row| row.refused_us.is_some()) {
        Progress::Refused
    } else {
        Progress::Sent
    };
    Ok(Noted { progress, refused: refused.count(), error: errors(&rows) })
}

fn note_one(
    conn: &mut Conn,
    seq: i64,
    address: &str,
    verdict: &Verdict,
    now: Timestamp,
) -> QueryResult<usize> {
    let row = mail_recipient::table
        .find((seq, address))
        .filter(mail_recipient::sent_us.is_null())
        .filter(mail_recipient::refused_us.is_null());
    on!(conn, c => match verdict {
        Verdict::Taken => diesel::update(row)
            .set((
                mail_recipient::sent_us.eq(Some(now)),
                mail_recipient::last_error.eq(None::<String>),
            ))
            .execute(c),
        Verdict::Later(error) => diesel::update(row)
            .set((
                mail_recipient::tries.eq(mail_recipient::tries + 1),
                mail_recipient::last_error.eq(Some(one_line(error, ERROR_CHARS))),
            ))
            .execute(c),
        Verdict::Refused(error) => diesel::update(row)
            .set((
                mail_recipient::refused_us.eq(Some(now)),
                mail_recipient::last_error.eq(Some(one_line(error, ERROR_CHARS))),
            ))
            .execute(c),
    })
}

/// Who has not got it, and why; none: nobody was refused.
fn errors(rows: &[RecipientRow]) -> Option<String> {
    let of = |row: &RecipientRow| Some(format!("{}: {}", row.address, row.last_error.as_ref()?));
    let errors: Vec<String> = rows.iter().filter_map(of).collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

fn of_mail(conn: &mut Conn, seq: i64) -> QueryResult<Vec<RecipientRow>> {
    Ok(of_mails(conn, &[seq])?.remove(&seq).unwrap_or_default())
}

/// The stored recipients of several mails, by the mail's number, in the order of its header.
pub(super) fn of_mails(
    conn: &mut Conn,
    seqs: &[i64],
) -> QueryResult<HashMap<i64, Vec<RecipientRow>>> {
    let rows: Vec<RecipientRow> = on!(conn, c => mail_recipient::table
        .filter(mail_recipient::mail_seq.eq_any(seqs))
        .order((mail_recipient::mail_seq, mail_recipient::position))
        .select(RecipientRow::as_select())
        .load(c))?;
    let mut by_mail: HashMap<i64, Vec<RecipientRow>> = HashMap::new();
    for row in rows {
        by_mail.entry(row.mail_seq).or_default().push(row);
    }
    Ok(by_mail)
}

/// Recipients as operators see them: of a mail written to `addresses` that was done with at `done`.
///
/// The last release knows a mail as sent or not, and stores no recipients.
pub(super) fn shown(
    rows: Vec<RecipientRow>,
    addresses: &[String],
    done: Option<Timestamp>,
) -> Vec<MailRecipient> {
    if rows.is_empty() {
        return addresses.iter().map(|address| as_a_whole(address, done)).collect();
    }
    rows.into_iter().map(|row| one_shown(row, done)).collect()
}

fn as_a_whole(address: &str, done: Option<Timestamp>) -> MailRecipient {
    MailRecipient {
        address: address.to_owned(),
        state: if done.is_some() { RecipientState::Sent } else { RecipientState::Waiting },
        tries: 0,
        sent_at: done,
        refused_at: None,
        last_error: None,
    }
}

fn one_shown(row: RecipientRow, done: Option<Timestamp>) -> MailRecipient {
    let sent_at = row.sent_us.or(done.filter(|_| row.refused_us.is_none()));
    let state = match (row.refused_us, sent_at) {
        (Some(_), _) => RecipientState::Refused,
        (None, Some(_)) => RecipientState::Sent,
        (None, None) => RecipientState::Waiting,
    };
    MailRecipient {
        address: row.address,
        state,
        tries: row.tries,
        sent_at,
        refused_at: row.refused_us,
        last_error: row.last_error,
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn only_what_is_about_the_mailbox_is_final() {
        for refused in [510, 521, 550, 551, 553, 554, 556] {
            assert!(Verdict::is_final(refused), "{refused}");
        }
        for later in [421, 450, 451, 452, 500, 503, 530, 535, 552] {
            assert!(!Verdict::is_final(later), "{later}");
        }
    }
}
