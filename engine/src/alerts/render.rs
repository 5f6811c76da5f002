//! What a mail says: subject, text and HTML of a digest.
//!
//! Keys and errors come from elsewhere, so they are cut and put on one line before they get into any part:
//! no header can be forged with them, and no line of the mail; askama escapes them in the HTML. What is invisible in a
//! key is written out, since two keys that look alike may be two.

use askama::Template;
use chrono::DateTime;
use common::clock::Timestamp;
use common::event::EventKind;
use common::ids::EventId;
use common::text::visible;
use diesel::Queryable;

use super::digest::COUNTED;
use super::model::AlertKind;
use super::outgoing::News;

/// Characters of a subject, after the service's name.
const HEADLINE_CHARS: usize = 180;
/// Keys that a subject names.
const HEADLINE_KEYS: usize = 3;
/// Characters of a key in a subject.
const HEADLINE_KEY_CHARS: usize = 40;
/// Characters of a key or type in a mail.
const NAME_CHARS: usize = 200;
/// Characters of an error in a mail; the API has all of it.
pub(super) const ERROR_CHARS: usize = 1_000;

/// The sender, and the base of its links.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The service's name.
    pub(super) service: String,
    /// The base of links, without a slash at its end.
    pub(super) public_url: String,
}

impl Place {
    /// The page where a person acts on an alert: its event's, or its own where it has none.
    pub(super) fn link(&self, item: &Item) -> String {
        let base = &self.public_url;
        match item.event_id {
            Some(id) => format!("{base}/admin/events/{id}"),
            None => format!("{base}/admin/alerts/{}", item.seq),
        }
    }

    /// The page that lists all alerts.
    pub(super) fn alerts(&self) -> String {
        format!("{}/admin/alerts", self.public_url)
    }

    /// The command that sends an event again, for those who work on a terminal.
    fn retry(&self, event: EventId) -> String {
        format!("stockloop admin retry {event} --url {}", self.public_url)
    }
}

/// An alert as a digest needs it.
#[derive(Debug, Clone, Queryable)]
pub(super) struct Item {
    pub(super) seq: i64,
    pub(super) kind: String,
    pub(super) subject: String,
    pub(super) event_id: Option<EventId>,
    pub(super) event_kind: Option<EventKind>,
    pub(super) event_type: Option<String>,
    pub(super) key: Option<String>,
    pub(super) version: Option<i64>,
    pub(super) attempt: Option<i32>,
    pub(super) error: Option<String>,
    pub(super) raised: Timestamp,
    /// When the event's change was made, if the event is still there.
    pub(super) committed: Option<Timestamp>,
    /// When it was closed; none: it is open.
    pub(super) closed: Option<Timestamp>,
    /// Why it was closed.
    pub(super) closed_because: Option<String>,
}

/// A mail's parts.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

/// Writes the test mail that somebody requested.
pub(super) fn test_mail(place: &Place, by: &str) -> askama::Result<Mail> {
    let service = one_line(&place.service, NAME_CHARS);
    let (by, all) = (one_line(by, NAME_CHARS), place.alerts());
    Ok(Mail {
        subject: format!("[stockloop] {service}: test mail"),
        text: TestText { service: &service, by: &by, all: &all }.render()?,
        html: TestHtml { service: &service, by: &by, all: &all }.render()?,
    })
}

#[derive(Template)]
#[template(path = "alerts/test.txt")]
struct TestText<'a> {
    service: &'a str,
    by: &'a str,
    all: &'a str,
}

#[derive(Template)]
#[template(path = "alerts/test.html")]
struct TestHtml<'a> {
    service: &'a str,
    by: &'a str,
    all: &'a str,
}

/// Writes the mail that tells `news` of `items`; `further` more are to be told, counted up to just above [`COUNTED`].
pub(super) fn mail(
    place: &Place,
    news: News,
    items: &[Item],
    further: i64,
) -> askama::Result<Mail> {
    let (headline, state) = match news {
        News::Raised => (headline(items), "open"),
        News::Over => (over_headline(items), "over"),
    };
    digest(View {
        service: one_line(&place.service, NAME_CHARS),
        headline,
        entries: items.iter().map(|item| Entry::of(place, news, item)).collect(),
        further: further_line(further, state),
        all: place.alerts(),
    })
}

fn digest(view: View) -> askama::Result<Mail> {
    Ok(Mail {
        subject: format!("[stockloop] {}: {}", view.service, view.headline),
        text: TextPart { view: &view }.render()?,
        html: HtmlPart { view: &view }.render()?,
    })
}

#[derive(Template)]
#[template(path = "alerts/digest.txt")]
struct TextPart<'a> {
    view: &'a View,
}

