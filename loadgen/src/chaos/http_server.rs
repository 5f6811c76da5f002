//! A little server for who calls over HTTP: one request on each connection, and one answer, or none.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are read of a request at the most.
const LIMIT: u64 = 4 << 20;

/// What somebody asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// The first line and the headers.
    head: String,
}

impl Call {
    /// A header; empty if there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value.trim())
    }
}

/// A server on a loopback port of its own, until this value is dropped.
pub(super) struct HttpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Answers each call with what `answer` writes, and then hangs up.
    pub(super) fn start(
        answer: impl Fn(&Call, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, stop) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let (stopped, answer) = (Arc::clone(&stop), Arc::new(answer));
        let thread = thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let answer = Arc::clone(&answer);
                // Each by itself: one that gets no answer keeps nobody else from one. Who goes away is its own business.
                thread::spawn(move || read(&stream).and_then(|call| answer(&call, &mut stream)));
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // A connection of our own wakes the thread that waits for one.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers with `status`, such as `200 OK`, and `body`.
pub(super) fn write_answer(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Reads a request to its end: who hangs up with some of it unread resets the connection, and the answer may be lost.
fn read(stream: &TcpStream) -> io::Result<Call> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut lines, mut call) = (BufReader::new(stream).take(LIMIT), Call::default());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            break;
        }
        call.head.push_str(&line);
    }
    let length = call.header("content-length").parse().unwrap_or(0);
    io::copy(&mut lines.take(length), &mut io::sink())?;
    Ok(call)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_to_its_end_and_answered() {
        let server = HttpServer::start(|call, stream| {
            write_answer(stream, "200 OK", &format!("{} {}", call.header("x-ID"), call.header("y")))
        });
        let mut stream = TcpStream::connect(server.as_ref().unwrap().address).unwrap();
        let body = "x".repeat(100_000);
        write!(stream, "POST / HTTP/1.1\r\nX-Id: a:b\r\nContent-Length: 100000\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na:b ");
    }
}
