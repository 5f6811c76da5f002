//! Sends stored messages, for as long as it takes: outside any transaction, one try per claim.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use common::clock::Timestamp;
use common::db::{Conn, Db, DbError};
use common::env::Env;
use common::retry::Backoff;
use diesel::QueryResult;

use super::outgoing::{self, Claim, DeliveryChannel, Noted, Progress};
use super::text::one_line;

/// At most this many messages in one step.
const PER_RUN: usize = 100;
/// How much longer than a try a claim lasts: for noting its end, and for clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);
/// Characters of an error that are kept.
const ERROR_CHARS: usize = 1_000;

/// The step from written messages to sent ones.
#[derive(Debug)]
pub(super) struct Sender<W> {
    pub(super) delivery: Arc<W>,
    /// How long one try may take.
    pub(super) timeout: Duration,
    /// The pauses between tries.
    pub(super) backoff: Backoff,
}

impl<W> Clone for Sender<W> {
    fn clone(&self) -> Self {
        Self { delivery: Arc::clone(&self.delivery), ..*self }
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderOutcome {
    /// Messages that left.
    pub sent: usize,
    /// Tries that failed, or that somebody has to be tried again after.
    pub failed: usize,
    /// Recipients that refused a message for good.
    pub refused: usize,
    /// Messages that have not left, including those of `failed`.
    pub waiting: i64,
}

impl<W: DeliveryChannel> Sender<W> {
    /// Tries the messages that are due; none is ever given up while it has a recipient that did not refuse it for
    /// good.
    ///
    /// A failure ends the step: where one message can't leave, the others would most likely wait for the same
    /// timeout, and they come first in the next step. A message whose sending was not noted, since this instance or
    /// its database died in between, is sent again under the same id and with the same content, to those of whom
    /// nothing was noted.
    ///
    /// # Errors
    /// When the database fails. A receiver that fails is no error but counted, logged and kept with the message.
    pub(super) async fn run_once(&self, db: &Db, env: &Env) -> anyhow::Result<SenderOutcome> {
        let mut outcome = SenderOutcome::default();
        if self.delivery.can_send() {
            for _ in 0..PER_RUN {
                let Some((claim, message)) = self.claim(db, env).await? else {
                    break;
                };
                let noted = self.try_once(db, env, claim, &message).await?;
                outcome.count(noted.as_ref());
                if noted.is_none() {
                    break;
                }
            }
        }
        let waiting =
            db.read::<_, DbError>(|conn| Ok(outgoing::count_waiting(conn, W::CHANNEL)?)).await;
        outcome.waiting = waiting.context("waiting messages can't be counted")?;
        Ok(outcome)
    }

    pub(super) async fn claim(
        &self,
        db: &Db,
        env: &Env,
    ) -> anyhow::Result<Option<(Claim, W::Message)>> {
        let (now, hold) = (env.now(), self.timeout.saturating_add(MARGIN));
        let latest = now.latest(hold.max(self.backoff.max));
        db.write::<_, DbError>(move |conn| {
            match outgoing::claim(conn, W::CHANNEL, now, latest, hold)? {
                Some(claim) => Ok(Some((claim, W::find(conn, claim.seq)?))),
                None => Ok(None),
            }
        })
        .await
        .context("a message that is due can't be claimed")
    }

    /// What the try has made of the message; none: nothing, since it failed for all recipients.
    async fn try_once(
        &self,
        db: &Db,
        env: &Env,
        claim: Claim,
        message: &W::Message,
    ) -> anyhow::Result<Option<Noted>> {
        let id = W::id(message);
        match self.send(message, env).await {
            Ok(receipt) => self.note(db, env, claim, id, receipt).await.map(Some),
            Err(error) => {
                self.note_failed(db, env, claim, id, &error).await?;
                Ok(None)
            }
        }
    }

    pub(super) async fn send(&self, message: &W::Message, env: &Env) -> anyhow::Result<W::Receipt> {
        // A channel's own timeouts are per step; a receiver that dribbles must not outlast the claim.
        match tokio::time::timeout(self.timeout, self.delivery.send(message, env.now())).await {
            Ok(sent) => sent,
            Err(_late) => Err(anyhow!("no result within {:?}", self.timeout)),
        }
    }

    async fn note(
        &self,
        db: &Db,
        env: &Env,
        claim: Claim,
        id: &str,
        receipt: W::Receipt,
    ) -> anyhow::Result<Noted> {
        let (env, backoff) = (env.clone(), self.backoff);
        let noted = db
            .write::<_, DbError>(move |conn| Ok(note::<W>(conn, &env, claim, &receipt, backoff)?))
            .await
            .context("a sent message can't be marked; it will be sent again")?;
        report::<W>(id, &noted);
        Ok(noted)
    }

    async fn note_failed(
        &self,
        db: &Db,
        env: &Env,
        claim: Claim,
        id: &str,
        error: &anyhow::Error,
    ) -> anyhow::Result<()> {
        let due = next_try(env, claim, self.backoff);
        let error = one_line(&format!("{error:#}"), ERROR_CHARS);
        let (channel, tries) = (W::CHANNEL.name(), claim.tries.saturating_add(1));
        tracing::warn!(id, channel, tries, error, next_try_at = %due, "alerts not sent");
        db.write::<_, DbError>(move |conn| {
            Ok(outgoing::mark_failed(conn, W::CHANNEL, claim.seq, due, &error)?)
        })
        .await
        .context("a failed message can't be marked")?;
        Ok(())
    }
}

impl SenderOutcome {
    /// Counts a try and what it made of its message; none: it failed.
    fn count(&mut self, noted: Option<&Noted>) {
        match noted.map(|noted| noted.progress) {
            Some(Progress::Sent) => self.sent += 1,
            Some(Progress::Refused) => {}
            Some(Progress::Left) | None => self.failed += 1,
        }
        self.refused += noted.map_or(0, |noted| noted.refused);
    }
}

/// When a message is due again after another try that failed.
fn next_try(env: &Env, claim: Claim, backoff: Backoff) -> Timestamp {
    let tries = u32::try_from(claim.tries).unwrap_or(0).saturating_add(1);
    env.now().after(backoff.delay(tries, env.chance()))
}

/// Notes what the receiver said, and with it, in one transaction, whether the message is done.
fn note<W: DeliveryChannel>(
    conn: &mut Conn,
    env: &Env,
    claim: Claim,
    receipt: &W::Receipt,
    backoff: Backoff,
) -> QueryResult<Noted> {
    let now = env.now();
    let mut noted = W::note(conn, claim.seq, receipt, now)?;
    noted.error = noted.error.map(|error| one_line(&error, ERROR_CHARS));
    let error = noted.error.as_deref();
    match noted.progress {
        Progress::Sent | Progress::Refused => {
            outgoing::mark_done(conn, W::CHANNEL, claim.seq, now, error)?;
        }
        Progress::Left => {
            let due = next_try(env, claim, backoff);
            outgoing::mark_failed(conn, W::CHANNEL, claim.seq, due, error.unwrap_or_default())?;
        }
    }
    Ok(noted)
}

fn report<W: DeliveryChannel>(id: &str, noted: &Noted) {
    let (channel, error) = (W::CHANNEL.name(), noted.error.as_deref());
    match (noted.progress, error) {
        (Progress::Sent, None) => tracing::info!(id, channel, "alerts sent"),
        (Progress::Sent, Some(_)) => tracing::warn!(id, channel, error, "alerts sent, not to all"),
        (Progress::Left, _) => tracing::warn!(id, channel, error, "alerts not sent to all yet"),
        (Progress::Refused, _) => tracing::error!(id, channel, error, "alerts refused by all"),
    }
}
