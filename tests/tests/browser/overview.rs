//! The overview tells what is, and goes on telling.

use serde_json::Value;
use stockloop_tests::browser::WindowOptions;
use stockloop_tests::poll::eventually;

use super::fixture::BrowserFixture;
use crate::system::DEADLINE;

#[tokio::test(flavor = "multi_thread")]
async fn numbers_change_while_somebody_looks() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP).await else { return };
    fixture.visit("/admin").await;
    expect_count(&fixture, "PROCESSED", "0").await;
    // A page that was loaded once more would have forgotten this.
    fixture.window.run("window.mark = 'the same page'").await.expect("a mark can be set");
    fixture.system.product.put_product("TEA", 12).await;
    fixture.system.product.put_product("MUG", 3).await;
    expect_count(&fixture, "PROCESSED", "2").await;
    fixture.exhaust("CAKESTAND", "the shelf is being counted").await;
    expect_count(&fixture, "EXHAUSTED", "1").await;
    let mark = fixture.window.run("return window.mark").await.expect("a value");
    assert_eq!(mark, Value::from("the same page"));
    fixture.close().await;
}

async fn expect_count(fixture: &BrowserFixture, name: &str, expected: &str) {
    eventually(&format!("{expected} {name}"), DEADLINE, async || {
        let shown = fixture.window.text_of(&format!("[data-live=\"{name}\"]")).await;
        if shown == expected { Ok(()) } else { Err((shown, fixture.window.text().await)) }
    })
    .await;
}
