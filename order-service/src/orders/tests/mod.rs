//! Orders through their routes, and through what becomes of their commands, on SQLite, and on PostgreSQL where
//! there is one.

#![allow(clippy::unwrap_used, clippy::panic)]

mod attention;
mod cancel;
mod desk;
mod place;
mod read;
mod reserve;
mod settle;
mod stream;

/// Makes each of the named tests (`async fn(&Desk)`) one test per database.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[actix_web::test]
            async fn $name() {
                super::$name(&crate::orders::tests::desk::Desk::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[actix_web::test]
            async fn $name() {
                if let Some(desk) = crate::orders::tests::desk::Desk::postgres() {
                    super::$name(&desk).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;
