//! From a mail's row to its bytes (RFC 5322): the same row gives the same bytes, try after try.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use common::clock::Timestamp;
use lettre::Message;
use lettre::address::{Address, Envelope};
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, MultiPartKind, SinglePart};

use super::mail::MailRow;
use super::text::one_line;

/// Characters of a subject, as a last resort: the writer of the row has cut it already.
const SUBJECT_CHARS: usize = 400;

/// `Auto-Submitted: auto-generated` (RFC 3834): no out-of-office replies, please.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_value: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Builds the message of `row`.
///
/// # Errors
/// When the row holds recipients that are not addresses.
pub(super) fn build(from: &Mailbox, row: &MailRow) -> anyhow::Result<Message> {
    let mut message = Message::builder()
        .from(from.clone())
        .subject(one_line(&row.subject, SUBJECT_CHARS))
        .message_id(Some(row.message_id.clone()))
        .date(UNIX_EPOCH + since_epoch(row.created_us))
        .header(AutoSubmitted);
    for recipient in recipients(&row.recipients)? {
        message = message.to(recipient);
    }
    message.multipart(body(row)).context("the mail can't be built")
}

/// Whom a mail is handed over for, which may be fewer than its header names.
///
/// # Errors
/// When there is nobody, or something that is not an address.
pub(super) fn envelope(from: &Mailbox, to: &[String]) -> anyhow::Result<Envelope> {
    let email = |text: &String| address(text).map(|mailbox| mailbox.email);
    let to: Vec<Address> = to.iter().map(email).collect::<anyhow::Result<_>>()?;
    Envelope::new(Some(from.email.clone()), to).context("the mail has no recipient left")
}

fn body(row: &MailRow) -> MultiPart {
    // lettre's own boundary is new with every try.
    let unique: String = row.message_id.chars().filter(char::is_ascii_hexdigit).take(32).collect();
    MultiPart::builder()
        .kind(MultiPartKind::Alternative)
        .boundary(format!("stockloop-{unique}"))
        .singlepart(SinglePart::plain(row.text.clone()))
        .singlepart(SinglePart::html(row.html.clone()))
}

fn recipients(json: &str) -> anyhow::Result<Vec<Mailbox>> {
    let addresses: Vec<String> =
        serde_json::from_str(json).context("the mail's recipients are not a JSON array")?;
    addresses.iter().map(|text| address(text)).collect()
}

/// Reads `ops@example.org` or `Operations <ops@example.org>`.
///
/// # Errors
/// When it is neither.
pub(super) fn address(text: &str) -> anyhow::Result<Mailbox> {
    text.trim().parse().with_context(|| format!("{text:?} is not a mail address"))
}

fn since_epoch(moment: Timestamp) -> Duration {
    moment.since(Timestamp::default())
}
