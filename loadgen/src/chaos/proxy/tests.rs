use std::sync::mpsc::sync_channel;
use std::time::Duration;

use stockloop_tests::ports::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

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
async fn a_new_connection_goes_where_the_proxy_leads_now() {
    let (proxy, mut service, mut before) = connected().await;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    proxy.lead_to(other.local_addr().unwrap().port());
    assert_passes(b"before", &mut service, &mut before).await;
    let port = service.peer_addr().unwrap().port();
    let mut next = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let (mut other, _) = timeout(DEADLINE, other.accept()).await.unwrap().unwrap();
    assert_passes(b"there", &mut next, &mut other).await;
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
