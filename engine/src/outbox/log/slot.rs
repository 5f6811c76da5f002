//! The slot: what keeps the log for one reader, and where that is.

use std::time::{Duration, Instant};

use common::db::{Conn, Db, DbError, Url};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use pg_walstream::{PgReplicationConnection, PgResult};
use serde::Serialize;
use utoipa::ToSchema;

use super::LogError;

/// What the log tells of: the table of events, and nothing but its inserts.
pub(super) const PUBLICATION: &str = "stockloop_outbox";

/// The condition that its table is in the publication.
pub(super) const IS_PUBLISHED: &str = "EXISTS (SELECT FROM pg_publication_tables \
    WHERE pubname = 'stockloop_outbox' AND schemaname = current_schema() AND tablename = 'outbox_event')";

/// A name may have 63 bytes; the database's number follows.
const SERVICE_CHARS: usize = 40;

/// How long a statement may take here. A new slot waits for all transactions that run.
const PATIENCE: &str = "10s";

/// How long a reader that was ended may take to leave the slot.
const LEAVES_IN: Duration = Duration::from_secs(5);

/// The first release whose slots can be kept on a standby.
const FAILOVER_SINCE: i32 = 170_000;

/// A slot as the server tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, QueryableByName)]
pub struct SlotState {
    /// Its name.
    #[diesel(sql_type = Text)]
    pub slot: String,
    /// `reserved`, `extended`, `unreserved` (the server will soon throw it away) or `lost`.
    #[diesel(sql_type = Nullable<Text>)]
    pub wal_status: Option<String>,
    /// Bytes of the log that are kept for it.
    #[diesel(sql_type = BigInt)]
    pub kept_bytes: i64,
    /// Bytes that it may still grow by (`max_slot_wal_keep_size`); none: without bounds.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub bytes_left: Option<i64>,
}

/// The name of `service`'s slot, but for the number of the database at its end.
fn slot_prefix(service: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = service.chars().take(SERVICE_CHARS).map(plain).collect();
    format!("stockloop_{name}_")
}

/// The number of this database among those of its server: slots are the server's.
const DATABASE: &str = "(SELECT oid::text FROM pg_database WHERE datname = current_database())";

/// The slot for this database's log, if there is one: the service's own, or one that another program reads and that is
/// named as the recipe has it. While one replaces the other, that which keeps more.
///
/// # Errors
/// When the statement fails.
pub fn slot_state(conn: &mut Conn) -> QueryResult<Option<SlotState>> {
    let Conn::Pg(c) = conn else { return Ok(None) };
    sql_query(
        "SELECT slot_name::text AS slot, wal_status, safe_wal_size AS bytes_left, \
           coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
             ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint AS kept_bytes \
         FROM pg_replication_slots \
         WHERE database = current_database() AND slot_name LIKE 'stockloop\\_%' ORDER BY kept_bytes DESC LIMIT 1",
    )
    .get_result(c)
    .optional()
}

/// What became of a slot that nobody is to read from any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// There is none.
    None,
    /// It is dropped.
    Dropped,
    /// Somebody reads from it.
    InUse,
}

/// Drops the slot of `service`, unless somebody reads from it.
///
/// # Errors
/// When the database fails, or the role may not.
pub async fn drop_unused_slot(db: &Db, service: &str) -> Result<Unused, DbError> {
    #[derive(QueryableByName)]
    struct Slot {
        #[diesel(sql_type = Bool)]
        active: bool,
    }
    let name = slot_prefix(service);
    db.read(move |conn| {
        let Conn::Pg(c) = conn else { return Ok(Unused::None) };
        // In the order of the columns: what is dropped here is not active.
        let found: Vec<Slot> = sql_query(format!(
            "SELECT active, CASE WHEN NOT active THEN pg_drop_replication_slot(slot_name)::text END \
             FROM pg_replication_slots WHERE slot_name = $1 || {DATABASE}"
        ))
        .bind::<Text, _>(name)
        .load(c)?;
        Ok(match found.first() {
            None => Unused::None,
            Some(Slot { active: true }) => Unused::InUse,
            Some(Slot { active: false }) => Unused::Dropped,
        })
    })
    .await
}

/// A slot of the service's name.
struct FoundSlot {
    /// The session that reads from it, or makes it.
    reader: Option<String>,
    /// Whether its log is gone.
    is_lost: bool,
    /// Bytes that it is behind.
    behind: u64,
}

