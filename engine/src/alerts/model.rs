//! Alerts for operators, raised in the transaction of their cause.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::{EventFacts, EventKind};
use common::ids::EventId;
use common::on;
use common::schema::alert;
use diesel::QueryResult;
use diesel::prelude::*;

/// Values of one statement: below SQLite's limit on bind parameters, and one prepared size for most.
pub(super) const CHUNK: usize = 1_000;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertKind {
    /// An event is out of attempts, or failed for good.
    Exhausted,
    /// Partitions give no answers at all.
    Silent,
    /// The copy holds a newer version than its source has made.
    VersionAboveSource,
    /// Events stay PENDING, for a reason that is none of theirs.
    NotSent,
    /// Events that came in can't be applied, for a reason that is none of theirs.
    NotApplied,
    /// A consumer of this service can't receive.
    NotReceived,
    /// Topics that this service writes to are not as its settings ask, or too small.
    TopicShape,
    /// A copy is not what its owner has.
    Drift,
    /// It can't be found out whether a copy is what its owner has.
    NotVerified,
    /// The service's database is older than what it has answered: it came back from a backup.
    DatabaseBehind,
    /// Commands lost their effect with their receiver's database.
    CommandsLost,
    /// The log of the database can't be read, so events come by the table.
    LogNotRead,
    /// Messages that come in are refused for their signatures.
    NotTrusted,
    /// Whoever waits for answers to a view's messages gets none.
    NotAnswered,
}

impl AlertKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Exhausted,
        Self::Silent,
        Self::VersionAboveSource,
        Self::NotSent,
        Self::NotApplied,
        Self::NotReceived,
        Self::TopicShape,
        Self::Drift,
        Self::NotVerified,
        Self::DatabaseBehind,
        Self::CommandsLost,
        Self::LogNotRead,
        Self::NotTrusted,
        Self::NotAnswered,
    ];

    /// As stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Silent => "silent",
            Self::VersionAboveSource => "version_above_source",
            Self::NotSent => "not_sent",
            Self::NotApplied => "not_applied",
            Self::NotReceived => "not_received",
            Self::TopicShape => "topic_shape",
            Self::Drift => "drift",
            Self::NotVerified => "not_verified",
            Self::DatabaseBehind => "database_behind",
            Self::CommandsLost => "commands_lost",
            Self::LogNotRead => "log_not_read",
            Self::NotTrusted => "not_trusted",
            Self::NotAnswered => "not_answered",
        }
    }

    /// Whether it is a condition that lasts and is met again and again: it has one open alert (per key, if it has one).
    const fn lasts(self) -> bool {
        !matches!(self, Self::Exhausted | Self::Silent)
    }
}

impl std::str::FromStr for AlertKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(
            "use exhausted, silent, version_above_source, not_sent, not_applied, not_received, topic_shape, drift, not_verified, database_behind, commands_lost, log_not_read, not_trusted or not_answered",
        )
    }
}

/// An alert to be raised; made by the functions below, one per kind.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = alert, treat_none_as_default_value = false)]
pub struct NewAlert {
    kind: &'static str,
    subject: String,
    event_id: Option<EventId>,
    event_kind: Option<EventKind>,
    event_type: Option<String>,
    key: Option<String>,
    epoch: Option<i64>,
    version: Option<i64>,
    attempt: Option<i32>,
    error: Option<String>,
    created_us: Timestamp,
}

/// Partitions that give no answers, since one moment: one episode.
#[derive(Debug, Clone)]
pub struct SilentPartitions<'a> {
    /// The outgoing topic.
    pub topic: &'a str,
    /// Its silent partitions.
    pub partitions: &'a [i32],
    /// The service whose answers are missing.
    pub consumer: &'a str,
    /// Since when.
    pub since: Timestamp,
    /// Events of these partitions that wait for an answer; none wait for a consumer that is only watched.
    pub waiting: Option<i64>,
}

impl NewAlert {
    /// `event` gave up at attempt `attempt`, last with `error`.
    pub fn exhausted(event: &EventFacts, attempt: i32, error: &str) -> Self {
        Self {
            attempt: Some(attempt),
            error: Some(error.to_owned()),
            ..Self::about(AlertKind::Exhausted, event, "has not arrived".to_owned())
        }
    }

    /// The copy answered `event` with version `copy_version`, which is above all that its source has made.
    pub fn version_above_source(event: &EventFacts, copy_version: i64) -> Self {
        let subject =
            format!("the copy has version {copy_version}, its source only {}", event.version);
        Self::about(AlertKind::VersionAboveSource, event, subject)
    }

