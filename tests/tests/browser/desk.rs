//! Both services, and the window of somebody who works with them.

use std::path::Path;

use serde_json::{Value, json};
use stockloop_tests::browser::{Look, Window};
use stockloop_tests::poll::eventually;
use stockloop_tests::real;

use crate::stage::{PATIENCE, Service, Stage};

/// The first admin.
pub(super) const ADMIN: &str = "ada";
/// Everybody's password here.
pub(super) const PASSWORD: &str = "correct horse battery";

const PICTURES: &str = "../docs/screenshots";

/// Both services, and a window on product-service.
pub(super) struct Desk {
    pub(super) stage: Stage,
    pub(super) window: Window,
}

impl Desk {
    /// One whose window shows nothing yet; `None` where there is no Chromium.
    pub(super) async fn new(look: Look) -> Option<Self> {
        let chromium = real::chromium()?;
        let stage = Stage::guarded().await;
        let window = chromium.open(look).await.expect("a window can be opened");
        Some(Self { stage, window })
    }

    /// One at which the first admin has just been made, and is signed in.
    pub(super) async fn of_admin(look: Look) -> Option<Self> {
        let desk = Self::new(look).await?;
        desk.make_admin().await;
        Some(desk)
    }

    /// Follows the link with the one-time token.
    pub(super) async fn make_admin(&self) {
        self.window.visit(self.stage.product.setup_url()).await;
        self.window.fill("Name", ADMIN).await;
        self.window.fill("Password", PASSWORD).await;
        self.window.fill("The password again", PASSWORD).await;
        self.window.press("Make the admin").await;
        self.window.at("/admin").await;
    }

    /// Makes somebody with a role.
    pub(super) async fn add_user(&self, name: &str, role: &str) {
        let user = json!({"name": name, "password": PASSWORD, "role": role});
        self.stage.product.post("/api/admin/v1/users", user).await.ok();
    }

    /// Signs in, from wherever the window is sent to for it.
    pub(super) async fn sign_in(&self, name: &str, password: &str) {
        self.window.fill("Name", name).await;
        self.window.fill("Password", password).await;
        self.window.press("Sign in").await;
    }

    /// Goes to a page of product-service.
    pub(super) async fn visit(&self, path: &str) {
        self.window.visit(&format!("{}{path}", self.stage.product.base.get())).await;
    }

    /// Lets order-service refuse what concerns `sku`.
    pub(super) async fn hold(&self, sku: &str, reason: &str) {
        let path = format!("/api/admin/v1/quarantine/{}", segment(sku));
        let answer = self.stage.order.put(&path, json!({ "reason": reason })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Lets it take what concerns `sku` again.
    pub(super) async fn release(&self, sku: &str) {
        let path = format!("/api/admin/v1/quarantine/{}", segment(sku));
        let answer = self.stage.order.delete(&path).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// Puts a product in, and returns its event once that has given up.
    pub(super) async fn exhaust(&self, sku: &str, reason: &str) -> Value {
        self.hold(sku, reason).await;
        self.stage.product.put_product(&segment(sku), 12).await;
        let path = format!("/api/admin/v1/events?status=EXHAUSTED&key={}", segment(sku));
        eventually("an event that gave up", PATIENCE, async || {
            let list = self.stage.product.get(&path).await.ok();
            if list["items"][0].is_object() { Ok(list["items"][0].clone()) } else { Err(list) }
        })
        .await
    }

    /// Takes a picture for the documentation, if pictures are asked for.
    pub(super) async fn picture(&self, name: &str) {
        if minutes_of_pictures().is_some() {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURES).join(name);
            self.window.picture(&file.with_extension("png")).await.expect("a picture can be taken");
        }
    }

    /// Ends everything in good order.
    pub(super) async fn leave(self) {
        self.window.close().await;
        self.stage.stop().await;
    }
}

/// Whether pictures are asked for, and how many minutes of trade they are to show: `STOCKLOOP_SCREENSHOTS=6`.
pub(super) fn minutes_of_pictures() -> Option<u64> {
    let minutes = std::env::var("STOCKLOOP_SCREENSHOTS").ok()?;
    Some(minutes.parse().expect("STOCKLOOP_SCREENSHOTS is a number of minutes"))
}

/// How many of product-service's events have given up and wait for somebody.
pub(super) async fn given_up(product: &Service) -> i64 {
    let open = product.open_events().await.expect("events can be counted");
    open.get("EXHAUSTED").copied().unwrap_or(0)
}

/// `text` as one segment of a path, or as a value of a query.
pub(super) fn segment(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'-' | b'.' | b'_' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    bytes.collect()
}
