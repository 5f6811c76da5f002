//! Everything with the keyboard alone, and the focus in sight.

use stockloop_tests::browser::{Key, WindowOptions};
use stockloop_tests::poll::eventually;

use super::fixture::{ADMIN, BrowserFixture, PASSWORD};
use crate::system::DEADLINE;

#[tokio::test(flavor = "multi_thread")]
async fn from_the_sign_in_to_a_retry_with_the_keyboard_alone() {
    let Some(fixture) = BrowserFixture::with_admin(WindowOptions::DESKTOP).await else { return };
    fixture.system.product.put_product("MUG", 3).await;
    let event = fixture.exhaust("TEA", "the shelf is being counted").await;
    let id = event["id"].as_str().expect("an id");
    let window = &fixture.window;
    window.tab_to("Sign out").await;
    window.keys(&[Key::Enter]).await;
    window.expect_path("/admin/login").await;
    // The first field gets the focus by itself, a moment after the page is there.
    window.expect_focus("Name").await;
    window.type_text(ADMIN).await;
    window.tab_to("Password").await;
    window.type_text(PASSWORD).await;
    window.keys(&[Key::Enter]).await;
    window.expect_path("/admin").await;

    window.tab_to("Events").await;
    window.keys(&[Key::Enter]).await;
    window.expect_path("/admin/events").await;
    window.tab_to("Status").await;
    window.type_text("EXH").await;
    window.tab_to("Filter").await;
    window.keys(&[Key::Enter]).await;
    eventually("the filtered list", DEADLINE, async || {
        let path = window.path().await;
        if path.contains("status=EXHAUSTED") { Ok(()) } else { Err(path) }
    })
    .await;
    window.tab_to("TEA").await;
    window.keys(&[Key::Enter]).await;
    window.expect_path(&format!("/admin/events/{id}")).await;
    fixture.system.order.release("TEA").await;
    window.tab_to("Retry").await;
    window.keys(&[Key::Enter]).await;
    fixture.system.wait_until_settled().await;
    fixture.close().await;
}
