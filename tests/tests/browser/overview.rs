//! The overview tells what is, and goes on telling.

use serde_json::Value;
use stockloop_tests::browser::Look;
use stockloop_tests::poll::eventually;

use super::desk::Desk;
use crate::stage::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn numbers_change_while_somebody_looks() {
    let Some(desk) = Desk::of_admin(Look::DESK).await else { return };
    desk.visit("/admin").await;
    number(&desk, "PROCESSED", "0").await;
    // A page that was loaded once more would have forgotten this.
    desk.window.run("window.mark = 'the same page'").await.expect("a mark can be set");
    desk.stage.product.put_product("TEA", 12).await;
    desk.stage.product.put_product("MUG", 3).await;
    number(&desk, "PROCESSED", "2").await;
    desk.exhaust("CAKESTAND", "the shelf is being counted").await;
    number(&desk, "EXHAUSTED", "1").await;
    let mark = desk.window.run("return window.mark").await.expect("a value");
    assert_eq!(mark, Value::from("the same page"));
    desk.leave().await;
}

async fn number(desk: &Desk, name: &str, expected: &str) {
    eventually(&format!("{expected} {name}"), PATIENCE, async || {
        let shown = desk.window.text_of(&format!("[data-live=\"{name}\"]")).await;
        if shown == expected { Ok(()) } else { Err((shown, desk.window.text().await)) }
    })
    .await;
}
