//! One call: what is asked, and what becomes of each kind of answer.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use common::config::{PeerSettings, Settings};
use common::env::Env;
use serde_json::{Value, json};
use stockloop_tests::poll::eventually;

use super::stub_peer::{Behaviour, StubPeer, details, sample, sku, unreachable_peer};
use crate::details::{DetailsClient, DetailsError, DetailsLookup};

#[actix_web::test]
async fn asks_for_the_details_of_one_product() {
    let peer = StubPeer::start(Behaviour::Normal);
    let found = peer.details().get(&sku("85123A")).await;
    let DetailsLookup::Fresh(details) = found else { panic!("{found:?}") };
    let mut expected = sample("85123A");
    expected.as_object_mut().unwrap().remove("weight_grams");
    assert_eq!(serde_json::to_value(&*details).unwrap(), expected);
    let calls = peer.calls();
    assert_eq!((calls.len(), &*calls[0].path), (1, "/api/v1/inventory/85123A/details"));
    assert_eq!(calls[0].authorization, None);
}

#[actix_web::test]
async fn names_any_sku() {
    let peer = StubPeer::start(Behaviour::Normal);
    let details = peer.details();
    for text in ["a/b", "100%", "a?b#c", "%2F", "日本", "a b+c", "details"] {
        let found = details.get(&sku(text)).await;
        let DetailsLookup::Fresh(details) = found else { panic!("{text}: {found:?}") };
        assert_eq!(details.sku.as_str(), text);
    }
}

#[actix_web::test]
async fn sends_the_token_and_takes_an_address_with_a_path() {
    let peer = StubPeer::start(Behaviour::Normal);
    let url = format!("http://{}/", peer.address());
    let settings =
        PeerSettings { url, api_token: "s3cret".to_owned().into(), ..unreachable_peer() };
    assert!(details(&settings).get(&sku("A")).await.is_fresh());
    assert_eq!(peer.calls()[0].authorization.as_deref(), Some("Bearer s3cret"));

    let url = format!("http://{}/products/", peer.address());
    let found = details(&PeerSettings { url, ..unreachable_peer() }).get(&sku("A")).await;
    // The stand-in knows no such path, so this is its 404 and no word about the product.
    assert!(matches!(found.error(), DetailsError::Status(404)), "{found:?}");
}

#[actix_web::test]
async fn only_the_owner_can_say_that_there_is_no_such_product() {
    let peer = StubPeer::start(Behaviour::Unknown);
    let details = peer.details();
    assert!(details.get(&sku("A")).await.is_unknown());
    peer.set_behaviour(Behaviour::Status(404));
    assert!(matches!(details.get(&sku("B")).await.error(), DetailsError::Status(404)));
}

#[actix_web::test]
async fn other_answers_are_faults() {
    let peer = StubPeer::start(Behaviour::Redirects);
    let details = peer.details();
    assert!(matches!(details.get(&sku("A")).await.error(), DetailsError::Status(302)));
    for status in [204, 401, 429, 500, 503] {
        peer.set_behaviour(Behaviour::Status(status));
        let found = details.get(&sku("A")).await;
        assert!(matches!(found.error(), DetailsError::Status(got) if *got == status), "{found:?}");
    }
    let mut without_version = sample("A");
    without_version.as_object_mut().unwrap().remove("version");
    for garbage in [
        Vec::new(),
        b"<html>".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\xff\xfe".to_vec(),
        serde_json::to_vec(&without_version).unwrap(),
        serde_json::to_vec(&json!({"sku": "A"})).unwrap(),
    ] {
        peer.set_behaviour(Behaviour::Body(garbage));
        let found = details.get(&sku("A")).await;
        assert!(matches!(found.error(), DetailsError::Unreadable(_)), "{found:?}");
    }
    peer.set_behaviour(Behaviour::Body(serde_json::to_vec(&sample("B")).unwrap()));
    assert!(matches!(details.get(&sku("A")).await.error(), DetailsError::OtherProduct));
    peer.set_behaviour(Behaviour::Normal);
    assert!(details.get(&sku("A")).await.is_fresh());
}

#[actix_web::test]
async fn reads_no_more_than_an_answer_may_have() {
    let peer = StubPeer::start(Behaviour::Endless);
    let details = peer.details();
    assert!(matches!(details.get(&sku("A")).await.error(), DetailsError::TooLarge));
    let padded = |length: usize| {
        let mut body = serde_json::to_vec(&sample("A")).unwrap();
        body.resize(length, b' ');
        body
    };
    peer.set_behaviour(Behaviour::Body(padded(64 * 1024 + 1)));
    assert!(matches!(details.get(&sku("A")).await.error(), DetailsError::TooLarge));
    peer.set_behaviour(Behaviour::Body(padded(64 * 1024)));
    assert!(details.get(&sku("A")).await.is_fresh());
}

