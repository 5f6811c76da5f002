//! The all-in-one binary: both services, the broker and the mail catcher in one process.
#![allow(dead_code, unused_imports)]

mod catcher;
mod dataset;

fn main() {}
