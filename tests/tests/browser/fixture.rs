//! Both services, and the window of somebody who works with them.

use std::path::Path;

use serde_json::{Value, json};
use stockloop_tests::browser::{Window, WindowOptions};
use stockloop_tests::real;

use crate::system::TestSystem;

/// The first admin.
pub(super) const ADMIN: &str = "ada";
/// Everybody's password here.
pub(super) const PASSWORD: &str = "correct horse battery";

const SCREENSHOTS: &str = "../docs/screenshots";

/// Both services, and a window on product-service.
pub(super) struct BrowserFixture {
    pub(super) system: TestSystem,
    pub(super) window: Window,
}

impl BrowserFixture {
    /// One whose window shows nothing yet; `None` where there is no Chromium.
    pub(super) async fn new(options: WindowOptions) -> Option<Self> {
        let chromium = real::chromium()?;
        let (system, window) = tokio::join!(TestSystem::guarded(), chromium.open(options));
        Some(Self { system, window: window.expect("a window can be opened") })
    }

    /// One at which the first admin has just been made, and is signed in.
    pub(super) async fn with_admin(options: WindowOptions) -> Option<Self> {
        let fixture = Self::new(options).await?;
        fixture.make_admin().await;
        Some(fixture)
    }

    /// Follows the link with the one-time token.
    pub(super) async fn make_admin(&self) {
        self.window.visit(self.system.product.setup_url()).await;
        self.fill_setup(ADMIN, PASSWORD).await;
        self.window.expect_path("/admin").await;
    }

    /// Fills in the form that makes the first admin, and sends it off.
    pub(super) async fn fill_setup(&self, name: &str, repeated: &str) {
        self.window.fill("Name", name).await;
        self.window.fill("Password", PASSWORD).await;
        self.window.fill("Repeat the password", repeated).await;
        self.window.press("Create the admin").await;
    }

    /// Makes somebody with a role.
    pub(super) async fn add_user(&self, name: &str, role: &str) {
        let user = json!({"name": name, "password": PASSWORD, "role": role});
        self.system.product.post("/api/admin/v1/users", user).await.ok();
    }

    /// Signs in, from wherever the window is sent to for it.
    pub(super) async fn sign_in(&self, name: &str, password: &str) {
        self.window.fill("Name", name).await;
        self.window.fill("Password", password).await;
        self.window.press("Sign in").await;
    }

    /// Changes how the window shows pages.
    pub(super) async fn apply(&self, options: WindowOptions) {
        self.window.apply(options).await.expect("a window can be changed");
    }

    /// Goes to a page of product-service.
    pub(super) async fn visit(&self, path: &str) {
        self.window.visit(&format!("{}{path}", self.system.product.base_url.get())).await;
    }

    /// Puts a product in that order-service refuses, and returns its event once that has given up.
    pub(super) async fn exhaust(&self, sku: &str, reason: &str) -> Value {
        self.system.order.quarantine(sku, reason).await;
        self.system.product.put_product(sku, 12).await;
        self.system.product.wait_for_exhausted_key(sku).await
    }

    /// Takes a screenshot for the documentation, if they are asked for.
    pub(super) async fn screenshot(&self, name: &str) {
        if minutes_of_screenshots().is_some() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCREENSHOTS).join(name);
            let taken = self.window.screenshot(&file.with_extension("png")).await;
            taken.expect("a screenshot can be taken");
        }
    }

    /// Ends everything in good order.
    pub(super) async fn close(self) {
        self.window.close().await;
        self.system.stop().await;
    }
}

/// Whether screenshots are asked for, and how many minutes of trade they are to show: `STOCKLOOP_SCREENSHOTS=6`.
pub(super) fn minutes_of_screenshots() -> Option<u64> {
    let minutes = std::env::var("STOCKLOOP_SCREENSHOTS").ok()?;
    Some(minutes.parse().expect("STOCKLOOP_SCREENSHOTS is a number of minutes"))
}
