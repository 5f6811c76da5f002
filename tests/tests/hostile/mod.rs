//! Clients that nobody wants, on a real service: slow, endless, garbled, oversized, and very many. Each loses its connection in
//! time; memory and files stay bounded; and meanwhile probes and operators are answered, and changes become PROCESSED.

mod clients;
mod usage;
mod vitals;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::anyhow;
use stockloop_tests::poll::eventually;
use stockloop_tests::process::allow_open_files;
use stockloop_tests::real;
use tokio::task::JoinSet;

use crate::system::{DEADLINE, TestSystem};
use clients::{Client, told_to};
use vitals::Vitals;

/// Connections that the service may have: few, so that there may be many times more clients beside all other tests here.
const MOST: usize = 160;

/// What the service is told: `client_timeout` is short, so that all of this is.
const SETTINGS: [(&str, &str); 3] = [
    ("STOCKLOOP__HTTP__MAX_CONNECTIONS", "160"),
    ("STOCKLOOP__HTTP__CLIENT_TIMEOUT", "2s"),
    ("STOCKLOOP__HTTP__KEEP_ALIVE", "1s"),
];

/// In this time, whoever keeps the service waiting has lost its connection: the two together, a second more, and what a busy
/// machine needs; less than the 30 s that `client_timeout` is by itself.
const SOON: Duration = Duration::from_secs(25);

/// Files that all connections and those that are ending take at the most, two each; and a few that come and go.
const MORE_FILES: u64 = 2 * (MOST as u64 + 2 * 64) + 64;

/// KiB that those may take at the most, with all that can be sent before it is refused.
const MORE_MEMORY: u64 = 256 << 10;

/// Clients of each kind at once: together no more than there may be connections.
const EACH: usize = 16;

/// Clients that hold a connection each and say nothing: far fewer than this machine has ports, far more than wait in the
/// service's backlog.
const IDLE: usize = 10_000;

/// How many of them connect at a time.
const AT_A_TIME: usize = 40;

/// Files that this process has open beside, for other tests.
const OTHERS: usize = 600;

const PUT: &str =
    "PUT /api/v1/inventory/SLOW HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_outlives_its_clients() {
    let Some(mut system) = TestSystem::real("hostile").await else { return };
    system.product.restart_with(&SETTINGS).await;
    // In a flood of connections a client that is not quick makes room; one that is careful tries again.
    system.product.tries = 20;
    system.product.put_product("TEA", 1).await;
    system.wait_until_settled().await;
    eventually("the service to be ready", DEADLINE, async || {
        let answer = system.product.get("/health/ready").await;
        if answer.status == 200 { Ok(()) } else { Err(answer) }
    })
    .await;
    let vitals = Vitals::of(system.product.child().pid());
    let base = system.product.base_url.get();
    let address = base.trim_start_matches("http://").parse().expect("an address");

    vitals.hold(&system.product, all_kinds(address)).await;
    vitals.hold(&system.product, very_many(address)).await;
    vitals.hold(&system.product, those_that_take_nothing(address, &vitals)).await;
    vitals.assert_bounded(MORE_FILES, MORE_MEMORY);
    let log = system.product.child().log();
    assert!(log.contains("connections of clients were ended"), "operators are told");
    assert!(!log.contains("panicked"), "{}", system.product.child().log_tail());
    system.wait_until_settled().await;
    system.assert_no_attempt_was_lost().await;
    system.stop().await;
}

async fn all_kinds(address: SocketAddr) {
    tokio::join!(
        slow_heads(address),
        slow_bodies(address),
        endless_bodies(address),
        too_much(address),
        garbage(address),
    );
}

/// Nothing, a head in pieces, and such a head behind a request that was answered.
async fn slow_heads(address: SocketAddr) {
    let nothing =
        told_to(
            EACH,
            move || async move { Client::connect(address).await.until_ended(SOON).await },
        );
    let pieces = told_to(EACH, move || async move {
        let mut client = Client::connect(address).await;
        client.say(format!("{LIVE}x: ")).await;
        client.trickle(b"a", SOON).await
    });
    let second = told_to(EACH, move || async move {
        let mut client = Client::connect(address).await;
        client.say(format!("{LIVE}\r\n")).await;
        let first = client.hear("\r\n\r\n", SOON).await;
        client.say(format!("{LIVE}x: ")).await;
        first + &client.trickle(b"a", SOON).await
    });
    let (nothing, pieces, second) = tokio::join!(nothing, pieces, second);
    assert_begin(&[nothing, pieces].concat(), "HTTP/1.1 408 ");
    assert_begin(&second, "HTTP/1.1 200 ");
}

/// A body in pieces, as long as it was said to be or in chunks.
async fn slow_bodies(address: SocketAddr) {
    let sized = told_to(EACH, move || async move {
        let mut client = Client::connect(address).await;
        client.say(format!("{PUT}content-length: 1000\r\n\r\n{{")).await;
        client.trickle(b" ", SOON).await
    });
    let in_chunks = told_to(EACH, move || async move {
        let mut client = Client::connect(address).await;
        client.say(format!("{PUT}transfer-encoding: chunked\r\n\r\n")).await;
        client.trickle(b"1\r\n \r\n", SOON).await
    });
    let (sized, in_chunks) = tokio::join!(sized, in_chunks);
    let told = [sized, in_chunks].concat();
    assert_begin(&told, "HTTP/1.1 408 ");
    assert!(told.iter().all(|answer| answer.contains("problem:body-late")), "{told:?}");
}

