use stockloop_tests::on_every_database;

use super::Site;
use crate::access::Role;
use crate::api::tests::lost_commands::lose;

on_every_database!(Site::new =>
    the_buttons_decide,
);

async fn the_buttons_decide(site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    site.get("/admin/lost-commands", &cookie).await.shows("There are none.");
    let ids = lose(&site.fixture, &["<b>", "C"]).await;
    let page = site.get("/admin/lost-commands", &cookie).await;
    page.shows("&#60;b&#62;");
    page.shows("Send again");
    page.shows("/api/admin/v1/lost-commands/export?format=csv");
    let viewer = site.signed_in(Role::Viewer).await;
    site.get("/admin/lost-commands", &viewer).await.shows_not("Send again");
    let one = format!("/admin/lost-commands/{}", ids[0]);
    let again = [("verdict", "again"), ("reason", "<i>")];
    assert_eq!(site.post(&one, &viewer, &again).await.status, 403);
    let decided = site.post(&one, &cookie, &again).await;
    assert_eq!(decided.leads_to(), "/admin/lost-commands?done=lost-decided");
    let page = site.get("/admin/lost-commands?state=again", &cookie).await;
    page.shows("&#60;i&#62;");
    let twice = site.post(&one, &cookie, &again).await;
    assert_eq!(twice.status, 409);
    let missing = site.post("/admin/lost-commands", &cookie, &[("verdict", "accept")]).await;
    assert_eq!(missing.status, 422);
    let all = [("verdict", "accept"), ("reason", "by hand")];
    site.post("/admin/lost-commands", &cookie, &all).await;
    site.get("/admin/lost-commands?state=open", &cookie).await.shows("There are none.");
}
