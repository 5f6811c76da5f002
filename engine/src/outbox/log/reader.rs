//! Reads the log while this instance may, and puts what it says where the relay finds it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use common::db::{Conn, Db, DbError, Url};
use common::env::Env;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use pg_walstream::{CancellationToken, PgReplicationConnection, ReplicationError};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::decode::{Decoder, PREFIX, Said};
use super::feed::LogFeed;
use super::slot::Opening;

/// How often a mark is written, and the server told how far the log is dealt with.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// Events after which the relay is woken although their transaction is not at its end.
const WAKE_AFTER: usize = 500;

/// What a frame of the log begins with: its kind, two places and a time.
const FRAME_HEAD: usize = 25;

/// Why the log can't be read.
#[derive(Debug, Error)]
pub enum LogError {
    /// The server's log says too little.
    #[error(
        "wal_level of the PostgreSQL server is {0:?}; set it to logical in postgresql.conf and restart the server, or set outbox.relay = \"table\""
    )]
    WalLevel(String),
    /// The role may not, or something that it needs is not there.
    #[error(
        "{0}; the role needs REPLICATION (ALTER ROLE … REPLICATION) and to own the table outbox_event, and the server a free slot (max_replication_slots)"
    )]
    Refused(String),
    /// The log can't be read on from the slot.
    #[error("{0}")]
    Slot(String),
    /// The connection is not to be had, or broke.
    #[error("{0}")]
    Broken(String),
    /// It is not what was expected of a log.
    #[error("the log is not understood: {0}")]
    Odd(String),
    /// A mark can't be written.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl LogError {
    /// Whether reading on from the same slot would meet the same again.
    fn is_of_the_slot(&self) -> bool {
        matches!(self, Self::Slot(_) | Self::Odd(_))
    }
}

impl From<ReplicationError> for LogError {
    fn from(error: ReplicationError) -> Self {
        use ReplicationError as E;
        let told = error.to_string().trim().replace('\n', " ");
        match error {
            E::ReplicationSlot(_) => Self::Slot(told),
            E::PermanentConnection(_) | E::Authentication(_) => Self::Refused(told),
            E::Protocol(_) | E::Buffer(_) | E::Deserialize(_) => Self::Odd(told),
            _ => Self::Broken(told),
        }
    }
}

/// Reads a service's log.
pub struct LogReader {
    /// The service's database.
    pub db: Db,
    /// Ids.
    pub env: Env,
    /// Where the log is to be had: a session of its own, past any pooler.
    pub url: Url,
    /// The service's name.
    pub service: String,
    /// Bytes of the log that the slot may keep; with more, it is made anew.
    pub most_kept: u64,
    pub(in crate::outbox) feed: LogFeed,
    /// What is notified when there is something to send.
    pub(in crate::outbox) woken: Arc<Notify>,
}

/// One session of reading.
struct Session<'a> {
    reader: &'a LogReader,
    connection: PgReplicationConnection,
    decoder: Decoder,
    /// What its marks are known by.
    name: String,
    /// The furthest place that came.
    received: u64,
    /// Events since the relay was woken.
    unwoken: usize,
}

impl LogReader {
    /// Reads as long as `may` says so, and nothing stops it. `began` is called when the log can be read.
    ///
    /// # Errors
    /// Why it can't be read (any more). The table has everything.
    pub async fn read_while(
        &self,
        may: impl Fn() -> bool,
        stop: &CancellationToken,
        anew: bool,
        began: impl AsyncFnOnce(&str),
    ) -> Result<(), LogError> {
        let connection = self.open(anew).await?;
        began(&connection.1).await;
        let session = Session {
            reader: self,
            connection: connection.0,
            decoder: Decoder::new(),
            name: self.env.event_id().to_string(),
            received: 0,
            unwoken: 0,
        };
        self.feed.attach();
        // However this ends, the relay must not wait for a log that nobody reads.
        let _detached = Detached(self);
        session.run(may, stop).await
    }

    /// Whether `error` would come again from the same slot.
    pub fn needs_another_slot(error: &LogError) -> bool {
        error.is_of_the_slot()
    }

