//! The real parts that the other tests stand on, tested themselves.

mod browser;
mod database;
mod disk;
mod fuzz;
mod kafka;
mod poll;
mod postgres;
mod process;
mod real;
mod smtp;
