//! What the services keep everything in, and what happens to that: a PostgreSQL [`Server`], which may have transactions lose
//! [`races`], or wait at a [`mod@gate`], or [`Files`] of SQLite.

mod files;
mod gate;
mod races;
mod server;

use anyhow::{Result, bail};

use self::files::Files;
pub(super) use self::gate::Gate;
pub(super) use self::races::{ISOLATED, LOST};
use self::server::Server;
use super::instance::Relay;
use super::scenarios::Store;

/// Both databases, wherever they are.
pub(super) enum Databases {
    Server(Box<Server>),
    Files(Files),
}

impl Databases {
    /// Two empty ones.
    pub(super) fn start(store: Store, relay: Relay) -> Result<Self> {
        match store {
            Store::Files => Files::new().map(Self::Files),
            _ => Ok(Self::Server(Box::new(Server::start(store, relay)?))),
        }
    }

    /// product-service's and order-service's, without anything in between.
    pub(super) fn urls(&self) -> [String; 2] {
        match self {
            Self::Server(server) => server.urls(),
            Self::Files(files) => files.urls(),
        }
    }

    /// The port that services connect to, if it is a server.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Server(server) => Some(server.port()),
            Self::Files(_) => None,
        }
    }

    pub(super) fn is_pooled(&self) -> bool {
        matches!(self, Self::Server(server) if server.is_pooled())
    }

    pub(super) fn server(&mut self) -> Result<&mut Server> {
        match self {
            Self::Server(server) => Ok(server.as_mut()),
            Self::Files(_) => bail!("there is no server"),
        }
    }

    pub(super) fn files(&self) -> Result<&Files> {
        match self {
            Self::Server(_) => bail!("there are no files"),
            Self::Files(files) => Ok(files),
        }
    }

    /// Puts right whatever was done to it.
    pub(super) fn heal(&mut self) -> Result<()> {
        match self {
            Self::Server(server) => server.heal(),
            Self::Files(files) => files.heal(),
        }
    }

    /// Writes that found no room, as far as it says so itself.
    pub(super) fn without_room(&self) -> u64 {
        match self {
            Self::Server(server) => server.without_room(),
            Self::Files(_) => 0,
        }
    }
}
