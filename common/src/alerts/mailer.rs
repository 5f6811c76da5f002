//! Sends what is written down, for as long as it takes: outside any transaction, one try per claim.

use std::time::Duration;

use anyhow::{Context, anyhow};
use lettre::message::Mailbox;

use super::mail::{self, MailRow};
use super::message;
use super::render::one_line;
use super::transport::Transport;
use crate::db::{Db, DbError};
use crate::env::Env;
use crate::retry::Backoff;

/// Mails of one step at the most.
const MAILS_PER_RUN: usize = 100;
/// How much longer than a try a claim lasts: for noting its end, and for clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);
/// Characters of an error that are kept.
const ERROR_CHARS: usize = 1_000;

/// The step from written mails to sent ones.
#[derive(Debug, Clone)]
pub struct Mailer {
    pub(super) transport: Transport,
    pub(super) from: Mailbox,
    /// How long one try may take.
    pub(super) timeout: Duration,
    /// The pauses between tries.
    pub(super) backoff: Backoff,
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailerOutcome {
    /// Mails that left.
    pub sent: usize,
    /// Tries that failed.
    pub failed: usize,
    /// Mails that have not left, including those of `failed`.
    pub waiting: i64,
}

impl Mailer {
    /// Tries the mails that are due; none is ever given up.
    ///
    /// A failure ends the step: where one mail can't leave, the others would most likely wait for the same timeout,
    /// and they come first in the next step. A mail whose sending was not noted, since this instance or its
    /// database died in between, is sent again with the same Message-ID and the same bytes.
    ///
    /// # Errors
    /// When the database fails. A server that fails is no error but counted, logged and kept with the mail.
    pub async fn run_once(&self, db: &Db, env: &Env) -> anyhow::Result<MailerOutcome> {
        let mut outcome = MailerOutcome::default();
        if !matches!(self.transport, Transport::Off) {
            for _ in 0..MAILS_PER_RUN {
                let Some(row) = self.claim(db, env).await? else {
                    break;
                };
                if !self.try_once(db, env, &row).await? {
                    outcome.failed += 1;
                    break;
                }
                outcome.sent += 1;
            }
        }
        let waiting = db.read::<_, DbError>(|conn| Ok(mail::count_unsent(conn)?));
        outcome.waiting = waiting.await.context("waiting mails can't be counted")?;
        Ok(outcome)
    }

    pub(super) async fn claim(&self, db: &Db, env: &Env) -> anyhow::Result<Option<MailRow>> {
        let (now, hold) = (env.now(), self.timeout.saturating_add(MARGIN));
        db.write::<_, DbError>(move |conn| Ok(mail::claim(conn, now, hold)?))
            .await
            .context("a mail that is due can't be claimed")
    }

    /// Whether the mail left.
    async fn try_once(&self, db: &Db, env: &Env, row: &MailRow) -> anyhow::Result<bool> {
        let sent = self.send(row).await;
        match &sent {
            Ok(()) => self.note_sent(db, env, row).await?,
            Err(error) => self.note_failed(db, env, row, error).await?,
        }
        Ok(sent.is_ok())
    }

    pub(super) async fn send(&self, row: &MailRow) -> anyhow::Result<()> {
        let message = message::build(&self.from, row)?;
        let bytes = message.formatted();
        let sending = self.transport.send(message.envelope(), &bytes);
        // The transport's own timeout is per command; a server that dribbles must not outlast the claim.
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(sent) => sent,
            Err(_late) => Err(anyhow!("no end within {:?}", self.timeout)),
        }
    }

    async fn note_sent(&self, db: &Db, env: &Env, row: &MailRow) -> anyhow::Result<()> {
        let (seq, now) = (row.seq, env.now());
        db.write::<_, DbError>(move |conn| Ok(mail::mark_sent(conn, seq, now)?))
            .await
            .context("a sent mail can't be marked; it will be sent again")?;
        tracing::info!(message_id = row.message_id, "alert mail sent");
        Ok(())
    }

    async fn note_failed(
        &self,
        db: &Db,
        env: &Env,
        row: &MailRow,
        error: &anyhow::Error,
    ) -> anyhow::Result<()> {
        let tries = u32::try_from(row.tries).unwrap_or(0).saturating_add(1);
        let pause = self.backoff.delay(tries, env.chance());
        let (seq, due) = (row.seq, env.now().after(pause));
        let error = one_line(&format!("{error:#}"), ERROR_CHARS);
        tracing::warn!(message_id = row.message_id, tries, error, next_try_at = %due, "alert mail not sent");
        db.write::<_, DbError>(move |conn| Ok(mail::mark_failed(conn, seq, due, &error)?))
            .await
            .context("a failed mail can't be marked")?;
        Ok(())
    }
}