    async fn open(&self, anew: bool) -> Result<(PgReplicationConnection, String), LogError> {
        let (url, service, most) = (self.url.clone(), self.service.clone(), self.most_kept);
        let opened = tokio::task::spawn_blocking(move || {
            let mut opening = Opening::connect(&url, &service)?;
            opening.publish()?;
            opening.take_slot(most, anew)?;
            opening.begin()
        });
        opened.await.unwrap_or_else(|stopped| Err(LogError::Broken(stopped.to_string())))
    }
}

/// Ends the session of its reader when it is dropped.
struct Detached<'a>(&'a LogReader);

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        self.0.feed.detach();
        self.0.woken.notify_one();
    }
}

impl Session<'_> {
    async fn run(
        mut self,
        may: impl Fn() -> bool,
        stop: &CancellationToken,
    ) -> Result<(), LogError> {
        let mut ticks = interval(MARK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let never = CancellationToken::new();
        loop {
            self.wait_for_room(&mut ticks, &may, stop).await?;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {
                    if !may() {
                        break;
                    }
                    self.tick().await?;
                }
                frame = self.connection.get_copy_data_async(&never) => self.take(frame?).await?,
            }
        }
        // What is dealt with need not come again.
        self.tell(false).await
    }

    /// As long as the relay has not taken what there is, nothing more is read; the server is told that this lives.
    async fn wait_for_room(
        &mut self,
        ticks: &mut Interval,
        may: &impl Fn() -> bool,
        stop: &CancellationToken,
    ) -> Result<(), LogError> {
        while self.reader.feed.is_full() && may() && !stop.is_cancelled() {
            self.reader.woken.notify_one();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.reader.feed.freed() => {}
                _ = ticks.tick() => self.tell(false).await?,
            }
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), LogError> {
        self.write_mark().await?;
        self.tell(false).await
    }

    /// Writes the horizon into the log: what older transactions appended comes before it.
    async fn write_mark(&mut self) -> Result<(), LogError> {
        let name = self.name.clone();
        let written = self.reader.db.write::<_, DbError>(move |conn| {
            let Conn::Pg(c) = conn else { return Ok(0) };
            let mark = sql_query(
                "SELECT pg_logical_emit_message(false, $1, \
                   $2 || ' ' || pg_snapshot_xmin(pg_current_snapshot())::text)",
            );
            Ok(mark.bind::<Text, _>(PREFIX).bind::<Text, _>(name).execute(c)?)
        });
        written.await?;
        Ok(())
    }

    /// Tells the server up to where the log is not needed any more.
    async fn tell(&mut self, answer: bool) -> Result<(), LogError> {
        let passed = self.reader.feed.passed();
        if self.received > 0 {
            let received = self.received.max(passed);
            self.connection.send_standby_status_update(received, passed, passed, answer).await?;
        }
        Ok(())
    }

    async fn take(&mut self, mut frame: Bytes) -> Result<(), LogError> {
        match frame.first() {
            Some(b'w') if frame.len() >= FRAME_HEAD => {
                frame.advance(1);
                let (_, end, _) = (frame.get_u64(), frame.get_u64(), frame.get_i64());
                self.received = self.received.max(end);
                self.understand(frame)
            }
            Some(b'k') => {
                let alive = pg_walstream::protocol::parse_keepalive_message(&frame)?;
                self.received = self.received.max(alive.wal_end);
                if alive.reply_requested { self.tell(false).await } else { Ok(()) }
            }
            _ => Err(LogError::Odd("a frame of an unknown kind".to_owned())),
        }
    }

    fn understand(&mut self, message: Bytes) -> Result<(), LogError> {
        match self.decoder.read(message)? {
            Said::Appended(row) => {
                self.reader.feed.push(*row);
                self.unwoken += 1;
                if self.unwoken >= WAKE_AFTER {
                    self.wake();
                }
            }
            Said::Committed if self.unwoken > 0 => self.wake(),
            Said::Marked(session, mark) => {
                self.reader.feed.mark(session == self.name, mark);
                // What is left below it is the table's now.
                self.wake();
            }
            Said::Committed | Said::Nothing => {}
        }
        Ok(())
    }

    fn wake(&mut self) {
        self.unwoken = 0;
        self.reader.woken.notify_one();
    }
}