#[derive(Template)]
#[template(path = "alerts/digest.html")]
struct HtmlPart<'a> {
    view: &'a View,
}

struct View {
    service: String,
    headline: String,
    entries: Vec<Entry>,
    further: Option<String>,
    all: String,
}

struct Entry {
    title: String,
    facts: Vec<(&'static str, String)>,
    now: &'static str,
    link: String,
    retry: Option<String>,
}

impl Entry {
    fn of(place: &Place, news: News, item: &Item) -> Self {
        let to_retry = news == News::Raised && item.kind == AlertKind::Exhausted.name();
        Self {
            title: title(item),
            facts: facts(item),
            now: match news {
                News::Raised => what_happens_now(&item.kind),
                News::Over => "it is over; nothing is left to be done about it",
            },
            link: place.link(item),
            retry: item.event_id.filter(|_| to_retry).map(|id| place.retry(id)),
        }
    }
}

fn title(item: &Item) -> String {
    let mut parts = Vec::new();
    if let Some(event_type) = &item.event_type {
        parts.push(one_line(event_type, NAME_CHARS));
    }
    if let Some(key) = &item.key {
        parts.push(format!("{} {}", noun(item), one_line(&visible(key), NAME_CHARS)));
    }
    // Commands have no version of their own.
    if let Some(version) = item.version.filter(|_| is_snapshot(item)) {
        parts.push(format!("version {version}"));
    }
    if parts.is_empty() || item.kind != AlertKind::Exhausted.name() {
        parts.push(one_line(&item.subject, ERROR_CHARS));
    }
    parts.join(", ")
}

fn facts(item: &Item) -> Vec<(&'static str, String)> {
    let facts = [
        ("event", item.event_id.map(|id| id.to_string())),
        ("why", item.error.as_deref().map(reason)),
        ("attempts", item.attempt.map(|attempt| attempt.to_string())),
        ("committed", item.committed.map(utc)),
        ("raised", Some(utc(item.raised))),
        ("closed", item.closed.map(utc)),
        ("because", item.closed_because.as_deref().map(reason)),
    ];
    facts.into_iter().filter_map(|(label, value)| value.map(|value| (label, value))).collect()
}

fn reason(error: &str) -> String {
    let reason = one_line(error, ERROR_CHARS);
    match reason.is_empty() {
        true => "no reason given".to_owned(),
        false => reason,
    }
}

fn what_happens_now(kind: &str) -> &'static str {
    match kind.parse() {
        Ok(AlertKind::Exhausted) => "no further attempts until an operator retries or resolves it",
        Ok(AlertKind::Silent) => {
            "events wait and nothing is lost; check whether the consumer and the broker are running"
        }
        Ok(AlertKind::VersionAboveSource) => {
            "the copy keeps its version and refuses older ones; if the source's database was restored from a \
             backup, run `stockloop restored`"
        }
        Ok(AlertKind::NotSent) => {
            "events wait as PENDING, cost no attempt, and are sent once the cause is gone"
        }
        Ok(AlertKind::NotApplied) => {
            "events wait in the topic, cost no attempt, and are applied once the cause is gone"
        }
        Ok(AlertKind::NotReceived) => {
            "messages wait in the topic, and are received once the cause is gone, as long as the broker keeps them"
        }
        Ok(AlertKind::TopicShape) => {
            "events are sent as well as it goes; set the topics or the settings right, and it closes by itself"
        }
        Ok(AlertKind::Drift) => {
            "the copy stays as it is until `stockloop repair`, which sends those keys again; see which with \
             `stockloop verify --last`"
        }
        Ok(AlertKind::NotVerified) => {
            "the loop goes on; whether the copy is equal is not known until a verification gets to its end"
        }
        Ok(AlertKind::DatabaseBehind) => {
            "the loop goes on, but what was lost stays lost until `stockloop restored`, which mends the copy"
        }
        Ok(AlertKind::CommandsLost) => {
            "the loop goes on; `stockloop admin --order lost-commands` lists them, to be sent again or accepted"
        }
        Ok(AlertKind::LogNotRead) => {
            "events go by the table meanwhile, more slowly, and none is lost; while nobody reads it, the slot keeps the \
             log on the database's disk"
        }
        Ok(AlertKind::NotTrusted) => {
            "nothing of it counts, and what it is about is sent again once the signatures fit; set signing.keys alike in \
             all services, or find out who else writes to the topic"
        }
        // Of a newer release.
        Err(_) => "an operator has to investigate",
    }
}

/// `state`: open or over.
fn further_line(further: i64, state: &str) -> Option<String> {
    match further {
        ..=0 => None,
        1 => Some(format!("1 more alert is {state} and comes in the next mail.")),
        n if n > COUNTED => {
            Some(format!("More than {COUNTED} more alerts are {state} and come in the next mails."))
        }
        n => Some(format!("{n} more alerts are {state} and come in the next mail.")),
    }
}

