//! Whether a copy is what its owner has: compared from outside the loop, at any moment, while changes flow.
//!
//! The owner of a [`Collection`] compares each consumer with itself. Both read nothing but their own databases; what
//! travels are digests of key ranges ([`wire`]), which are split where they differ. A key that differs is looked at again,
//! and counts only if nothing is on its way that would mend it ([`judge`]). A [`Verification`] is a row: any instance goes
//! on where one stopped, and its differences are rows, too.
//!
//! ```text
//! Verifier::run_once ─ compare: ranges, split ─> keys ─ look: owner, events, copy, owner ─> judge ─> verification_key
//! ```

mod compare;
pub mod judge;
mod look;
mod model;
mod open;
mod outcome;
mod replica;
mod routes;
mod side;
mod terms;
#[cfg(test)]
pub(crate) mod tests;
mod verifier;
pub mod wire;

pub use model::{
    FILLING, Finding, KeyFinding, NewVerification, SCHEDULED, State, Verification, cancel, counts,
    find, findings, insert, insert_before_scheduled, latest, list, under_way,
};
pub use replica::{Collection, Keys, Owner, Range, Replica, Row, Select, Value, versions_of};
pub use routes::{
    __path_complete, __path_digests, __path_info, __path_states, Replicas, complete, configure,
    digests, info, states,
};
pub use side::{Local, Remote, Side, SideError};
pub use verifier::{MAX_DIFFERENCES, Step, Verifier};
