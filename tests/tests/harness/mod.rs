//! The parts the other suites stand on, tested themselves.

mod browser;
mod kafka;
mod poll;
mod postgres;
mod process;
mod real;
mod smtp;
