//! The SMTP side: accepts connections, feeds lines to mailin's state machine, and stores what it takes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use mailin::{Action, Handler, Response, Session, SessionBuilder, response};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::mail::ReceivedMail;
use super::store::Store;

/// The largest mail taken, in bytes.
pub(super) const MAX_MAIL: usize = 5 * 1024 * 1024;
/// The most connections served at once; the next ones are told to come again.
pub(super) const MAX_CONNECTIONS: usize = 32;
/// The longest line read, in bytes, its end included. SMTP itself allows 1,000; hand-made mails are longer.
pub(super) const MAX_LINE: u64 = 64 * 1024;
/// The most recipients of one mail.
const MAX_RECIPIENTS: usize = 100;
/// How long a sender may take for a line, or for reading an answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait after a failed accept, e.g. while the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long telling a client that there are too many connections may take; accepting waits for it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

const NAME: &str = "mail-catcher.localhost";
const BUSY: &[u8] = b"421 Too many connections, come again later\r\n";
const STOPPING: &[u8] = b"421 The mail catcher is stopping\r\n";
const TOO_SLOW: &[u8] = b"421 Nothing came for too long\r\n";
const LINE_TOO_LONG: &[u8] = b"500 Line too long\r\n";

/// Accepts connections until told to stop.
pub(super) async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (mut stream, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "the mail catcher couldn't accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            // A new connection's send buffer is empty, so this holds up nobody.
            let _ = timeout(BUSY_TIMEOUT, stream.write_all(BUSY)).await;
            let _ = stream.shutdown().await;
            continue;
        };
        let connection = serve_connection(stream, peer, Arc::clone(&store), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection to the mail catcher broke off");
            }
            drop(permit);
        });
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    store: Arc<Store>,
    stop: CancellationToken,
) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut session = new_session(peer.ip(), store.clone());
    send(&mut writer, &session.greeting().buffer()?).await?;
    let mut line = Vec::new();
    loop {
        let read = tokio::select! {
            () = stop.cancelled() => return send(&mut writer, STOPPING).await,
            read = timeout(IDLE_TIMEOUT, read_line(&mut reader, &mut line)) => read,
        };
        match read {
            Err(_elapsed) => return send(&mut writer, TOO_SLOW).await,
            Ok(Err(error)) => return Err(error),
            Ok(Ok(Read::End)) => return Ok(()),
            Ok(Ok(Read::TooLong)) => return send(&mut writer, LINE_TOO_LONG).await,
            Ok(Ok(Read::Line)) => {}
        }
        let answer = session.process(&line);
        send(&mut writer, &answer.buffer()?).await?;
        if answer.action == Action::Close {
            return Ok(());
        }
        if answer.code == response::NO_STORAGE.code {
            // mailin stays in its data state after a refused mail and would take the next command for text.
            session = new_session(peer.ip(), store.clone());
            session.process(b"HELO again\r\n");
        }
    }
}

fn new_session(peer: IpAddr, store: Arc<Store>) -> Session<MailHandler> {
    SessionBuilder::new(NAME).build(peer, MailHandler::new(store))
}

enum Read {
    Line,
    TooLong,
    End,
}

async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<Read> {
    line.clear();
    reader.take(MAX_LINE).read_until(b'\n', line).await?;
    Ok(match line.last() {
        Some(b'\n') => Read::Line,
        Some(_) if line.len() as u64 == MAX_LINE => Read::TooLong,
        _ => Read::End,
    })
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    timeout(IDLE_TIMEOUT, writer.write_all(bytes)).await?
}

/// Collects one mail after another within a connection.
struct MailHandler {
    store: Arc<Store>,
    from: String,
    to: Vec<String>,
    raw: Vec<u8>,
    too_large: bool,
}

impl MailHandler {
    fn new(store: Arc<Store>) -> Self {
        Self { store, from: String::new(), to: Vec::new(), raw: Vec::new(), too_large: false }
    }
}

impl Handler for MailHandler {
    fn mail(&mut self, _peer: IpAddr, _domain: &str, _from: &str) -> Response {
        self.to.clear();
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if self.to.len() == MAX_RECIPIENTS {
            return Response::custom(452, "Too many recipients".to_owned());
        }
        self.to.push(to.to_owned());
        response::OK
    }

    fn data_start(&mut self, _domain: &str, from: &str, _8bit: bool, to: &[String]) -> Response {
        self.from = from.to_owned();
        self.to = to.to_vec();
        self.raw.clear();
        self.too_large = false;
        response::OK
    }

    /// An error here would be answered in the middle of the data, where no sender listens: refuse at the end.
    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.too_large |= self.raw.len() + line.len() > MAX_MAIL;
        if self.too_large {
            self.raw = Vec::new();
        } else {
            self.raw.extend_from_slice(line);
        }
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        if self.too_large {
            let most = format!("The mail is larger than {MAX_MAIL} bytes and was not taken");
            return Response::custom(response::NO_STORAGE.code, most);
        }
        self.store.add(ReceivedMail {
            received_at: Utc::now(),
            from: std::mem::take(&mut self.from),
            to: std::mem::take(&mut self.to),
            raw: std::mem::take(&mut self.raw),
        });
        response::OK
    }
}
