//! The databases: what happens to their server, and what is in them in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::postgres::{Binaries, PgBouncer, PostgresServer};

use super::fault::PostgresFault;
use super::instance::Relay;
use super::load::{FLOOD, OPENING_DESCRIPTION, PUT};
use super::rivals::Rival;
use crate::check::Side;

/// Connections of the server: enough for all processes, and few enough to be taken.
const CONNECTIONS: usize = 140;

/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// Of the pooler, for each database: fewer than two processes have connections.
const POOLED: u32 = 8;

/// What else the server is told where relays read its log.
const LOGICAL: [&str; 3] = ["wal_level=logical", "max_replication_slots=20", "max_wal_senders=20"];

/// Ends the sessions of both services; how many there were.
const END_SESSIONS: &str = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS n \
     FROM pg_stat_activity WHERE datname LIKE 'product%' OR datname LIKE 'order%'";

/// A session's own setting comes before the server's.
const MAY_WRITE: &str = "SET default_transaction_read_only = off";

/// Each event that order-service takes in costs it a millisecond more; as it is, it takes about a tenth of one.
const SLOW: &str = "CREATE FUNCTION take_longer() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$; \
     CREATE TRIGGER take_longer BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION take_longer()";

/// The server with both databases.
pub(super) struct Databases {
    rivals: Vec<Rival>,
    /// Strangers who hold connections.
    strangers: Vec<PgConnection>,
    /// What stands between the services and the server.
    pooler: Option<PgBouncer>,
    server: PostgresServer,
    product: String,
    order: String,
}

impl Databases {
    /// A new server, which keeps what it has committed, with two empty databases.
    pub(super) fn start(is_pooled: bool, relay: Relay) -> Result<Self> {
        let connections = format!("max_connections={CONNECTIONS}");
        let mut settings = vec![connections.as_str()];
        if relay == Relay::Log {
            settings.extend(LOGICAL);
        }
        let server = PostgresServer::start_with(Binaries::find()?, &settings)?;
        let pooler = is_pooled.then(|| PgBouncer::start(&server, POOLED)).transpose()?;
        let (product, order) = (server.database("product"), server.database("order"));
        Ok(Self { rivals: Vec::new(), strangers: Vec::new(), pooler, server, product, order })
    }

    /// product-service's and order-service's, without anything in between.
    pub(super) fn urls(&self) -> [String; 2] {
        [self.product.clone(), self.order.clone()]
    }

    /// Where services connect to.
    pub(super) fn port(&self) -> u16 {
        self.pooler.as_ref().map_or(self.server.port(), PgBouncer::port)
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.pooler.is_some()
    }

    /// Lets it happen; returns how much it met, as far as that is known at once.
    pub(super) fn suffer(&mut self, fault: PostgresFault) -> Result<u64> {
        match fault {
            PostgresFault::Stop => self.server.stop().map(|()| 1),
            PostgresFault::Kill => {
                self.server.kill9();
                Ok(1)
            }
            PostgresFault::Start => self.server.start_again().map(|()| 0),
            PostgresFault::EndSessions => end_sessions(&mut self.administrator()?),
            PostgresFault::ReadOnly => self.let_write(false).map(|()| 1),
            PostgresFault::Writable => self.let_write(true).map(|()| 0),
            PostgresFault::Full => self.fill_up(),
            PostgresFault::Room => {
                self.strangers.clear();
                Ok(0)
            }
            PostgresFault::Rivals => {
                self.rivals.push(Rival::start(connect(&self.product)?, "product")?);
                self.rivals.push(Rival::start(connect(&self.order)?, "product_copy")?);
                Ok(0)
            }
            PostgresFault::Peace => {
                self.rivals.clear();
                Ok(0)
            }
            PostgresFault::KillPooler => {
                self.pooler.as_mut().context("there is no pooler")?.kill9();
                Ok(1)
            }
            PostgresFault::StartPooler => {
                self.pooler.as_mut().context("there is no pooler")?.start_again().map(|()| 0)
            }
        }
    }

    /// Puts right whatever was done to it.
    pub(super) fn heal(&mut self) -> Result<()> {
        self.rivals.clear();
        self.strangers.clear();
        self.server.start_again()?;
        if let Some(pooler) = &mut self.pooler {
            pooler.start_again()?;
        }
        self.let_write(true)?;
        let mut order = connect(&self.order)?;
        // The server may not have read its new settings yet.
        order.batch_execute(MAY_WRITE)?;
        order.batch_execute(
            "SET client_min_messages = warning; DROP FUNCTION IF EXISTS take_longer() CASCADE",
        )?;
        order.batch_execute(&format!("DELETE FROM quarantine WHERE key LIKE '{FLOOD}%'"))?;
        Ok(())
    }

