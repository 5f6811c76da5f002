//! The copy through its handler and its routes, on SQLite, and on PostgreSQL where one is named.

#![allow(clippy::unwrap_used, clippy::panic)]

mod apply;
mod read;
mod replica;

/// Makes each of the named tests (`async fn(&Replica)`) one test per database.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[actix_web::test]
            async fn $name() {
                super::$name(&crate::inventory::tests::replica::Replica::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[actix_web::test]
            async fn $name() {
                match crate::inventory::tests::replica::Replica::postgres() {
                    Some(replica) => super::$name(&replica).await,
                    None => eprintln!("skipped: STOCKLOOP_TEST_POSTGRES_URL names no PostgreSQL"),
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;
