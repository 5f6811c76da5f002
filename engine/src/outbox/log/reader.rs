//! Reads the log while this instance may, and puts what it says where the relay finds it.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::db::{Conn, Db, DbError, Url};
use common::env::Env;
use common::text::one_line;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};
use pg_walstream::{CancellationToken, PgReplicationConnection, ReplicationError};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::super::store::DueRow;
use super::decode::{Decoder, Frame, PREFIX, Said, is_row};
use super::feed::LogFeed;
use super::marks::Marks;
use super::slot::{IS_PUBLISHED, Opening, PUBLICATION};

/// How often a mark is written, and the server told how far the log is dealt with.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// How long the first one may be before this can't be the log of the service's database.
const FOREIGN_AFTER: Duration = Duration::from_secs(60);

/// Events that are handed to the relay at once, although their transaction is not at its end.
const MOST_ROWS: usize = 500;

/// Bytes of their payloads, likewise.
const MOST_BYTES: usize = 1 << 20;

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
        "{0}; the role needs REPLICATION (ALTER ROLE … REPLICATION), CREATE on the database, and to own the table outbox_event; the server a free slot (max_replication_slots) and sender (max_wal_senders)"
    )]
    Refused(String),
    /// The log can't be read on from the slot.
    #[error("{0}")]
    Slot(String),
    /// The connection is not to be had, or broke.
    #[error("{0}")]
    Broken(String),
    /// What this service writes does not come out of it.
    #[error(
        "for a minute, nothing that this service writes has come out of the log: it is far behind, or outbox.log_url is not the server and the database of database.url"
    )]
    Foreign,
    /// It is not what was expected of a log.
    #[error("the log is not understood: {0}")]
    Odd(String),
}

impl LogError {
    /// Whether reading on from the same slot would meet the same again.
    pub fn needs_another_slot(&self) -> bool {
        matches!(self, Self::Slot(_) | Self::Odd(_))
    }

    /// The same, of connecting to `url`, with nothing of its password.
    pub(super) fn printable_for(self, url: &Url) -> Self {
        match self {
            Self::Slot(told) => Self::Slot(url.printable(&told)),
            Self::Refused(told) => Self::Refused(url.printable(&told)),
            Self::Broken(told) => Self::Broken(url.printable(&told)),
            other => other,
        }
    }
}

