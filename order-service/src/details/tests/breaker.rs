//! A peer that fails is left alone for a while.

use std::time::{Duration, Instant};

use common::config::PeerSettings;

use super::stub_peer::{Behaviour, StubPeer, details, sku};
use crate::details::{DetailsClient, DetailsError};

const PAUSE: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(20);

fn of(peer: &StubPeer) -> DetailsClient {
    let timeout = Duration::from_secs(5);
    details(&PeerSettings { breaker_calls: 4, breaker_pause: PAUSE, timeout, ..peer.settings() })
}

#[actix_web::test]
async fn after_failures_no_calls_are_made_until_it_is_well_again() {
    let peer = StubPeer::start(Behaviour::Status(500));
    let details = of(&peer);
    for _ in 0..4 {
        assert!(matches!(details.get(&sku("A")).await.error(), DetailsError::Status(500)));
    }
    peer.set_behaviour(Behaviour::Normal);
    let opened = Instant::now();
    let found = details.get(&sku("A")).await;
    assert!(found.is_breaker_open(), "{found:?}");
    assert!(found.error().to_string().contains("is not asked for a while"), "{}", found.error());
    assert_eq!(peer.calls().len(), 4);
    while !details.get(&sku("A")).await.is_fresh() {
        assert!(opened.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(opened.elapsed() >= PAUSE - Duration::from_millis(50), "{:?}", opened.elapsed());
    assert_eq!(peer.calls().len(), 5);
    for number in 0..10 {
        assert!(details.get(&sku(&format!("S{number}"))).await.is_fresh());
    }
}

#[actix_web::test]
async fn it_opens_again_if_the_peer_is_still_ill() {
    let peer = StubPeer::start(Behaviour::Status(500));
    let details = of(&peer);
    let start = Instant::now();
    let mut pauses = 0;
    let mut paused = false;
    while pauses < 3 {
        assert!(start.elapsed() < DEADLINE);
        let now = details.get(&sku("A")).await.is_breaker_open();
        pauses += u32::from(now && !paused);
        paused = now;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Four at first, and two for each further try.
    assert_eq!(peer.calls().len(), 8);
}

#[actix_web::test]
async fn silence_counts_as_failure() {
    let peer = StubPeer::start(Behaviour::StopsMidway);
    let timeout = Duration::from_millis(50);
    let settings = PeerSettings { timeout, breaker_calls: 2, ..peer.settings() };
    let details = details(&settings);
    let start = Instant::now();
    while !details.get(&sku("A")).await.is_breaker_open() {
        assert!(start.elapsed() < DEADLINE);
    }
    // Who has waited long enough may be gone before the call counts; one call more may have been made by then.
    assert!((2..=3).contains(&peer.calls().len()), "{}", peer.calls().len());
}

#[actix_web::test]
async fn unknown_products_are_no_failures() {
    let peer = StubPeer::start(Behaviour::Unknown);
    let details = of(&peer);
    for number in 0..20 {
        assert!(details.get(&sku(&format!("S{number}"))).await.is_unknown());
    }
    assert_eq!(peer.calls().len(), 20);
}

#[actix_web::test]
async fn a_failure_now_and_then_changes_nothing() {
    let peer = StubPeer::start(Behaviour::Normal);
    let details = of(&peer);
    for number in 0..20 {
        peer.set_behaviour(if number % 4 == 0 {
            Behaviour::Status(500)
        } else {
            Behaviour::Normal
        });
        let found = details.get(&sku(&format!("S{number}"))).await;
        assert!(!found.is_breaker_open(), "{number}: {found:?}");
    }
    assert_eq!(peer.calls().len(), 20);
}

/// What was kept is given while nothing new can be had.
#[actix_web::test]
async fn what_is_kept_needs_no_peer() {
    let peer = StubPeer::start(Behaviour::Normal);
    let details = of(&peer);
    assert!(details.get(&sku("A")).await.is_fresh());
    peer.set_behaviour(Behaviour::Status(500));
    for _ in 0..4 {
        details.get(&sku("B")).await;
    }
    assert!(details.get(&sku("B")).await.is_breaker_open());
    assert!(details.get(&sku("A")).await.is_cached());
}
