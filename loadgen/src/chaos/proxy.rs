//! A network that misbehaves: what connects to its port is passed on to a server, as well or badly as it is told.
//!
//! It is a program, not a network: kernels at both ends confirm what they are sent even where nothing is passed on. So what
//! kernels find out by themselves (keepalives, `tcp_user_timeout`) has to be played: an end that was left behind without a
//! word is reset after [`VANISHED`], as the service's own settings would have its kernel do.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::wire::{Fate, Moment, Request, Snare, Talk};

/// How long an end that hears nothing more lives on.
const VANISHED: Duration = Duration::from_secs(25);

/// Bytes that are passed on at once.
const PIECE: usize = 16 * 1024;

/// How long a connection is held at the most, while somebody does something about it.
const HELD: Duration = Duration::from_secs(10);

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
        let shared = Arc::new(Shared::default());
        let line = Line {
            server,
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

    /// Ends all open connections like this; new ones are passed on. Returns whether there was one.
    pub(super) fn strike(&self, strike: Strike) -> bool {
        // One listens for those to come.
        let is_open = self.strikes.receiver_count() > 1;
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
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, line: Line) {
    for number in 0.. {
        // What can't be taken now is tried again by whoever wants to connect.
        let Ok((service, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        line.shared.accepted.fetch_add(1, Ordering::SeqCst);
        let mut line = Line { number, ..line.clone() };
        // What struck before is not meant for it.
        line.strikes.mark_unchanged();
        tokio::spawn(line.carry(service));
    }
}

/// What a connection has to know.
#[derive(Clone)]
struct Line {
    server: u16,
    weather: watch::Receiver<Weather>,
    strikes: watch::Receiver<Strike>,
    shared: Arc<Shared>,
    number: u64,
}

impl Line {
    async fn carry(mut self, mut service: TcpStream) {
        // Where there is no server, the connection ends at once.
        let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.server)).await else {
            return;
        };
        let nodelay = service.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        if nodelay.is_err() {
            return;
        }
        let talk = Mutex::new(Talk::default());
        let ended = {
            let ((from_service, to_service), (from_server, to_server)) =
                (service.split(), server.split());
            let pump = |way| Pump { line: self.clone(), way, talk: &talk };
            let there = pump(Way::ToServer).run(from_service, to_server);
            let back = pump(Way::ToService).run(from_server, to_service);
            tokio::select! {
                both = async { tokio::try_join!(there, back) } => {
                    both.err().map(|_| Strike::Cut)
                }
                strike = struck(&mut self.strikes) => Some(strike),
            }
        };
        // What is left behind counts as no connection that could be struck.
        drop(self);
        match ended {
            None => {}
            Some(Strike::Cut) => [service, server].into_iter().for_each(reset),
            Some(Strike::LeaveServer) => {
                reset(service);
                leave(server).await;
            }
            Some(Strike::LeaveService) => {
                reset(server);
                leave(service).await;
            }
            Some(Strike::Vanish) => {
                tokio::join!(leave(service), leave(server));
            }
        }
    }

    fn is_clear(&self) -> bool {
        *self.weather.borrow() == Weather::Clear
    }
}

/// Waits for the next strike; without a proxy there is an end as well.
async fn struck(strikes: &mut watch::Receiver<Strike>) -> Strike {
    match strikes.changed().await {
        Ok(()) => *strikes.borrow_and_update(),
        Err(_) => Strike::Cut,
    }
}

/// Ends a connection as a peer does that knows nothing of it.
fn reset(stream: TcpStream) {
    // Without it, it ends in good order, which is an end as well.
    let _ = stream.set_zero_linger();
}

/// Leaves an end without a word until its kernel would have noticed, or it goes by itself.
async fn leave(mut stream: TcpStream) {
    let _ = timeout(VANISHED, swallow(&mut stream)).await;
    reset(stream);
}

/// Reads to the end, and passes nothing on.
async fn swallow(from: &mut (impl AsyncRead + Unpin)) {
    let mut heard = [0; 1024];
    while from.read(&mut heard).await.is_ok_and(|read| read > 0) {}
}

/// One way of a connection.
struct Pump<'a> {
    line: Line,
    way: Way,
    /// Of both ways.
    talk: &'a Mutex<Talk>,
}

