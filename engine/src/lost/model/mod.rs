//! What the database keeps of lost commands: the searches, and what they found.

mod checks;
mod commands;

pub(super) use checks::{
    Answered, NewCheck, answered, any_running, due, first_open, lock_check, put_down, save_check,
};
pub use checks::{LostCheck, latest_check};
pub(super) use commands::{Closing, close, count_open, insert, lock, lock_open, set_sent_as};
pub use commands::{LostCommand, State, find, newest_lost, page};