    /// Partitions fell silent.
    pub fn silent(silence: &SilentPartitions<'_>) -> Self {
        let partitions: Vec<String> = silence.partitions.iter().map(i32::to_string).collect();
        let waiting = match silence.waiting {
            Some(events) => format!("{events} events wait"),
            None => "it is only watched, so no event waits".to_owned(),
        };
        let subject = format!(
            "{} has not answered since {} (topic {}, partitions {}; {waiting})",
            silence.consumer,
            super::text::utc(silence.since),
            silence.topic,
            partitions.join(", "),
        );
        Self::bare(AlertKind::Silent, subject)
    }

    /// The same, told apart from others of its kind by `key`.
    #[must_use]
    pub fn about_key(self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self }
    }

    /// `service` can't send its events to `topic`, for the reason `cause`.
    pub fn not_sent(service: &str, topic: &str, cause: &str) -> Self {
        let subject = format!("{service} can't send its events to the topic {topic}");
        Self { error: Some(cause.to_owned()), ..Self::bare(AlertKind::NotSent, subject) }
    }

    /// `service` can't read the log of its database, for the reason `cause`.
    pub fn log_not_read(service: &str, cause: &str) -> Self {
        let subject = format!("{service} can't read its database's log");
        Self { error: Some(cause.to_owned()), ..Self::bare(AlertKind::LogNotRead, subject) }
    }

    /// `service` believes no message of `topic`, for the reason `cause`.
    pub fn not_trusted(service: &str, topic: &str, cause: &str) -> Self {
        let subject = format!("{service} does not believe what comes from the topic {topic}");
        Self { error: Some(cause.to_owned()), ..Self::bare(AlertKind::NotTrusted, subject) }
    }

    /// `service` can't answer the messages of `view`, a view's topic, on `topic`, for the reason `cause`.
    pub fn not_answered(service: &str, view: &str, topic: &str, cause: &str) -> Self {
        let subject =
            format!("{service} can't answer the messages of the topic {view} on the topic {topic}");
        Self { error: Some(cause.to_owned()), ..Self::bare(AlertKind::NotAnswered, subject) }
    }

    /// Events of `service` have waited since `since` for the external relay that is to send them to `topic`.
    pub fn not_sent_by_external(service: &str, topic: &str, since: Timestamp) -> Self {
        let since = super::text::utc(since);
        let cause = format!(
            "the external relay (outbox.relay = \"external\") is down or behind: the oldest event that it has not sent was committed at {since}. Look at the connector's state and its replication slot"
        );
        Self::not_sent(service, topic, &cause)
    }

    /// `service` can't apply what comes in from `topic`, for the reason `cause`.
    pub fn not_applied(service: &str, topic: &str, cause: &str) -> Self {
        let subject = format!("{service} can't apply the events of the topic {topic}");
        Self { error: Some(cause.to_owned()), ..Self::bare(AlertKind::NotApplied, subject) }
    }

    /// `service` can't receive from `topics`, for the reasons `cause`.
    pub fn not_received(service: &str, topics: &str, cause: &str) -> Self {
        let subject = format!("{service} can't receive from {topics}");
        Self { error: Some(cause.to_owned()), ..Self::bare(AlertKind::NotReceived, subject) }
    }

    /// `topics`, which `service` writes to, do not fit, for the reasons `cause`.
    pub fn topic_shape(service: &str, topics: &str, cause: &str) -> Self {
        let subject = format!("{service} writes to topics that do not fit: {topics}");
        Self { error: Some(cause.to_owned()), ..Self::bare(AlertKind::TopicShape, subject) }
    }

    /// `consumer` has another state than `service` of `differences` keys, as the verification `seq` found.
    pub fn drift(service: &str, consumer: &str, differences: i64, seq: i64) -> Self {
        let keys = if differences == 1 { "key differs" } else { "keys differ" };
        let subject = format!(
            "the copy of {consumer} is not what {service} has: {differences} {keys} (verification {seq})"
        );
        Self::bare(AlertKind::Drift, subject)
    }

    /// It can't be found out whether `consumer` has what `service` has, for the reason `cause`.
    pub fn not_verified(service: &str, consumer: &str, cause: &str) -> Self {
        let subject = format!("{service} can't verify the copy of {consumer}");
        Self { error: Some(cause.to_owned()), ..Self::bare(AlertKind::NotVerified, subject) }
    }

    /// The database of `service` has taken nothing since `since`, though `detail` shows that there was more.
    pub fn database_behind(service: &str, since: Option<Timestamp>, detail: &str) -> Self {
        let since =
            since.map(|since| format!(": it has taken nothing since {}", super::text::utc(since)));
        let subject = format!(
            "the database of {service} is behind{}, as if it came back from a backup",
            since.unwrap_or_default()
        );
        Self { error: Some(detail.to_owned()), ..Self::bare(AlertKind::DatabaseBehind, subject) }
    }

    /// The effect of `count` of the commands of `service` was lost with the database of `receiver`.
    pub fn commands_lost(service: &str, receiver: &str, count: &str) -> Self {
        let subject = format!(
            "The effect of {count} of {service} was lost with the database of {receiver}, which came back from a backup"
        );
        Self::bare(AlertKind::CommandsLost, subject)
    }

    fn about(kind: AlertKind, event: &EventFacts, subject: String) -> Self {
        Self {
            event_id: Some(event.id),
            event_kind: Some(event.kind),
            event_type: Some(event.event_type.clone()),
            key: Some(event.key.clone()),
            epoch: Some(event.epoch),
            version: Some(event.version),
            ..Self::bare(kind, subject)
        }
    }

    fn bare(kind: AlertKind, subject: String) -> Self {
        Self {
            kind: kind.name(),
            subject,
            event_id: None,
            event_kind: None,
            event_type: None,
            key: None,
            epoch: None,
            version: None,
            attempt: None,
            error: None,
            created_us: Timestamp::default(),
        }
    }
}

