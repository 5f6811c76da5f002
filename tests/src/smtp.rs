//! A real little mail server that keeps what it is sent, and can be as unhelpful as real ones are.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use anyhow::Context;
use mailin::response::{NO_SERVICE, OK};
use mailin::{Action, Handler, Response, SessionBuilder};
use serde_json::{Value, json};

use crate::ports::free_port;

/// How the server treats its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes every mail.
    Accept,
    /// Is not there: connections are refused, and open ones were cut.
    Refuse,
    /// Answers every mail with 451, try again later.
    TryLater,
    /// Answers every mail with 554, never try again.
    Reject,
    /// Keeps the mail but cuts the connection before saying so: the sender can't know.
    LoseAnswer,
    /// Keeps the mail, and never says so.
    Hold,
    /// Takes connections and commands, and never says a word.
    Silent,
}

/// A mail as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body, with CRLF line ends.
    pub raw: Vec<u8>,
}

impl Mail {
    /// Headers and body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Its Message-ID without brackets; empty if it has none.
    pub fn message_id(&self) -> String {
        let text = self.text();
        let headers = text.lines().filter_map(|line| line.split_once(':'));
        let mut ids = headers.filter(|(name, _)| name.eq_ignore_ascii_case("message-id"));
        let id = ids.next().map_or("", |(_, id)| id);
        id.trim().trim_matches(['<', '>']).to_owned()
    }
}

/// How the mail catcher of `stockloop dev` lists `mails` at `/api/mails`, had it got them.
pub fn listed(mails: &[Mail]) -> Value {
    let mail = |(number, mail): (usize, &Mail)| {
        json!({
            "id": number.to_string(),
            "message_id": mail.message_id(),
            "received_at": "2026-01-05T12:00:00Z",
        })
    };
    (1..).zip(mails).map(mail).collect()
}

/// A mail server on a loopback port of its own; it ends when dropped.
#[derive(Debug)]
pub struct SmtpSink {
    shared: Arc<Shared>,
    port: u16,
    listener: Mutex<Option<Listening>>,
}

#[derive(Debug)]
struct Listening {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    mails: Mutex<Vec<Mail>>,
    /// Recipients that are refused, with the code of the reply.
    refused: Mutex<HashMap<String, u16>>,
    tries: AtomicU64,
    connections: Mutex<HashMap<SocketAddr, TcpStream>>,
}

impl SmtpSink {
    /// Starts a server that accepts.
    pub fn start() -> anyhow::Result<Self> {
        let sink = Self {
            shared: Arc::new(Shared {
                manner: Mutex::new(Manner::Accept),
                mails: Mutex::new(Vec::new()),
                refused: Mutex::new(HashMap::new()),
                tries: AtomicU64::new(0),
                connections: Mutex::new(HashMap::new()),
            }),
            port: free_port()?,
            listener: Mutex::new(None),
        };
        sink.be(Manner::Accept)?;
        Ok(sink)
    }

    /// The host to configure.
    pub fn host(&self) -> String {
        Ipv4Addr::LOCALHOST.to_string()
    }

    /// The port to configure; it stays the same while the server refuses.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All mails kept so far, oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        locked(&self.shared.mails).clone()
    }

    /// What returns them at any later moment, for whoever can't hold the server itself.
    pub fn later_mails(&self) -> impl Fn() -> Vec<Mail> + Send + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        move || locked(&shared.mails).clone()
    }

    /// How many mails were begun (`MAIL FROM`), whatever became of them.
    pub fn tries(&self) -> u64 {
        self.shared.tries.load(Ordering::SeqCst)
    }

    /// Changes the manner, for connections already open too.
    pub fn be(&self, manner: Manner) -> anyhow::Result<()> {
        *locked(&self.shared.manner) = manner;
        let mut listener = locked(&self.listener);
        if manner == Manner::Refuse {
            if let Some(listening) = listener.take() {
                self.close(listening);
            }
        } else if listener.is_none() {
            *listener = Some(self.listen()?);
        }
        Ok(())
    }

    /// Answers the recipient `address` with `code` from now on, such as 550 (gone) or 451 (not now).
    pub fn refuse_recipient(&self, address: &str, code: u16) {
        locked(&self.shared.refused).insert(address.to_owned(), code);
    }

    /// Takes mails for everybody again.
    pub fn refuse_no_recipient(&self) {
        locked(&self.shared.refused).clear();
    }

    fn listen(&self) -> anyhow::Result<Listening> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).with_context(|| {
            format!("could not listen for mail on port {}; is it taken?", self.port)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&self.shared), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while let Ok((stream, client)) = socket.accept() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                if let Ok(kept) = stream.try_clone() {
                    locked(&shared.connections).insert(client, kept);
                }
                thread::spawn(move || {
                    // A client that goes away is its own business.
                    let _ = serve(&stream, client.ip(), &shared);
                    let _ = stream.shutdown(Shutdown::Both);
                    locked(&shared.connections).remove(&client);
                });
            }
        });
        Ok(Listening { stop, thread })
    }

    fn close(&self, listening: Listening) {
        listening.stop.store(true, Ordering::SeqCst);
        // A connection of our own wakes the thread that waits for one.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        let _ = listening.thread.join();
        for (_, connection) in locked(&self.shared.connections).drain() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        let _ = self.be(Manner::Refuse);
    }
}

