//! A database that came back from a backup: found by itself, and mended when a person says so.
//!
//! [`ReadPositions`] find it: what a group has committed is never beyond what its database has taken. A [`Restoration`]
//! is a row, and [`Restorer::run_once`] goes on with it on any instance: the owner raises its epoch and sends all of its
//! states, a copy asks its owner; both end with a verification.
//!
//! ```text
//! owner: raise the epoch, send all ─┐
//! copy:  ask the owner ─────────────┴─> verify ─> equal
//!                                         │  ^
//!                                         └──┴─ repair, as long as fewer differ
//! ```

mod model;
mod position;
mod routes;
mod start;
mod step;
mod tell;

pub use model::{Restoration, State, find, found, newest};
pub use position::ReadPositions;
pub use routes::{
    __path_request, __path_show, RestorationRequest, RestorationView, Restorations, configure,
    request, show,
};
pub use start::{Request, Restorer, Side, StartError};
pub use step::Outcome;
