//! Whose fault a database error is: the data's (one event has to answer for it), or the world's (try again).
//!
//! PostgreSQL says it by SQLSTATE, whatever language the server speaks. diesel passes on no code of SQLite's but for
//! constraints; its texts stand for codes, one each, and no setting translates them.

use diesel::result::{DatabaseErrorKind, Error};

use super::{DbError, pooler};

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A value that can't be what it is to be: the same one fails again, whatever else is stored.
    Data,
    /// A constraint or a limit of a row: the same data fails again, if it is not everything that does.
    Constraint,
    /// Connection, resources, deadlock, shutdown: the same work may pass later, and no data is to blame.
    World,
    /// A lock that somebody holds, on a whole table or on one row.
    Locked,
    /// The database is not as it should be: a table, a column, a permission, a damaged page. It may meet everything,
    /// or only the data that a trigger or a policy treats in its own way.
    Setup,
    /// Not known.
    Unknown,
}

/// SQLite's texts for what is wrong with its file, its locks or its machine: those of its result codes
/// (`sqlite3_errstr`).
const SQLITE_WORLD: [&str; 13] = [
    "database is locked",
    "database table is locked",
    "database schema is locked",
    "database schema has changed",
    "database or disk is full",
    "disk I/O error",
    "unable to open database file",
    "attempt to write a readonly database",
    "access permission denied",
    "locking protocol",
    "out of memory",
    "interrupted",
    "query aborted",
];

/// SQLite's texts for a database that is not as it should be, most of them with the code SQLITE_ERROR.
const SQLITE_SETUP: [&str; 9] = [
    "no such table",
    "no such column",
    "no such function",
    "no such collation sequence",
    "has no column named",
    "authorization denied",
    "malformed",
    "file is not a database",
    "too many SQL variables",
];

/// SQLite's texts for values that it can't hold.
const SQLITE_DATA: [&str; 3] = ["datatype mismatch", "string or blob too big", "integer overflow"];

impl Fault {
    /// Judges an error of [`super::Db`].
    pub fn of(error: &DbError) -> Self {
        match error {
            DbError::Query(error) => Self::of_query(error),
            DbError::NotKnown { fault, .. } => *fault,
            DbError::Unreachable { .. }
            | DbError::Unusable { .. }
            | DbError::Pooler(_)
            | DbError::Busy
            | DbError::Panicked
            | DbError::Closed => Self::World,
        }
    }

    /// Judges an error of a statement.
    pub fn of_query(error: &Error) -> Self {
        if let Some(code) = sqlstate::of(error) {
            return Self::of_sqlstate(code);
        }
        match error {
            Error::DatabaseError(kind, info) => Self::of_kind(kind, info.message()),
            Error::SerializationError(_) | Error::InvalidCString(_) => Self::Data,
            // What a row holds is not the fault of who asked for it: a newer release may have written it.
            Error::DeserializationError(_) => Self::Setup,
            Error::BrokenTransactionManager | Error::RollbackErrorOnCommit { .. } => Self::World,
            _ => Self::Unknown,
        }
    }

    /// Whether the work was rolled back for another transaction's, by a deadlock or by the isolation of both: the same work
    /// may pass at once.
    pub fn is_victim(error: &Error) -> bool {
        use DatabaseErrorKind::SerializationFailure;
        // diesel has no kind for a deadlock.
        matches!(error, Error::DatabaseError(SerializationFailure, _))
            || sqlstate::of(error) == Some("40P01")
    }

    /// Whether it is most likely the fault of single events.
    pub const fn is_of_data(self) -> bool {
        matches!(self, Self::Data | Self::Constraint)
    }

    /// Whether it may be the fault of single events, which only shows where others pass.
    pub const fn may_be_of_one(self) -> bool {
        matches!(self, Self::Locked | Self::Setup | Self::Unknown)
    }

    /// By the class, which is the code's first two characters (PostgreSQL's appendix A).
    fn of_sqlstate(code: &str) -> Self {
        match code.get(..2) {
            // A statement that took too long: behind a lock that is not waited for by itself, or in a trigger.
            _ if code == "57014" => Self::Locked,
            // A session that is not one's own: no data makes it so.
            _ if pooler::FOREIGN_SESSION.contains(&code) => Self::World,
            // A sequence at its end is no value of anybody's.
            _ if code == "2200H" => Self::Setup,
            Some("22") => Self::Data,
            // A constraint, a row too large for an index.
            Some("23" | "54") => Self::Constraint,
            // Connections, transactions, prepared statements, roles, deadlocks, resources, operators, the system.
            Some("08" | "25" | "26" | "28" | "40" | "53" | "57" | "58" | "72") => Self::World,
            Some("55") => Self::Locked,
            // Features, cursors, catalogs, schemas, names and permissions, the configuration, corruption.
            Some("0A" | "34" | "3D" | "3F" | "42" | "F0" | "XX") => Self::Setup,
            _ => Self::Unknown,
        }
    }

    /// What no server has given a code: SQLite's errors, and those of libpq itself.
    fn of_kind(kind: &DatabaseErrorKind, message: &str) -> Self {
        use DatabaseErrorKind as Kind;
        match kind {
            Kind::UniqueViolation
            | Kind::ForeignKeyViolation
            | Kind::NotNullViolation
            | Kind::CheckViolation => Self::Constraint,
            Kind::ClosedConnection | Kind::UnableToSendCommand | Kind::SerializationFailure => {
                Self::World
            }
            _ => Self::of_sqlite(message),
        }
    }

    fn of_sqlite(message: &str) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
        if says(&SQLITE_WORLD) {
            Self::World
        } else if says(&SQLITE_SETUP) {
            Self::Setup
        } else if says(&SQLITE_DATA) {
            Self::Data
        } else if message.contains("constraint failed") {
            Self::Constraint
        } else {
            Self::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn sqlites_texts_stand_for_its_codes() {
        let cases = [
            ("database is locked", Fault::World),
            ("database or disk is full", Fault::World),
            ("attempt to write a readonly database", Fault::World),
            ("no such table: product_copy", Fault::Setup),
            ("table product has no column named weight", Fault::Setup),
            ("database disk image is malformed", Fault::Setup),
            ("CHECK constraint failed: quantity", Fault::Constraint),
            ("string or blob too big", Fault::Data),
            ("no shelf is free", Fault::Unknown),
        ];
        for (text, fault) in cases {
            assert_eq!(Fault::of_sqlite(text), fault, "{text}");
        }
    }

    #[test]
    fn the_class_of_a_code_decides() {
        let cases = [
            ("22003", Fault::Data),
            ("23505", Fault::Constraint),
            ("54000", Fault::Constraint),
            ("P0001", Fault::Unknown),
            ("40P01", Fault::World),
            ("42P01", Fault::Setup),
            ("42P05", Fault::World),
            ("42501", Fault::Setup),
            ("53100", Fault::World),
            ("55P03", Fault::Locked),
            ("57014", Fault::Locked),
            ("57P01", Fault::World),
            ("58030", Fault::World),
            ("XX001", Fault::Setup),
            ("99999", Fault::Unknown),
            ("", Fault::Unknown),
        ];
        for (code, fault) in cases {
            assert_eq!(Fault::of_sqlstate(code), fault, "{code}");
        }
    }
}
