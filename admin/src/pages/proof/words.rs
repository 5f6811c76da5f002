//! What the proof's pages say of verifications, jobs and fillings, in words.

use engine::bootstrap;
use engine::bulk::JobState;
use engine::resync::{ResyncKind, ResyncSelection};
use engine::verify::{Finding, State};

use super::super::context::encoded;
use super::super::show::{grouped, span};
use crate::api::bootstraps::FillingItem;
use crate::api::resyncs::ResyncItem;
use crate::api::verifications::{DifferenceItem, Findings, VerificationItem};

impl VerificationItem {
    /// Its state in words.
    pub(in crate::pages) fn state_name(&self) -> String {
        self.state.name().replace('_', " ")
    }

    /// How its state looks.
    pub(in crate::pages) fn state_class(&self) -> &'static str {
        match self.state {
            State::Equal => "good",
            State::Different => "bad",
            State::Unknown | State::Cancelled => "warn",
            State::Waiting | State::Comparing | State::LookingAgain => "info",
        }
    }

    /// Which keys, in words.
    pub(in crate::pages) fn scope(&self) -> String {
        match &self.keys_of {
            Some(earlier) => format!("the differences of {earlier}"),
            None => "all keys".to_owned(),
        }
    }

    /// Keys that were not left open.
    pub(in crate::pages) fn decided(&self) -> i64 {
        (self.keys - self.waiting).max(0)
    }

    /// Whether a repair of it can be asked for.
    pub(in crate::pages) fn is_repairable(&self) -> bool {
        self.ended_at.is_some() && self.differences > 0
    }
}

impl Findings {
    /// The differences by kind: those that there are.
    pub(in crate::pages) fn kinds(&self) -> Vec<(&'static str, i64)> {
        let all = [
            (Finding::Missing, self.missing),
            (Finding::Unknown, self.unknown),
            (Finding::Older, self.older),
            (Finding::Newer, self.newer),
            (Finding::Content, self.content),
        ];
        let there = all.into_iter().filter(|(_, count)| *count > 0);
        there.map(|(finding, count)| (in_words(finding), count)).collect()
    }
}

impl DifferenceItem {
    /// How it differs, in words.
    pub(in crate::pages) fn told(&self) -> &'static str {
        in_words(self.kind)
    }

    /// What this service has.
    pub(in crate::pages) fn here(&self) -> String {
        version(self.owner_version, self.owner_removed)
    }

    /// What the copy has.
    pub(in crate::pages) fn there(&self) -> String {
        let version = version(self.copy_version, self.copy_removed);
        match self.copy_epoch {
            Some(epoch) if epoch > 1 => format!("{version}, of epoch {epoch}"),
            _ => version,
        }
    }

    /// Where the key's events are listed.
    pub(in crate::pages) fn events(&self) -> String {
        format!("/admin/events?key={}", encoded(&self.key))
    }
}

const fn in_words(finding: Finding) -> &'static str {
    match finding {
        Finding::Moving => "to be looked at again",
        Finding::Waiting => "its event is open",
        Finding::Missing => "missing in the copy",
        Finding::Unknown => "only in the copy",
        Finding::Older => "older in the copy",
        Finding::Newer => "newer in the copy",
        Finding::Content => "same version, other content",
    }
}

fn version(version: Option<i64>, removed: Option<bool>) -> String {
    match (version, removed) {
        (None, _) => "none".to_owned(),
        (Some(version), Some(true)) => format!("{version}, removed"),
        (Some(version), _) => version.to_string(),
    }
}

impl ResyncItem {
    /// What it does, in words.
    pub(in crate::pages) fn verb(&self) -> &'static str {
        match self.kind {
            ResyncKind::Repair => "Repair",
            ResyncKind::Resync => "Resync",
            ResyncKind::Restored => "Restored",
            ResyncKind::Bootstrap => "Filling",
            ResyncKind::Replay => "Replay",
        }
    }

    /// Which keys, in words.
    pub(in crate::pages) fn described(&self) -> String {
        serde_json::from_str(self.selection.get()).map_or_else(|_| String::new(), |s| described(&s))
    }

    /// How its state looks.
    pub(in crate::pages) fn state_class(&self) -> &'static str {
        match self.state {
            JobState::Done => "good",
            JobState::Cancelled => "warn",
            JobState::Waiting | JobState::Running => "info",
        }
    }

    /// What it counts as done, in words.
    pub(in crate::pages) fn counts(&self) -> &'static str {
        match self.kind {
            ResyncKind::Replay => "states",
            _ => "keys",
        }
    }

    /// Where it has got to, in words; `progress.js` says the same.
    pub(in crate::pages) fn place(&self) -> String {
        let key = common::text::visible(self.cursor.as_deref().unwrap_or_default());
        match self.cursor_version {
            Some(version) => format!("{key}, version {version}"),
            None => key.into_owned(),
        }
    }

    /// Why it does not get on, if it is so.
    pub(in crate::pages) fn hindrance(&self) -> String {
        common::text::visible(self.hindered.as_deref().unwrap_or_default()).into_owned()
    }

    /// Keys that it has come to.
    pub(in crate::pages) fn met(&self) -> i64 {
        self.done + self.skipped
    }
}

impl FillingItem {
    /// How its state looks.
    pub(in crate::pages) fn state_class(&self) -> &'static str {
        match self.state {
            bootstrap::State::Done => "good",
            bootstrap::State::Cancelled => "warn",
            _ => "info",
        }
    }

    /// How fast it is, and how long it takes, in words.
    pub(in crate::pages) fn pace(&self) -> String {
        let Some(pace) = self.keys_per_second else { return String::new() };
        let pace = format!("{} per second", grouped(pace.round() as i64));
        match self.seconds_left {
            Some(left) => format!("{pace}, about {} left", span(left)),
            None => pace,
        }
    }
}

fn described(selection: &ResyncSelection) -> String {
    match selection {
        ResyncSelection::Differences(seq) => format!("the differences of verification {seq}"),
        ResyncSelection::Keys(keys) => match keys.as_slice() {
            [key] => common::text::visible(key).into_owned(),
            keys => format!("{} named keys", keys.len()),
        },
        ResyncSelection::Kept(kept) => {
            let which = match (kept.since, kept.keys.as_slice()) {
                (Some(since), _) => format!("since {since}"),
                (None, [key]) => format!("of {}", common::text::visible(key)),
                (None, keys) => format!("of {} named keys", keys.len()),
            };
            let from = kept.from_version.map(|version| format!(" from version {version} on"));
            let to = match (&kept.consumer, &kept.into) {
                (_, Some(topic)) => format!("into the topic {}", common::text::visible(topic)),
                (consumer, None) => {
                    let consumer = consumer.as_deref().unwrap_or_default();
                    format!("for {}", common::text::visible(consumer))
                }
            };
            format!("what is kept {which}{}, {to}", from.unwrap_or_default())
        }
        ResyncSelection::Where(which) => {
            let prefix = which.prefix.as_deref().map(common::text::visible);
            let prefix = prefix.map(|prefix| format!("that begin with {prefix}"));
            let since = which.changed_since.map(|since| format!("changed since {since}"));
            match prefix.into_iter().chain(since).collect::<Vec<_>>() {
                parts if parts.is_empty() => "all keys".to_owned(),
                parts => format!("all keys {}", parts.join(", ")),
            }
        }
    }
}
