//! Without JavaScript everything can be read and done; it is only not live.

use stockloop_tests::browser::WindowOptions;

use super::fixture::{ADMIN, BrowserFixture};

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_read_and_done_without_javascript() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP.without_scripts()).await
    else {
        return;
    };
    let event = fixture.exhaust("TEA", "the shelf is being counted").await;
    let page = format!("/admin/events/{}", event["id"].as_str().expect("an id"));
    fixture.visit("/admin").await;
    fixture.window.expect_text(ADMIN).await;
    fixture.window.find("main figure svg, main figure img").await;
    fixture.visit("/admin/events?status=EXHAUSTED").await;
    fixture.window.press("TEA").await;
    fixture.window.expect_path(&page).await;
    fixture.window.expect_text("the shelf is being counted").await;
    fixture.system.order.release("TEA").await;
    fixture.window.press("Retry").await;
    fixture.system.wait_until_settled().await;
    fixture.window.reload().await;
    fixture.window.expect_text("PROCESSED").await;
    fixture.close().await;
}
