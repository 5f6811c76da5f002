//! One window: what a person does in it, and what they see.
//!
//! Whatever is looked for may still be on its way, so each step waits for it, up to a deadline, and then panics with
//! what the page shows instead.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::cookies::Cookie;
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::{Client, Locator};
use serde_json::{Value, json};

use super::WindowOptions;
use crate::poll::eventually;

/// Long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// Characters of a page's text in a message.
const SHOWN: usize = 4_000;
/// Places on a page that Tab stops at, at the most.
const MOST_TABS: usize = 150;
/// What has the focus, and whether that can be seen.
const FOCUS: &str = "
    const focus = document.activeElement, style = getComputedStyle(focus);
    const words = focus.labels?.[0]?.innerText || focus.ariaLabel || focus.innerText || focus.tagName;
    const marked = style.outlineStyle !== 'none' || style.boxShadow !== 'none';
    return { name: words.trim(), marked: marked || focus === document.body };
";

/// A window; it ends with [`Window::close`], or with the test process.
#[derive(Debug)]
pub struct Window {
    client: Client,
    /// The driver's address for this window.
    session: String,
    http: reqwest::Client,
}

impl Window {
    pub(super) async fn new(client: Client, driver: &str) -> anyhow::Result<Self> {
        let session = client.session_id().await?.context("the driver named no session")?;
        let session = format!("{driver}/session/{session}");
        Ok(Self { client, session, http: reqwest::Client::new() })
    }

    /// Ends the browser.
    pub async fn close(self) {
        self.client.close().await.expect("a browser can be ended");
    }

    /// Changes width, colours and whether scripts run; pages loaded before may keep what they have.
    pub async fn apply(&self, options: WindowOptions) -> anyhow::Result<()> {
        // Not the window's own size, which has a least width.
        let size = json!({
            "width": options.width,
            "height": options.height,
            "deviceScaleFactor": 1,
            "mobile": false,
        });
        self.command("Emulation.setDeviceMetricsOverride", size).await?;
        let scheme = if options.dark { "dark" } else { "light" };
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.command("Emulation.setEmulatedMedia", json!({ "features": features })).await?;
        let off = json!({ "value": !options.scripts });
        self.command("Emulation.setScriptExecutionDisabled", off).await
    }

    /// What the browser's console was told since it was last asked for, warnings and worse: scripts that failed, and
    /// what the page's policy did not let through.
    pub async fn console_messages(&self) -> anyhow::Result<Vec<String>> {
        let told = self.ask("se/log", json!({ "type": "browser" })).await?;
        let told = told.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(told.iter().map(|entry| entry["message"].to_string()).collect())
    }

    /// A command of Chromium's own protocol, for what WebDriver has no word for.
    async fn command(&self, name: &str, params: Value) -> anyhow::Result<()> {
        self.ask("goog/cdp/execute", json!({ "cmd": name, "params": params })).await.map(drop)
    }

    /// What only this driver knows.
    async fn ask(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let url = format!("{}/{path}", self.session);
        let mut answer: Value = self.http.post(url).json(&body).send().await?.json().await?;
        ensure!(answer["value"]["error"].is_null(), "{path} with {body} failed: {answer}");
        Ok(answer["value"].take())
    }

    /// Goes to `url` and waits until it is loaded.
    pub async fn visit(&self, url: &str) {
        self.client
            .goto(url)
            .await
            .unwrap_or_else(|error| panic!("{url} can't be visited: {error}"));
    }

    /// Loads the page once more.
    pub async fn reload(&self) {
        self.client.refresh().await.expect("a page can be loaded again");
    }

    /// The first element of the CSS selector that can be seen.
    pub async fn find(&self, css: &str) -> Element {
        self.seen(css, Locator::Css(css)).await
    }

    /// Whether an element of the CSS selector is there now, seen or not.
    pub async fn has(&self, css: &str) -> bool {
        let found = self.client.find_all(Locator::Css(css)).await;
        !found.expect("elements can be looked for").is_empty()
    }

    /// Clicks on the first element of the CSS selector that can be seen.
    pub async fn click(&self, css: &str) {
        self.click_on(css, Locator::Css(css)).await;
    }

    /// Clicks within the page's first frame, and goes on in the window that this opens.
    pub async fn follow_from_frame(&self, css: &str) {
        let here = self.client.window().await.expect("a window has a handle");
        self.client.enter_frame(0).await.expect("a page with a frame");
        self.click(css).await;
        let opened = eventually("a window of its own", DEADLINE, async || {
            let windows = self.client.windows().await.expect("windows can be asked for");
            windows.into_iter().find(|window| *window != here).ok_or("there is none")
        })
        .await;
        self.client.switch_to_window(opened).await.expect("a window can be gone to");
    }

    /// Clicks on the button or link with these words.
    pub async fn press(&self, words: &str) {
        self.click_on(words, Locator::XPath(&by_words(words))).await;
    }

    /// Whether a button or link with these words can be seen now.
    pub async fn offers(&self, words: &str) -> bool {
        first_displayed(&self.client, Locator::XPath(&by_words(words))).await.is_ok()
    }

    /// Writes `text` into the field with this label, instead of what was there.
    pub async fn fill(&self, label: &str, text: &str) {
        let field = self.seen(label, Locator::XPath(&by_label(label))).await;
        field.clear().await.expect("a field can be emptied");
        field.send_keys(text).await.expect("a field can be filled");
    }

    /// Chooses the option with these words in the field with this label.
    pub async fn choose(&self, label: &str, words: &str) {
        let field = self.seen(label, Locator::XPath(&by_label(label))).await;
        field.select_by_label(words).await.expect("a field with such an option");
    }

