//! The PostgreSQL that a benchmark runs on: one of its own, or one that was named.

use anyhow::{Result, anyhow, ensure};
use common::db::Conn;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use stockloop_tests::postgres::{Binaries, PostgresServer};

use crate::bench::options::{Options, Relay};
use crate::place::Place;

/// What else needs connections, beside a client's each: a service's pools and listener, and this program.
const OTHER_CONNECTIONS: i64 = 30;

/// A server, and where the benchmark's databases are on it.
pub(in crate::bench) struct Server {
    url: String,
    /// The database of a service that is started.
    pub(in crate::bench) of_service: Place,
    /// The database of a service that keeps a copy.
    pub(in crate::bench) of_copy: Place,
    /// The database of the limit.
    pub(in crate::bench) of_limit: Place,
    /// The database of a backlog, which others are copies of.
    pub(in crate::bench) of_backlog: Place,
    _own: Option<PostgresServer>,
}

impl Server {
    /// A new one with PostgreSQL's own settings, but for `max_connections`; its data lies in a folder that goes with it.
    pub(in crate::bench) fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with a log that relays can read.
    pub(in crate::bench) fn start_logical() -> Result<Self> {
        Self::start_with(&["wal_level=logical"])
    }

    fn start_with(settings: &[&str]) -> Result<Self> {
        let own = PostgresServer::start_with(Binaries::find()?, settings)?;
        Self::checked(own.url("postgres"), Some(own))
    }

    /// The one of the database at `url`, without what a run that was killed has left there.
    pub(in crate::bench) fn named(url: &str) -> Result<Self> {
        let server = Self::checked(url.to_owned(), None)?;
        let Self { of_service, of_copy, of_limit, of_backlog, .. } = &server;
        [of_service, of_copy, of_limit, of_backlog].into_iter().try_for_each(Place::remove)?;
        Ok(server)
    }

    /// The one that `options` name, if they do; refused, where it can't be measured on.
    pub(in crate::bench) fn named_by(options: &Options) -> Result<Option<Self>> {
        options.ensure_external_can_run()?;
        let server = options.database.as_deref().map(Self::named).transpose()?;
        if let Some(server) = server.as_ref().filter(|_| options.relays().contains(&Relay::Log)) {
            server.ensure_logical()?;
        }
        Ok(server)
    }

    /// A connection to the database that was named.
    pub(in crate::bench) fn connect(&self) -> Result<Conn> {
        connect(&self.url).map(Conn::Pg)
    }

    /// Refuses more clients than the server has connections for.
    pub(in crate::bench) fn ensure_room_for(&self, clients: u16) -> Result<()> {
        let most: i64 = setting(&self.url, "max_connections")?.parse()?;
        ensure!(
            i64::from(clients) + OTHER_CONNECTIONS <= most,
            "--clients: the limit has a connection for each client, up to {OTHER_CONNECTIONS} are needed beside, and the server has max_connections {most}: it is too small for {clients} clients"
        );
        Ok(())
    }

    /// Refuses a server whose log no relay can read.
    fn ensure_logical(&self) -> Result<()> {
        let level = setting(&self.url, "wal_level")?;
        ensure!(
            level == "logical",
            "--relay log: the server's log can't be read, since its wal_level is {level}: set wal_level = logical and restart it, or say --relay table"
        );
        Ok(())
    }

    fn checked(url: String, own: Option<PostgresServer>) -> Result<Self> {
        let place = |suffix| Place::beside("--database", &url, suffix);
        let (of_service, of_copy) = (place("stockloop_benchmark")?, place("stockloop_copy")?);
        let (of_limit, of_backlog) = (place("stockloop_limit")?, place("stockloop_backlog")?);
        let fsync = setting(&url, "fsync")?;
        ensure!(
            fsync == "on",
            "--database: the server runs with fsync {fsync}: it does not keep what it has committed, so its figures mean nothing"
        );
        Ok(Self { url, of_service, of_copy, of_limit, of_backlog, _own: own })
    }
}

fn setting(url: &str, name: &str) -> Result<String> {
    #[derive(QueryableByName)]
    struct Setting {
        #[diesel(sql_type = Text)]
        value: String,
    }
    let query = sql_query("SELECT current_setting($1) AS value").bind::<Text, _>(name);
    let Setting { value } = query.get_result(&mut connect(url)?)?;
    Ok(value)
}

fn connect(url: &str) -> Result<PgConnection> {
    PgConnection::establish(url).map_err(|error| {
        // In one line; the driver's words are several.
        let words: Vec<String> = error.to_string().split_whitespace().map(str::to_owned).collect();
        anyhow!("--database: the server can't be reached: {}", words.join(" "))
    })
}
