//! Who sends an event for the first time; every further attempt is the relay's.

use std::time::Duration;

use common::clock::Timestamp;
use common::config::{OutboxSettings, RelayKind};
use common::db::Conn;
use common::ids::EventId;
use diesel::QueryResult;

use super::store::{self, Fresh};
use crate::kafka::Record;

/// How long after a message the commit of its event is waited for, which another program has read in the log before other
/// transactions see it: with synchronous replication, as long as its standby takes.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// How soon it is looked for again.
pub(crate) const UNTIL_SEEN: Duration = Duration::from_millis(50);

/// How far the moment in an event's id may be from now where its commit is not seen yet: transactions take their time, and
/// clocks differ, either way.
const YOUNG: Duration = Duration::from_secs(60);

/// How long the events of `unseen` are waited for. Counted from the last message on: what lay behind others for long was
/// waited for meanwhile.
pub(crate) fn seen_within(unseen: &[Record], now: Timestamp) -> Duration {
    let last = unseen.iter().map(|record| record.timestamp.unwrap_or(now)).max();
    SEEN_WITHIN.saturating_sub(now.since(last.unwrap_or(now)))
}

/// Who sends what was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstAttempts {
    /// The relay.
    Ours,
    /// Another program, which reads the database's log.
    External {
        /// How long an event waits for it before the relay sends it after all; zero: it never does.
        takeover: Duration,
    },
}

impl FirstAttempts {
    /// As the settings say.
    pub fn of(settings: &OutboxSettings) -> Self {
        match settings.relay {
            RelayKind::Table | RelayKind::Log => Self::Ours,
            RelayKind::External => Self::External { takeover: settings.external_takeover },
        }
    }

    /// Whether `id`, which the database does not know, may be that of an event whose commit is not seen yet.
    pub(super) fn may_be_unseen(self, id: EventId, now: Timestamp) -> bool {
        let made = id.made_at();
        self != Self::Ours && now.since(made).max(made.since(now)) < YOUNG
    }

    /// What of the events that were never sent is the relay's to send now.
    pub(super) fn fresh(self, conn: &mut Conn, now: Timestamp) -> QueryResult<Fresh> {
        let Self::External { takeover } = self else { return Ok(Fresh::All) };
        let until = now.before(takeover);
        // Asked first, so that a backlog that is too young is not walked again and again.
        let takes_over =
            !takeover.is_zero() && store::oldest_fresh(conn)?.is_some_and(|oldest| oldest <= until);
        Ok(if takes_over { Fresh::Until(until) } else { Fresh::Nothing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_waits_for_what_is_left() {
        let now = Timestamp::from_micros(1_000_000_000);
        let record = |age: u64| Record {
            topic: "acks".to_owned(),
            timestamp: Some(now.before(Duration::from_secs(age))),
            ..Record::default()
        };
        for (ages, waits) in [(vec![0], 10), (vec![9, 4], 6), (vec![10], 0), (vec![60], 0)] {
            let unseen: Vec<Record> = ages.iter().map(|age| record(*age)).collect();
            assert_eq!(seen_within(&unseen, now), Duration::from_secs(waits), "{ages:?}");
        }
        let ahead = Record { timestamp: Some(now.after(Duration::from_secs(60))), ..record(0) };
        assert_eq!(seen_within(&[ahead], now), SEEN_WITHIN, "no clock makes it longer");
    }
}
