//! The codes that a real PostgreSQL gives, whatever it says in words.
#![allow(clippy::unwrap_used, reason = "tests")]

use common::db::{DbError, ENGINE_MIGRATIONS, Fault};
use diesel::result::Error;
use stockloop_tests::database::TestDatabase;

#[tokio::test]
async fn a_servers_codes_are_read() {
    let Some(database) = TestDatabase::postgres() else { return };
    let db = database.open(&[ENGINE_MIGRATIONS]);
    let raise = |code: &str| {
        format!("DO $$ BEGIN RAISE EXCEPTION 'Ung\u{fc}ltig' USING ERRCODE = '{code}'; END $$")
    };
    let cases = [
        ("SELECT * FROM nowhere".to_owned(), "42P01", Fault::Setup),
        ("SELECT 1 / 0".to_owned(), "22012", Fault::Data),
        ("INSERT INTO service_state (only_row) VALUES (2)".to_owned(), "23514", Fault::Constraint),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)".to_owned(), "57014", Fault::Locked),
        (raise("55P03"), "55P03", Fault::Locked),
        (raise("40P01"), "40P01", Fault::World),
        (raise("P0001"), "P0001", Fault::Unknown),
    ];
    for (sql, code, fault) in cases {
        let failed = db.write::<(), DbError>(move |conn| Ok(conn.batch_execute(&sql)?)).await;
        let Err(DbError::Query(error)) = failed else { unreachable!("{code}: {failed:?}") };
        assert_eq!((sqlstate::of(&error), Fault::of_query(&error)), (Some(code), fault), "{error}");
    }
    assert_eq!(sqlstate::of(&Error::NotFound), None);
}
