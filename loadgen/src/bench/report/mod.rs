//! What came of measurements, and how it is told.
//!
//! Rounds of [`requests`], of the [`cases`] of most benchmarks and of the [`steps`] of the loop become rows, those of cases in
//! [`runs`]. Each row is a [`line`](mod@line) of the [`tables`], under a [`title`](mod@title) and beside a drawing as [`svg`].

mod cases;
mod line;
pub(super) mod requests;
mod runs;
pub(super) mod steps;
mod svg;
mod tables;
mod title;

pub(super) use self::cases::{Case, Round, What, in_turn};
pub(super) use self::runs::{Row, compared};
pub(super) use self::tables::{Bench, Tables, run};
pub(super) use self::title::{reservations, title};
