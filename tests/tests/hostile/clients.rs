//! Clients that nobody wants: a connection each, and what they say on it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// How often a slow one says a little more: it is never silent for long.
const EVERY: Duration = Duration::from_millis(50);

/// A client and its connection.
pub(super) struct Client(TcpStream);

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("there is a place for one more"))
    }

    /// Says something; the service may have ended the connection already.
    pub(super) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// What the service says until there is `end` in it.
    pub(super) async fn hear(&mut self, end: &str, within: Duration) -> String {
        let mut said = Vec::new();
        let heard = async {
            while !String::from_utf8_lossy(&said).contains(end) {
                let more = self.0.read_buf(&mut said).await.expect("the connection is open");
                assert_ne!(more, 0, "it ended before {end:?}");
            }
        };
        timeout(within, heard).await.expect("it answers");
        String::from_utf8_lossy(&said).into_owned()
    }

    /// All that the service says until it ends the connection, which it has to within this time.
    pub(super) async fn until_ended(self, within: Duration) -> String {
        self.trickle(b"", within).await
    }

    /// The same, while a `bit` is said again and again.
    pub(super) async fn trickle(mut self, bit: &[u8], within: Duration) -> String {
        let (mut reader, mut writer) = self.0.split();
        let (mut said, mut ticks) = (Vec::new(), interval(EVERY));
        let ended = async {
            loop {
                tokio::select! {
                    more = reader.read_buf(&mut said) => match more {
                        Ok(0) | Err(_) => break,
                        Ok(_) => {}
                    },
                    _ = ticks.tick(), if !bit.is_empty() => {
                        let _ = writer.write_all(bit).await;
                    }
                }
            }
        };
        let ended = timeout(within, ended).await;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(ended.is_ok(), "it is not ended within {within:?}; it was told {said:?}");
        said
    }
}

/// What `count` clients at once are told, each of which does the same.
pub(super) async fn told_to<F>(count: usize, client: impl Fn() -> F) -> Vec<String>
where
    F: Future<Output = String> + Send + 'static,
{
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(client());
    }
    clients.join_all().await
}
