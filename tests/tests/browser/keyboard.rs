//! Everything with the keyboard alone, and the focus in sight.

use stockloop_tests::browser::{Key, Look};
use stockloop_tests::poll::eventually;

use super::desk::{ADMIN, Desk, PASSWORD};
use crate::stage::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn from_the_sign_in_to_a_retry_with_the_keyboard_alone() {
    let Some(desk) = Desk::of_admin(Look::DESK).await else { return };
    desk.stage.product.put_product("MUG", 3).await;
    let event = desk.exhaust("TEA", "the shelf is being counted").await;
    let id = event["id"].as_str().expect("an id");
    let window = &desk.window;
    window.tab_to("Sign out").await;
    window.keys(&[Key::Enter]).await;
    window.at("/admin/login").await;
    // The first field has the focus already.
    window.types(ADMIN).await;
    window.tab_to("Password").await;
    window.types(PASSWORD).await;
    window.keys(&[Key::Enter]).await;
    window.at("/admin").await;

    window.tab_to("Events").await;
    window.keys(&[Key::Enter]).await;
    window.at("/admin/events").await;
    window.tab_to("Status").await;
    window.types("EXH").await;
    window.tab_to("Filter").await;
    window.keys(&[Key::Enter]).await;
    eventually("the filtered list", PATIENCE, async || {
        let path = window.path().await;
        if path.contains("status=EXHAUSTED") { Ok(()) } else { Err(path) }
    })
    .await;
    window.tab_to("TEA").await;
    window.keys(&[Key::Enter]).await;
    window.at(&format!("/admin/events/{id}")).await;
    desk.release("TEA").await;
    window.tab_to("Retry").await;
    window.keys(&[Key::Enter]).await;
    desk.stage.settled().await;
    desk.leave().await;
}
