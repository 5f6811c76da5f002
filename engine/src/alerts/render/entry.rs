//! What a mail says of one alert, or of a group that it counts: what it is about, why, and what happens now.

use common::text::visible;

use super::{ERROR_CHARS, Item, NAME_CHARS, Place, is_snapshot, not_arrived, noun};
use crate::alerts::groups::Group;
use crate::alerts::model::AlertKind;
use crate::alerts::outgoing::News;
use crate::alerts::text::{one_line, utc};

/// An alert, or a group of them, as a mail lists it.
pub(super) struct Entry {
    pub(super) title: String,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) now: &'static str,
    pub(super) link: String,
    pub(super) retry: Option<String>,
}

impl Entry {
    pub(super) fn of(place: &Place, news: News, item: &Item) -> Self {
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

    /// Without a command: a text of others in it could be one, too.
    pub(super) fn of_group(place: &Place, news: News, group: &Group) -> Self {
        Self {
            title: group_title(news, group),
            facts: group_facts(news, group),
            now: match news {
                News::Raised if group.is(AlertKind::Exhausted) => {
                    "no further attempts until an operator retries or resolves them, all at once at the link"
                }
                News::Raised => what_happens_now(&group.kind),
                News::Over => "they are over; nothing is left to be done about them",
            },
            link: place.list(news, group),
            retry: None,
        }
    }
}

fn group_title(news: News, group: &Group) -> String {
    let kind = one_line(&group.kind, NAME_CHARS);
    let alerts = match group.alerts {
        1 => format!("1 alert of the kind {kind}"),
        n => format!("{n} alerts of the kind {kind}"),
    };
    match news {
        News::Raised if group.is(AlertKind::Exhausted) => {
            not_arrived(group.alerts, group.snapshots == group.alerts)
        }
        News::Raised => alerts,
        News::Over => format!("{alerts}: over"),
    }
}

fn group_facts(news: News, group: &Group) -> Vec<(&'static str, String)> {
    let (cause, moment) = match news {
        News::Raised => ("why", "raised"),
        News::Over => ("because", "closed"),
    };
    let oldest = match group.alerts {
        1 => utc(group.oldest),
        _ => format!("{} at first", utc(group.oldest)),
    };
    known([(cause, group.cause.as_deref().map(reason)), (moment, Some(oldest))])
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
    known([
        ("event", item.event_id.map(|id| id.to_string())),
        ("why", item.error.as_deref().map(reason)),
        ("attempts", item.attempt.map(|attempt| attempt.to_string())),
        ("committed", item.committed.map(utc)),
        ("raised", Some(utc(item.raised))),
        ("closed", item.closed.map(utc)),
        ("because", item.closed_because.as_deref().map(reason)),
    ])
}

fn known<const N: usize>(
    facts: [(&'static str, Option<String>); N],
) -> Vec<(&'static str, String)> {
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
        Ok(AlertKind::NotAnswered) => {
            "the copy has these messages, and takes no more of the view while answers wait; those are sent once the cause \
             is gone"
        }
        // Of a newer release.
        Err(_) => "an operator has to investigate",
    }
}
