//! A service as a program: its command line, its HTTP server, and the order in which its parts start and stop.
//!
//! # A service of your own
//!
//! product-service and order-service use nothing that is not public here. Another service brings
//!
//! - its **event types** ([`EventType`](common::event::EventType)): a *snapshot* is the whole state of one key with its
//!   version, a *command* happens once and may be answered REJECTED;
//! - a **handler** ([`Handler`](engine::inbox::Handler)) for the events that it receives: one set-based call per batch,
//!   in the transaction that also keeps the answers. A bad event is answered FAILED by itself; an `Err` rolls the batch
//!   back, and the engine repeats it or bisects it until only the bad event fails;
//! - if it has to act on what becomes of its own events, a **listener** ([`Listener`](engine::outbox::Listener)), called
//!   in the very transaction in which an event is settled, fails or gives up;
//! - its **routes**, mounted under `/api/v1`. A change writes its row and
//!   [`Outbox::append`](engine::outbox::Outbox::append)s its event in one transaction, and calls
//!   [`Outbox::wake`](engine::outbox::Outbox::wake) after the commit;
//! - its **migrations** beside the engine's, and its **settings**: the file that `product-service config --example`
//!   prints, with its own names and topics.
//!
//! The rest comes with the engine: relay, leases, retries, acknowledgements, dead letters, alerts, the operators' pages
//! and API, metrics, traces, and the command line.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::sync::Arc;
//!
//! use actix_web::HttpResponse;
//! use actix_web::web::{self, ServiceConfig};
//! use common::clock::Timestamp;
//! use common::db::{Conn, ENGINE_MIGRATIONS};
//! use common::event::{Event, EventKind, EventType, NewEvent};
//! use common::orders::PLACED;
//! use engine::batch::BatchError;
//! use engine::inbox::{Detail, Handler, HandlerOutcome};
//! use engine::outbox::Outbox;
//! use engine::{HookContext, Engine, Hooks};
//! use service::app::{Routes, Service};
//!
//! /// A parcel left the house: it happens once.
//! const SHIPPED: EventType = EventType { name: "shop.parcel.shipped", kind: EventKind::Command };
//!
//! /// Ships what was ordered.
//! struct Shipping {
//!     outbox: Outbox,
//! }
//!
//! impl Handler for Shipping {
//!     fn is_command(&self, event_type: &str) -> bool {
//!         event_type == PLACED.name
//!     }
//!
//!     fn apply(
//!         &self,
//!         conn: &mut Conn,
//!         _now: Timestamp,
//!         events: &[Event],
//!     ) -> Result<Vec<HandlerOutcome>, BatchError> {
//!         let shipped = events.iter().map(|event| NewEvent {
//!             event_type: SHIPPED,
//!             key: event.key.clone(),
//!             version: 0,
//!             payload: r#"{"carrier":"van"}"#.to_owned(),
//!             traceparent: event.traceparent.clone(),
//!         });
//!         self.outbox.append(conn, shipped.collect())?;
//!         let applied =
//!             HandlerOutcome::Success { detail: Detail::Applied, version: None, result: None };
//!         Ok(vec![applied; events.len()])
//!     }
//! }
//!
//! fn hooks(context: &HookContext) -> Hooks {
//!     let handler = Shipping { outbox: context.outbox.clone() };
//!     Hooks { handler: Some(Arc::new(handler)), ..Hooks::sends_only() }
//! }
//!
//! fn routes(_engine: &Engine) -> anyhow::Result<Routes> {
//!     Ok(Arc::new(|config: &mut ServiceConfig| {
//!         config.route("/parcels", web::get().to(|| async { HttpResponse::Ok().json([0; 0]) }));
//!     }))
//! }
//!
//! const SHIPPING: Service = Service {
//!     name: "shipping-service",
//!     about: "Ships what was ordered, and sends every parcel to the other services.",
//! #   defaults: "",
//! #   /*
//!     defaults: include_str!("../shipping-service.toml"),
//! #   */
//!     migrations: &[ENGINE_MIGRATIONS],
//!     hooks,
//!     openapi: utoipa::openapi::OpenApi::default,
//!     routes,
//! };
//!
//! fn main() -> ExitCode {
//!     service::cli::run(SHIPPING)
//! }
//! ```

pub mod app;
pub mod cli;
pub mod openapi;
mod server;
