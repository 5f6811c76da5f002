//! Sends stored messages, for as long as it takes: outside any transaction, one try per claim.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use common::db::{Db, DbError};
use common::env::Env;
use common::retry::Backoff;

use super::outgoing::{self, Claim, DeliveryChannel};
use super::render::one_line;

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
    /// Tries that failed.
    pub failed: usize,
    /// Messages that have not left, including those of `failed`.
    pub waiting: i64,
}

impl<W: DeliveryChannel> Sender<W> {
    /// Tries the messages that are due; none is ever given up.
    ///
    /// A failure ends the step: where one message can't leave, the others would most likely wait for the same
    /// timeout, and they come first in the next step. A message whose sending was not noted, since this instance or
    /// its database died in between, is sent again under the same id and with the same content.
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
                if !self.try_once(db, env, claim, &message).await? {
                    outcome.failed += 1;
                    break;
                }
                outcome.sent += 1;
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
        db.write::<_, DbError>(move |conn| match outgoing::claim(conn, W::CHANNEL, now, hold)? {
            Some(claim) => Ok(Some((claim, W::find(conn, claim.seq)?))),
            None => Ok(None),
        })
        .await
        .context("a message that is due can't be claimed")
    }

    /// Whether the message left.
    async fn try_once(
        &self,
        db: &Db,
        env: &Env,
        claim: Claim,
        message: &W::Message,
    ) -> anyhow::Result<bool> {
        let sent = self.send(message, env).await;
        match &sent {
            Ok(()) => self.note_sent(db, env, claim, W::id(message)).await?,
            Err(error) => self.note_failed(db, env, claim, W::id(message), error).await?,
        }
        Ok(sent.is_ok())
    }

    pub(super) async fn send(&self, message: &W::Message, env: &Env) -> anyhow::Result<()> {
        // A channel's own timeouts are per step; a receiver that dribbles must not outlast the claim.
        match tokio::time::timeout(self.timeout, self.delivery.send(message, env.now())).await {
            Ok(sent) => sent,
            Err(_late) => Err(anyhow!("no result within {:?}", self.timeout)),
        }
    }

    async fn note_sent(&self, db: &Db, env: &Env, claim: Claim, id: &str) -> anyhow::Result<()> {
        let now = env.now();
        db.write::<_, DbError>(move |conn| {
            Ok(outgoing::mark_sent(conn, W::CHANNEL, claim.seq, now)?)
        })
        .await
        .context("a sent message can't be marked; it will be sent again")?;
        tracing::info!(id, channel = W::CHANNEL.name(), "alerts sent");
        Ok(())
    }

    async fn note_failed(
        &self,
        db: &Db,
        env: &Env,
        claim: Claim,
        id: &str,
        error: &anyhow::Error,
    ) -> anyhow::Result<()> {
        let tries = u32::try_from(claim.tries).unwrap_or(0).saturating_add(1);
        let due = env.now().after(self.backoff.delay(tries, env.chance()));
        let error = one_line(&format!("{error:#}"), ERROR_CHARS);
        let channel = W::CHANNEL.name();
        tracing::warn!(id, channel, tries, error, next_try_at = %due, "alerts not sent");
        db.write::<_, DbError>(move |conn| {
            Ok(outgoing::mark_failed(conn, W::CHANNEL, claim.seq, due, &error)?)
        })
        .await
        .context("a failed message can't be marked")?;
        Ok(())
    }
}