fn serve(stream: &TcpStream, client: IpAddr, shared: &Arc<Shared>) -> io::Result<()> {
    let next = Arc::new(Mutex::new(Next::Answer));
    let receiver = Receiver {
        shared: Arc::clone(shared),
        next: Arc::clone(&next),
        mail: Mail { from: String::new(), to: Vec::new(), raw: Vec::new() },
    };
    let mut session = SessionBuilder::new("sink.test").build(client, receiver);
    let mut answers = stream;
    if shared.manner() != Manner::Silent {
        session.greeting().write_to(&mut answers)?;
    }
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let answer = session.process(&line);
        line.clear();
        let next = *locked(&next);
        if next == Next::Cut {
            return Ok(());
        }
        let is_silent = shared.manner() == Manner::Silent || next == Next::Hold;
        if !is_silent && answer.action != Action::NoReply {
            answer.write_to(&mut answers)?;
        }
        if answer.action == Action::Close || next == Next::AnswerAndClose {
            return Ok(());
        }
    }
    Ok(())
}

impl Shared {
    fn manner(&self) -> Manner {
        *locked(&self.manner)
    }
}

impl Manner {
    /// The answer to a mail.
    fn verdict(self) -> Response {
        match self {
            Self::Accept | Self::LoseAnswer | Self::Hold | Self::Silent => OK,
            Self::Refuse => NO_SERVICE,
            Self::TryLater => Response::custom(451, "Try again later".to_owned()),
            Self::Reject => Response::custom(554, "Not this mail".to_owned()),
        }
    }
}

/// What becomes of a connection after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Answer,
    AnswerAndClose,
    Cut,
    Hold,
}

/// One connection's mail in the making.
struct Receiver {
    shared: Arc<Shared>,
    next: Arc<Mutex<Next>>,
    mail: Mail,
}

impl Handler for Receiver {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, _from: &str) -> Response {
        self.shared.tries.fetch_add(1, Ordering::SeqCst);
        self.shared.manner().verdict()
    }

    fn rcpt(&mut self, to: &str) -> Response {
        match locked(&self.shared.refused).get(to) {
            Some(code) => Response::custom(*code, "Not this recipient".to_owned()),
            None => OK,
        }
    }

    fn data_start(&mut self, _domain: &str, from: &str, _is8bit: bool, to: &[String]) -> Response {
        self.mail = Mail { from: from.to_owned(), to: to.to_vec(), raw: Vec::new() };
        OK
    }

    fn data(&mut self, part: &[u8]) -> io::Result<()> {
        self.mail.raw.extend_from_slice(part);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        // Held until it is kept: whoever changes the manner knows that no mail comes any more that was taken in the last one.
        let held = locked(&self.shared.manner);
        let manner = *held;
        if matches!(manner, Manner::Accept | Manner::LoseAnswer | Manner::Hold) {
            locked(&self.shared.mails).push(self.mail.clone());
        }
        drop(held);
        *locked(&self.next) = match manner {
            Manner::Accept | Manner::Silent => Next::Answer,
            Manner::LoseAnswer => Next::Cut,
            Manner::Hold => Next::Hold,
            // After a refusal here the session would take further commands for parts of the mail.
            Manner::Refuse | Manner::TryLater | Manner::Reject => Next::AnswerAndClose,
        };
        manner.verdict()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_listed_by_its_own_message_id() {
        let mail =
            |raw: &str| Mail { from: String::new(), to: Vec::new(), raw: raw.as_bytes().to_vec() };
        let mails = [
            mail("Subject: one\r\nMessage-ID: <a@test>\r\n\r\nMessage-ID: <c@test>"),
            mail("Message-Id: <b@test>\r\n\r\n"),
            mail("\r\nnobody's"),
        ];
        let list = listed(&mails);
        let said = |n: usize| (list[n]["id"].as_str(), list[n]["message_id"].as_str());
        assert_eq!(said(0), (Some("1"), Some("a@test")));
        assert_eq!(said(1), (Some("2"), Some("b@test")));
        assert_eq!(said(2), (Some("3"), Some("")));
    }
}
