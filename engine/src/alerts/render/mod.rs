//! What a mail says: subject, text and HTML of a digest. [`headline`] has the subject, [`entry`] what is said of each alert.
//!
//! Keys and errors come from elsewhere, so they are cut and put on one line before they get into any part:
//! no header can be forged with them, and no line of the mail; askama escapes them in the HTML. What is invisible in a
//! key is written out, since two keys that look alike may be two.

mod entry;
mod headline;

use askama::Template;
use common::clock::Timestamp;
use common::event::EventKind;
use common::http::path_segment;
use common::ids::EventId;
use diesel::Queryable;

use self::entry::Entry;
use super::digest::FURTHER;
use super::groups::{self, Group};
use super::model::AlertKind;
use super::outgoing::{Gathered, News};
use super::text::one_line;

/// Characters of a key or type in a mail.
const NAME_CHARS: usize = 200;
/// Characters of an error in a mail; the API has all of it.
pub(super) const ERROR_CHARS: usize = 1_000;
/// Groups of alerts that a message names, so that its length has an end.
pub(super) const GROUPS: usize = 50;

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

    /// The page that lists what is like the alerts of a group: where a person acts on all events of one cause, or else
    /// the alerts of the kind.
    pub(super) fn list(&self, news: News, group: &Group) -> String {
        let base = &self.public_url;
        match (news, &group.cause) {
            (News::Raised, Some(class)) if group.is(AlertKind::Exhausted) => {
                let class = path_segment(class);
                format!("{base}/admin/events?status=EXHAUSTED&resolved=false&error_class={class}")
            }
            (News::Raised, _) => {
                format!("{base}/admin/alerts?open=true&kind={}", path_segment(&group.kind))
            }
            (News::Over, _) => {
                format!("{base}/admin/alerts?state=closed&kind={}", path_segment(&group.kind))
            }
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

/// Writes the mail that tells what was gathered.
pub(super) fn mail(place: &Place, gathered: &Gathered) -> askama::Result<Mail> {
    let Gathered { news, listed, counted, further } = gathered;
    let (headline, state) = match news {
        News::Raised => (headline::raised(gathered), "open"),
        News::Over => (headline::over(gathered), "over"),
    };
    digest(View {
        service: one_line(&place.service, NAME_CHARS),
        headline,
        entries: listed.iter().map(|item| Entry::of(place, *news, item)).collect(),
        counted: Counted::of(place, *news, counted),
        further: further_line(*further, state),
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
    counted: Option<Counted>,
    further: Option<String>,
    all: String,
}

/// What is told without being listed.
struct Counted {
    line: String,
    groups: Vec<Entry>,
    /// What is in no group that is named.
    others: Option<String>,
}

impl Counted {
    /// None: everything is listed.
    fn of(place: &Place, news: News, groups: &[Group]) -> Option<Self> {
        let (named, others) = groups.split_at(GROUPS.min(groups.len()));
        let line = match groups::alerts(groups) {
            0 => return None,
            1 => "1 more alert is told by this mail:".to_owned(),
            n => format!("{n} more alerts are told by this mail, by kind and cause:"),
        };
        let more = groups::alerts(others);
        Some(Self {
            line,
            groups: named.iter().map(|group| Entry::of_group(place, news, group)).collect(),
            others: match others.len() {
                0 => None,
                1 => Some(format!("… and {more} more, of another cause.")),
                causes => Some(format!("… and {more} more, of {causes} other causes.")),
            },
        })
    }
}

/// `state`: open or over.
fn further_line(further: i64, state: &str) -> Option<String> {
    match further {
        ..=0 => None,
        1 => Some(format!("1 more alert is {state} and comes in the next mail.")),
        n if n > FURTHER => {
            Some(format!("More than {FURTHER} more alerts are {state} and come in the next mails."))
        }
        n => Some(format!("{n} more alerts are {state} and come in the next mail.")),
    }
}

fn not_arrived(events: usize, are_snapshots: bool) -> String {
    let what = if are_snapshots { "change" } else { "event" };
    match events {
        1 => format!("1 {what} has not arrived"),
        n => format!("{n} {what}s have not arrived"),
    }
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
