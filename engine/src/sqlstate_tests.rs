//! The codes that a real PostgreSQL gives, whatever it says in words.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use common::db::{Conn, DatabaseSettings, Db, DbError, ENGINE_MIGRATIONS, Fault, Pooler};
use diesel::connection::SimpleConnection;
use diesel::result::Error;
use diesel::{Connection, PgConnection};
use stockloop_tests::database::{self, TestDatabase};

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

const TOUCH: &str = "UPDATE service_state SET epoch = epoch";

/// As a frozen process does, with a limit that ends sooner than the one of ten seconds.
#[tokio::test]
async fn who_stops_in_a_transaction_lets_go_and_blames_the_world() {
    let Some(parts) = TestDatabase::postgres() else { return };
    parts.open(&[ENGINE_MIGRATIONS]);
    let url = parts.url();
    let option = "options=-c%20idle_in_transaction_session_timeout%3D100ms";
    let db = database::open(&format!("{url}?{option}"));
    let stops = move |conn: &mut Conn| {
        conn.batch_execute(TOUCH)?;
        // Waits until the server has ended the transaction around it.
        let mut other = PgConnection::establish(&url).unwrap();
        other.batch_execute(TOUCH).unwrap();
        Ok(conn.batch_execute(TOUCH)?)
    };
    let failed = db.write::<(), DbError>(stops).await.unwrap_err();
    assert_eq!(Fault::of(&failed), Fault::World, "{failed:?}");
    db.write::<(), DbError>(|conn| Ok(conn.batch_execute(TOUCH)?)).await.unwrap();
}

#[tokio::test]
async fn a_session_has_limits_where_the_server_has_none() {
    let Some(parts) = TestDatabase::postgres() else { return };
    let limits = "DO $$ BEGIN ASSERT current_setting('statement_timeout') = '1min' \
        AND current_setting('lock_timeout') = '20s' \
        AND current_setting('idle_in_transaction_session_timeout') = '10s'; END $$";
    let check = move |conn: &mut Conn| Ok(conn.batch_execute(limits)?);
    parts.open(&[]).read::<(), DbError>(check).await.unwrap();
}

/// Transactions lock a row and then read what its last holder wrote: a snapshot from before would not have that.
#[tokio::test]
async fn a_transaction_sees_what_others_committed_whatever_the_database_isolates() {
    let Some(parts) = TestDatabase::postgres() else { return };
    let mut by_hand = PgConnection::establish(&parts.url()).unwrap();
    let isolate = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', \
        current_database(), 'repeatable read'); END $$";
    by_hand.batch_execute(isolate).unwrap();
    for pooler in [Pooler::None, Pooler::Transaction] {
        let settings = DatabaseSettings {
            url: parts.url().into(),
            pooler,
            pool_size: 1,
            loop_pool_size: 1,
            connect_timeout: Duration::from_secs(10),
        };
        let level = "DO $$ BEGIN ASSERT current_setting('transaction_isolation') = 'read committed', \
            current_setting('transaction_isolation'); END $$";
        let db = Db::open(&settings).unwrap();
        let in_one = db.write::<(), DbError>(move |conn| Ok(conn.batch_execute(level)?)).await;
        let by_index =
            db.write_by_index::<(), DbError>(move |conn| Ok(conn.batch_execute(level)?)).await;
        assert!(in_one.is_ok() && by_index.is_ok(), "{pooler:?}: {in_one:?}, {by_index:?}");
    }
}

/// The server hangs up on connections that rest in the pool: whoever comes next does not notice.
#[tokio::test]
async fn a_session_that_was_ended_is_not_used_again() {
    let Some(parts) = TestDatabase::postgres() else { return };
    let db = parts.open(&[ENGINE_MIGRATIONS]);
    let mut by_hand = PgConnection::establish(&parts.url()).unwrap();
    for _ in 0..5 {
        let both = tokio::join!(touch(&db), touch(&db));
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        let ended = "DO $$ BEGIN PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid(); END $$";
        by_hand.batch_execute(ended).unwrap();
    }
    touch(&db).await.unwrap();
}

async fn touch(db: &Db) -> Result<(), DbError> {
    db.write(|conn| Ok(conn.batch_execute(TOUCH)?)).await
}
