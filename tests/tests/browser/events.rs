//! Finding the one event that hurts.

use serde_json::Value;
use stockloop_tests::browser::Look;
use stockloop_tests::poll::eventually;

use super::desk::Desk;
use crate::stage::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn events_are_filtered_and_found() {
    let Some(desk) = Desk::of_admin(Look::DESK).await else { return };
    desk.stage.product.put_product("MUG", 3).await;
    desk.stage.settled().await;
    let tea = id(&desk.exhaust("TEA", "the shelf is being counted").await);
    let cake = id(&desk.exhaust("CAKESTAND", "the box is broken").await);

    desk.visit("/admin/events").await;
    shows(&desk, &["CAKESTAND", "TEA", "MUG"]).await;
    desk.window.choose("Status", "PROCESSED").await;
    desk.window.press("Filter").await;
    shows(&desk, &["MUG"]).await;
    desk.window.choose("Status", "EXHAUSTED").await;
    desk.window.press("Filter").await;
    shows(&desk, &["CAKESTAND", "TEA"]).await;

    for words in ["TEA", &tea] {
        desk.visit("/admin/events").await;
        desk.window.fill("Search", words).await;
        desk.window.press("Filter").await;
        shows(&desk, &["TEA"]).await;
    }
    desk.window.fill("Search", "NOTHING").await;
    desk.window.press("Filter").await;
    shows(&desk, &[]).await;

    desk.visit(&format!("/admin/events/{cake}")).await;
    desk.window.sees("the box is broken").await;
    desk.leave().await;
}

fn id(event: &Value) -> String {
    event["id"].as_str().expect("an id").to_owned()
}

/// That the list has these keys, from top to bottom.
async fn shows(desk: &Desk, keys: &[&str]) {
    let script =
        "return [...document.querySelectorAll('main tbody tr')].map(row => row.dataset.key)";
    eventually(&format!("{keys:?} in the list"), PATIENCE, async || {
        let shown = desk.window.run(script).await.expect("a list");
        let right = shown == Value::from(keys.to_vec());
        if right { Ok(()) } else { Err((shown, desk.window.text().await)) }
    })
    .await;
}
