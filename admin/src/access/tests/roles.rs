use std::collections::BTreeSet;

use stockloop_tests::{database::TestDatabase, on_every_database, routes::routes_of};

use super::super::{Requirement, Role};
use super::request;
use crate::api::tests::AdminFixture;
use crate::api::{RULES, configure};

on_every_database!(AdminFixture::new => every_route_asks_for_its_role);

/// The routes that the app has against the rules: what nobody classified, or is there no more, is named.
#[actix_web::test]
async fn every_route_is_classified() {
    let fixture = AdminFixture::new(TestDatabase::sqlite());
    let there: BTreeSet<_> = routes_of(configure(fixture.admin())).await.into_iter().collect();
    let there: BTreeSet<_> = there.into_iter().filter(|(_, path)| path != "/tell").collect();
    let classified: BTreeSet<_> =
        RULES.all().map(|(path, rule)| (rule.method.to_owned(), path)).collect();
    assert!(!there.is_empty());
    let missing: Vec<_> = there.difference(&classified).collect();
    assert!(missing.is_empty(), "routes without a rule: {missing:?}");
    let gone: Vec<_> = classified.difference(&there).collect();
    assert!(gone.is_empty(), "rules without a route: {gone:?}");
    assert_eq!(RULES.all().count(), classified.len(), "no route has two rules");
}

/// Walks all routes with all roles and with nobody: 401, 403, or something else, which is then the handler's.
async fn every_route_asks_for_its_role(fixture: AdminFixture) {
    let fixture = fixture.guarded("");
    let mut cookies = Vec::new();
    for role in Role::ALL {
        fixture.operator(role).await;
        cookies.push(fixture.sign_in(role.name()).await);
    }
    for (path, rule) in RULES.all() {
        let path = path.strip_prefix(RULES.scope).unwrap().replace("{id}", ID);
        let path = path.replace(['{', '}'], "");
        let ask = |cookie: &str| {
            let request = request(rule.method, &path);
            match cookie {
                "" => request,
                cookie => request.insert_header(("cookie", cookie)),
            }
        };
        if rule.needs == Requirement::Nothing || rule.path.starts_with("/session") {
            continue;
        }
        assert_eq!(fixture.call(ask("")).await.status, 401, "{rule:?}");
        for (role, cookie) in Role::ALL.into_iter().zip(&cookies) {
            let Requirement::Role(needed, _) = rule.needs else { panic!("{rule:?}") };
            let status = fixture.status(ask(cookie)).await;
            match role >= needed {
                true => assert!(status != 401 && status != 403, "{role:?} {rule:?}: {status}"),
                false => assert_eq!(status, 403, "{role:?} {rule:?}"),
            }
        }
    }
}

const ID: &str = "019b8f00-0000-7000-8000-000000000000";

#[actix_web::test]
async fn what_nobody_classified_is_for_admins() {
    let needs = RULES.needs(&actix_web::http::Method::GET, "/api/admin/v1/forgotten");
    assert!(matches!(needs, Requirement::Role(Role::Admin, _)));
    let head = RULES.needs(&actix_web::http::Method::HEAD, "/api/admin/v1/overview");
    assert!(matches!(head, Requirement::Role(Role::Viewer, _)));
}
