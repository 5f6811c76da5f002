//! Who sends an event for the first time; every further attempt is the relay's.

use std::time::Duration;

use common::clock::Timestamp;
use common::config::{OutboxSettings, RelayKind};
use common::db::Conn;
use common::ids::EventId;
use diesel::QueryResult;

use super::store::{self, Fresh};

/// How long is waited for a commit that another program has read in the log before other transactions see it: with
/// synchronous replication, as long as its standby takes.
pub(crate) const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// How soon it is looked for again.
pub(crate) const UNTIL_SEEN: Duration = Duration::from_millis(50);

/// How far the moment in an event's id may be from now where its commit is not seen yet: transactions take their time, and
/// clocks differ, either way.
const YOUNG: Duration = Duration::from_secs(60);

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
