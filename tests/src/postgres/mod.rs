//! A real PostgreSQL server: one shared by the test process, or private ones that may be taken away.

mod binaries;
mod owner;
mod pgbouncer;

use std::fs::Permissions;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, mem};

use anyhow::{Context, ensure};
use diesel::pg::PgConnection;
use diesel::{Connection, RunQueryDsl};

pub use self::binaries::Binaries;
use self::owner::Owner;
pub use self::pgbouncer::PgBouncer;
use crate::disk::SmallDisk;
use crate::once::Once;
use crate::poll::eventually_blocking;
use crate::ports::{free_port, start_on_free_ports};
use crate::process::{Child, Launch, run};
use crate::scratch;
use crate::tls::Identity;

const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(120);

/// The program that copies a server which runs.
pub const BASE_BACKUP: &str = "pg_basebackup";

static SHARED: Once<PostgresServer> = Once::new();

/// A log that relays can read. What a test leaves behind keeps its slot, as long as the server runs.
const LOGICAL: [&str; 3] =
    ["wal_level=logical", "max_replication_slots=500", "max_wal_senders=100"];

/// A PostgreSQL server on a loopback port of its own, its data in the scratch folder.
///
/// Durability is as in production (`fsync` and `synchronous_commit` on) unless settings say otherwise.
#[derive(Debug)]
pub struct PostgresServer {
    binaries: Binaries,
    owner: Option<Owner>,
    data: PathBuf,
    port: u16,
    settings: Vec<String>,
    child: Option<Child>,
    databases: AtomicUsize,
}