    /// Waits until these words can be seen.
    pub async fn expect_text(&self, words: &str) {
        eventually(&format!("{words:?} on the page"), DEADLINE, async || {
            let text = self.text().await;
            if text.contains(words) { Ok(()) } else { Err(self.shown(&text).await) }
        })
        .await;
    }

    /// Waits until this is the path of the page's address, whatever its query.
    pub async fn expect_path(&self, path: &str) {
        eventually(&format!("a page at {path}"), DEADLINE, async || {
            let now = self.path().await;
            match now.split('?').next() == Some(path) {
                true => Ok(()),
                false => Err(self.shown(&self.text().await).await),
            }
        })
        .await;
    }

    /// Path and query of the page.
    pub async fn path(&self) -> String {
        let url = self.client.current_url().await.expect("a window has an address");
        match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        }
    }

    /// The page's text as it can be seen; empty while it is being replaced.
    pub async fn text(&self) -> String {
        self.text_of("body").await
    }

    /// The text of the first element of the CSS selector; empty while there is none.
    pub async fn text_of(&self, css: &str) -> String {
        // Not WebDriver's own text, which leaves out what is there for want of JavaScript.
        let script = "return document.querySelector(arguments[0])?.innerText";
        let text = self.client.execute(script, vec![css.into()]).await.unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    /// The page's title.
    pub async fn title(&self) -> String {
        self.client.title().await.expect("a page has a title")
    }

    /// Presses keys, wherever the focus is.
    pub async fn keys(&self, keys: &[Key]) {
        self.strokes(keys.iter().map(|key| char::from(*key))).await;
    }

    /// Waits until the focus is on what has these words as its label or text.
    pub async fn expect_focus(&self, words: &str) {
        eventually(&format!("the focus on {words:?}"), DEADLINE, async || {
            let focus = self.run(FOCUS).await.map_err(|error| error.to_string())?;
            if focus["name"] == words { Ok(()) } else { Err(focus.to_string()) }
        })
        .await;
    }

    /// Presses Tab until the focus is on what has these words as its label or text; it has to be seen on the way.
    pub async fn tab_to(&self, words: &str) {
        let mut stops = Vec::new();
        for _ in 0..MOST_TABS {
            self.keys(&[Key::Tab]).await;
            let focus = self.run(FOCUS).await.expect("a page has a focus");
            let name = focus["name"].as_str().unwrap_or_default().to_owned();
            assert_eq!(focus["marked"], true, "nothing shows that the focus is on {name:?}");
            if name == words {
                return;
            }
            stops.push(name);
        }
        panic!("Tab never gets to {words:?} on {}, but to {stops:#?}", self.path().await);
    }

    /// The window's cookies, also those that scripts may not see.
    pub async fn cookies(&self) -> Vec<Cookie<'static>> {
        self.client.get_all_cookies().await.expect("cookies can be asked for")
    }

    /// Types `text`, wherever the focus is.
    pub async fn type_text(&self, text: &str) {
        self.strokes(text.chars()).await;
    }

    /// Runs JavaScript in the page, past its policy, and returns what that returns.
    pub async fn run(&self, script: &str) -> Result<Value, CmdError> {
        self.client.execute(script, Vec::new()).await
    }

    /// [`Window::run`] for a script that hands its result to the function that is its last argument.
    pub async fn run_async(&self, script: &str) -> Result<Value, CmdError> {
        self.client.execute_async(script, Vec::new()).await
    }

    /// Writes a picture of what can be seen to `file`, as PNG.
    pub async fn screenshot(&self, file: &Path) -> anyhow::Result<()> {
        let picture = self.client.screenshot().await?;
        fs::write(file, picture).with_context(|| format!("can't write {}", file.display()))
    }

    async fn strokes(&self, keys: impl Iterator<Item = char>) {
        let strokes = keys.fold(KeyActions::new("keyboard".to_owned()), |strokes, value| {
            strokes.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.client.perform_actions(strokes).await.expect("keys can be pressed");
    }

    async fn seen(&self, what: &str, locator: Locator<'_>) -> Element {
        eventually(&format!("{what:?} to be seen"), DEADLINE, async || {
            match first_displayed(&self.client, locator).await {
                Ok(element) => Ok(element),
                Err(error) => Err(format!("{error}; {}", self.shown(&self.text().await).await)),
            }
        })
        .await
    }

    async fn click_on(&self, what: &str, locator: Locator<'_>) {
        eventually(&format!("a click on {what:?}"), DEADLINE, async || {
            let click = async || first_displayed(&self.client, locator).await?.click().await;
            match click().await {
                Ok(()) => Ok(()),
                Err(error) => Err(format!("{error}; {}", self.shown(&self.text().await).await)),
            }
        })
        .await;
    }

    async fn shown(&self, text: &str) -> String {
        let text: String = text.chars().take(SHOWN).collect();
        format!("{} shows:\n{text}", self.path().await)
    }
}

async fn first_displayed(client: &Client, locator: Locator<'_>) -> Result<Element, CmdError> {
    for element in client.find_all(locator).await? {
        if element.is_displayed().await? {
            return Ok(element);
        }
    }
    // The driver's own words for nothing found.
    client.find(locator).await
}

fn by_words(words: &str) -> String {
    format!(
        "//button[normalize-space()='{words}'] | //a[normalize-space()='{words}'] | \
         //summary[normalize-space()='{words}']"
    )
}

fn by_label(label: &str) -> String {
    format!(
        "//*[@id=//label[normalize-space()='{label}']/@for] | \
         //label[normalize-space(text())='{label}']//*[self::input or self::select or self::textarea]"
    )
}
