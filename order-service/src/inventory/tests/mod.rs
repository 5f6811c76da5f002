//! The copy through its handler and its routes, on SQLite, and on PostgreSQL where there is one.

#![allow(clippy::unwrap_used, clippy::panic)]

mod apply;
mod read;
pub(crate) mod replica;

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
                if let Some(replica) = crate::inventory::tests::replica::Replica::postgres() {
                    super::$name(&replica).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;
