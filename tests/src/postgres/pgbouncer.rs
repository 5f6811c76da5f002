//! A real PgBouncer in front of a server, in transaction mode.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, mem};

use anyhow::Context;

use super::PostgresServer;
use super::owner::Owner;
use crate::ports::{free_port, start_on_free_ports};
use crate::process::{Child, Launch};
use crate::scratch;

const NAME: &str = "pgbouncer";
/// Where Debian puts it, which is on root's PATH only.
const INSTALLED: &str = "/usr/sbin/pgbouncer";
const START_DEADLINE: Duration = Duration::from_secs(120);

/// PgBouncer with `pool_mode=transaction` on a loopback port of its own.
#[derive(Debug)]
pub struct PgBouncer {
    program: PathBuf,
    owner: Option<Owner>,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl PgBouncer {
    /// Whether there is one on this machine.
    pub fn is_installed() -> bool {
        find().is_some()
    }

    /// In front of `server`, with `sessions` of it for each database, however many clients there are.
    pub fn start(server: &PostgresServer, sessions: u32) -> anyhow::Result<Self> {
        let program = find().with_context(|| {
            format!("{NAME} is neither on PATH nor {INSTALLED}; install the package {NAME}")
        })?;
        let owner = Owner::needed()?;
        let folder = scratch::folder(NAME)?;
        let mut pooler = Self { program, owner, folder, port: 0, child: None };
        let start = || {
            pooler.port = free_port()?;
            pooler.configure(server, sessions)?;
            pooler.start_again()
        };
        start_on_free_ports(start, |_| true)?;
        Ok(pooler)
    }

    /// The URL by which the database at `url`, one of its server's, is reached through it.
    pub fn url(&self, url: &str) -> String {
        let database = url.rsplit('/').next().unwrap_or_default();
        format!("postgres://postgres@{}:{}/{database}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The port it listens on, also while it is killed.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it as a crash does: all connections of clients break.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill9();
        }
    }

    /// Starts it, or starts it again on the same port.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let launch = Launch::new(&self.program).arg(self.folder.join("pgbouncer.ini"));
        // It refuses to run as root, as the server does.
        let launch = match &self.owner {
            Some(owner) => launch.user(owner.uid, owner.gid),
            None => launch,
        };
        let mut child = launch.folder(&self.folder).spawn()?;
        child
            .wait_for_line("process up", START_DEADLINE)
            .with_context(|| format!("{NAME} did not start on port {}", self.port))?;
        self.child = Some(child);
        Ok(())
    }

    /// What differs from the defaults is only what a test needs; above all, no startup parameter is ignored.
    fn configure(&self, server: &PostgresServer, sessions: u32) -> anyhow::Result<()> {
        let (port, of_server) = (self.port, server.port());
        let settings = format!(
            "[databases]\n\
             * = host=127.0.0.1 port={of_server} user=postgres\n\
             [pgbouncer]\n\
             pool_mode = transaction\n\
             default_pool_size = {sessions}\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n"
        );
        fs::write(self.folder.join("pgbouncer.ini"), settings)?;
        match &self.owner {
            Some(owner) => owner.give(&self.folder),
            None => Ok(()),
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.kill9();
        scratch::discard(mem::take(&mut self.folder));
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(NAME));
    on_path.chain([PathBuf::from(INSTALLED)]).find(|program| Path::is_file(program))
}