fn over_headline(items: &[Item]) -> String {
    let with_key: Vec<&Item> = items.iter().filter(|item| item.event_id.is_some()).collect();
    let about = match items {
        _ if !with_key.is_empty() => format!(" ({})", keys(&with_key)),
        [one] => format!(" ({})", one.subject),
        _ => String::new(),
    };
    let over = match items.len() {
        1 => "1 alert is over".to_owned(),
        n => format!("{n} alerts are over"),
    };
    one_line(&format!("{over}{about}"), HEADLINE_CHARS)
}

fn headline(items: &[Item]) -> String {
    let of = |kind: AlertKind| -> Vec<&Item> {
        items.iter().filter(|item| item.kind == kind.name()).collect()
    };
    let exhausted = of(AlertKind::Exhausted);
    let silent = of(AlertKind::Silent);
    let above = of(AlertKind::VersionAboveSource);
    let hindered: Vec<&Item> = [
        AlertKind::NotSent,
        AlertKind::NotApplied,
        AlertKind::NotReceived,
        AlertKind::TopicShape,
        AlertKind::DatabaseBehind,
        AlertKind::CommandsLost,
        AlertKind::LogNotRead,
        AlertKind::NotTrusted,
    ]
    .into_iter()
    .flat_map(of)
    .collect();
    let others = items.len() - exhausted.len() - silent.len() - above.len() - hindered.len();
    let mut parts = Vec::new();
    if !exhausted.is_empty() {
        parts.push(format!("{} ({})", not_arrived(&exhausted), keys(&exhausted)));
    }
    match silent.as_slice() {
        [] => {}
        [one] => parts.push(one.subject.clone()),
        many => parts.push(format!("{} silences", many.len())),
    }
    if !above.is_empty() {
        parts.push(format!("the copy is ahead of its source ({})", keys(&above)));
    }
    parts.extend(hindered.iter().map(|item| item.subject.clone()));
    match others {
        0 => {}
        1 => parts.push("another alert".to_owned()),
        n => parts.push(format!("{n} other alerts")),
    }
    one_line(&parts.join("; "), HEADLINE_CHARS)
}

fn not_arrived(items: &[&Item]) -> String {
    let what = match items.iter().all(|item| is_snapshot(item)) {
        true => "change",
        false => "event",
    };
    match items.len() {
        1 => format!("1 {what} has not arrived"),
        n => format!("{n} {what}s have not arrived"),
    }
}

/// The first few keys, each once, with what they are where that changes: `SKU A, B, order 7, …`.
fn keys(items: &[&Item]) -> String {
    let mut named: Vec<(&str, String)> = Vec::new();
    for item in items {
        let key = visible(item.key.as_deref().unwrap_or("?"));
        let key = one_line(&key, HEADLINE_KEY_CHARS);
        if !named.iter().any(|(_, known)| *known == key) {
            named.push((noun(item), key));
        }
        if named.len() > HEADLINE_KEYS {
            break;
        }
    }
    let more = named.len() > HEADLINE_KEYS;
    let mut before = "";
    let mut parts: Vec<String> = Vec::new();
    for (noun, key) in named.into_iter().take(HEADLINE_KEYS) {
        parts.push(if noun == before { key } else { format!("{noun} {key}") });
        before = noun;
    }
    if more {
        parts.push("…".to_owned());
    }
    parts.join(", ")
}

/// What people call the key of an event.
fn noun(item: &Item) -> &'static str {
    let event_type = item.event_type.as_deref().unwrap_or_default();
    if event_type.starts_with("stockloop.inventory.") {
        "SKU"
    } else if event_type.starts_with("stockloop.order.") {
        "order"
    } else {
        "key"
    }
}

fn is_snapshot(item: &Item) -> bool {
    item.event_kind == Some(EventKind::Snapshot)
}

/// `text` on one line of at most `chars` characters, without what could end, hide or reverse a line.
pub(super) fn one_line(text: &str, chars: usize) -> String {
    let mut line = String::new();
    for c in text.chars().map(|c| if is_harmful(c) { ' ' } else { c }) {
        if c != ' ' || !line.ends_with(' ') {
            line.push(c);
        }
    }
    let line = line.trim();
    match line.char_indices().nth(chars) {
        None => line.to_owned(),
        Some(_) => line.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Controls, line separators, and what changes the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A moment as people read it, to the second: `2010-12-01 08:26:00 UTC`.
pub(super) fn utc(moment: Timestamp) -> String {
    match DateTime::from_timestamp_micros(moment.micros()) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => moment.to_string(),
    }
}
