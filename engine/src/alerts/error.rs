//! Why something about alerts, silences or messages was refused.

use common::db::DbError;
use thiserror::Error;

/// What can go wrong with alerts and the messages that tell of them.
#[derive(Debug, Error)]
pub enum AlertError {
    /// There is no such alert.
    #[error("there is no alert {0}")]
    UnknownAlert(i64),
    /// What it told of is over.
    #[error("alert {0} is closed: what it told of is over")]
    Closed(i64),
    /// There is no such silence.
    #[error("there is no silence {0}")]
    UnknownSilence(i64),
    /// A silence that would end before it begins.
    #[error("a silence has to end later than now")]
    SilenceOver,
    /// Nobody remembers a longer one.
    #[error("a silence lasts for 30 days at the most")]
    SilenceTooLong,
    /// Each waiting alert is held against each silence, so there is a limit.
    #[error("{0} silences hold already; end some, or silence a kind")]
    TooManySilences(usize),
    /// No mail can leave.
    #[error(
        "mail.transport is off, so no mail can leave; set mail.transport, mail.host and alerts.recipients"
    )]
    MailOff,
    /// Nobody to mail to.
    #[error(
        "alerts.recipients is empty, so alerts are mailed to nobody; set it, or say whom to mail to"
    )]
    NoRecipients,
    /// More addresses than one test mail goes to.
    #[error("a test mail goes to {0} addresses at the most")]
    TooManyRecipients(usize),
    /// A text that is no address.
    #[error("{reason}")]
    BadAddress {
        /// Which of the addresses, from 0.
        place: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// No webhook is called.
    #[error("webhook.url is empty, so nobody is called; set webhook.url and webhook.secret")]
    WebhookOff,
    /// A message can't be written, which is a flaw of this program.
    #[error("a message can't be written: {0}")]
    NotWritten(String),
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// No database.
    #[error(transparent)]
    Db(#[from] DbError),
}