/// Chunks without an end, where somebody reads them and where nobody does.
async fn endless_bodies(address: SocketAddr) {
    let read = told_to(EACH, move || async move {
        let mut client = Client::connect(address).await;
        client.say(format!("{PUT}transfer-encoding: chunked\r\n\r\n")).await;
        let chunk = [&b"20000\r\n"[..], &[b' '; 0x20000], b"\r\n"].concat();
        client.trickle(&chunk, SOON).await
    });
    let unread = told_to(EACH, move || async move {
        let mut client = Client::connect(address).await;
        let nowhere = "POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        client.say(nowhere).await;
        client.trickle(b"1\r\n \r\n", SOON).await
    });
    let (read, unread) = tokio::join!(read, unread);
    assert_begin(&read, "HTTP/1.1 413 ");
    assert_begin(&unread, "HTTP/1.1 404 ");
}

/// Too many headers, too long ones, too long an address, and a body that is said to be without measure.
async fn too_much(address: SocketAddr) {
    let headers: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let requests = [
        format!("{LIVE}{headers}\r\n"),
        format!("{LIVE}x: {}", "y".repeat(200_000)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(70_000)),
        format!("{PUT}content-length: 18446744073709551615\r\n\r\n{}", " ".repeat(2 << 20)),
    ];
    for request in requests {
        let told = told_to(EACH / 4, move || {
            let request = request.clone();
            async move {
                let mut client = Client::connect(address).await;
                client.say(request).await;
                client.until_ended(SOON).await
            }
        });
        assert_begin(&told.await, "HTTP/1.1 4");
    }
}

/// What is no request, alone and behind one; two lengths for one body; and a thousand requests in a row.
async fn garbage(address: SocketAddr) {
    let noise: &[u8] = b"\x16\x03\x01\x00\xff\x00 garbage\r\n\r\n";
    let behind = [format!("{LIVE}\r\n").as_bytes(), noise].concat();
    let smuggled =
        format!("{PUT}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{LIVE}\r\n");
    let row = format!("{LIVE}\r\n").repeat(1_000);
    for (bytes, first, answers) in [
        (noise.to_vec(), "HTTP/1.1 400 ", 1),
        (behind, "HTTP/1.1 200 ", 2),
        (smuggled.into_bytes(), "HTTP/1.1 400 ", 1),
        (row.into_bytes(), "HTTP/1.1 200 ", 1_000),
    ] {
        let told = told_to(EACH / 4, move || {
            let bytes = bytes.clone();
            async move {
                let mut client = Client::connect(address).await;
                client.say(bytes).await;
                client.until_ended(SOON).await
            }
        });
        let told = told.await;
        assert_begin(&told, first);
        for answer in told {
            assert_eq!(answer.matches("HTTP/1.1 ").count(), answers, "{answer}");
        }
    }
}

/// Many more clients than there may be connections, all of one address: whoever is late is told so, who makes room is not.
async fn very_many(address: SocketAddr) {
    let count = idle_clients();
    assert!(count >= 2 * MOST, "{count} clients are too few: raise the limit (ulimit -Hn)");
    let mut connecting = JoinSet::new();
    for _ in 0..AT_A_TIME {
        connecting.spawn(async move {
            let mut clients = Vec::new();
            for _ in 0..count / AT_A_TIME {
                clients.push(Client::connect(address).await);
            }
            clients
        });
    }
    let clients = connecting.join_all().await.into_iter().flatten();
    let mut ending = JoinSet::new();
    for client in clients {
        ending.spawn(client.until_ended(SOON));
    }
    let told = ending.join_all().await;
    let (made_room, late): (Vec<String>, _) = told.into_iter().partition(String::is_empty);
    assert!(!made_room.is_empty(), "some made room before they were late");
    assert_begin(&late, "HTTP/1.1 408 ");
}

/// [`IDLE`]; or, said aloud, as many as this process may open files for.
fn idle_clients() -> usize {
    let wanted = IDLE + OTHERS;
    let allowed = allow_open_files(wanted).expect("a process may raise its own limit");
    let clients = IDLE.min(allowed.saturating_sub(OTHERS));
    let enough = match clients {
        IDLE => Ok(()),
        fewer => Err(anyhow!(
            "this process may open {allowed} files at the most, and {IDLE} clients take {wanted}; {fewer} are tried: raise the hard limit (ulimit -Hn, LimitNOFILE)"
        )),
    };
    real::available("limit of open files", enough);
    clients
}

/// Large answers that are asked for and never taken. Who does not read does not see either that the connection was ended, so
/// the service's files are counted: two for each connection.
async fn those_that_take_nothing(address: SocketAddr, vitals: &Vitals) {
    let (before, each) = (vitals.more_files(), EACH as u64);
    let asking = async {
        let mut clients = Vec::new();
        for _ in 0..EACH {
            let mut client = Client::connect(address).await;
            client.say("GET /api/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(40)).await;
            clients.push(client);
        }
        clients
    };
    // Looked for meanwhile: once the last one has asked, the first ones may have lost their connections.
    let more = files_become(vitals, "more by their connections", |files| files > before + each);
    let (clients, ()) = tokio::join!(asking, more);
    files_become(vitals, "as few as before", |files| files < before + each).await;
    drop(clients);
}

async fn files_become(vitals: &Vitals, what: &str, is_so: impl Fn(u64) -> bool) {
    eventually(&format!("the files to become {what}"), SOON, async || {
        let files = vitals.more_files();
        if is_so(files) { Ok(()) } else { Err(files) }
    })
    .await;
}

#[track_caller]
fn assert_begin(told: &[String], beginning: &str) {
    let others: Vec<&String> = told.iter().filter(|one| !one.starts_with(beginning)).collect();
    assert!(others.is_empty(), "not {beginning:?}: {others:?}");
}
