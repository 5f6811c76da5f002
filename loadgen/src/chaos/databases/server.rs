//! The database server with both databases, and what happens to it.

use std::time::Duration;

use anyhow::{Context, Result};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use stockloop_tests::disk::SmallDisk;
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::postgres::{BASE_BACKUP, Binaries, PgBouncer, PostgresServer};

use super::races::Races;
use crate::chaos::fault::{Isolation, PostgresFault};
use crate::chaos::instance::Relay;
use crate::chaos::load::{FLOOD, PUT, adjusted};
use crate::chaos::rivals::Rival;
use crate::chaos::scenarios::Store;
use crate::chaos::waiting::wait_for;

/// Connections of the server: enough for all processes, and few enough to be taken.
const CONNECTIONS: usize = 140;

/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// How long a server that had no room may take to come back.
const ROOM_DEADLINE: Duration = Duration::from_secs(60);

/// How long a write may take to find that there is no room left at all.
const FULL_DEADLINE: Duration = Duration::from_secs(10);

/// How long a standby may take to have what its server has.
const STANDBY_DEADLINE: Duration = Duration::from_secs(30);

/// How long it may take until somebody waits for a stranger who waits for them.
const DEADLOCK_DEADLINE: Duration = Duration::from_secs(30);

/// Of the pooler, for each database: fewer than two processes have connections.
const POOLED: u32 = 8;

/// What else the server is told where relays read its log.
const LOGICAL: [&str; 3] = ["wal_level=logical", "max_replication_slots=20", "max_wal_senders=20"];

/// A disk that holds what a run of minutes writes, and its log besides.
const SMALL_MIB: u64 = 512;
const LITTLE_LOG: [&str; 2] = ["min_wal_size=32MB", "max_wal_size=96MB"];

/// Of a damaged copy: products that are gone, and that have another quantity.
const GONE: u32 = 50;
const OTHER: u32 = 200;

/// What the server says when a write finds no room.
const NO_ROOM: &str = "No space left on device";

/// Ends the sessions of both services; how many there were.
const END_SESSIONS: &str = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS n \
     FROM pg_stat_activity WHERE datname LIKE 'product%' OR datname LIKE 'order%'";

/// A session's own setting comes before the server's.
const MAY_WRITE: &str = "SET default_transaction_read_only = off";

/// The same of isolation.
const USUAL_ISOLATION: &str = "SET default_transaction_isolation = 'read committed'";

/// Has the server read settings that were changed.
const READ_SETTINGS: &str = "SELECT pg_reload_conf()";

/// Each event that order-service takes in costs it a millisecond more; as it is, it takes about a tenth of one.
const SLOW: &str = "CREATE FUNCTION take_longer() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$; \
     CREATE TRIGGER take_longer BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION take_longer()";

/// Standbys that stream from the server, those that every commit waits for, and how far the server itself is, in bytes of its
/// log.
const STREAMING: &str = "SELECT count(*) AS n FROM pg_stat_replication WHERE state = 'streaming'";
const AWAITED: &str = "SELECT count(*) AS n FROM pg_stat_replication WHERE sync_state = 'sync'";
const WRITTEN: &str = "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint AS n";

/// How often transactions waited for each other, in both databases.
const DEADLOCKS: &str = "SELECT sum(deadlocks)::bigint AS n FROM pg_stat_database";

/// The server with both databases.
pub(in crate::chaos) struct Server {
    rivals: Vec<Rival>,
    /// Strangers who hold connections.
    strangers: Vec<PgConnection>,
    /// One who holds a row.
    holder: Option<PgConnection>,
    races: Races,
    /// What stands between the services and the server.
    pooler: Option<PgBouncer>,
    /// What may take the server's place.
    standby: Option<PostgresServer>,
    /// Whether each commit waits until a standby has it.
    is_awaited: bool,
    server: PostgresServer,
    /// Its disk, if that is one of its own.
    disk: Option<SmallDisk>,
    /// Writes that found no room, and those of them that its log told when it was looked at last.
    without_room: usize,
    told: usize,
    product: String,
    order: String,
}

