//! The operators' routes, each test on SQLite and, where `STOCKLOOP_TEST_POSTGRES_URL` names a server on
//! which databases may be made, on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod database;
mod events;
mod fixture;
mod lists;
mod operations;
mod overview;
mod problems;
mod quarantine;

pub(crate) use database::TestDb;
pub(crate) use fixture::Bench;

/// Runs each test body on every database that there is.
macro_rules! on_every_database {
    ($($body:ident),+ $(,)?) => {
        mod sqlite {
            $(#[actix_web::test]
            async fn $body() {
                super::$body($crate::admin::tests::Bench::new(
                    $crate::admin::tests::TestDb::sqlite(),
                )).await;
            })+
        }
        mod postgres {
            $(#[actix_web::test]
            async fn $body() {
                if let Some(db) = $crate::admin::tests::TestDb::postgres() {
                    super::$body($crate::admin::tests::Bench::new(db)).await;
                }
            })+
        }
    };
}
pub(crate) use on_every_database;
