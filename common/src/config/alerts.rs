//! Whom to tell what is wrong, and how messages leave.

use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

use super::secrets::redacted;

/// Whom to tell, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSettings {
    /// Mail addresses; none: alerts are shown, and mailed to nobody. In the environment: separated by commas.
    #[serde(deserialize_with = "list_or_text")]
    pub recipients: Vec<String>,
    /// How long a digest waits for further alerts.
    #[serde(with = "crate::duration")]
    pub digest_delay: Duration,
    /// Alerts that one mail or call lists at the most; it counts the others.
    pub digest_size: usize,
    /// Whether it is also told that an alert is over, where it was told that there is one.
    pub tell_when_over: bool,
    /// When alerts are gathered and messages are sent, as cron with seconds; a new alert wakes it without it.
    pub cron: String,
    /// How long closed alerts, messages that left and silences that are over are kept.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
}

/// How mail leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// `smtp`, `file` (into `directory`), `memory` (for tests) or `off`.
    pub transport: MailTransport,
    /// The sender.
    pub from: String,
    /// The SMTP server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `none`, `starttls` or `tls`.
    pub tls: MailTls,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// The user, if the server asks for one.
    pub username: String,
    /// The user's password.
    #[serde(serialize_with = "redacted")]
    pub password: SecretString,
    /// How long one try may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// The first pause before another try; it doubles each time.
    #[serde(with = "crate::duration")]
    pub retry_base: Duration,
    /// The longest pause between tries.
    #[serde(with = "crate::duration")]
    pub retry_max: Duration,
    /// Where `transport = "file"` puts its mails.
    pub directory: String,
}

/// Ways that mail can leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTransport {
    /// To an SMTP server.
    Smtp,
    /// Into files of a directory, for development.
    File,
    /// Into memory, for tests.
    Memory,
    /// Nowhere: mails wait in the database.
    Off,
}

/// How the connection to the SMTP server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// Not at all: for loopback.
    None,
    /// Plain at first, then upgraded; refused if the server can't.
    Starttls,
    /// From the first byte.
    Tls,
}

/// A webhook that is called with alerts, after the Standard Webhooks specification.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where it listens: `https://` (or `http://` within one's own network); empty: nobody is called.
    pub url: String,
    /// What calls are signed with: `whsec_` and 24 to 64 bytes in base64; needed with `url`.
    #[serde(serialize_with = "redacted")]
    pub secret: SecretString,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// How long one try may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// The first pause before another try; it doubles each time.
    #[serde(with = "crate::duration")]
    pub retry_base: Duration,
    /// The longest pause between tries.
    #[serde(with = "crate::duration")]
    pub retry_max: Duration,
}

pub(super) fn list_or_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        Text(String),
    }
    let trimmed = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect();
    let parts: Vec<String> = match Either::deserialize(deserializer)? {
        Either::List(list) => list,
        Either::Text(text) => trimmed(&text),
    };
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect())
}
