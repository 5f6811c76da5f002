//! Finding the one event that hurts.

use serde_json::Value;
use stockloop_tests::browser::WindowOptions;
use stockloop_tests::poll::eventually;

use super::fixture::BrowserFixture;
use crate::system::{DEADLINE, text};

#[tokio::test(flavor = "multi_thread")]
async fn events_are_filtered_and_found() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP).await else { return };
    fixture.system.product.put_product("MUG", 3).await;
    fixture.system.wait_until_settled().await;
    let tea = text(&fixture.exhaust("TEA", "the shelf is being counted").await["id"]);
    let cake = text(&fixture.exhaust("CAKESTAND", "the box is broken").await["id"]);

    fixture.visit("/admin/events").await;
    expect_keys(&fixture, &["CAKESTAND", "TEA", "MUG"]).await;
    fixture.window.choose("Status", "PROCESSED").await;
    fixture.window.press("Filter").await;
    expect_keys(&fixture, &["MUG"]).await;
    fixture.window.choose("Status", "EXHAUSTED").await;
    fixture.window.press("Filter").await;
    expect_keys(&fixture, &["CAKESTAND", "TEA"]).await;

    for words in ["TEA", &tea] {
        fixture.visit("/admin/events").await;
        fixture.window.fill("Search", words).await;
        fixture.window.press("Filter").await;
        expect_keys(&fixture, &["TEA"]).await;
    }
    fixture.window.fill("Search", "NOTHING").await;
    fixture.window.press("Filter").await;
    expect_keys(&fixture, &[]).await;

    fixture.visit(&format!("/admin/events/{cake}")).await;
    fixture.window.expect_text("the box is broken").await;
    fixture.close().await;
}

/// That the list has these keys, from top to bottom.
async fn expect_keys(fixture: &BrowserFixture, keys: &[&str]) {
    let script =
        "return [...document.querySelectorAll('main tbody tr')].map(row => row.dataset.key)";
    eventually(&format!("{keys:?} in the list"), DEADLINE, async || {
        let shown = fixture.window.run(script).await.expect("a list");
        let right = shown == Value::from(keys.to_vec());
        if right { Ok(()) } else { Err((shown, fixture.window.text().await)) }
    })
    .await;
}
