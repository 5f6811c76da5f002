//! What a failed COMMIT tells: that all is undone, or nothing for certain.

use diesel::result::Error;

use super::{DbError, Fault};

/// The error of a write whose COMMIT failed.
pub(super) fn failure<E: From<Error> + From<DbError>>(error: Error) -> E {
    match sqlstate::of(&error).is_some_and(is_rolled_back) {
        true => error.into(),
        false => {
            DbError::NotKnown { fault: Fault::of_query(&error), reason: error.to_string() }.into()
        }
    }
}

/// Whether a server that answers COMMIT with this code has rolled back: not where it or its connection was about to end, nor
/// where its disk or its memory failed. What was written by then may be there after its restart.
fn is_rolled_back(code: &str) -> bool {
    match code.get(..2) {
        _ if code == "40003" || code.starts_with("57P") => false,
        Some("08" | "53" | "58" | "XX") | None => false,
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_goes_on_has_rolled_back() {
        for code in ["23503", "23514", "40001", "40P01", "42P01", "57014", "P0001"] {
            assert!(is_rolled_back(code), "{code}");
        }
        for code in ["08006", "08007", "40003", "53100", "57P01", "57P02", "58030", "XX000", ""] {
            assert!(!is_rolled_back(code), "{code}");
        }
    }

    #[test]
    fn what_no_server_said_tells_nothing() {
        let failure: DbError = failure(Error::BrokenTransactionManager);
        assert!(matches!(failure, DbError::NotKnown { fault: Fault::World, .. }), "{failure}");
    }
}