impl PostgresServer {
    /// The server all tests of this process share, started on first use.
    pub fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get(Self::start_private)
    }

    /// A server for one test alone, to stop and start at will.
    pub fn start_private() -> anyhow::Result<Self> {
        Self::start_with(Binaries::find()?, &LOGICAL)
    }

    /// A private server of `binaries` with `settings` such as `fsync=off` or `wal_level=logical`.
    pub fn start_with(binaries: Binaries, settings: &[&str]) -> anyhow::Result<Self> {
        Self::initialized(binaries, settings)?.started()
    }

    /// A private server that shows `identity` and lets nobody in without TLS.
    pub fn start_secured(identity: &Identity) -> anyhow::Result<Self> {
        let admits = "hostssl all all 127.0.0.1/32 trust\n";
        Self::start_with_tls(identity, &[], &[("pg_hba.conf", admits)])
    }

    /// The same, but whoever is not the tests' own user is let in by a certificate alone: one for that user, of the authority
    /// whose own one this is (PEM).
    pub fn start_certifying(identity: &Identity, authority: &str) -> anyhow::Result<Self> {
        let admits = "hostssl all postgres 127.0.0.1/32 trust\n\
                      hostssl all all 127.0.0.1/32 cert\n";
        let files = [("clients.crt", authority), ("pg_hba.conf", admits)];
        Self::start_with_tls(identity, &["ssl_ca_file=clients.crt"], &files)
    }

    /// With `files` in its folder.
    fn start_with_tls(
        identity: &Identity,
        settings: &[&str],
        files: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let settings = [&LOGICAL[..], &["ssl=on"][..], settings].concat();
        let server = Self::initialized(Binaries::find()?, &settings)?;
        server.put("server.crt", &identity.certificate)?;
        server.put("server.key", &identity.key)?;
        for (name, text) in files {
            server.put(name, text)?;
        }
        server.started()
    }

    /// A private server whose data is in a new folder on `disk`.
    pub fn start_on(
        disk: &SmallDisk,
        binaries: Binaries,
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let data = disk.folder().join("postgres");
        fs::create_dir(&data).with_context(|| format!("could not create {}", data.display()))?;
        let server = Self::stopped(binaries, data, owned(settings))?;
        server.initialize()?;
        server.started()
    }

    /// A private server that streams whatever is written to this one, and may take its place by [`Self::promote`]. Until
    /// then it can only be read. It needs [`BASE_BACKUP`].
    pub fn stand_by(&self) -> anyhow::Result<Self> {
        let data = scratch::folder("postgres")?;
        let standby = Self::stopped(self.binaries.clone(), data, self.settings.clone())?;
        let copy = standby
            .launch(BASE_BACKUP)
            .args(["--host=127.0.0.1", &format!("--port={}", self.port)])
            .args(["--username=postgres", "--no-password"])
            .args(["--write-recovery-conf", "--wal-method=stream"])
            .args(["--checkpoint=fast", "--no-sync"]);
        standby.prepare(copy)?;
        standby.started()
    }

    /// Makes a server of a standby that may be written to, whether the one before still runs or not.
    pub fn promote(&self) -> anyhow::Result<()> {
        self.execute("SELECT pg_promote()")?;
        eventually_blocking("a server that may be written to", START_DEADLINE, || {
            self.execute("CREATE TEMP TABLE written ()").map_err(|error| format!("{error:#}"))
        })
    }

    fn initialized(binaries: Binaries, settings: &[&str]) -> anyhow::Result<Self> {
        let server = Self::stopped(binaries, scratch::folder("postgres")?, owned(settings))?;
        server.initialize()?;
        Ok(server)
    }

    /// One whose data is to be in the empty folder `data`.
    fn stopped(binaries: Binaries, data: PathBuf, settings: Vec<String>) -> anyhow::Result<Self> {
        let owner = Owner::needed()?;
        // It makes no use of a folder that others may look into.
        fs::set_permissions(&data, Permissions::from_mode(0o700))?;
        if let Some(owner) = &owner {
            owner.give(&data)?;
        }
        let (port, child, databases) = (0, None, AtomicUsize::new(0));
        Ok(Self { binaries, owner, data, port, settings, child, databases })
    }

    fn started(mut self) -> anyhow::Result<Self> {
        let start = || {
            self.port = free_port()?;
            self.start_again()
        };
        start_on_free_ports(start, |_| true)?;
        Ok(self)
    }

    /// Writes one of the files in its folder.
    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.data.join(name);
        fs::write(&path, text)?;
        // Of a key that others may read it makes no use.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        self.owner.as_ref().map_or(Ok(()), |owner| owner.take(&path))
    }

    /// Creates an empty database and returns its URL; each call makes a new one.
    pub fn database(&self, name: &str) -> String {
        self.database_with(name, "")
    }

    /// The same with options of CREATE DATABASE, such as `ENCODING 'LATIN1' TEMPLATE template0`.
    pub fn database_with(&self, name: &str, options: &str) -> String {
        let plain: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .take(40)
            .collect();
        let database = format!("{plain}_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE \"{database}\" {options}"))
            .unwrap_or_else(|error| panic!("could not create database {database}: {error:#}"));
        self.url(&database)
    }

    /// Dumps the database at `url` into a file in the scratch folder.
    pub fn dump(&self, url: &str) -> anyhow::Result<PathBuf> {
        let file = scratch::folder("dump")?.join("database.dump");
        let mut dump = self.client("pg_dump");
        run(dump.args(["--format=custom", "--file"]).arg(&file).arg(url))?;
        Ok(file)
    }

    /// Restores a dump into a new database, and returns its URL.
    pub fn restore(&self, dump: &Path, name: &str) -> anyhow::Result<String> {
        let url = self.database(name);
        let mut restore = self.client("pg_restore");
        run(restore.args(["--no-owner", "--dbname"]).arg(&url).arg(dump))?;
        Ok(url)
    }

    /// One of PostgreSQL's programs for clients: beside the server's, or on PATH.
    fn client(&self, name: &str) -> Command {
        let beside = self.binaries.folder().join(name);
        if beside.exists() { Command::new(beside) } else { Command::new(name) }
    }

    /// Runs one statement as superuser in the database `postgres`.
    pub fn execute(&self, statement: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::establish(&self.url("postgres"))?;
        diesel::sql_query(statement).execute(&mut connection)?;
        Ok(())
    }

    /// The URL of `database` on this server, as superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}:{}/{database}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The port it listens on, also while it is stopped.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections and shuts down in good order; connections are refused from then on.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        // SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
        match self.child.take() {
            Some(mut child) => child.end_with("INT", STOP_DEADLINE).map(drop),
            None => Ok(()),
        }
    }

    /// Kills the server as a crash of its machine does: what was committed must be there after [`Self::start_again`], and no
    /// session commits anything more.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.kill9_with_children())
    }

    /// Whether it was started, and neither was ended nor ended by itself since.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.exited().is_none())
    }

    /// How many lines with `words` in them it has written since its last start.
    pub fn said(&self, words: &str) -> usize {
        self.child.as_ref().map_or(0, |child| child.said(words))
    }

    /// Starts a server that does not run, on the same port with the same data.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        eventually_blocking("a start of PostgreSQL", START_DEADLINE, || {
            match self.start_once() {
                // After a kill its orphaned backends need a moment to notice and leave.
                Err(error) if format!("{error:#}").contains("still in use") => Err(error),
                outcome => Ok(outcome),
            }
        })?
    }

    fn start_once(&mut self) -> anyhow::Result<()> {
        let mut launch = self
            .launch("postgres")
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .args(["-c", "max_connections=200"])
            // Immediate shutdown: leaves no shared memory behind, as a kill would.
            .last_signal("QUIT");
        // As safe as syncing file by file after a crash, and quicker; older versions don't know it.
        if self.version()? >= 14 {
            launch = launch.args(["-c", "recovery_init_sync_method=syncfs"]);
        }
        for setting in &self.settings {
            launch = launch.args(["-c", setting]);
        }
        let mut child = launch.spawn()?;
        // Its own log, not a connection: that could be another server's on a port lost to it. A standby accepts read-only
        // ones.
        child
            .wait_for_line("ready to accept ", START_DEADLINE)
            .with_context(|| format!("PostgreSQL did not start on port {}", self.port))?;
        self.child = Some(child);
        Ok(())
    }

    fn version(&self) -> anyhow::Result<u32> {
        let written = fs::read_to_string(self.data.join("PG_VERSION"))?;
        let major = written.trim().split('.').next().unwrap_or_default();
        major.parse().with_context(|| format!("{written:?} is no version of PostgreSQL"))
    }

    fn initialize(&self) -> anyhow::Result<()> {
        let initdb = self
            .launch("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--no-sync", "--no-instructions"]);
        self.prepare(initdb)
    }

    /// Runs a program to its end that fills the folder.
    fn prepare(&self, program: Launch) -> anyhow::Result<()> {
        let mut run = program.spawn()?;
        let status = run.wait_for_exit(START_DEADLINE)?;
        ensure!(
            status.success(),
            "{} could not be filled; is there room on the disk?\n{}",
            self.data.display(),
            run.log_tail()
        );
        Ok(())
    }

    fn launch(&self, program: &str) -> Launch {
        let launch = Launch::new(self.binaries.folder().join(program))
            .arg("-D")
            .arg(&self.data)
            .folder(&self.data);
        match &self.owner {
            Some(owner) => launch.user(owner.uid, owner.gid),
            None => launch,
        }
    }
}

fn owned(settings: &[&str]) -> Vec<String> {
    settings.iter().map(|setting| (*setting).to_owned()).collect()
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.end_with("QUIT", STOP_DEADLINE);
        }
        scratch::discard(mem::take(&mut self.data));
    }
}
