//! Who is called by the webhook, and may be as unhelpful as receivers are.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::http_server::{Call, HttpServer, write_answer};

/// What the calls are signed with.
pub(super) const SECRET: &str = "whsec_YSB0cmlhbCBzaWducyBpdHMgb3duIGNhbGxz";

/// Longer than a service waits for an answer.
const SILENCE: Duration = Duration::from_secs(4);

/// How a call is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Welcome {
    Take,
    /// 503.
    Unavailable,
    /// 404: of a call, no answer is for good.
    NotFound,
    /// It takes the call, and hangs up before it says so.
    LoseAnswer,
    /// It takes the call, and does not say so.
    Hold,
    /// It says nothing.
    Silent,
}

/// A receiver; it ends when dropped.
pub(super) struct Receiver {
    server: HttpServer,
    shared: Arc<Shared>,
}

struct Shared {
    welcome: Mutex<Welcome>,
    /// The ids of the calls that it took, as they came.
    taken: Mutex<Vec<String>>,
}

impl Receiver {
    /// One that takes all calls.
    pub(super) fn start() -> Result<Self> {
        let (welcome, taken) = (Mutex::new(Welcome::Take), Mutex::default());
        let shared = Arc::new(Shared { welcome, taken });
        let receiving = Arc::clone(&shared);
        let server = HttpServer::start(move |call, stream| receiving.receive(call, stream))?;
        Ok(Self { server, shared })
    }

    pub(super) fn port(&self) -> u16 {
        self.server.port()
    }

    /// How calls are received from now on.
    pub(super) fn be(&self, welcome: Welcome) {
        *locked(&self.shared.welcome) = welcome;
    }

    /// The ids of the calls that it took, oldest first.
    pub(super) fn calls(&self) -> Vec<String> {
        locked(&self.shared.taken).clone()
    }

    /// Whether it took the call of this id.
    pub(super) fn has(&self, id: &str) -> bool {
        locked(&self.shared.taken).iter().any(|taken| taken == id)
    }
}

impl Shared {
    fn receive(&self, call: &Call, stream: &mut TcpStream) -> io::Result<()> {
        // Held until it is noted: whoever changes the welcome knows that no call comes any more that had the last one.
        let held = locked(&self.welcome);
        let welcome = *held;
        if matches!(welcome, Welcome::Take | Welcome::LoseAnswer | Welcome::Hold) {
            locked(&self.taken).push(call.header("webhook-id").to_owned());
        }
        drop(held);
        match welcome {
            Welcome::Take => write_answer(stream, "204 No Content", ""),
            Welcome::Unavailable => write_answer(stream, "503 Service Unavailable", ""),
            Welcome::NotFound => write_answer(stream, "404 Not Found", ""),
            Welcome::LoseAnswer => Ok(()),
            Welcome::Hold | Welcome::Silent => {
                thread::sleep(SILENCE);
                Ok(())
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Calls with this id; returns the answer.
    fn call(receiver: &Receiver, id: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", receiver.port())).unwrap();
        write!(stream, "POST / HTTP/1.1\r\nwebhook-id: {id}\r\ncontent-length: 2\r\n\r\n{{}}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_call_counts_once_it_was_taken_whatever_was_said() {
        let receiver = Receiver::start().unwrap();
        for (id, welcome, status, is_taken) in [
            ("a", Welcome::Take, "HTTP/1.1 204", true),
            ("b", Welcome::Unavailable, "HTTP/1.1 503", false),
            ("c", Welcome::NotFound, "HTTP/1.1 404", false),
            ("d", Welcome::LoseAnswer, "", true),
        ] {
            receiver.be(welcome);
            let answer = call(&receiver, id);
            assert!(answer.starts_with(status), "{welcome:?}: {answer}");
            assert_eq!((receiver.has(id), answer.is_empty()), (is_taken, status.is_empty()));
        }
        assert_eq!(receiver.calls(), ["a", "d"]);
    }
}
