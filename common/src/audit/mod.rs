//! Who did what: appended in the transaction of the deed, never changed, read by filter.

mod model;

pub use model::{Entry, Filter, NewEntry, append, list};
