//! Who did what: appended in the transaction of the action, never changed, read by filter.

mod actor;
mod model;

pub use actor::{Actor, AuthMethod};

pub use model::{Entry, Filter, NewEntry, append, list};
