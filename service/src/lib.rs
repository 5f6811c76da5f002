//! A service as a program.

pub mod app;
pub mod cli;
pub mod openapi;
