//! A real Chromium behind its WebDriver: windows of any width that nobody sees, light or dark, with JavaScript or
//! without, each with cookies of its own.

mod axe;
mod programs;
mod window;

use std::time::Duration;

use anyhow::Context;
use fantoccini::ClientBuilder;
use fantoccini::wd::Capabilities;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use self::programs::Programs;
use crate::once::Once;
use crate::ports::free_port;
use crate::process::{Child, Launch};
use crate::scratch;

pub use self::axe::{Axe, Finding};
pub use self::window::Window;
pub use fantoccini::key::Key;

const START_DEADLINE: Duration = Duration::from_secs(120);
/// What Chromium is started with, besides a profile of its own that the driver makes.
const ARGUMENTS: [&str; 8] = [
    "--headless=new",
    // Containers run as root and have little shared memory; Chromium refuses both unless told.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--lang=en-US",
];

static SHARED: Once<Chromium> = Once::new();

/// How a window shows pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowOptions {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Whether the system asks for dark colours.
    pub dark: bool,
    /// Whether pages may run JavaScript.
    pub scripts: bool,
}

impl WindowOptions {
    /// A desktop's window, light.
    pub const DESKTOP: Self = Self { width: 1280, height: 900, dark: false, scripts: true };
    /// A narrow phone, light.
    pub const PHONE: Self = Self { width: 360, height: 760, ..Self::DESKTOP };

    /// The same in dark colours.
    pub const fn dark(self) -> Self {
        Self { dark: true, ..self }
    }

    /// The same without JavaScript.
    pub const fn without_scripts(self) -> Self {
        Self { scripts: false, ..self }
    }
}

/// Chromium's driver, which starts a browser for each window.
#[derive(Debug)]
pub struct Chromium {
    programs: Programs,
    address: String,
    _driver: Child,
}

impl Chromium {
    /// The driver that all tests of this process share, started on first use.
    pub fn shared() -> anyhow::Result<&'static Self> {
        SHARED.get(Self::start)
    }

    fn start() -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        let port = free_port()?;
        let mut driver = Launch::new(&programs.driver)
            .arg(format!("--port={port}"))
            // Profiles lie there: what a killed browser leaves behind goes with the scratch folder.
            .env("TMPDIR", scratch::folder("chromium")?)
            // On this signal it ends its browsers too.
            .last_signal("TERM")
            .spawn()?;
        driver.wait_for_line("started successfully", START_DEADLINE)?;
        Ok(Self { programs, address: format!("http://127.0.0.1:{port}"), _driver: driver })
    }

    /// Opens a window with cookies of its own; [`Window::close`] ends it.
    pub async fn open(&self, options: WindowOptions) -> anyhow::Result<Window> {
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(self.capabilities())
            .connect(&self.address)
            .await
            .context("Chromium did not start")?;
        let window = Window::new(client, &self.address).await?;
        window.apply(options).await?;
        Ok(window)
    }

    fn capabilities(&self) -> Capabilities {
        let options = json!({ "binary": self.programs.browser, "args": ARGUMENTS });
        Capabilities::from_iter([
            ("goog:chromeOptions".to_owned(), options),
            ("goog:loggingPrefs".to_owned(), json!({ "browser": "WARNING" })),
        ])
    }
}
