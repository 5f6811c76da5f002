//! What a benchmark runs on, from the server to the services, and what each of its processes uses.
//!
//! The [`server`] and the [`broker`] come first, with the [`topics`] of a loop; then the [`service`], several processes of it
//! ([`running`]), and another program as its relay ([`external`]).

mod broker;
mod client;
mod external;
mod mounts;
mod running;
mod server;
mod service;
mod topics;

use anyhow::Result;

pub(super) use self::broker::Broker;
pub(super) use self::client::{Client, Target, words};
use self::external::Connect;
pub(super) use self::external::{CONNECT, Connector};
pub(super) use self::mounts::in_memory;
pub(super) use self::running::{Running, log_tails, start_instances, used_by, wait_until_shared};
pub(super) use self::server::Server;
pub(super) use self::service::Service;
pub(super) use self::topics::{PARTITIONS, Topics};
use super::options::Options;

/// What services run on. What is to be ended first comes first.
pub(super) struct Parts {
    /// Where another program is the relay.
    pub(super) connect: Option<Connect>,
    pub(super) broker: Broker,
    pub(super) server: Server,
}

impl Parts {
    /// The server that was `named`, and new ones for the others.
    pub(super) fn start(options: &Options, named: Option<Server>) -> Result<Self> {
        let server = named.map_or_else(Server::start_logical, Ok)?;
        let broker = Broker::start(options.broker)?;
        let connect = Connect::start_for(&options.relays(), &broker)?;
        Ok(Self { connect, broker, server })
    }
}
