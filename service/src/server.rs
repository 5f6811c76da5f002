//! A service's HTTP server: where it listens, and what clients may take of it.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::{Duration, Instant};

use actix_web::dev::{Extensions, Server};
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};
use anyhow::Context;
use common::config::HttpSettings;
use common::http::{Connections, EndedConnections, take_turns, unknown_route};
use common::telemetry::{measure, traced};
use engine::Engine;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::Span;

/// Threads that handle requests.
const WORKERS: usize = 2;

/// Connections of which the kernel has told nobody yet: what comes at once is not sent away.
const BACKLOG: u32 = 1_024;

/// Connections that a thread may have beyond its part of all: those that are ending, to make room.
const ENDING: usize = 64;

/// For how much longer a connection is left to its client than the server itself waits for it: that one ends it with an answer.
const FOR_THE_ANSWER: Duration = Duration::from_secs(1);

/// How often connections are looked through for those whose client is late.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often the log tells of connections that were ended, at the most.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Files that a service has open beside its clients' connections: of its databases, of the broker, of the log.
const OTHER_FILES: usize = 256;

/// Files that a connection takes: its socket, and the second handle by which it can be ended.
const FILES_PER_CONNECTION: usize = 2;

/// Connections that there may be in any case.
const FEWEST: usize = 16;

/// Listens on `bind`, such as `127.0.0.1:8081`; within a tokio runtime.
///
/// # Errors
/// What the system says of the last address that `bind` names.
pub(crate) fn listen(bind: &str) -> io::Result<TcpListener> {
    let mut refused = io::Error::new(io::ErrorKind::InvalidInput, "it names no address");
    for address in bind.to_socket_addrs()? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Serves what `mount` mounts.
///
/// # Errors
/// When the server can't take the listener.
pub(crate) fn serve(
    engine: &Engine,
    mount: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
    listener: TcpListener,
) -> anyhow::Result<Server> {
    let http = &engine.settings.http;
    let metrics = engine.metrics.clone();
    let (spans, log_span) = (engine.spans.clone(), engine.log_span());
    let factory = move || {
        let metrics = metrics.clone();
        let (spans, log_span) = (spans.clone(), log_span.clone());
        App::new()
            .configure(&mount)
            .default_service(web::to(unknown_route))
            .wrap(from_fn(move |request, next| {
                traced(spans.clone(), log_span.clone(), request, next)
            }))
            .wrap(from_fn(move |request, next| measure(metrics.clone(), request, next)))
            .wrap(from_fn(take_turns))
    };
    let most = most_connections(engine);
    let connections = Connections::new(most, patience(http));
    let opened = connections.clone();
    let server = HttpServer::new(factory)
        .workers(WORKERS)
        .disable_signals()
        .shutdown_timeout(http.shutdown_timeout.as_secs())
        .max_connections(most.div_ceil(WORKERS) + ENDING)
        .keep_alive(http.keep_alive)
        .client_request_timeout(http.client_timeout)
        // Before it is closed: for the end of an answer, and for the rest of a request that was refused.
        .client_disconnect_timeout(http.client_timeout)
        .on_connect(move |socket, data| note(&opened, socket, data))
        .listen(listener)
        .context("the HTTP server can't start")?
        .run();
    tokio::spawn(end_late(connections, engine.stopping.clone(), engine.log_span()));
    Ok(server)
}

/// `http.max_connections`, or fewer where this process may open few files.
fn most_connections(engine: &Engine) -> usize {
    let wanted = engine.settings.http.max_connections;
    let most = connections_allowed(wanted, open_files());
    if most < wanted {
        tracing::info!(
            parent: engine.log_span(),
            most,
            wanted,
            "this process may open few files, so there are fewer connections than http.max_connections; raise the limit (ulimit -n, LimitNOFILE)"
        );
    }
    most
}

/// How long a connection is left to its client: until the server has had the time to end it with an answer, be it that no
/// request comes, or that none comes any more.
fn patience(http: &HttpSettings) -> Duration {
    http.client_timeout.saturating_add(http.keep_alive).saturating_add(FOR_THE_ANSWER)
}

/// Of `wanted` connections, as many as a process may have that may open so many files; none: without a limit.
fn connections_allowed(wanted: usize, files: Option<usize>) -> usize {
    let Some(files) = files else { return wanted };
    let most = files.saturating_sub(OTHER_FILES) / FILES_PER_CONNECTION;
    wanted.min(most.saturating_sub(WORKERS * ENDING).max(FEWEST))
}

/// How many files this process may open, where the system tells it.
fn open_files() -> Option<usize> {
    open_files_of(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn open_files_of(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Notes a connection that was opened, with what the server knows of it.
fn note(connections: &Connections, socket: &dyn Any, data: &mut Extensions) {
    let Some(socket) = socket.downcast_ref::<TcpStream>() else { return };
    match connections.open(socket) {
        Ok(connection) => {
            data.insert(connection);
        }
        Err(error) => tracing::error!(%error, "a connection can't be ended if its client is late"),
    }
}

/// Ends the connections of clients that are late, until the service stops.
async fn end_late(connections: Connections, stopping: CancellationToken, log_span: Span) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut ended, mut told) = (EndedConnections::default(), None);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = looks.tick() => {}
        }
        let now = Instant::now();
        ended += connections.end_late(now);
        let is_due = told.is_none_or(|told: Instant| now.duration_since(told) >= TELL_EVERY);
        if is_due && ended != EndedConnections::default() {
            let EndedConnections { late, crowded_out } = std::mem::take(&mut ended);
            tracing::warn!(
                parent: &log_span,
                late,
                crowded_out,
                "connections of clients were ended that kept this service waiting (http.client_timeout, http.max_connections)"
            );
            told = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_connections_than_files_for_them() {
        for (wanted, files, allowed) in [
            (1_024, None, 1_024),
            (1_024, Some(1_048_576), 1_024),
            (1_024, Some(1_024), 256),
            (100, Some(1_024), 100),
            (1_024, Some(64), FEWEST),
        ] {
            assert_eq!(connections_allowed(wanted, files), allowed, "{files:?}");
        }
    }

    #[test]
    fn the_limit_of_files_is_read_as_the_kernel_writes_it() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             127235               127235               processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files_of(limits), Some(1_024));
        assert_eq!(open_files_of(&limits.replace("1024  ", "unlimited")), None);
        assert_eq!(open_files_of(""), None);
    }
}
