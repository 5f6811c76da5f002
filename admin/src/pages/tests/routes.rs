use std::collections::BTreeSet;

use stockloop_tests::{database::TestDatabase, on_every_database, routes::routes_of};

use super::Site;
use crate::access::{Requirement, Role};
use crate::api::tests::AdminFixture;
use crate::pages::{RULES, configure};

on_every_database!(Site::new => every_route_asks_for_its_role);

const ID: &str = "019b8f00-0000-7000-8000-000000000000";

/// The routes that the app has against the rules: what nobody classified, or is there no more, is named.
#[actix_web::test]
async fn every_route_is_classified() {
    let fixture = AdminFixture::new(TestDatabase::sqlite());
    let there: BTreeSet<_> = routes_of(configure(fixture.admin())).await.into_iter().collect();
    let there: BTreeSet<_> = there.into_iter().filter(|(_, path)| path != "/tell").collect();
    let classified: BTreeSet<_> =
        RULES.all().map(|(path, rule)| (rule.method.to_owned(), path)).collect();
    let missing: Vec<_> = there.difference(&classified).collect();
    assert!(missing.is_empty(), "routes without a rule: {missing:?}");
    let gone: Vec<_> = classified.difference(&there).collect();
    assert!(gone.is_empty(), "rules without a route: {gone:?}");
    assert_eq!(RULES.all().count(), classified.len(), "no route has two rules");
}

/// Walks all routes with all roles and with nobody: to sign in, refused, or the handler's own answer.
async fn every_route_asks_for_its_role(site: Site) {
    let mut cookies = Vec::new();
    for role in Role::ALL {
        cookies.push((role, site.signed_in(role).await));
    }
    for (path, rule) in RULES.all().filter(|(_, rule)| rule.path != "/logout") {
        let path = path.replace("{id}", ID).replace(['{', '}'], "");
        let ask = async |cookie: &str| match rule.method {
            "GET" => site.get(&path, cookie).await,
            _ => site.post(&path, cookie, &[]).await,
        };
        if rule.needs == Requirement::Nothing {
            continue;
        }
        assert!(ask("").await.leads_to().starts_with("/admin/login"), "{rule:?}");
        for (role, cookie) in &cookies {
            let answer = ask(cookie).await;
            let needed = match rule.needs {
                Requirement::Role(needed, _) => needed,
                Requirement::Login | Requirement::Nothing => Role::Viewer,
            };
            match *role >= needed {
                true => {
                    assert!(
                        answer.status != 403 && answer.status < 500,
                        "{role:?} {rule:?} {answer:?}"
                    );
                    let whole = rule.method == "GET" && !rule.path.contains('{');
                    assert!(
                        !whole || rule.path == "/" || answer.status == 200,
                        "{rule:?} {answer:?}"
                    );
                }
                false => {
                    assert_eq!(answer.status, 403, "{role:?} {rule:?}");
                    answer.shows(&format!("this needs the role {}", needed.name()));
                }
            }
        }
    }
}
