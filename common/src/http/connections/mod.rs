//! Clients' connections: how many there are, and how long a client may keep one waiting.
//!
//! The HTTP server itself ends a connection that is idle, or on which no first request comes. It waits without end for all
//! else that a client owes: the head of a later request, the rest of a body that nobody reads any more, room for an answer.
//! So it is noted whose turn it is on each connection ([`Turn`]). A client that takes too long loses its connection
//! ([`Connections::end_late`]). Where there are too many, the one that keeps this waiting for the longest makes room for the
//! one that comes ([`Connections::open`]).

mod turns;

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::ops::AddAssign;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use turns::{Answer, take_turns};

/// What is due never: the service has the turn.
const NEVER: u64 = u64::MAX;

/// All connections of a server; cheap to clone.
#[derive(Clone)]
pub struct Connections(Arc<Shared>);

struct Shared {
    limit: usize,
    patience: Duration,
    /// Moments are counted from here.
    began: Instant,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    connections: BTreeMap<u64, Entry>,
    /// How many were ended because there were too many.
    crowded_out: usize,
}

/// A connection from outside: whoever has a second handle of a socket can end it.
struct Entry {
    due: Arc<AtomicU64>,
    socket: TcpStream,
    ended: bool,
}

/// One connection, for as long as there is this; the server keeps it with what it knows of the connection.
pub struct Connection {
    number: u64,
    turn: Turn,
    all: Connections,
}

/// Whose turn it is on a connection.
#[derive(Clone)]
pub struct Turn {
    due: Arc<AtomicU64>,
    patience: Duration,
    began: Instant,
}

/// How many connections were ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndedConnections {
    /// Their clients took too long.
    pub late: usize,
    /// There were too many, and their clients took the longest.
    pub crowded_out: usize,
}

impl AddAssign for EndedConnections {
    fn add_assign(&mut self, other: Self) {
        self.late += other.late;
        self.crowded_out += other.crowded_out;
    }
}

impl Connections {
    /// With room for `limit` connections, whose clients are waited for no longer than `patience`.
    pub fn new(limit: usize, patience: Duration) -> Self {
        let (began, open) = (Instant::now(), Mutex::default());
        Self(Arc::new(Shared { limit, patience, began, open }))
    }

    /// Notes a connection that a client opened; it has the turn. Where there are too many, the one whose client was waited
    /// for the longest is ended; none, where the service has the turn on all of them, or has not yet read what they sent.
    ///
    /// # Errors
    /// When the system gives no second handle of `socket`.
    pub fn open(&self, socket: &impl AsFd) -> io::Result<Connection> {
        let socket = TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        // As the server has it: nobody waits for what a client may have sent.
        socket.set_nonblocking(true)?;
        let Shared { patience, began, .. } = *self.0;
        let turn = Turn { due: Arc::new(AtomicU64::new(NEVER)), patience, began };
        turn.client();
        let mut open = self.lock();
        if open.connections.len() >= self.0.limit {
            open.make_room(self.0.limit);
        }
        open.last += 1;
        let number = open.last;
        open.connections.insert(number, Entry { due: Arc::clone(&turn.due), socket, ended: false });
        Ok(Connection { number, turn, all: self.clone() })
    }

    /// Ends those whose client is late at the moment `now`, and says what was ended since the last time.
    pub fn end_late(&self, now: Instant) -> EndedConnections {
        let now = millis(now.saturating_duration_since(self.0.began));
        let (mut open, mut late) = (self.lock(), 0);
        for entry in open.connections.values_mut().filter(|entry| !entry.ended) {
            if entry.due() <= now {
                entry.end();
                late += 1;
            }
        }
        EndedConnections { late, crowded_out: std::mem::take(&mut open.crowded_out) }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A panic in between leaves no connection half noted.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Ends one of so many as there may be, if there are that many beside those that are ending.
    fn make_room(&mut self, limit: usize) {
        let open = self.connections.values_mut().filter(|entry| !entry.ended);
        let mut open: Vec<&mut Entry> = open.collect();
        if open.len() < limit {
            return;
        }
        open.retain(|entry| entry.due() != NEVER);
        while let Some((place, _)) = open.iter().enumerate().min_by_key(|(_, entry)| entry.due()) {
            let longest = open.swap_remove(place);
            if longest.is_silent() {
                longest.end();
                self.crowded_out += 1;
                break;
            }
        }
    }
}

impl Entry {
    fn due(&self) -> u64 {
        self.due.load(Ordering::Relaxed)
    }

    /// Whether nothing of the client waits to be read: else the service has the turn, and has not got to it yet.
    fn is_silent(&self) -> bool {
        !matches!(self.socket.peek(&mut [0]), Ok(1..))
    }