impl Pump<'_> {
    /// Passes on until there is no more; an error ends both ways.
    async fn run(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut random = StdRng::seed_from_u64(self.line.number);
        let mut buffer = vec![0; PIECE];
        loop {
            let read = from.read(&mut buffer).await?;
            let piece = buffer.get(..read).unwrap_or_default();
            if piece.is_empty() {
                return to.shutdown().await;
            }
            match self.fate_of(piece) {
                Fate::Passes => {}
                Fate::IsLost => return Err(io::Error::other("it was lost on purpose")),
                Fate::IsHeld(tell) => {
                    // Who wanted to know may be gone.
                    let _ = tell.try_send(());
                    let _ = timeout(HELD, swallow(&mut from)).await;
                    return Err(io::Error::other("it was held on purpose"));
                }
            }
            self.pass(piece, &mut to, &mut random).await?;
        }
    }

    fn fate_of(&self, piece: &[u8]) -> Fate {
        let Line { shared, .. } = &self.line;
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = match self.way {
            Way::ToServer => talk.ask(piece, shared.snare().as_mut()),
            Way::ToService => talk.answer(piece),
        };
        if !matches!(fate, Fate::Passes) {
            shared.snared.fetch_add(1, Ordering::SeqCst);
        }
        fate
    }

    async fn pass(
        &mut self,
        piece: &[u8],
        to: &mut (impl AsyncWrite + Unpin),
        random: &mut StdRng,
    ) -> io::Result<()> {
        let way = self.way;
        if !self.line.is_clear() {
            self.line.shared.troubled.fetch_add(1, Ordering::SeqCst);
        }
        let passes = |weather: &Weather| !weather.holds(way);
        // Not kept: who holds on to it keeps the weather from changing.
        let weather = self.line.weather.wait_for(passes).await.map(|weather| *weather);
        match weather.map_err(io::Error::other)? {
            Weather::Slow { delay_ms, jitter_ms } => {
                let jitter_ms = random.random_range(0..=jitter_ms);
                sleep(Duration::from_millis(delay_ms + jitter_ms)).await;
                to.write_all(piece).await
            }
            Weather::Trickle { bytes, pause_ms } => {
                for few in piece.chunks(bytes.max(1)) {
                    to.write_all(few).await?;
                    sleep(Duration::from_millis(pause_ms)).await;
                }
                Ok(())
            }
            Weather::Clear | Weather::Blackhole(_) => to.write_all(piece).await,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::mpsc::sync_channel;

    use stockloop_tests::ports::free_port;

    use super::*;

    /// Long enough for a busy machine.
    const DEADLINE: Duration = Duration::from_secs(20);

    /// A proxy, a connection through it, and its other end.
    async fn connected() -> (Proxy, TcpStream, TcpStream) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = free_port().unwrap();
        let proxy = Proxy::start(port, server.local_addr().unwrap().port()).await.unwrap();
        let service = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (server, _) = server.accept().await.unwrap();
        (proxy, service, server)
    }

    /// Sends `text`, which has to arrive.
    async fn assert_passes(text: &[u8], from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(text).await.unwrap();
        let mut heard = vec![0; text.len()];
        timeout(DEADLINE, to.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, text);
    }

    /// Whether the stream ends, rather than waits.
    async fn ends(stream: &mut TcpStream) -> bool {
        let mut heard = [0; 16];
        timeout(DEADLINE, stream.read(&mut heard)).await.unwrap().is_ok_and(|read| read == 0)
            || stream.write_all(b"x").await.is_err()
    }

    /// Whether neither bytes nor an end come. For what is not to come, there is only a while to wait.
    async fn is_silent(stream: &TcpStream) -> bool {
        // A peek asks the socket: what was known to be readable may have been read since.
        timeout(Duration::from_millis(100), stream.peek(&mut [0; 1])).await.is_err()
    }

    #[tokio::test]
    async fn all_comes_through_in_any_weather_that_lets_it() {
        let (proxy, mut service, mut server) = connected().await;
        let long: Vec<u8> = (0..40_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for weather in [
            Weather::Clear,
            Weather::Slow { delay_ms: 1, jitter_ms: 2 },
            Weather::Trickle { bytes: 1_000, pause_ms: 1 },
            Weather::Blackhole(Some(Way::ToService)),
        ] {
            proxy.be(weather);
            assert_passes(&long, &mut service, &mut server).await;
        }
        proxy.be(Weather::Blackhole(Some(Way::ToServer)));
        assert_passes(b"back", &mut server, &mut service).await;
    }

    #[tokio::test]
    async fn what_a_blackhole_holds_comes_when_it_is_over() {
        let (proxy, mut service, mut server) = connected().await;
        assert_passes(b"before", &mut service, &mut server).await;
        proxy.be(Weather::Blackhole(None));
        service.write_all(b"held").await.unwrap();
        assert!(is_silent(&server).await, "it came through");
        let mut heard = [0; 4];
        proxy.be(Weather::Clear);
        timeout(DEADLINE, server.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard, b"held");
    }

    #[tokio::test]
    async fn a_cut_ends_both_and_a_half_open_connection_only_one() {
        let (proxy, mut service, mut server) = connected().await;
        assert_passes(b"before", &mut service, &mut server).await;
        proxy.strike(Strike::Cut);
        assert!(ends(&mut service).await && ends(&mut server).await);

        let (proxy, mut service, mut server) = connected().await;
        assert_passes(b"before", &mut service, &mut server).await;
        proxy.strike(Strike::LeaveServer);
        assert!(ends(&mut service).await);
        assert!(is_silent(&server).await, "the server was told");
    }

    #[tokio::test]
    async fn what_vanished_is_silent_and_is_struck_no_more() {
        let (proxy, service, server) = connected().await;
        assert!(proxy.strike(Strike::Vanish), "there is a connection");
        assert!(is_silent(&service).await && is_silent(&server).await);
        assert!(!proxy.strike(Strike::Cut), "there is none that is passed on");
    }

    #[tokio::test]
    async fn a_connection_after_a_strike_is_not_struck() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = free_port().unwrap();
        let proxy = Proxy::start(port, server.local_addr().unwrap().port()).await.unwrap();
        proxy.strike(Strike::Cut);
        let mut service = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (mut server, _) = server.accept().await.unwrap();
        assert_passes(b"there", &mut service, &mut server).await;
        assert_passes(b"back", &mut server, &mut service).await;
    }

    #[tokio::test]
    async fn the_answer_to_a_commit_is_lost_after_the_commit_arrived() {
        let (proxy, mut service, mut server) = connected().await;
        proxy.lose(Request::Commit, 1);
        assert_passes(b"Q\0\0\0\x0aBEGIN\0", &mut service, &mut server).await;
        assert_passes(b"Z", &mut server, &mut service).await;
        assert_passes(b"Q\0\0\0\x0bCOMMIT\0", &mut service, &mut server).await;
        server.write_all(b"C").await.unwrap();
        assert!(ends(&mut service).await, "the answer came through");
        assert_eq!(proxy.take_snared(), 1);
    }

    #[tokio::test]
    async fn a_connection_is_held_at_its_moment_until_the_service_is_gone() {
        let (proxy, mut service, mut server) = connected().await;
        let (tell, told) = sync_channel(1);
        proxy.trap(Moment { request: Request::Commit, is_answered: false }, &tell);
        assert_passes(b"Q\0\0\0\x0aBEGIN\0", &mut service, &mut server).await;
        service.write_all(b"Q\0\0\0\x0bCOMMIT\0").await.unwrap();
        let told = tokio::task::spawn_blocking(move || told.recv_timeout(DEADLINE));
        assert_eq!(told.await.unwrap(), Ok(()));
        assert!(is_silent(&server).await, "it came through");
        drop(service);
        assert!(ends(&mut server).await, "the server waits on");
    }
}
