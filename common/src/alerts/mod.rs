//! Alerts, and the mails that bring them to a person.
//!
//! An alert is a row of the transaction that it tells of ([`raise`]). [`Digest`] gathers open alerts into a mail:
//! recipients, alerts, text and Message-ID are fixed in one transaction. [`Mailer`] sends mails until they have
//! left. So an alert gets into one mail, each mail leaves at least once, and a mail that came twice is
//! recognisable by its Message-ID.

mod closing;
mod digest;
mod listing;
mod mail;
mod mailer;
mod message;
mod model;
mod render;
mod transport;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::Notify;

pub(crate) use closing::any_open;
pub use closing::{close, close_kind, open_keys, superseded_by};
pub use digest::{Digest, DigestOutcome};
pub use listing::{Alert, AlertFilter, AlertMail, list};
pub use mailer::{Mailer, MailerOutcome};
pub use model::{AlertKind, NewAlert, Silence, raise, raise_all};
pub use transport::MemoryMails;

use crate::config::{AlertSettings, MailSettings, MailTransport};
use crate::db::Db;
use crate::env::Env;
use crate::retry::Backoff;

/// The way from alerts to people; cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    digest: Digest,
    mailer: Mailer,
    woken: Arc<Notify>,
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertsOutcome {
    /// Gathering.
    pub digest: DigestOutcome,
    /// Sending.
    pub mailer: MailerOutcome,
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
    ) -> anyhow::Result<Self> {
        let from = message::address(&mail.from).context("mail.from is wrong")?;
        let transport = transport::Transport::open(mail)?;
        if mail.transport == MailTransport::Off && !alerts.recipients.is_empty() {
            tracing::warn!(
                "mail.transport is off: mails to alerts.recipients wait in the database"
            );
        }
        let digest = Digest::new(digest::Rules {
            place: render::Place {
                service: service.to_owned(),
                public_url: public_url.trim_end_matches('/').to_owned(),
            },
            recipients: recipients(&alerts.recipients)?,
            host: message_id_host(from.email.domain()),
            delay: alerts.digest_delay,
            size: alerts.digest_size,
        });
        let mailer = Mailer {
            transport,
            from,
            timeout: mail.timeout,
            backoff: Backoff { base: mail.retry_base, max: mail.retry_max },
        };
        Ok(Self { digest, mailer, woken: Arc::new(Notify::new()) })
    }

    /// Writes the mails that are due, then sends the mails that are due.
    ///
    /// # Errors
    /// When the database fails; the next step does what this one left.
    pub async fn run_once(&self, db: &Db, env: &Env) -> anyhow::Result<AlertsOutcome> {
        Ok(AlertsOutcome {
            digest: self.digest.run_once(db, env).await?,
            mailer: self.mailer.run_once(db, env).await?,
        })
    }

    /// The step from alerts to mails.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The step from written mails to sent ones.
    pub fn mailer(&self) -> &Mailer {
        &self.mailer
    }

    /// The mails that "left", when `mail.transport` is `memory`.
    pub fn memory(&self) -> Option<MemoryMails> {
        match &self.mailer.transport {
            transport::Transport::Memory(mails) => Some(mails.clone()),
            _ => None,
        }
    }

    /// Tells the timer that an alert was committed, so that nobody waits for its next turn.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// What [`Alerts::wake`] notifies.
    pub fn notify(&self) -> &Arc<Notify> {
        &self.woken
    }
}

/// The checked addresses as a JSON array; none: nobody.
fn recipients(addresses: &[String]) -> anyhow::Result<Option<String>> {
    for text in addresses {
        message::address(text).context("alerts.recipients is wrong")?;
    }
    match addresses {
        [] => Ok(None),
        some => Ok(Some(serde_json::to_string(some)?)),
    }
}

/// A Message-ID is ASCII: an international domain is not put into it.
fn message_id_host(domain: &str) -> String {
    match domain.is_ascii() {
        true => domain.to_owned(),
        false => "stockloop.invalid".to_owned(),
    }
}
