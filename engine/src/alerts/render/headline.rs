//! What a mail's subject says: which changes have not arrived, or what is over, in a line.

use common::text::visible;

use super::{Item, is_snapshot, not_arrived, noun};
use crate::alerts::groups::{self, Group};
use crate::alerts::model::AlertKind;
use crate::alerts::outgoing::Gathered;
use crate::alerts::text::one_line;

/// Characters of a subject, after the service's name.
const HEADLINE_CHARS: usize = 180;
/// Keys that a subject names.
const HEADLINE_KEYS: usize = 3;
/// Characters of a key in a subject.
const HEADLINE_KEY_CHARS: usize = 40;

/// What has not arrived, or hinders it.
pub(super) fn raised(gathered: &Gathered) -> String {
    let of = |kind: AlertKind| OfKind::new(gathered, kind);
    let (exhausted, silent) = (of(AlertKind::Exhausted), of(AlertKind::Silent));
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
        AlertKind::NotAnswered,
    ]
    .into_iter()
    .flat_map(|kind| of(kind).listed)
    .collect();
    let all = gathered.listed.len() + groups::alerts(&gathered.counted);
    let others = all - exhausted.number() - silent.number() - above.number() - hindered.len();
    let mut parts = Vec::new();
    if exhausted.number() > 0 {
        let what = not_arrived(exhausted.number(), exhausted.are_snapshots());
        parts.push(format!("{what}{}", exhausted.keys()));
    }
    match (silent.listed.as_slice(), silent.number()) {
        (_, 0) => {}
        ([one], 1) => parts.push(one.subject.clone()),
        (_, many) => parts.push(format!("{many} silences")),
    }
    if above.number() > 0 {
        parts.push(format!("the copy is ahead of its source{}", above.keys()));
    }
    parts.extend(hindered.iter().map(|item| item.subject.clone()));
    match others {
        0 => {}
        1 => parts.push("another alert".to_owned()),
        n => parts.push(format!("{n} other alerts")),
    }
    one_line(&parts.join("; "), HEADLINE_CHARS)
}

/// What is over.
pub(super) fn over(gathered: &Gathered) -> String {
    let (items, counted) = (&gathered.listed, groups::alerts(&gathered.counted));
    let with_key: Vec<&Item> = items.iter().filter(|item| item.event_id.is_some()).collect();
    let about = match items.as_slice() {
        _ if !with_key.is_empty() => keys(&with_key, counted > 0),
        [one] if counted == 0 => format!(" ({})", one.subject),
        _ => String::new(),
    };
    let over = match items.len() + counted {
        1 => "1 alert is over".to_owned(),
        n => format!("{n} alerts are over"),
    };
    one_line(&format!("{over}{about}"), HEADLINE_CHARS)
}

/// Alerts of one kind in a message.
struct OfKind<'a> {
    listed: Vec<&'a Item>,
    counted: Vec<&'a Group>,
}

impl<'a> OfKind<'a> {
    fn new(gathered: &'a Gathered, kind: AlertKind) -> Self {
        Self {
            listed: gathered.listed.iter().filter(|item| item.kind == kind.name()).collect(),
            counted: gathered.counted.iter().filter(|group| group.is(kind)).collect(),
        }
    }

    fn number(&self) -> usize {
        self.listed.len() + groups::alerts(self.counted.iter().copied())
    }

    fn are_snapshots(&self) -> bool {
        self.listed.iter().all(|item| is_snapshot(item))
            && self.counted.iter().all(|group| group.snapshots == group.alerts)
    }

    /// The keys of those that are listed.
    fn keys(&self) -> String {
        keys(&self.listed, !self.counted.is_empty())
    }
}

/// The first few keys, each once, with what they are where that changes: ` (SKU A, B, order 7, …)`. Nothing where none
/// is known; `more`: there are others.
fn keys(items: &[&Item], more: bool) -> String {
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
    if named.is_empty() {
        return String::new();
    }
    let more = more || named.len() > HEADLINE_KEYS;
    let mut before = "";
    let mut parts: Vec<String> = Vec::new();
    for (noun, key) in named.into_iter().take(HEADLINE_KEYS) {
        parts.push(if noun == before { key } else { format!("{noun} {key}") });
        before = noun;
    }
    if more {
        parts.push("…".to_owned());
    }
    format!(" ({})", parts.join(", "))
}