impl Server {
    /// A new server, which keeps what it has committed, with two empty databases.
    pub(super) fn start(store: Store, relay: Relay) -> Result<Self> {
        let connections = format!("max_connections={CONNECTIONS}");
        let mut settings = vec![connections.as_str()];
        if relay == Relay::Log {
            settings.extend(LOGICAL);
        }
        let disk = (store == Store::SmallDisk).then(|| SmallDisk::mount(SMALL_MIB)).transpose()?;
        let server = match &disk {
            Some(disk) => {
                settings.extend(LITTLE_LOG);
                PostgresServer::start_on(disk, Binaries::find()?, &settings)?
            }
            None if store.has_standby() => {
                PostgresServer::start_with(Binaries::with(BASE_BACKUP)?, &settings)?
            }
            None => PostgresServer::start_with(Binaries::find()?, &settings)?,
        };
        let pooler = (store == Store::Pooled).then(|| PgBouncer::start(&server, POOLED));
        let (product, order) = (server.database("product"), server.database("order"));
        let mut started = Self {
            rivals: Vec::new(),
            strangers: Vec::new(),
            holder: None,
            races: Races::default(),
            pooler: pooler.transpose()?,
            standby: None,
            is_awaited: store == Store::Standby,
            server,
            disk,
            without_room: 0,
            told: 0,
            product: name(&product)?,
            order: name(&order)?,
        };
        if store.has_standby() {
            started.get_standby()?;
        }
        Ok(started)
    }

    /// product-service's and order-service's, without anything in between.
    pub(super) fn urls(&self) -> [String; 2] {
        [self.server.url(&self.product), self.server.url(&self.order)]
    }

    /// Where services connect to.
    pub(super) fn port(&self) -> u16 {
        self.pooler.as_ref().map_or(self.server.port(), PgBouncer::port)
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.pooler.is_some()
    }

    pub(super) fn without_room(&self) -> u64 {
        self.without_room as u64
    }

    /// Lets it happen; returns how much it met, as far as that is known at once.
    pub(in crate::chaos) fn suffer(&mut self, fault: PostgresFault) -> Result<u64> {
        match fault {
            PostgresFault::Stop => self.server.stop().map(|()| 1),
            PostgresFault::Kill => self.server.kill9().map(|()| 1),
            PostgresFault::Start => self.server.start_again().map(|()| 0),
            PostgresFault::EndSessions => end_sessions(&mut self.administrator()?),
            PostgresFault::ReadOnly => self.let_write(false).map(|()| 1),
            PostgresFault::Writable => self.let_write(true).map(|()| 0),
            PostgresFault::Full => self.fill_up(),
            PostgresFault::Room => {
                self.strangers.clear();
                Ok(0)
            }
            PostgresFault::Rivals => self.let_rivals_in().map(|()| 0),
            PostgresFault::Peace => self.let_rivals_leave().map(|()| 0),
            PostgresFault::Hold(number) => self.hold(&adjusted(number)),
            PostgresFault::LetGo => {
                self.holder = None;
                Ok(0)
            }
            PostgresFault::Lose(race) => self.races.be(&self.urls(), Some(race)).map(|()| 0),
            PostgresFault::Win => self.races.end(&self.urls()).map(|()| 0),
            PostgresFault::Isolate(isolation) => self.isolate(isolation).map(|()| 1),
            PostgresFault::IsolateAsBefore => self.isolate_as_before().map(|()| 0),
            PostgresFault::KillPooler => {
                self.pooler()?.kill9();
                Ok(1)
            }
            PostgresFault::StartPooler => self.pooler()?.start_again().map(|()| 0),
            PostgresFault::DiskFull { left_kib } => {
                // It may have ended since the last look, and begun another log.
                self.told = self.server.said(NO_ROOM);
                self.disk()?.fill(left_kib * 1024).map(|()| 0)
            }
            PostgresFault::DiskFree => {
                self.take_the_rest()?;
                self.free_disk().map(|()| 0)
            }
            PostgresFault::LeaveBehind => self.leave_standby_behind().map(|()| 0),
            PostgresFault::Promote => self.promote_standby().map(|()| 1),
            PostgresFault::StandBy => self.get_standby().map(|()| 0),
        }
    }