/// Raises `new` in the caller's transaction; false: it was raised before.
///
/// An exhaustion (event and attempt) has one alert, whoever raises it how often; a version above the source has
/// one open alert per key, and what hinders sending, receiving or applying has one, like topics that do not fit; these
/// say what was told last. What hinders receiving a view has its own, with its group as the key, and a topic that is not
/// believed one with its name. An alert about silent partitions is raised each time: its caller knows where an episode
/// begins.
///
/// # Errors
/// When a statement fails; the cause of the alert must then be rolled back with it.
pub fn raise(conn: &mut Conn, now: Timestamp, new: NewAlert) -> QueryResult<bool> {
    raise_all(conn, now, vec![new]).map(|raised| raised > 0)
}

/// As [`raise`], for many at once; returns how many were new.
///
/// # Errors
/// As [`raise`].
pub fn raise_all(conn: &mut Conn, now: Timestamp, new: Vec<NewAlert>) -> QueryResult<usize> {
    let mut rows = Vec::with_capacity(new.len());
    for mut row in new {
        row.created_us = now;
        if !is_told_already(&row, &rows) && !is_open_already(conn, &row)? {
            rows.push(row);
        }
    }
    let mut raised = 0;
    for chunk in rows.chunks(CHUNK) {
        raised += on!(conn, c => diesel::insert_into(alert::table)
            .values(chunk)
            .on_conflict_do_nothing()
            .execute(c))?;
    }
    Ok(raised)
}

/// Whether `earlier` of the same call are about the same lasting condition.
fn is_told_already(new: &NewAlert, earlier: &[NewAlert]) -> bool {
    let same = |row: &NewAlert| row.kind == new.kind && row.key == new.key;
    lasts(new) && earlier.iter().any(same)
}

/// Whether a condition that lasts, and is met again and again, has its open alert; what hinders a whole loop is then told
/// as it is now.
fn is_open_already(conn: &mut Conn, new: &NewAlert) -> QueryResult<bool> {
    if !lasts(new) {
        return Ok(false);
    }
    let open = alert::table.filter(alert::closed_us.is_null()).filter(alert::kind.eq(new.kind));
    let words = (alert::seq, alert::subject, alert::error);
    let told: Option<(i64, String, Option<String>)> = match &new.key {
        Some(key) => {
            let open = open.filter(alert::key.eq(key)).select(words);
            on!(&mut *conn, c => open.first(c).optional())?
        }
        None => {
            let open = open.filter(alert::key.is_null()).select(words);
            on!(&mut *conn, c => open.first(c).optional())?
        }
    };
    let Some((seq, subject, error)) = told else { return Ok(false) };
    let with_a_key = [AlertKind::NotReceived, AlertKind::NotTrusted].map(AlertKind::name);
    let is_of_a_loop = new.key.is_none() || with_a_key.contains(&new.kind);
    if is_of_a_loop && (&subject, &error) != (&new.subject, &new.error) {
        tell_anew(conn, seq, new)?;
    }
    Ok(true)
}

/// The condition lasts, and what it meets or its cause has changed.
fn tell_anew(conn: &mut Conn, seq: i64, new: &NewAlert) -> QueryResult<()> {
    let open = alert::table.filter(alert::seq.eq(seq));
    let words = (alert::subject.eq(new.subject.as_str()), alert::error.eq(new.error.as_deref()));
    on!(conn, c => diesel::update(open).set(words).execute(c))?;
    Ok(())
}

fn lasts(new: &NewAlert) -> bool {
    AlertKind::ALL.into_iter().any(|kind| kind.name() == new.kind && kind.lasts())
}
