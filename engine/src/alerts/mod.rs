//! Alerts, and the mails and calls that bring them to a person.
//!
//! An alert is a row of the transaction that causes it ([`raise`]). A digest gathers open alerts that nobody
//! silenced into a message, which lists some and counts the others: what it says, for whom and under which id is fixed
//! in one transaction. A sender tries messages until they have left. So an alert gets into one message of each channel
//! (and one more when it is over), each message leaves at least once, and one that came twice is recognisable by its id.
//! Mails and the webhook differ only in their `DeliveryChannel`.

mod closing;
mod condition;
mod digest;
mod error;
mod groups;
mod listing;
pub mod mail;
mod message;
mod model;
mod outgoing;
mod over;
mod recipients;
mod render;
mod sender;
pub mod silences;
mod smtp;
mod text;
mod transport;
pub mod webhook;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use common::config::{AlertSettings, MailSettings, WebhookSettings};
use common::db::{Conn, Db};
use common::env::Env;
use tokio::sync::Notify;

use crate::audit::Actor;

pub(crate) use closing::any_open;
pub use closing::{close, close_about, close_kind, is_open, open_error, open_keys, superseded_by};
pub use condition::Condition;
pub use digest::DigestOutcome;
pub use error::AlertError;
pub use listing::{
    Alert, AlertDetail, AlertEvent, AlertFilter, AlertMail, AlertState, AlertWebhook, acknowledge,
    find, list,
};
pub use model::{AlertKind, NewAlert, SilentPartitions, raise, raise_all};
pub use outgoing::{Channel, Delivery, OutgoingOutcome, count_waiting};
pub use recipients::{MailProgress, MailRecipient, RecipientState};
pub use sender::SenderOutcome;
pub(crate) use silences::SILENCED;
pub(crate) use text::utc;
pub use transport::MemoryMails;

use mail::{Mails, QueuedMail};
use outgoing::{MessageIdentity, Outgoing};
use webhook::{QueuedWebhook, Webhooks};

/// Brings alerts to operators; cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    mails: Outgoing<Mails>,
    webhooks: Outgoing<Webhooks>,
    tell_when_over: bool,
    woken: Arc<Notify>,
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertsOutcome {
    /// Mails.
    pub mails: OutgoingOutcome,
    /// Webhook calls.
    pub webhooks: OutgoingOutcome,
}

impl Alerts {
    /// The alerts of `service`, whose links start with `public_url` (such as `http://127.0.0.1:8080`).
    ///
    /// # Errors
    /// Which setting is wrong and why. No server is asked yet: one that is down is no reason not to start.
    pub fn new(
        service: &str,
        public_url: &str,
        alerts: &AlertSettings,
        mail: &MailSettings,
        webhook: &WebhookSettings,
    ) -> anyhow::Result<Self> {
        let place = render::Place {
            service: service.to_owned(),
            public_url: public_url.trim_end_matches('/').to_owned(),
        };
        let mails = Mails::new(place.clone(), alerts, mail)?;
        let webhooks = Webhooks::new(place, webhook)?;
        Ok(Self {
            mails: Outgoing::new(mails, mail::pace(alerts, mail)),
            webhooks: Outgoing::new(webhooks, webhook::pace(alerts, webhook)),
            tell_when_over: alerts.tell_when_over,
            woken: Arc::new(Notify::new()),
        })
    }

    /// Writes the messages that are due, then sends the messages that are due; neither channel waits for
    /// the other's receiver.
    ///
    /// # Errors
    /// When the database fails; the next step does what this one left.
    pub async fn run_once(&self, db: &Db, env: &Env) -> anyhow::Result<AlertsOutcome> {
        over::keep_start(db, env, self.tell_when_over).await?;
        // One after the other: both lock the alerts that they gather, and pass by what is locked.
        let mails = self.mails.digest.run_once(db, env).await?;
        let webhooks = self.webhooks.digest.run_once(db, env).await?;
        let (mailed, called) = tokio::join!(
            self.mails.sender.run_once(db, env),
            self.webhooks.sender.run_once(db, env)
        );
        Ok(AlertsOutcome {
            mails: OutgoingOutcome { digest: mails, sender: mailed? },
            webhooks: OutgoingOutcome { digest: webhooks, sender: called? },
        })
    }

    /// Stores a test mail, to `to` or else to the recipients of digests; `by` is noted in the audit log.
    ///
    /// # Errors
    /// When mails are off or there are no recipients, and for what is not an address.
    pub fn test_mail(
        &self,
        conn: &mut Conn,
        env: &Env,
        to: &[String],
        by: &Actor,
    ) -> Result<QueuedMail, AlertError> {
        let identity = MessageIdentity::now(env);
        let queued = self.mails.delivery.test(conn, identity, to, &by.name)?;
        let detail = serde_json::json!({ "to": to, "message_id": queued.message_id });
        by.note(conn, identity.now, "mail.test", Some(&queued.seq), Some(detail))?;
        Ok(queued)
    }

    /// Stores a test webhook call; `by` is noted in the audit log.
    ///
    /// # Errors
    /// When the webhook is off.
    pub fn test_webhook(
        &self,
        conn: &mut Conn,
        env: &Env,
        by: &Actor,
    ) -> Result<QueuedWebhook, AlertError> {
        let identity = MessageIdentity::now(env);
        let queued = self.webhooks.delivery.test(conn, identity, &by.name)?;
        let detail = serde_json::json!({ "delivery_id": queued.delivery_id });
        by.note(conn, identity.now, "webhook.test", Some(&queued.seq), Some(detail))?;
        Ok(queued)
    }

    /// The mails that "left", when `mail.transport` is `memory`.
    pub fn memory(&self) -> Option<MemoryMails> {
        match &self.mails.delivery.transport {
            transport::Transport::Memory(mails) => Some(mails.clone()),
            _ => None,
        }
    }

    /// Tells the timer that an alert was committed, so that it runs without waiting for its next turn.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// What [`Alerts::wake`] notifies.
    pub fn notify(&self) -> &Arc<Notify> {
        &self.woken
    }
}
