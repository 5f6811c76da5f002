//! Who sends an event for the first time; every further attempt is the relay's.

use std::time::Duration;

use common::clock::Timestamp;
use common::config::{OutboxSettings, RelayKind};
use common::db::Conn;
use diesel::QueryResult;

use super::store::{self, Fresh};

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