    /// The server finds the connection closed, and lets it go.
    fn end(&mut self) {
        self.ended = true;
        // It may be closed already, by the client.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Connection {
    /// Whose turn it is on it.
    pub fn turn(&self) -> Turn {
        self.turn.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.lock().connections.remove(&self.number);
    }
}

impl Turn {
    /// The client has it from now on: to send what comes next, or to take it.
    pub fn client(&self) {
        self.client_within(self.patience);
    }

    /// The same, where it has so long for it.
    pub fn client_within(&self, patience: Duration) {
        self.due.store(millis(self.began.elapsed().saturating_add(patience)), Ordering::Relaxed);
    }

    /// The service has it.
    pub fn service(&self) {
        self.due.store(NEVER, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A connection as its client has it, and as the service does.
    struct Both {
        client: TcpStream,
        service: Connection,
        /// As the server has it: without that, it would be closed.
        _socket: TcpStream,
    }

    fn open(connections: &Connections) -> Both {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (socket, _) = listener.accept().unwrap();
        Both { client, service: connections.open(&socket).unwrap(), _socket: socket }
    }

    impl Both {
        #[track_caller]
        fn assert_ended(&mut self) {
            assert_eq!(self.client.read(&mut [0]).unwrap(), 0, "it ends in good order");
        }

        #[track_caller]
        fn assert_open(&mut self) {
            self.client.set_nonblocking(true).unwrap();
            let nothing = self.client.read(&mut [0]).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            self.client.set_nonblocking(false).unwrap();
        }
    }

    fn ended(late: usize, crowded_out: usize) -> EndedConnections {
        EndedConnections { late, crowded_out }
    }

    #[test]
    fn a_client_that_takes_too_long_loses_its_connection() {
        let connections = Connections::new(9, PATIENCE);
        let [mut late, mut working, mut patient] = [(); 3].map(|()| open(&connections));
        working.service.turn().service();
        patient.service.turn().client_within(PATIENCE * 3);
        let now = Instant::now();
        assert_eq!(connections.end_late(now), ended(0, 0));
        late.assert_open();
        assert_eq!(connections.end_late(now + PATIENCE * 2), ended(1, 0));
        late.assert_ended();
        [&mut working, &mut patient].into_iter().for_each(Both::assert_open);
        assert_eq!(connections.end_late(now + PATIENCE * 2), ended(0, 0), "once");
        working.service.turn().client();
        assert_eq!(connections.end_late(now + PATIENCE * 4), ended(2, 0));
        [&mut working, &mut patient].into_iter().for_each(Both::assert_ended);
    }

    #[test]
    fn whoever_was_waited_for_the_longest_makes_room() {
        let connections = Connections::new(3, PATIENCE);
        let [mut working, mut longest, mut other] = [(); 3].map(|()| open(&connections));
        working.service.turn().service();
        longest.service.turn().client_within(PATIENCE / 3);
        let mut newest = open(&connections);
        longest.assert_ended();
        [&mut working, &mut other, &mut newest].into_iter().for_each(Both::assert_open);
        assert_eq!(connections.end_late(Instant::now()), ended(0, 1));
        drop(longest);
        other.service.turn().service();
        newest.service.turn().service();
        let _one_more = open(&connections);
        assert_eq!(connections.end_late(Instant::now()), ended(0, 0), "nobody is in the way");
    }

    #[test]
    fn who_has_sent_what_is_still_to_be_read_makes_no_room() {
        let connections = Connections::new(2, PATIENCE);
        let [mut asking, mut silent] = [PATIENCE / 2, PATIENCE].map(|patience| {
            let both = open(&connections);
            both.service.turn().client_within(patience);
            both
        });
        asking.client.write_all(b"GET").unwrap();
        let _newest = open(&connections);
        silent.assert_ended();
        asking.assert_open();
        assert_eq!(connections.end_late(Instant::now()), ended(0, 1));
    }

    #[test]
    fn one_that_is_ending_takes_no_room() {
        let connections = Connections::new(2, PATIENCE);
        let [_first, _second, mut third] = [(); 3].map(|()| open(&connections));
        assert_eq!(connections.end_late(Instant::now()), ended(0, 1));
        let _fourth = open(&connections);
        assert_eq!(connections.end_late(Instant::now()), ended(0, 1), "one for each that came");
        third.assert_open();
    }

    #[test]
    fn one_that_is_closed_is_forgotten() {
        let connections = Connections::new(1, PATIENCE);
        for _ in 0..3 {
            drop(open(&connections));
        }
        assert!(connections.lock().connections.is_empty());
        assert_eq!(connections.end_late(Instant::now() + PATIENCE * 2), ended(0, 0));
    }
}
