//! What came of measurements, and how it is told.
//!
//! What is measured round by round are the [`cases`] of most benchmarks, [`requests`] and the [`steps`] of the loop. Medians
//! of the rounds become rows, those of cases in [`case_rows`]. A row is a [`line`](mod@line) of the [`tables`], under a
//! [`title`](mod@title), and a bar of an [`svg`].

mod case_rows;
mod cases;
mod line;
mod requests;
mod steps;
mod svg;
mod tables;
mod title;

pub(super) use self::case_rows::{CaseRow, compared};
pub(super) use self::cases::{Case, Round, What, in_turn};
pub(super) use self::requests::{HttpCase, HttpRound, HttpRow};
pub(super) use self::steps::StepRow;
pub(super) use self::tables::{Bench, Tables, run};
pub(super) use self::title::{reservations, title};
