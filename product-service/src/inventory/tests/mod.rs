//! The inventory through its real routes, on SQLite, and on PostgreSQL where there is one.

#![allow(clippy::unwrap_used, clippy::panic)]

mod adjust;
mod batch;
mod details;
mod input;
mod keys;
mod put;
mod read;
pub(crate) mod shop;

/// Makes each of the named tests (`async fn(&Shop)`) one test per database.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[actix_web::test]
            async fn $name() {
                super::$name(&crate::inventory::tests::shop::Shop::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[actix_web::test]
            async fn $name() {
                if let Some(shop) = crate::inventory::tests::shop::Shop::postgres() {
                    super::$name(&shop).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;
