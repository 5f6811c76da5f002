//! Many requests: answers that are kept, and calls that are joined.

use std::time::{Duration, Instant};

use common::config::PeerSettings;
use futures::future::join_all;

use super::stub_peer::{Behaviour, StubPeer, details, sku};
use crate::details::{DetailsError, DetailsLookup};

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

#[actix_web::test]
async fn an_answer_is_given_again() {
    let peer = StubPeer::start(Behaviour::Normal);
    let details = peer.details();
    assert!(details.get(&sku("A")).await.is_fresh());
    assert!(details.get(&sku("A")).await.is_cached());
    assert!(details.get(&sku("B")).await.is_fresh());
    peer.set_behaviour(Behaviour::Status(500));
    assert!(details.get(&sku("A")).await.is_cached());
    assert_eq!(peer.calls().len(), 2);
}

#[actix_web::test]
async fn an_answer_gets_old() {
    let peer = StubPeer::start(Behaviour::Normal);
    let cache_ttl = Duration::from_millis(100);
    let details = details(&PeerSettings { cache_ttl, ..peer.settings() });
    assert!(details.get(&sku("A")).await.is_fresh());
    tokio::time::sleep(cache_ttl).await;
    assert!(details.get(&sku("A")).await.is_fresh());
    // As it was kept a second time, its time has to begin a second time.
    tokio::time::sleep(cache_ttl).await;
    assert!(details.get(&sku("A")).await.is_fresh());
    assert_eq!(peer.calls().len(), 3);
}

#[actix_web::test]
async fn nothing_is_kept_where_that_is_wanted() {
    let peer = StubPeer::start(Behaviour::Normal);
    let details = details(&PeerSettings { cache_ttl: Duration::ZERO, ..peer.settings() });
    for _ in 0..3 {
        assert!(details.get(&sku("A")).await.is_fresh());
    }
    assert_eq!(peer.calls().len(), 3);
}

/// The time to live here is ten minutes, but not for this.
#[actix_web::test]
async fn that_there_is_no_product_is_not_believed_long() {
    let peer = StubPeer::start(Behaviour::Unknown);
    let details = peer.details();
    for _ in 0..10 {
        assert!(details.get(&sku("A")).await.is_unknown());
    }
    assert!(peer.calls().len() < 10);
    peer.set_behaviour(Behaviour::Normal);
    let start = Instant::now();
    while !details.get(&sku("A")).await.is_fresh() {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(details.get(&sku("A")).await.is_cached());
}

#[actix_web::test]
async fn a_hundred_at_once_are_one_call() {
    let peer = StubPeer::start(Behaviour::Delayed(Duration::from_millis(100)));
    let details = peer.details();
    let asked = sku("A");
    let found = join_all((0..100).map(|_| details.get(&asked))).await;
    assert!(found.iter().all(DetailsLookup::is_fresh));
    assert_eq!(peer.calls().len(), 1);

    peer.set_behaviour(Behaviour::Status(503));
    let asked = sku("B");
    let found = join_all((0..100).map(|_| details.get(&asked))).await;
    assert!(found.iter().all(|one| matches!(one.error(), DetailsError::Status(503))));
    // The first call may be over before the last request came.
    assert!(peer.calls().len() <= 4, "{}", peer.calls().len());
    // A fault is not kept.
    peer.set_behaviour(Behaviour::Normal);
    assert!(details.get(&asked).await.is_fresh());
}

#[actix_web::test]
async fn calls_for_different_products_do_not_wait_for_each_other() {
    let peer = StubPeer::start(Behaviour::Delayed(Duration::from_millis(100)));
    let details = peer.details();
    let skus: Vec<_> = (0..200).map(|number| sku(&format!("S{number}"))).collect();
    let start = Instant::now();
    let found = join_all(skus.iter().map(|sku| details.get(sku))).await;
    assert!(found.iter().all(DetailsLookup::is_fresh));
    assert_eq!(peer.calls().len(), 200);
    // One after the other these are twenty seconds.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[actix_web::test]
async fn who_hangs_up_ends_nobody_elses_call() {
    let peer = StubPeer::start(Behaviour::Delayed(Duration::from_millis(200)));
    let details = peer.details();
    let asked = sku("A");
    let impatient = tokio::time::timeout(Duration::from_millis(50), details.get(&asked));
    let (gone, found) = tokio::join!(impatient, async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        details.get(&asked).await
    });
    assert!(gone.is_err());
    assert!(found.is_fresh());
    assert_eq!(peer.calls().len(), 1);
}

#[actix_web::test]
async fn what_is_kept_is_bounded() {
    let peer = StubPeer::start(Behaviour::Normal);
    let details = details(&PeerSettings { cache_bytes: 20_000, ..peer.settings() });
    for number in 0..300 {
        assert!(details.get(&sku(&format!("S{number}"))).await.is_fresh());
    }
    let bytes = details.0.cache.bytes().await;
    assert!((1..=20_000).contains(&bytes), "{bytes}");
}
