//! A mail catcher: takes every mail sent to a loopback port, delivers none, and shows them on a page.
//!
//! [`smtp`] talks to the sender, [`mail`] reads what arrived, [`store`] keeps the newest, [`page`] shows them.
//! All of it is bounded: how large a mail may be, how many are kept and how many connections are served.

pub(crate) mod mail;
pub(crate) mod page;
mod smtp;
pub(crate) mod store;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use actix_web::web::ServiceConfig;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use mail::Mail;
use store::Store;

/// A running mail catcher. It stops when it is told to ([`Catcher::stop`], or the token it was started with)
/// or dropped; mails already taken can be read from [`Catcher::mails`] until then and after.
#[derive(Debug)]
pub(crate) struct Catcher {
    smtp_addr: SocketAddr,
    store: Arc<Store>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why the catcher couldn't start.
#[derive(Debug, Error)]
pub(crate) enum CatcherError {
    /// The address isn't a loopback one. The catcher takes mail from anyone who can reach it.
    #[error(
        "the mail catcher takes mail from anyone, so it only listens on loopback, not on {addr}; use 127.0.0.1 or [::1]"
    )]
    NotLoopback {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The port couldn't be opened.
    #[error(
        "the mail catcher can't listen on {addr}: {error}; choose another port, or 0 for any free one"
    )]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// There is no Tokio runtime to serve connections on.
    #[error("the mail catcher was started outside a Tokio runtime; start it from async code")]
    NoRuntime,
}

impl Catcher {
    /// Starts on a loopback address; port 0 takes any free one, which [`Catcher::smtp_addr`] tells.
    ///
    /// # Errors
    /// [`CatcherError`], e.g. if the port is taken.
    pub(crate) fn start(smtp_addr: SocketAddr) -> Result<Self, CatcherError> {
        Self::start_until(smtp_addr, CancellationToken::new())
    }

    /// As [`Catcher::start`], and stops by itself when `stop` is cancelled.
    ///
    /// # Errors
    /// [`CatcherError`], e.g. if the port is taken.
    pub(crate) fn start_until(
        smtp_addr: SocketAddr,
        stop: CancellationToken,
    ) -> Result<Self, CatcherError> {
        if !smtp_addr.ip().is_loopback() {
            return Err(CatcherError::NotLoopback { addr: smtp_addr });
        }
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(CatcherError::NoRuntime);
        }
        let (listener, bound) =
            listen(smtp_addr).map_err(|error| CatcherError::Listen { addr: smtp_addr, error })?;
        let (store, tasks, stop) =
            (Arc::new(Store::default()), TaskTracker::new(), stop.child_token());
        tasks.spawn(smtp::serve(listener, Arc::clone(&store), stop.clone(), tasks.clone()));
        Ok(Self { smtp_addr: bound, store, stop, tasks })
    }

    /// The address it listens on, with the port it got.
    pub(crate) fn smtp_addr(&self) -> SocketAddr {
        self.smtp_addr
    }

    /// The mails kept, newest first.
    pub(crate) fn mails(&self) -> Vec<Arc<Mail>> {
        self.store.newest_first()
    }

    /// The pages and the JSON list, for `App::configure` or a scope's; they find their own prefix.
    pub(crate) fn configure(&self) -> impl FnOnce(&mut ServiceConfig) + Clone + Send + 'static {
        let store = Arc::clone(&self.store);
        move |service| page::configure(service, store)
    }

    /// Stops listening, ends the open connections with 421 and waits until they are gone. A mail not yet
    /// confirmed with 250 is not taken, and its sender knows.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Catcher {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn listen(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = StdListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, bound))
}