#[actix_web::test]
async fn waits_no_longer_than_the_timeout() {
    let peer = StubPeer::start(Behaviour::Delayed(Duration::from_secs(60)));
    let timeout = Duration::from_millis(100);
    let details = details(&PeerSettings { timeout, ..peer.settings() });
    for (name, behaviour) in
        [("A", Behaviour::Delayed(Duration::from_secs(60))), ("B", Behaviour::StopsMidway)]
    {
        peer.set_behaviour(behaviour);
        let start = Instant::now();
        let found = details.get(&sku(name)).await;
        let took = start.elapsed();
        assert!(
            matches!(found.error(), DetailsError::Timeout(limit) if *limit == timeout),
            "{found:?}"
        );
        assert!(took >= timeout && took < Duration::from_secs(5), "{took:?}");
    }
    assert_eq!(
        details.get(&sku("C")).await.error().to_string(),
        "product-service did not answer within 100ms"
    );
}

#[actix_web::test]
async fn a_peer_may_be_away_and_come_back() {
    // An address of its own: another test's peer might take the port while this one is away.
    let own = Ipv4Addr::new(127, 0, 0, 77);
    // Not every system has more than one.
    let host = if TcpListener::bind((own, 0)).is_ok() { own } else { Ipv4Addr::LOCALHOST };
    let peer = StubPeer::listen(TcpListener::bind((host, 0)).unwrap(), Behaviour::Normal);
    let (address, settings) = (peer.address(), peer.settings());
    let details = details(&settings);
    assert!(details.get(&sku("A")).await.is_fresh());
    peer.stop().await;
    let found = first_failure(&details).await;
    let DetailsError::Connection(_) = found.error() else { panic!("{found:?}") };
    assert_eq!(found.error().to_string(), "product-service can't be reached");
    assert!(!found.error().cause().is_empty());
    assert!(details.get(&sku("A")).await.is_cached());
    let listener = TcpListener::bind((host, address.port())).unwrap();
    let _peer = StubPeer::listen(listener, Behaviour::Normal);
    assert!(details.get(&sku("B")).await.is_fresh());
}

/// What is said once a stopped peer is away: a connection that was kept may still be served for a moment.
async fn first_failure(details: &DetailsClient) -> DetailsLookup {
    let mut asked = 0;
    eventually("a stopped peer to be away", Duration::from_secs(10), async || {
        asked += 1;
        let found = details.get(&sku(&format!("AWAY-{asked}"))).await;
        if found.is_fresh() { Err(found) } else { Ok(found) }
    })
    .await
}

#[test]
fn refuses_an_address_that_is_none() {
    for (url, why) in [
        ("", "peer.url is not a URL"),
        ("127.0.0.1:8081", "peer.url is not a URL"),
        ("ftp://products.example", "http://"),
        ("http://user:password@products.example", "user or a password"),
        ("http://products.example?a=1", "? or #"),
    ] {
        let settings = PeerSettings { url: url.to_owned(), ..unreachable_peer() };
        let error = DetailsClient::new(&settings, Env::system()).err().unwrap();
        let shown = format!("{error:#}");
        assert!(shown.contains(why) && !shown.contains("password@"), "{url}: {shown}");
    }
    let settings = PeerSettings { api_token: "a\nb".to_owned().into(), ..unreachable_peer() };
    let error = DetailsClient::new(&settings, Env::system()).err().unwrap();
    assert!(error.to_string().contains("peer.api_token"), "{error:#}");
}

#[test]
fn the_example_files_name_each_other() {
    let [product, order] = [
        include_str!("../../../../product-service/product-service.toml"),
        include_str!("../../../order-service.toml"),
    ]
    .map(|text| Settings::load(text, None).unwrap());
    assert_eq!(order.peer.url, format!("http://{}", product.http.bind));
    assert_eq!(product.peer.url, format!("http://{}", order.http.bind));
    assert_eq!(order.peer.timeout, Duration::from_millis(300));
    DetailsClient::new(&order.peer, Env::system()).unwrap();
    let secret = Settings {
        peer: PeerSettings { api_token: "s3cret".to_owned().into(), ..order.peer.clone() },
        ..order
    };
    let shown: Value = serde_json::to_value(&secret).unwrap();
    assert_eq!(shown["peer"]["api_token"], "***");
}