    /// Puts right whatever was done to it.
    pub(super) fn heal(&mut self) -> Result<()> {
        self.rivals.clear();
        self.strangers.clear();
        self.holder = None;
        if self.disk.is_some() {
            self.free_disk()?;
        }
        self.server.start_again()?;
        if let Some(pooler) = &mut self.pooler {
            pooler.start_again()?;
        }
        self.let_write(true)?;
        self.isolate_as_before()?;
        self.races.end(&self.urls())?;
        let mut order = self.connect(&self.order)?;
        // The server may not have read its new settings yet.
        order.batch_execute(MAY_WRITE)?;
        order.batch_execute(USUAL_ISOLATION)?;
        order.batch_execute(
            "SET client_min_messages = warning; DROP FUNCTION IF EXISTS take_longer() CASCADE",
        )?;
        order.batch_execute(&flood_may_come_in())?;
        Ok(())
    }

    /// Slows order-service's consumer down.
    pub(in crate::chaos) fn slow_down(&self) -> Result<()> {
        self.connect(&self.order)?.batch_execute(SLOW)?;
        Ok(())
    }

    /// Lets order-service refuse as many products of the flood, as an operator could, but at once.
    pub(in crate::chaos) fn refuse_flood(&self, many: u32) -> Result<()> {
        let refuse = format!(
            "INSERT INTO quarantine (key, reason, since_us, by_whom) \
             SELECT '{FLOOD}' || lpad(n::text, 5, '0'), 'a trial', 0, 'a trial' \
             FROM generate_series(0, {many} - 1) AS n"
        );
        self.connect(&self.order)?.batch_execute(&refuse)?;
        Ok(())
    }

    /// Lets order-service take products of a flood again.
    pub(in crate::chaos) fn let_flood_in(&self) -> Result<()> {
        self.connect(&self.order)?.batch_execute(&flood_may_come_in())?;
        Ok(())
    }

    /// Damages the copies of some products of a flood, as somebody could by hand: some are gone, others have another quantity.
    /// Returns how many.
    pub(in crate::chaos) fn damage_copy(&self) -> Result<u64> {
        let some = |many: u32| {
            format!(
                "SELECT sku FROM product_copy WHERE sku LIKE '{FLOOD}%' ORDER BY sku LIMIT {many}"
            )
        };
        let (gone, other) = (some(GONE), some(OTHER));
        self.spoil_copy(&format!(
            "DELETE FROM product_copy WHERE sku IN ({gone}); \
             UPDATE product_copy SET quantity = quantity + 1 WHERE sku IN ({other})"
        ))?;
        Ok(u64::from(GONE + OTHER))
    }

    /// Takes from the copy what it has of all products that are put, which is most, at once.
    pub(in crate::chaos) fn empty_copy(&self) -> Result<()> {
        self.spoil_copy(&format!("DELETE FROM product_copy WHERE sku LIKE '{PUT}%'"))
    }

    /// Does all of this to order-service's copy, or nothing; again where it and order-service wait for each other, of whom one
    /// is undone.
    fn spoil_copy(&self, how: &str) -> Result<()> {
        let mut order = self.connect(&self.order)?;
        eventually_blocking("a copy that is spoilt", CONNECT_DEADLINE, || {
            order.batch_execute(how).map_err(|error| error.to_string())
        })
    }

    /// From the next transaction on, in all sessions.
    fn let_write(&self, may: bool) -> Result<()> {
        let setting = if may { "off" } else { "on" };
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {setting}");
        administer(&mut self.administrator()?, &[MAY_WRITE, &set, READ_SETTINGS])
    }

