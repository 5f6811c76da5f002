//! A mail as it arrived, and what can be read from it.

use chrono::{DateTime, SubsecRound, Utc};
use mail_parser::{Message, MessageParser, PartType};

/// What the SMTP conversation left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedMail {
    /// When the last line of it came.
    pub(crate) received_at: DateTime<Utc>,
    /// The envelope's sender.
    pub(crate) from: String,
    /// The envelope's recipients: everyone it would have gone to, blind copies included.
    pub(crate) to: Vec<String>,
    /// The mail's bytes as sent, dots unstuffed.
    pub(crate) raw: Vec<u8>,
}

/// A mail that was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    /// Its number, counted from 1 since the catcher started.
    pub(crate) id: u64,
    /// When it arrived, in UTC, to the microsecond.
    pub(crate) received_at: DateTime<Utc>,
    /// The envelope's sender.
    pub(crate) from: String,
    /// The envelope's recipients: everyone it would have gone to, blind copies included.
    pub(crate) to: Vec<String>,
    /// The decoded subject; empty if there is none.
    pub(crate) subject: String,
    /// The `Message-ID` without its angle brackets.
    pub(crate) message_id: Option<String>,
    /// Name and value of each header, in order, as sent except for line breaks; one that isn't UTF-8 is only in `raw`.
    pub(crate) headers: Vec<(String, String)>,
    /// The text part; where there is only HTML, its text. Lines end in `\n`.
    pub(crate) text: Option<String>,
    /// The HTML part, exactly as the sender wrote it: never put it into a page of ours.
    pub(crate) html: Option<String>,
    /// The mail's bytes as sent.
    pub(crate) raw: Vec<u8>,
}

impl Mail {
    /// Reads a mail's parts. What isn't a proper mail is kept too, with nothing but its raw bytes.
    pub(super) fn read(received: ReceivedMail) -> Self {
        let parsed = MessageParser::default().parse(&received.raw);
        let message = parsed.as_ref();
        Self {
            id: 0,
            received_at: received.received_at.trunc_subsecs(6),
            from: received.from,
            to: received.to,
            subject: message.and_then(Message::subject).unwrap_or_default().to_owned(),
            message_id: message.and_then(Message::message_id).map(str::to_owned),
            headers: message.map(headers).unwrap_or_default(),
            text: message.and_then(text),
            html: message.and_then(html),
            raw: received.raw,
        }
    }

    /// About how many bytes it holds in memory.
    pub(super) fn size(&self) -> usize {
        let to: usize = self.to.iter().map(String::len).sum();
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let parts =
            self.text.as_ref().map_or(0, String::len) + self.html.as_ref().map_or(0, String::len);
        self.raw.len() + parts + headers.sum::<usize>() + to + self.subject.len()
    }
}

fn headers(message: &Message<'_>) -> Vec<(String, String)> {
    let unfolded = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
    message.headers_raw().map(|(name, value)| (name.to_owned(), unfolded(value))).collect()
}

fn text(message: &Message<'_>) -> Option<String> {
    let body = message.body_text(0)?;
    Some(body.replace("\r\n", "\n"))
}

/// Only what was sent as HTML: the parser would also make HTML out of a plain text.
fn html(message: &Message<'_>) -> Option<String> {
    match &message.html_part(0)?.body {
        PartType::Html(html) => Some(html.to_string()),
        _ => None,
    }
}
