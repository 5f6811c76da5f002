//! Gathers open alerts into mails: one transaction fixes recipients, alerts, text and Message-ID of each.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use diesel::QueryResult;
use diesel::prelude::*;

use super::mail::{self, NewMail};
use super::render::{self, Item, Place};
use crate::clock::Timestamp;
use crate::db::{Conn, Db};
use crate::env::Env;
use crate::on;
use crate::schema::{alert, outbox_event};

/// Alerts of one mail at the most, whatever the settings say: a mail has to be readable.
const LARGEST: usize = 1_000;
/// Further alerts are counted up to here, so that a flood of them costs no long count.
const COUNTED: i64 = 1_000;

/// The step from alerts to mails.
#[derive(Clone)]
pub struct Digest {
    rules: Arc<Rules>,
}

/// What a digest is made by.
pub(super) struct Rules {
    /// Where links lead.
    pub(super) place: Place,
    /// Addresses, as a JSON array; none: no mail is written.
    pub(super) recipients: Option<String>,
    /// The right side of Message-IDs.
    pub(super) host: String,
    /// How long the oldest alert waits for others.
    pub(super) delay: Duration,
    /// Alerts of one mail at the most.
    pub(super) size: usize,
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DigestOutcome {
    /// Mails written.
    pub mails: usize,
    /// Alerts in them.
    pub alerts: usize,
    /// How long the oldest alert still waits for others, if that is why there is no mail.
    pub next_in: Option<Duration>,
}

/// Unmailed open alerts at the start of a step.
struct Waiting {
    oldest: Timestamp,
    newest: i64,
}

impl Digest {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules: Arc::new(rules) }
    }

    /// Writes the mails for what waits now, once the oldest alert has waited for the digest's delay.
    ///
    /// More alerts than one mail lists go into further mails of the same step. Several instances may run it at
    /// once: no alert gets into two mails.
    ///
    /// # Errors
    /// When the database fails; what was not committed is done by the next step.
    pub async fn run_once(&self, db: &Db, env: &Env) -> anyhow::Result<DigestOutcome> {
        let mut outcome = DigestOutcome::default();
        if self.rules.recipients.is_none() {
            return Ok(outcome);
        }
        let waiting = db.read::<_, anyhow::Error>(|conn| Ok(waiting(conn)?)).await;
        let Some(waiting) = waiting.context("unmailed alerts can't be read")? else {
            return Ok(outcome);
        };
        let due = waiting.oldest.after(self.rules.delay);
        if env.now() < due {
            outcome.next_in = Some(due.since(env.now()));
            return Ok(outcome);
        }
        loop {
            let taken = self.write_one(db, env, waiting.newest).await?;
            outcome.mails += usize::from(taken > 0);
            outcome.alerts += taken;
            if taken < self.size() {
                return Ok(outcome);
            }
        }
    }

    fn size(&self) -> usize {
        self.rules.size.clamp(1, LARGEST)
    }

    async fn write_one(&self, db: &Db, env: &Env, newest: i64) -> anyhow::Result<usize> {
        let rules = Arc::clone(&self.rules);
        let (now, size) = (env.now(), self.size());
        let message_id = format!("<{}@{}>", env.event_id(), rules.host);
        db.write(move |conn| write_mail(conn, &rules, now, message_id, (newest, size)))
            .await
            .context("a digest can't be written")
    }
}

fn write_mail(
    conn: &mut Conn,
    rules: &Rules,
    now: Timestamp,
    message_id: String,
    (newest, size): (i64, usize),
) -> anyhow::Result<usize> {
    let seqs = lock_unmailed(conn, newest, i64::try_from(size)?)?;
    if seqs.is_empty() {
        return Ok(0);
    }
    let items = load(conn, &seqs)?;
    let mail = render::mail(&rules.place, &items, further(conn, &seqs)?, COUNTED)?;
    let mail_seq = mail::insert(
        conn,
        &NewMail {
            message_id,
            recipients: rules.recipients.clone().unwrap_or_default(),
            subject: mail.subject,
            text: mail.text,
            html: mail.html,
            created_us: now,
            due_us: now,
        },
    )?;
    let taken = assign(conn, &seqs, mail_seq)?;
    ensure!(taken == seqs.len(), "alerts went into another mail meanwhile");
    Ok(taken)
}

fn waiting(conn: &mut Conn) -> QueryResult<Option<Waiting>> {
    let unmailed =
        alert::table.filter(alert::closed_us.is_null()).filter(alert::mail_seq.is_null());
    let oldest = unmailed.order(alert::seq).select(alert::created_us);
    let newest = unmailed.order(alert::seq.desc()).select(alert::seq);
    let oldest: Option<Timestamp> = on!(conn, c => oldest.first(c).optional())?;
    let newest: Option<i64> = on!(conn, c => newest.first(c).optional())?;
    Ok(oldest.zip(newest).map(|(oldest, newest)| Waiting { oldest, newest }))
}

/// The oldest alerts that no mail has, kept from other instances until the transaction ends.
fn lock_unmailed(conn: &mut Conn, newest: i64, size: i64) -> QueryResult<Vec<i64>> {
    let unmailed = alert::table
        .filter(alert::closed_us.is_null())
        .filter(alert::mail_seq.is_null())
        .filter(alert::seq.le(newest))
        .order(alert::seq)
        .limit(size)
        .select(alert::seq);
    match conn {
        // What another instance is putting into its mail, or is closing, is not waited for.
        Conn::Pg(c) => unmailed.for_update().skip_locked().load(c),
        // SQLite has one writing transaction at a time.
        Conn::Sqlite(c) => unmailed.load(c),
    }
}

fn load(conn: &mut Conn, seqs: &[i64]) -> QueryResult<Vec<Item>> {
    let items = alert::table
        .left_join(outbox_event::table.on(alert::event_id.eq(outbox_event::id.nullable())))
        .filter(alert::seq.eq_any(seqs))
        .order(alert::seq)
        .select((
            alert::kind,
            alert::subject,
            alert::event_id,
            alert::event_kind,
            alert::event_type,
            alert::key,
            alert::version,
            alert::attempt,
            alert::error,
            alert::created_us,
            outbox_event::created_us.nullable(),
        ));
    on!(conn, c => items.load(c))
}

/// How many open alerts besides `seqs` have no mail yet, counted up to one more than [`COUNTED`].
fn further(conn: &mut Conn, seqs: &[i64]) -> QueryResult<i64> {
    let others = alert::table
        .filter(alert::closed_us.is_null())
        .filter(alert::mail_seq.is_null())
        .filter(alert::seq.ne_all(seqs))
        .limit(COUNTED + 1)
        .select(alert::seq);
    let found: Vec<i64> = on!(conn, c => others.load(c))?;
    Ok(i64::try_from(found.len()).unwrap_or(i64::MAX))
}

fn assign(conn: &mut Conn, seqs: &[i64], mail_seq: i64) -> QueryResult<usize> {
    let unmailed = alert::table.filter(alert::seq.eq_any(seqs)).filter(alert::mail_seq.is_null());
    on!(conn, c => diesel::update(unmailed).set(alert::mail_seq.eq(mail_seq)).execute(c))
}
