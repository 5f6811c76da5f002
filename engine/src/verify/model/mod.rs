//! What the database keeps of verifications: the runs, and the keys that were found in each.

mod keys;
mod runs;

pub use keys::{Finding, KeyFinding, counts, findings};
pub(super) use keys::{due, forget, leave_waiting, note, take_over, undecided};
pub use runs::{
    FILLING, NewVerification, SCHEDULED, State, Verification, cancel, find, insert,
    insert_before_scheduled, latest, list, under_way,
};
pub(super) use runs::{rest, save, take};