    /// Transactions are isolated like this, where they do not say how; waits until sessions know.
    fn isolate(&self, isolation: Isolation) -> Result<()> {
        let mut administrator = self.administrator()?;
        let set = format!("ALTER SYSTEM SET default_transaction_isolation = '{isolation}'");
        administer(&mut administrator, &[&set, READ_SETTINGS])?;
        let is_so = format!(
            "SELECT count(*) AS n FROM pg_settings \
             WHERE name = 'default_transaction_isolation' AND setting = '{isolation}'"
        );
        wait_until(&mut administrator, &is_so)
    }

    /// Transactions are isolated as PostgreSQL does it by itself, where they do not say how.
    fn isolate_as_before(&self) -> Result<()> {
        let reset = "ALTER SYSTEM RESET default_transaction_isolation";
        administer(&mut self.administrator()?, &[MAY_WRITE, reset, READ_SETTINGS])
    }

    /// Takes all connections; those whom it ends want theirs back, so it ends them again. Returns how many it took.
    fn fill_up(&mut self) -> Result<u64> {
        let mut administrator = self.administrator()?;
        let before = self.strangers.len();
        for _ in 0..3 {
            end_sessions(&mut administrator)?;
            while self.strangers.len() < CONNECTIONS {
                match PgConnection::establish(&self.server.url("postgres")) {
                    Ok(stranger) => self.strangers.push(stranger),
                    Err(_) => break,
                }
            }
        }
        let taken = self.strangers.len() - before;
        self.strangers.push(administrator);
        Ok(u64::try_from(taken)?)
    }

    /// Has strangers lock rows of both databases in the wrong order.
    fn let_rivals_in(&mut self) -> Result<()> {
        self.rivals.push(Rival::start(self.connect(&self.product)?, "product")?);
        self.rivals.push(Rival::start(self.connect(&self.order)?, "product_copy")?);
        Ok(())
    }

    /// Lets them go once they were in somebody's way.
    fn let_rivals_leave(&mut self) -> Result<()> {
        let mut administrator = self.administrator()?;
        if let Err(error) = wait_within(DEADLOCK_DEADLINE, &mut administrator, DEADLOCKS) {
            // In the end it is complained of.
            println!("strangers were in nobody's way: {error:#}");
        }
        self.rivals.clear();
        Ok(())
    }

