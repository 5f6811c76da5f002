//! The SQLSTATE of a PostgreSQL error, which diesel reads and does not pass on.
//!
//! What an error is must not depend on the language that a server speaks, and diesel tells only a dozen of the codes
//! apart ([`diesel::result::DatabaseErrorKind`]). Setting `lc_messages` needs a superuser, another driver would be
//! another dialect for every statement, and a patched diesel a copy of it; so this crate takes the code out of the
//! `PGresult` that diesel's error owns. It depends on how diesel lays that out, which is why the workspace names one
//! version of diesel exactly, and why the tests hold codes against a real server.

use std::ffi::{CStr, c_int};
use std::ptr;

use diesel::result::{DatabaseErrorInformation, Error};
use pq_sys::{PG_DIAG_SQLSTATE, PGresult, PQresultErrorField};

/// The code of an error that a PostgreSQL server reported, such as `55P03`.
///
/// `None` for whatever is no answer of a server: errors of diesel itself, of libpq, of SQLite. The error has to be one
/// that diesel made: a type of somebody else's that implements its trait, and is as large as a pointer, must not come here.
pub fn of(error: &Error) -> Option<&str> {
    let Error::DatabaseError(_, information) = error else { return None };
    let information: &(dyn DatabaseErrorInformation + Send + Sync) = &**information;
    // The two types that diesel makes such information of: a `String` of three words, and a struct around a `PGresult`.
    if size_of_val(information) != size_of::<*mut PGresult>() {
        return None;
    }
    let result = ptr::from_ref(information).cast::<*mut PGresult>();
    // SAFETY: of diesel's two types (in the version that the workspace pins) only the one around a valid, non-null
    // `PGresult` has the size of a pointer, and that pointer is all that it holds.
    let result = unsafe { result.read() };
    // SAFETY: the error owns the result, so it lives as long as `error`; libpq gives null or a text that the result owns.
    let field = unsafe { PQresultErrorField(result, c_int::from(PG_DIAG_SQLSTATE)) };
    if field.is_null() {
        return None;
    }
    // SAFETY: as above, a text with a zero at its end that the result owns.
    unsafe { CStr::from_ptr(field) }.to_str().ok()
}

#[cfg(test)]
mod tests {
    use diesel::result::{DatabaseErrorKind, Error};

    #[test]
    fn what_no_server_reported_has_no_code() {
        let own = Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new("busy".to_owned()));
        for error in [own, Error::NotFound, Error::BrokenTransactionManager] {
            assert_eq!(super::of(&error), None, "{error}");
        }
    }
}
