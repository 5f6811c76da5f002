//! A connection that is passed on, and what carries its bytes.
//!
//! It is a program, not a network: kernels at both ends confirm what they are sent even where nothing is passed on. So what
//! kernels find out by themselves (keepalives, `tcp_user_timeout`) has to be played: an end that was left behind without a
//! word is reset after [`VANISHED`], as the service's own settings would have its kernel do.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Shared, Strike, Way, Weather};
use crate::chaos::wire::{Fate, Talk};

/// How long an end that hears nothing more lives on.
const VANISHED: Duration = Duration::from_secs(25);

/// Bytes that are passed on at once.
const PIECE: usize = 16 * 1024;

/// How long a connection is held at the most, while somebody does something about it.
const HELD: Duration = Duration::from_secs(10);

pub(super) async fn accept(listener: TcpListener, line: Line) {
    for number in 0.. {
        // What can't be taken now is tried again by whoever wants to connect.
        let Ok((service, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let mut line = Line { number, ..line.clone() };
        // Once it is open: what was accepted and is not open has ended.
        line.shared.accepted.fetch_add(1, Ordering::SeqCst);
        // What struck before is not meant for it.
        line.strikes.mark_unchanged();
        tokio::spawn(line.carry(service));
    }
}

/// What a connection has to know.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) weather: watch::Receiver<Weather>,
    pub(super) strikes: watch::Receiver<Strike>,
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
}

impl Line {
    async fn carry(mut self, mut service: TcpStream) {
        // Where there is no server, the connection ends at once.
        let port = self.shared.server.load(Ordering::SeqCst);
        let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
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