impl From<ReplicationError> for LogError {
    fn from(error: ReplicationError) -> Self {
        use ReplicationError as E;
        let told = one_line(&error.to_string());
        // What a connection is refused for comes without a code.
        let lacks = ["replication role", "REPLICATION", "max_wal_senders", "max_replication_slots"];
        match error {
            E::ReplicationSlot(_) => Self::Slot(told),
            E::PermanentConnection(_) => Self::Refused(told),
            _ if lacks.iter().any(|lacking| told.contains(lacking)) => Self::Refused(told),
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
    /// Bytes that the slot may be behind when it is taken up; with more, it is made anew.
    pub most_kept: u64,
    pub(in crate::outbox) feed: LogFeed,
    /// What is notified when there is something to send.
    pub(in crate::outbox) woken: Arc<Notify>,
}

/// A mark that is being written; true: what comes after it comes out of the log, too.
type Writing = JoinHandle<Result<bool, DbError>>;

/// One session of reading.
struct Session<'a> {
    reader: &'a LogReader,
    connection: PgReplicationConnection,
    decoder: Decoder,
    /// What its marks are known by.
    name: String,
    /// The furthest place that came.
    received: u64,
    /// Its marks.
    marks: Marks,
    /// One that is being written, beside what is read.
    writing: Option<Writing>,
    /// When it was begun to read.
    began: Instant,
    /// Events of one transaction that the relay does not have yet.
    rows: Vec<DueRow>,
    /// The bytes of their payloads.
    bytes: usize,
}

impl LogReader {
    /// Reads as long as `may` says so, and nothing stops it. `followed` is called when the first mark has come.
    ///
    /// # Errors
    /// Why it can't be read (any more). The table has everything.
    pub async fn read_while(
        &self,
        may: impl Fn() -> bool,
        stop: &CancellationToken,
        anew: bool,
        followed: impl AsyncFnOnce(&str),
    ) -> Result<(), LogError> {
        // It may take as long as a transaction that writes; what is opened after that is closed again.
        let Some(opened) = stop.run_until_cancelled(self.open(anew)).await else { return Ok(()) };
        let (connection, slot) = opened?;
        let session = Session {
            reader: self,
            connection,
            decoder: Decoder::new(),
            name: self.env.event_id().to_string(),
            received: 0,
            marks: Marks::default(),
            writing: None,
            began: Instant::now(),
            rows: Vec::new(),
            bytes: 0,
        };
        // However this ends, the relay must not wait for a log that nobody reads.
        let _unfollowed = Unfollowed(self);
        let followed = async || followed(&slot).await;
        session.run(may, stop, followed).await
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

/// Leaves everything to the table when it is dropped.
struct Unfollowed<'a>(&'a LogReader);

impl Drop for Unfollowed<'_> {
    fn drop(&mut self) {
        self.0.feed.stop_following();
        self.0.woken.notify_one();
    }
}

impl Session<'_> {
    async fn run(
        mut self,
        may: impl Fn() -> bool,
        stop: &CancellationToken,
        followed: impl AsyncFnOnce(),
    ) -> Result<(), LogError> {
        let mut followed = Some(followed);
        let mut ticks = interval(MARK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let never = CancellationToken::new();
        loop {
            if self.rows.is_empty() {
                self.wait_for_room(&mut ticks, &may, stop).await?;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {
                    if !may() {
                        break;
                    }
                    self.tick().await?;
                }
                ended = end_of(&mut self.writing) => self.mark_ended(ended)?,
                frame = self.connection.get_copy_data_async(&never) => self.take(frame?).await?,
            }
            if self.marks.any_came()
                && let Some(followed) = followed.take()
            {
                followed().await;
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
        if !self.marks.any_came() && self.began.elapsed() > FOREIGN_AFTER {
            return Err(LogError::Foreign);
        }
        if self.marks.are_late(Instant::now()) && self.reader.feed.is_read() {
            tracing::info!(
                "no mark has come out of the log for long; the table is read until one does"
            );
            self.reader.feed.stop_following();
            self.marks.begin_anew();
            self.reader.woken.notify_one();
        }
        if self.writing.is_none() {
            let head = format!("{} {} ", self.name, self.marks.begin(Instant::now()));
            self.writing = Some(tokio::spawn(write_mark(self.reader.db.clone(), head)));
        }
        self.tell(false).await
    }

    fn mark_ended(&mut self, ended: anyhow::Result<bool>) -> Result<(), LogError> {
        self.writing = None;
        match ended {
            Ok(true) => {}
            Ok(false) => {
                return Err(LogError::Slot(format!(
                    "the publication {PUBLICATION} was dropped or changed, and is made anew"
                )));
            }
            // Without it, the table waits a second longer; without any for long, it has everything.
            Err(error) => tracing::debug!(%error, "no mark was written into the log"),
        }
        Ok(())
    }

    /// Tells the server up to where the log is not needed any more.
    async fn tell(&mut self, answer: bool) -> Result<(), LogError> {
        if self.received > 0 {
            let passed = self.reader.feed.passed(self.received);
            let received = self.received.max(passed);
            self.connection.send_standby_status_update(received, passed, passed, answer).await?;
        }
        Ok(())
    }

    async fn take(&mut self, frame: Bytes) -> Result<(), LogError> {
        match Frame::read(frame)? {
            Frame::Message(end, message) => {
                self.received = self.received.max(end);
                self.understand(message)
            }
            Frame::Alive(end, is_asked) => {
                self.received = self.received.max(end);
                if is_asked { self.tell(false).await } else { Ok(()) }
            }
        }
    }

    fn understand(&mut self, message: Bytes) -> Result<(), LogError> {
        // Until a mark comes, the table has everything: what nobody would use is passed sooner unread.
        if is_row(&message) && !self.reader.feed.is_read() {
            return Ok(());
        }
        match self.decoder.read(message)? {
            Said::Appended(row) => {
                self.bytes += row.payload.len();
                self.rows.push(row);
                if self.rows.len() >= MOST_ROWS || self.bytes >= MOST_BYTES {
                    self.hand_on();
                }
            }
            Said::Committed => self.hand_on(),
            Said::Marked(session, number, mark) if session == self.name => {
                self.hand_on();
                if self.marks.come(number) {
                    self.reader.feed.mark(mark, Instant::now());
                    // What was left before it is the table's now.
                    self.reader.woken.notify_one();
                }
            }
            Said::Marked(..) | Said::Nothing => {}
        }
        Ok(())
    }

    /// Gives the relay what came: a transaction at once, or a large one piece by piece.
    fn hand_on(&mut self) {
        if !self.rows.is_empty() {
            self.reader.feed.push(self.rows.drain(..));
            self.bytes = 0;
            self.reader.woken.notify_one();
        }
    }
}

/// How the writing of a mark ends; never, if none is written.
async fn end_of(writing: &mut Option<Writing>) -> anyhow::Result<bool> {
    match writing {
        Some(writing) => Ok(writing.await??),
        None => pending().await,
    }
}

/// Writes into the log which transactions have ended: what they appended comes before it. Returns whether what is appended
/// later comes, too.
async fn write_mark(db: Db, head: String) -> Result<bool, DbError> {
    #[derive(QueryableByName)]
    struct Marked {
        #[diesel(sql_type = Bool)]
        published: bool,
    }
    let written = db.write::<_, DbError>(move |conn| {
        let Conn::Pg(c) = conn else { return Ok(false) };
        let mark = sql_query(format!(
            "SELECT pg_logical_emit_message(false, $1, $2 || pg_current_snapshot()::text) IS NOT NULL \
               AND {IS_PUBLISHED} AS published"
        ));
        let mark: Marked = mark.bind::<Text, _>(PREFIX).bind::<Text, _>(head).get_result(c)?;
        Ok(mark.published)
    });
    written.await
}