    /// Slows order-service's consumer down.
    pub(super) fn slow_down(&self) -> Result<()> {
        connect(&self.order)?.batch_execute(SLOW)?;
        Ok(())
    }

    /// Lets order-service refuse as many products of the flood, as an operator could, but at once.
    pub(super) fn refuse_flood(&self, many: u32) -> Result<()> {
        let refuse = format!(
            "INSERT INTO quarantine (key, reason, since_us, by_whom) \
             SELECT '{FLOOD}' || lpad(n::text, 5, '0'), 'a trial', 0, 'a trial' \
             FROM generate_series(0, {many} - 1) AS n"
        );
        connect(&self.order)?.batch_execute(&refuse)?;
        Ok(())
    }

    /// From the next transaction on, in all sessions.
    fn let_write(&self, may: bool) -> Result<()> {
        let setting = if may { "off" } else { "on" };
        self.administer(&[
            MAY_WRITE,
            &format!("ALTER SYSTEM SET default_transaction_read_only = {setting}"),
            "SELECT pg_reload_conf()",
        ])
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

    /// Each statement by itself: some are refused in company.
    fn administer(&self, statements: &[&str]) -> Result<()> {
        let mut administrator = self.administrator()?;
        for statement in statements {
            administrator.batch_execute(statement)?;
        }
        Ok(())
    }

    fn administrator(&self) -> Result<PgConnection> {
        connect(&self.server.url("postgres"))
    }
}

fn end_sessions(administrator: &mut PgConnection) -> Result<u64> {
    Ok(count(administrator, END_SESSIONS)?.unsigned_abs())
}

/// Both databases as they are looked into, once all is well again.
pub(super) struct Looks {
    product: PgConnection,
    order: PgConnection,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Text)]
    id: String,
}

#[derive(QueryableByName)]
struct Effects {
    #[diesel(sql_type = Text)]
    trace: String,
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Events that are neither PROCESSED nor EXHAUSTED.
const ON_THEIR_WAY: &str = "SELECT count(*) AS n FROM outbox_open WHERE status < 2";

const UNTOLD: &str = "SELECT count(*) AS n FROM alert a WHERE closed_us IS NULL \
     AND (NOT EXISTS (SELECT 1 FROM mail m WHERE m.seq = a.mail_seq) \
       OR NOT EXISTS (SELECT 1 FROM webhook w WHERE w.seq = a.webhook_seq))";
const UNSENT: &str = "SELECT count(*) AS n FROM mail WHERE sent_us IS NULL";
const UNCALLED: &str = "SELECT count(*) AS n FROM webhook WHERE sent_us IS NULL";
const RESTORED: &str = "SELECT count(*) AS n FROM restoration";
const INCOMPLETE: &str = "SELECT 1 - count(*) AS n FROM copy_state WHERE complete_us IS NOT NULL";

impl Looks {
    pub(super) fn open([product, order]: &[String; 2]) -> Result<Self> {
        Ok(Self { product: connect(product)?, order: connect(order)? })
    }

    /// What still waits; nothing at rest. Orders first: what one causes at product-service is there once it is settled.
    pub(super) fn waiting(&mut self) -> Result<Vec<String>> {
        let Self { product, order } = self;
        let all = [
            ("events of order-service", count(order, ON_THEIR_WAY)?),
            ("events of product-service", count(product, ON_THEIR_WAY)?),
            ("copies that are not complete", count(order, INCOMPLETE)?),
            ("alerts of order-service", count(order, UNTOLD)?),
            ("alerts of product-service", count(product, UNTOLD)?),
            ("mails of order-service", count(order, UNSENT)?),
            ("mails of product-service", count(product, UNSENT)?),
            ("calls of order-service", count(order, UNCALLED)?),
            ("calls of product-service", count(product, UNCALLED)?),
        ];
        Ok(some_of(all))
    }

    /// What would excuse to the judge that something is missing, and can't be in a trial: nobody brings a database back from
    /// a backup, and nobody else is asked.
    pub(super) fn excuses(&mut self) -> Result<Vec<String>> {
        let Self { product, order } = self;
        let by_another = |than: Side| {
            format!("SELECT count(*) AS n FROM outbox_settled WHERE consumer <> '{than}'")
        };
        let (orders, products) = (by_another(Side::Product), by_another(Side::Order));
        let all = [
            ("restored databases of order-service", count(order, RESTORED)?),
            ("restored databases of product-service", count(product, RESTORED)?),
            ("events of order-service that another one settled", count(order, &orders)?),
            ("events of product-service that another one settled", count(product, &products)?),
        ];
        Ok(some_of(all))
    }

