//! Without JavaScript everything can be read and done; it is only not live.

use stockloop_tests::browser::Look;

use super::desk::{ADMIN, Desk};

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_read_and_done_without_javascript() {
    let Some(desk) = Desk::of_admin(Look::DESK.without_scripts()).await else { return };
    let event = desk.exhaust("TEA", "the shelf is being counted").await;
    let page = format!("/admin/events/{}", event["id"].as_str().expect("an id"));
    desk.visit("/admin").await;
    desk.window.sees(ADMIN).await;
    desk.window.find("main figure svg, main figure img").await;
    desk.visit("/admin/events?status=EXHAUSTED").await;
    desk.window.press("TEA").await;
    desk.window.at(&page).await;
    desk.window.sees("the shelf is being counted").await;
    desk.release("TEA").await;
    desk.window.press("Retry").await;
    desk.stage.settled().await;
    desk.window.reload().await;
    desk.window.sees("PROCESSED").await;
    desk.leave().await;
}