/// A connection to the log, before anything is read.
pub(super) struct Opening {
    connection: PgReplicationConnection,
    slot: String,
}

impl Opening {
    /// Connects to `url`, whose session is one of replication. It blocks.
    ///
    /// # Errors
    /// When the server can't be reached, or keeps too little in its log.
    pub(super) fn connect(url: &Url, service: &str) -> Result<Self, LogError> {
        let url = url.clone().with_option("replication", "database");
        let connected = PgReplicationConnection::connect(url.expose());
        let mut connection =
            connected.map_err(|error| LogError::from(error).printable_for(&url))?;
        connection.exec(&format!("SET statement_timeout = '{PATIENCE}'"))?;
        let level = one(&connection.exec("SHOW wal_level")?).unwrap_or_default();
        if level != "logical" {
            return Err(LogError::WalLevel(level));
        }
        if one(&connection.exec("SHOW max_slot_wal_keep_size")?).as_deref() == Some("-1") {
            tracing::warn!(
                "max_slot_wal_keep_size is -1: should no instance run for long, the log fills the database's disk; \
                 set a bound in postgresql.conf, beyond which the slot is given up and the table is read"
            );
        }
        let database = one(&connection.exec(&format!("SELECT {DATABASE}"))?).unwrap_or_default();
        Ok(Self { connection, slot: format!("{}{database}", slot_prefix(service)) })
    }

    /// Sees to it that the table of events is published. Before the slot is made: it would not find it else.
    ///
    /// # Errors
    /// When the role may not, or the server fails.
    pub(super) fn publish(&mut self) -> Result<(), LogError> {
        let published = format!(
            "SELECT pubinsert AND NOT pubtruncate AND {IS_PUBLISHED} \
             FROM pg_publication WHERE pubname = '{PUBLICATION}'"
        );
        match one(&self.connection.exec(&published)?).as_deref() {
            Some("t") => return Ok(()),
            Some(_) => {
                tracing::warn!(
                    publication = PUBLICATION,
                    "the publication was changed, and is made anew"
                );
                self.connection.exec(&format!("DROP PUBLICATION {PUBLICATION}"))?;
            }
            None => {}
        }
        self.connection.exec(&format!(
            "CREATE PUBLICATION {PUBLICATION} FOR TABLE outbox_event WITH (publish = 'insert')"
        ))?;
        Ok(())
    }

    /// Sees to it that there is a slot that can be read from, is no more than `most` bytes behind, and has no reader.
    ///
    /// Nothing that was written before now comes by the log: the table has it until the first mark of a session. So an old
    /// slot saves nothing, and its server would decode all of a long pause for it.
    ///
    /// # Errors
    /// When the role may not, the server has no room for slots, or the slot's reader does not leave it.
    pub(super) fn take_slot(&mut self, most: u64, anew: bool) -> Result<(), LogError> {
        let mut found = self.found()?;
        if let Some(reader) = found.as_ref().and_then(|found| found.reader.clone()) {
            self.end_reader(&reader)?;
            // One that was still being made goes with whoever made it.
            found = self.found()?;
        }
        let Some(FoundSlot { is_lost, behind, .. }) = found else { return self.make_slot() };
        if !anew && !is_lost && behind <= most {
            return Ok(());
        }
        tracing::info!(
            slot = self.slot,
            behind,
            is_lost,
            "the slot is made anew; what came meanwhile is read from the table"
        );
        // First, as the server may have no room for a second one.
        self.connection.exec(&format!("SELECT pg_drop_replication_slot('{}')", self.slot))?;
        self.make_slot()
    }

    /// The slot as it is now, if there is one.
    fn found(&mut self) -> Result<Option<FoundSlot>, LogError> {
        let found = self.connection.exec(&format!(
            "SELECT active_pid, wal_status, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), 0)::bigint \
             FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot
        ))?;
        let value = |column| found.get_value(0, column).filter(|value| !value.is_empty());
        Ok((found.ntuples() > 0).then(|| FoundSlot {
            reader: value(0),
            is_lost: value(1).as_deref() == Some("lost"),
            behind: value(2).and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
        }))
    }

    fn make_slot(&mut self) -> Result<(), LogError> {
        let failover = match self.connection.server_version() {
            FAILOVER_SINCE.. => ", failover => true",
            _ => "",
        };
        self.connection.exec(&format!(
            "SELECT pg_create_logical_replication_slot('{}', 'pgoutput', temporary => false{failover})",
            self.slot
        ))?;
        Ok(())
    }