    /// Events that gave up, ever.
    pub(super) fn exhausted(&mut self) -> Result<u64> {
        self.both("SELECT count(*) AS n FROM alert WHERE kind = 'exhausted'")
    }

    /// Messages that nobody could read, or understand.
    pub(super) fn dead_letters(&mut self) -> Result<u64> {
        self.both("SELECT count(*) AS n FROM dead_letter")
    }

    /// How often the server ended a transaction because it and another one waited for each other.
    pub(super) fn deadlocks(&mut self) -> Result<u64> {
        self.both("SELECT deadlocks AS n FROM pg_stat_database WHERE datname = current_database()")
    }

    /// The sum of what both say.
    fn both(&mut self, sql: &str) -> Result<u64> {
        Ok((count(&mut self.product, sql)? + count(&mut self.order, sql)?).unsigned_abs())
    }

    /// The ids of all mails that count as sent.
    pub(super) fn mails(&mut self) -> Result<Vec<String>> {
        // They have brackets there.
        self.ids("SELECT btrim(message_id, '<>') AS id FROM mail WHERE sent_us IS NOT NULL")
    }

    /// The ids of all calls of the webhook that count as taken.
    pub(super) fn calls(&mut self) -> Result<Vec<String>> {
        self.ids("SELECT delivery_id AS id FROM webhook WHERE sent_us IS NOT NULL")
    }

    /// The ids that either says.
    fn ids(&mut self, sql: &str) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for conn in [&mut self.product, &mut self.order] {
            let rows = sql_query(sql).load::<Id>(conn)?;
            ids.extend(rows.into_iter().map(|row| row.id));
        }
        Ok(ids)
    }

    /// The effects that are there of clients' changes, by what they carry.
    pub(super) fn effects(&mut self) -> Result<BTreeMap<String, u64>> {
        let adjustments = "SELECT coalesce(reference, 'an adjustment') AS trace, count(*) AS n \
             FROM adjustment GROUP BY 1";
        // A state that was sent again is the same version.
        let replaced = format!(
            "SELECT payload::json->>'description' AS trace, count(DISTINCT (key, version)) AS n \
             FROM outbox_event WHERE key LIKE '{PUT}%' GROUP BY 1"
        );
        let changed = format!(
            "SELECT DISTINCT payload::json->>'description' AS trace, 1::bigint AS n \
             FROM outbox_event WHERE key NOT LIKE '{PUT}%' \
             AND payload::json->>'description' <> '{OPENING_DESCRIPTION}'"
        );
        let orders = "SELECT customer AS trace, count(*) AS n FROM orders GROUP BY 1";
        // As the load calls it.
        let cancelled = "SELECT customer || ' cancelled' AS trace, count(*) AS n FROM orders \
             WHERE cancellation IS NOT NULL GROUP BY 1";
        let mut effects = BTreeMap::new();
        for sql in [adjustments, &replaced, &changed] {
            add(&mut effects, &mut self.product, sql)?;
        }
        for sql in [orders, cancelled] {
            add(&mut effects, &mut self.order, sql)?;
        }
        Ok(effects)
    }
}

/// Those who had all connections need a moment to leave. Whoever holds a lock is not waited for without end.
fn connect(url: &str) -> Result<PgConnection> {
    let establish = || PgConnection::establish(url);
    let mut conn = eventually_blocking("a connection", CONNECT_DEADLINE, establish)?;
    conn.batch_execute("SET statement_timeout = '60s'")?;
    Ok(conn)
}

/// In words, what there is any of.
fn some_of(all: impl IntoIterator<Item = (&'static str, i64)>) -> Vec<String> {
    let some = all.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(what, count)| format!("{count} {what}")).collect()
}

fn count(conn: &mut PgConnection, sql: &str) -> Result<i64> {
    let Count { n } = sql_query(sql).get_result(conn)?;
    Ok(n)
}

fn add(effects: &mut BTreeMap<String, u64>, conn: &mut PgConnection, sql: &str) -> Result<()> {
    for Effects { trace, n } in sql_query(sql).load::<Effects>(conn)? {
        *effects.entry(trace).or_default() += n.unsigned_abs();
    }
    Ok(())
}
