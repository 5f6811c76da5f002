//! Orders' commands on the stock, on SQLite, and on PostgreSQL where there is one.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bad;
mod batch;
mod cancel;
mod place;
mod store;

/// Makes each of the named tests (`async fn(&Store)`) one test per database.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[actix_web::test]
            async fn $name() {
                super::$name(&crate::orders::tests::store::Store::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[actix_web::test]
            async fn $name() {
                if let Some(store) = crate::orders::tests::store::Store::postgres() {
                    super::$name(&store).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;
