//! Databases for tests: each body runs on SQLite, and on PostgreSQL where there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use stockloop_tests::database::TestDatabase;

use crate::db::{DatabaseSettings, Db, ENGINE_MIGRATIONS};

/// A fresh database with the engine's tables.
pub(crate) struct TestDb {
    pub(crate) db: Db,
    place: TestDatabase,
}

impl TestDb {
    pub(crate) fn sqlite() -> Self {
        Self::migrated(TestDatabase::sqlite())
    }

    pub(crate) fn sqlite_unmigrated() -> Self {
        Self::over(TestDatabase::sqlite())
    }

    pub(crate) fn postgres() -> Option<Self> {
        TestDatabase::postgres().map(Self::migrated)
    }

    /// Takes the server's database away, as a failure would.
    pub(crate) fn lose(&self) {
        self.place.lose();
    }

    fn migrated(place: TestDatabase) -> Self {
        let test = Self::over(place);
        test.db.migrate(&[ENGINE_MIGRATIONS]).unwrap();
        test
    }

    fn over(place: TestDatabase) -> Self {
        let settings = DatabaseSettings {
            url: place.url().into(),
            pool_size: 4,
            connect_timeout: Duration::from_secs(3),
        };
        Self { db: Db::open(&settings).unwrap(), place }
    }
}

/// Makes a test of each body for each database: `on_every_database!(Bench::new => body, …)`, where `Bench::new`
/// makes from a [`TestDb`] what the bodies take.
macro_rules! on_every_database {
    ($make:expr => $($body:ident),+ $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[actix_web::test]
            async fn $body() {
                super::$body($make($crate::testing::TestDb::sqlite())).await;
            })+
        }
        mod postgres {
            use super::*;
            $(#[actix_web::test]
            async fn $body() {
                if let Some(db) = $crate::testing::TestDb::postgres() {
                    super::$body($make(db)).await;
                }
            })+
        }
    };
}
pub(crate) use on_every_database;

/// Every route that an app really has, as (method, pattern); the app itself is asked, not a list of ours.
pub(crate) async fn routes_of(
    configure: impl FnOnce(&mut actix_web::web::ServiceConfig),
) -> Vec<(String, String)> {
    use actix_web::introspection::{IntrospectionNode, IntrospectionTree};
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpResponse, web};

    fn walk(node: &IntrospectionNode, found: &mut Vec<(String, String)>) {
        for method in &node.methods {
            found.push((method.to_string(), node.full_path.clone()));
        }
        node.children.iter().for_each(|child| walk(child, found));
    }
    let found = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let seen = std::rc::Rc::clone(&found);
    let tell = move |tree: web::Data<IntrospectionTree>| {
        walk(&tree.root, &mut seen.borrow_mut());
        std::future::ready(HttpResponse::Ok())
    };
    let app = App::new().configure(configure).route("/tell", web::route().to(tell));
    let app = init_service(app).await;
    call_service(&app, TestRequest::get().uri("/tell").to_request()).await;
    let mut routes = found.take();
    routes.sort();
    routes.dedup();
    routes
}
