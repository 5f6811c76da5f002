//! Why something about alerts, silences or messages was refused.

use common::db::DbError;
use thiserror::Error;

/// What can go wrong with alerts and the messages about them.
#[derive(Debug, Error)]
pub enum AlertError {
    /// There is no such alert.
    #[error("there is no alert {0}")]
    UnknownAlert(i64),
    /// Its cause is gone.
    #[error("alert {0} is closed: its cause is gone")]
    Closed(i64),
    /// There is no such silence.
    #[error("there is no silence {0}")]
    UnknownSilence(i64),
    /// A silence that would end before it begins.
    #[error("a silence must end in the future")]
    SilenceEndsInPast,
    /// Longer ones are forgotten.
    #[error("a silence lasts at most 30 days; choose an earlier end")]
    SilenceTooLong,
    /// Each waiting alert is held against each silence, so there is a limit.
    #[error("{0} silences are active already; end some, or silence a kind")]
    TooManySilences(usize),
    /// No mail can leave.
    #[error(
        "mail.transport is off, so no mail can be sent; set mail.transport, mail.host and alerts.recipients"
    )]
    MailOff,
    /// No recipients.
    #[error(
        "alerts.recipients is empty, so alerts are mailed to nobody; set it, or give an address"
    )]
    NoRecipients,
    /// More addresses than one test mail goes to.
    #[error("a test mail goes to at most {0} addresses")]
    TooManyRecipients(usize),
    /// A text that is not an address.
    #[error("{reason}")]
    BadAddress {
        /// Which of the addresses, from 0.
        place: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// No webhook is called.
    #[error("webhook.url is empty, so no call is made; set webhook.url and webhook.secret")]
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
