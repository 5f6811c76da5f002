//! A network that misbehaves: what connects to its port is passed on to a server, as well or badly as it is told. [`mod@line`]
//! is a connection, with what carries its bytes.

mod line;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::line::{Line, accept};
use super::wire::{Moment, Request, Snare};

/// Which way bytes go: mostly a service has connected to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToServer,
    ToService,
}

/// How well connections are passed on, those that are open, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    Clear,
    /// Each piece is on its way for `delay_ms`, and up to `jitter_ms` more.
    Slow {
        delay_ms: u64,
        jitter_ms: u64,
    },
    /// So many bytes go on at a time, with a pause behind them.
    Trickle {
        bytes: usize,
        pause_ms: u64,
    },
    /// Nothing goes this way, and comes when it is over; nothing goes at all if there is none.
    Blackhole(Option<Way>),
}

impl Weather {
    /// Whether nothing goes this way.
    fn holds(self, way: Way) -> bool {
        matches!(self, Self::Blackhole(held) if held.is_none_or(|held| held == way))
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear => f.write_str("all comes through"),
            Self::Slow { delay_ms, jitter_ms } => {
                write!(f, "each piece takes {delay_ms} to {} ms", delay_ms + jitter_ms)
            }
            Self::Trickle { bytes, pause_ms } => write!(f, "{bytes} bytes each {pause_ms} ms"),
            Self::Blackhole(None) => f.write_str("nothing comes through"),
            Self::Blackhole(Some(Way::ToServer)) => f.write_str("nothing gets there"),
            Self::Blackhole(Some(Way::ToService)) => f.write_str("nothing comes back"),
        }
    }
}

/// How all open connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    /// Both ends are told.
    Cut,
    /// Half-open: who has connected is told, and who was called waits on.
    LeaveServer,
    /// Half-open: who was called is told, and who has connected waits on.
    LeaveService,
    /// Nobody is told.
    Vanish,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "all connections are cut",
            Self::LeaveServer => "all connections are cut, and who was called is not told",
            Self::LeaveService => "all connections are cut, and who has called is not told",
            Self::Vanish => "all connections vanish, and nobody is told",
        })
    }
}

/// A port that is passed on, until this value is dropped.
pub(super) struct Proxy {
    weather: watch::Sender<Weather>,
    strikes: watch::Sender<Strike>,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What a proxy and its connections know together.
#[derive(Default)]
struct Shared {
    /// The port that new connections are passed on to.
    server: AtomicU16,
    snare: Mutex<Option<Snare>>,
    /// Pieces that came while the weather was not clear.
    troubled: AtomicU64,
    /// Requests that something became of.
    snared: AtomicU64,
    /// Connections that were made.
    accepted: AtomicU64,
}

impl Shared {
    fn snare(&self) -> MutexGuard<'_, Option<Snare>> {
        self.snare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Passes `port` on to the port of `server`; within a runtime, which carries the connections.
    pub(super) async fn start(port: u16, server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (weather, of_weather) = watch::channel(Weather::Clear);
        let (strikes, of_strikes) = watch::channel(Strike::Cut);
        let shared = Arc::new(Shared { server: server.into(), ..Shared::default() });
        let line = Line {
            weather: of_weather,
            strikes: of_strikes,
            shared: Arc::clone(&shared),
            number: 0,
        };
        let accepting = tokio::spawn(accept(listener, line));
        Ok(Self { weather, strikes, shared, accepting })
    }

    /// From now on it is like this.
    pub(super) fn be(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Passes new connections on to the port of another server.
    pub(super) fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
    }

    /// Ends all open connections like this; new ones are passed on. Returns whether there was one.
    pub(super) fn strike(&self, strike: Strike) -> bool {
        let is_open = self.open() > 0;
        self.strikes.send_replace(strike);
        is_open
    }

    /// Loses the answers to so many of the next requests.
    pub(super) fn lose(&self, request: Request, count: u32) {
        *self.shared.snare() = Some(Snare::losing(request, count));
    }

    /// Holds the next connection where this moment comes, and tells of it.
    pub(super) fn trap(&self, moment: Moment, tell: &SyncSender<()>) {
        *self.shared.snare() = Some(Snare::telling(moment, tell.clone()));
    }

    /// Ends all of it.
    pub(super) fn clear(&self) {
        self.be(Weather::Clear);
        *self.shared.snare() = None;
    }

    /// Pieces that met a bad network since this was asked last.
    pub(super) fn take_troubled(&self) -> u64 {
        self.shared.troubled.swap(0, Ordering::SeqCst)
    }

    /// Requests that something became of since this was asked last.
    pub(super) fn take_snared(&self) -> u64 {
        self.shared.snared.swap(0, Ordering::SeqCst)
    }

    /// Connections that were made since this was asked last, whether there was somebody to pass them on to or not.
    pub(super) fn take_accepted(&self) -> u64 {
        self.shared.accepted.swap(0, Ordering::SeqCst)
    }

    /// Whether there were any, and one has ended.
    pub(super) fn was_called(&self) -> bool {
        self.shared.accepted.load(Ordering::SeqCst) > self.open()
    }

    /// Whether pieces met a bad network since [`Proxy::take_troubled`] was asked last.
    pub(super) fn is_troubled(&self) -> bool {
        self.shared.troubled.load(Ordering::SeqCst) > 0
    }

    /// How many connections are open.
    fn open(&self) -> u64 {
        // One listens for those to come.
        self.strikes.receiver_count().saturating_sub(1) as u64
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
