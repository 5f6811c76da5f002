//! The parts the other suites stand on, tested themselves.

mod kafka;
mod poll;
mod postgres;
mod process;
mod real;
mod smtp;
