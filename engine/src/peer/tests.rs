//! Requests over TLS, and such that nobody answers.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use actix_web::http::header;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use hyper::StatusCode;
use stockloop_tests::tls::{Authority, Identity, TlsFront};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Peer, exchange};

const MINUTE: Duration = Duration::from_secs(60);

/// Answers each request with what it was.
async fn repeat(request: HttpRequest, body: String) -> HttpResponse {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok()).unwrap_or("nobody");
    let (method, uri) = (request.method(), request.uri());
    HttpResponse::Ok().body(format!("{method} {uri} of {authorization}: {body}"))
}

/// Serves until the test's runtime ends; returns the port.
fn serve() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = HttpServer::new(|| App::new().default_service(web::to(repeat)));
    tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
    port
}

/// By the authority that is named, for this name, and now.
#[tokio::test]
async fn only_who_is_certified_is_asked() {
    let [ours, another] = ["ours", "another"].map(|name| Authority::new(name).unwrap());
    let server = serve();
    let ask = async |identity: anyhow::Result<Identity>| {
        let front = TlsFront::start(&identity.unwrap(), server).await.unwrap();
        let url = format!("https://127.0.0.1:{}/shop/", front.port());
        let peer = Peer::at("peer", &url, &ours.file(), &"s3cret".into(), MINUTE).unwrap();
        exchange(peer.post("/api").json(&["tea"]), MINUTE, 1_000).await
    };
    for (identity, words) in [
        (another.certify("127.0.0.1"), "UnknownIssuer"),
        (ours.certify("elsewhere.test"), "not valid for name"),
        (ours.certify_once("127.0.0.1"), "certificate expired"),
    ] {
        let error = ask(identity).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let (status, body) = ask(ours.certify("127.0.0.1")).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, "POST /shop/api of Bearer s3cret: [\"tea\"]")
    );
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let peer = Peer::at("peer", &url, "", &String::new().into(), MINUTE).unwrap();
    let error = exchange(peer.get("/", &[]), Duration::from_millis(100), 1_000).await.unwrap_err();
    assert_eq!(error, "no answer within 100ms");
}

/// Not only that it broke off.
#[tokio::test]
async fn why_an_answer_breaks_off_is_told() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = Peer::at("peer", &url, "", &String::new().into(), MINUTE).unwrap();
    let half = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert_ne!(socket.read(&mut [0; 4_096]).await.unwrap(), 0, "a request came");
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await.unwrap();
    };
    let (answer, ()) = tokio::join!(exchange(peer.get("/", &[]), MINUTE, 1_000), half);
    assert_eq!(answer.unwrap_err(), "end of file before message length reached");
}

#[test]
fn authorities_are_for_https() {
    let refused = |url: &str| {
        let peer = Peer::at("peer", url, "no/such.pem", &String::new().into(), MINUTE);
        format!("{:#}", peer.unwrap_err())
    };
    let plain = refused("http://127.0.0.1:8081");
    assert!(plain.starts_with("peer.ca_file is set, but"), "{plain}");
    let missing = refused("https://127.0.0.1:8081");
    assert!(missing.starts_with("peer.ca_file \"no/such.pem\" can't be read"), "{missing}");
}