    /// A reader without the lease is of an instance that hangs, or is cut off: the lease decides who reads.
    fn end_reader(&mut self, reader: &str) -> Result<(), LogError> {
        tracing::warn!(slot = self.slot, reader, "the slot is taken over from another session");
        let until = Instant::now() + LEAVES_IN;
        self.connection.exec(&format!("SELECT pg_terminate_backend({reader})"))?;
        let is_read = format!(
            "SELECT active FROM pg_replication_slots WHERE slot_name = '{}' AND active_pid = {reader}",
            self.slot
        );
        while one(&self.connection.exec(&is_read)?).as_deref() == Some("t") {
            if Instant::now() > until {
                return Err(LogError::Broken(format!(
                    "the slot {} is still read by session {reader}, which was told to end",
                    self.slot
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Begins to read where the slot is.
    ///
    /// # Errors
    /// When the server says so.
    pub(super) fn begin(mut self) -> Result<(PgReplicationConnection, String), LogError> {
        self.connection.exec("SET statement_timeout = 0")?;
        let options =
            [("proto_version", "1"), ("publication_names", PUBLICATION), ("messages", "true")];
        self.connection.start_replication(&self.slot, 0, &options)?;
        Ok((self.connection, self.slot))
    }
}

/// The first value of a result.
fn one(result: &PgResult) -> Option<String> {
    (result.ntuples() > 0).then(|| result.get_value(0, 0)).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::thread;

    use diesel::connection::SimpleConnection;
    use stockloop_tests::poll::eventually;
    use stockloop_tests::postgres::PostgresServer;
    use stockloop_tests::real;

    use super::*;

    /// How many slots of this database are so.
    fn slots(conn: &mut PgConnection, so: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Count {
            #[diesel(sql_type = BigInt)]
            n: i64,
        }
        let sql =
            "SELECT count(*) AS n FROM pg_replication_slots WHERE database = current_database()";
        sql_query(format!("{sql} AND {so}")).get_result::<Count>(conn).unwrap().n
    }

    /// As an instance does that is cut off while it waits for its slot.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_slot_that_goes_with_who_was_making_it_is_made() {
        let Some(server) = real::available("PostgreSQL", PostgresServer::shared()) else { return };
        let url = server.database("slot_in_the_making");
        let connect = || PgConnection::establish(&url).unwrap();
        let (mut writer, mut maker, mut looks) = (connect(), connect(), connect());
        // A new slot waits for its end.
        writer.batch_execute("BEGIN; SELECT txid_current()").unwrap();
        let making = thread::spawn(move || {
            maker.batch_execute(
                "SELECT pg_create_logical_replication_slot(('stockloop_a_' || oid)::name, 'pgoutput') \
                 FROM pg_database WHERE datname = current_database()",
            )
        });
        eventually("a slot in the making", Duration::from_secs(60), async || {
            match slots(&mut looks, "active AND confirmed_flush_lsn IS NULL") {
                1 => Ok(()),
                others => Err(others),
            }
        })
        .await;
        let ended = thread::spawn(move || {
            let made = making.join().unwrap();
            writer.batch_execute("COMMIT").unwrap();
            made.is_err()
        });
        let taken = tokio::task::spawn_blocking(move || {
            Opening::connect(&url.into(), "a")?.take_slot(u64::MAX, false)
        });
        taken.await.unwrap().unwrap();
        assert!(ended.join().unwrap(), "its session was ended");
        assert_eq!(slots(&mut looks, "confirmed_flush_lsn IS NOT NULL"), 1, "there is another one");
        looks
            .batch_execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                 WHERE database = current_database()",
            )
            .unwrap();
    }

    #[test]
    fn a_password_that_libpq_can_not_read_is_not_shown() {
        let url = Url::from("postgres://u:se%cret@127.0.0.1:1/d".to_owned());
        let error = Opening::connect(&url, "a").err().unwrap().to_string();
        assert!(error.contains("write % as %25") && !error.contains("cret"), "{error}");
    }

    #[test]
    fn a_slot_has_a_name_that_the_server_takes() {
        assert_eq!(slot_prefix("product-service"), "stockloop_product_service_");
        let long = slot_prefix(&"Ä".repeat(80));
        assert!(
            long.len() < 53 && long.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{long}"
        );
    }
}