    /// Has a stranger lock the row of a product in the copy, until somebody waits for it.
    fn hold(&mut self, sku: &str) -> Result<u64> {
        let mut holder = self.connect(&self.order)?;
        let pid = count(&mut holder, "SELECT pg_backend_pid()::bigint AS n")?;
        let lock = format!("BEGIN; SELECT 1 FROM product_copy WHERE sku = '{sku}' FOR UPDATE");
        holder.batch_execute(&lock)?;
        self.holder = Some(holder);
        let waits = format!(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))"
        );
        wait_until(&mut self.administrator()?, &waits).map(|()| 1)
    }

    /// Where what was left has been enough so far, leaves nothing, and waits until a write finds no room.
    fn take_the_rest(&self) -> Result<()> {
        let (server, met) = (&self.server, self.told);
        let told = || Ok(server.said(NO_ROOM));
        if told()? > met {
            return Ok(());
        }
        self.disk()?.fill(0)?;
        // That none did shows in what the fault has met.
        let _ = wait_for("a write without room", FULL_DEADLINE, told, |told| *told > met);
        Ok(())
    }

    /// Gives its disk room again, and waits until it answers: where its log found no room, it has ended, or is about to.
    fn free_disk(&mut self) -> Result<()> {
        self.disk()?.clear()?;
        let told = self.server.said(NO_ROOM);
        self.without_room += told.saturating_sub(self.told);
        self.told = told;
        eventually_blocking("a server that has room again", ROOM_DEADLINE, || {
            self.server.start_again().map_err(|error| format!("{error:#}"))?;
            let connected = PgConnection::establish(&self.server.url("postgres"));
            connected.map(drop).map_err(|error| error.to_string())
        })
    }

    /// Makes a standby, which streams what is written from then on.
    fn get_standby(&mut self) -> Result<()> {
        self.standby = Some(self.server.stand_by()?);
        let mut administrator = self.administrator()?;
        wait_until(&mut administrator, STREAMING)?;
        if self.is_awaited {
            let every = "ALTER SYSTEM SET synchronous_standby_names = '*'";
            administer(&mut administrator, &[every, READ_SETTINGS])?;
            wait_until(&mut administrator, AWAITED)?;
        }
        Ok(())
    }

    /// From now on the standby gets nothing more; it has all that was committed before this began.
    fn leave_standby_behind(&self) -> Result<()> {
        let standby = self.standby.as_ref().context("there is no standby")?;
        let mut administrator = self.administrator()?;
        let written = count(&mut administrator, WRITTEN)?;
        let has_it = format!(
            "SELECT count(*) AS n FROM pg_stat_replication WHERE flush_lsn - '0/0'::pg_lsn >= {written}"
        );
        wait_until(&mut administrator, &has_it)?;
        let mut behind = connect(&standby.url("postgres"))?;
        administer(&mut behind, &["ALTER SYSTEM SET primary_conninfo = ''", READ_SETTINGS])?;
        wait_until(&mut administrator, "SELECT 1 - count(*) AS n FROM pg_stat_replication")
    }

    /// The standby takes the place of the server, which is gone for good.
    fn promote_standby(&mut self) -> Result<()> {
        let standby = self.standby.take().context("there is no standby")?;
        standby.promote()?;
        self.server = standby;
        Ok(())
    }

    fn pooler(&mut self) -> Result<&mut PgBouncer> {
        self.pooler.as_mut().context("there is no pooler")
    }

    fn disk(&self) -> Result<&SmallDisk> {
        self.disk.as_ref().context("it has no small disk")
    }

    fn administrator(&self) -> Result<PgConnection> {
        self.connect("postgres")
    }

    fn connect(&self, database: &str) -> Result<PgConnection> {
        connect(&self.server.url(database))
    }
}

/// Ends what [`Server::refuse_flood`] begins.
fn flood_may_come_in() -> String {
    format!("DELETE FROM quarantine WHERE key LIKE '{FLOOD}%'")
}

/// The name of the database at `url`.
fn name(url: &str) -> Result<String> {
    let (_, name) = url.rsplit_once('/').context("the URL has no database")?;
    Ok(name.to_owned())
}

fn end_sessions(administrator: &mut PgConnection) -> Result<u64> {
    Ok(count(administrator, END_SESSIONS)?.unsigned_abs())
}

/// Those who had all connections need a moment to leave. Whoever holds a lock is not waited for without end.
pub(super) fn connect(url: &str) -> Result<PgConnection> {
    let establish = || PgConnection::establish(url);
    let mut conn = eventually_blocking("a connection", CONNECT_DEADLINE, establish)?;
    conn.batch_execute("SET statement_timeout = '60s'")?;
    Ok(conn)
}

/// Each statement by itself: some are refused in company.
fn administer(conn: &mut PgConnection, statements: &[&str]) -> Result<()> {
    Ok(statements.iter().try_for_each(|statement| conn.batch_execute(statement))?)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

fn count(conn: &mut PgConnection, sql: &str) -> Result<i64> {
    let Count { n } = sql_query(sql).get_result(conn)?;
    Ok(n)
}

/// Waits until there is what `sql` counts.
fn wait_until(conn: &mut PgConnection, sql: &str) -> Result<()> {
    wait_within(STANDBY_DEADLINE, conn, sql)
}

/// The same, no longer than `deadline`.
pub(super) fn wait_within(deadline: Duration, conn: &mut PgConnection, sql: &str) -> Result<()> {
    wait_for(sql, deadline, || count(conn, sql), |many| *many > 0)?;
    Ok(())
}
