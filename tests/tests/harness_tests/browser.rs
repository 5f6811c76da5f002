//! Chromium, on pages without a server.

use stockloop_tests::browser::{Key, WindowOptions};
use stockloop_tests::real;

const PAGE: &str = "data:text/html,<!doctype html><html lang=en><title>A page</title>\
    <style>@media (prefers-color-scheme: dark) { .light { display: none } }</style>\
    <main><h1>Heading</h1><p class=light>It is light.</p><noscript>Nothing runs.</noscript>\
    <p><label for=who>Name</label> <input id=who> <button onclick=\"said.textContent='Hello '%2Bwho.value\">\
    Greet</button></p><p id=said></p></main>";
const BAD: &str = "data:text/html,<!doctype html><html lang=en><title>A page</title><main><h1>Heading</h1>\
    <input><p style='color:%23ccc'>Pale on white</p></main>";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_read_filled_and_clicked() {
    let Some(chromium) = real::chromium() else { return };
    let window = chromium.open(WindowOptions::DESKTOP).await.unwrap();
    window.visit(PAGE).await;
    assert_eq!(window.title().await, "A page");
    window.fill("Name", "you").await;
    window.press("Greet").await;
    window.expect_text("Hello you").await;
    window.fill("Name", "keys").await;
    window.keys(&[Key::Tab, Key::Enter]).await;
    window.expect_text("Hello keys").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_has_the_look_that_it_is_given() {
    let Some(chromium) = real::chromium() else { return };
    let window = chromium.open(WindowOptions::PHONE.dark()).await.unwrap();
    window.visit(PAGE).await;
    assert_eq!(window.run("return innerWidth").await.unwrap(), 360);
    assert!(!window.text().await.contains("It is light."));
    window.apply(WindowOptions::DESKTOP.without_scripts()).await.unwrap();
    window.reload().await;
    window.expect_text("It is light.").await;
    window.expect_text("Nothing runs.").await;
    window.press("Greet").await;
    assert_eq!(window.text_of("#said").await, "");
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shuts_people_out_is_found() {
    let (Some(chromium), Some(axe)) = (real::chromium(), real::axe()) else { return };
    let window = chromium.open(WindowOptions::DESKTOP).await.unwrap();
    window.visit(PAGE).await;
    let none = axe.findings(&window).await.unwrap();
    assert!(none.is_empty(), "{none:#?}");
    window.visit(BAD).await;
    let found = axe.findings(&window).await.unwrap();
    let rules: Vec<_> = found.iter().filter_map(|finding| finding.rule.split(':').next()).collect();
    assert_eq!(rules, ["color-contrast", "label"], "{found:#?}");
    window.close().await;
}
