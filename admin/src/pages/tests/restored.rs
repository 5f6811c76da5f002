use common::clock::Timestamp;
use engine::restored::found;
use stockloop_tests::on_every_database;

use super::Site;
use crate::access::Role;

on_every_database!(Site::new =>
    the_button_mends_what_is_behind,
    without_a_sign_it_has_to_be_confirmed,
);

async fn the_button_mends_what_is_behind(site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    let since = Timestamp::from_micros(1_700_000_000_000_000);
    let work = move |conn: &mut _| found(conn, since, "product-service", Some(since), "<it shows>");
    assert!(site.fixture.write(work).await);
    let page = site.get("/admin/restored", &cookie).await;
    page.shows("<strong>It is behind.</strong>");
    page.shows("&#60;it shows&#62;");
    page.shows_not("name=\"force\"");
    site.get("/admin/alerts/1", &cookie).await.shows("href=\"/admin/restored\"");
    let viewer = site.signed_in(Role::Viewer).await;
    site.get("/admin/restored", &viewer).await.shows_not("Mend what it misses");
    assert_eq!(site.post("/admin/restored", &viewer, &[]).await.status, 403);
    let begun = site.post("/admin/restored", &cookie, &[("reason", "Monday's backup")]).await;
    assert_eq!(begun.leads_to(), "/admin/restored?done=restoring");
    let page = site.get("/admin/restored", &cookie).await;
    page.shows("what it misses is being mended");
    page.shows("/admin/resyncs/1");
    site.get("/admin/proof", &cookie).await.shows("Restored 1</a>");
    let again = site.post("/admin/restored", &cookie, &[("force", "true")]).await;
    assert_eq!(again.status, 409);
    again.shows("restoration 1 is under way");
}

async fn without_a_sign_it_has_to_be_confirmed(site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    let page = site.get("/admin/restored", &cookie).await;
    page.shows("Nothing shows that it is behind");
    page.shows("name=\"force\"");
    let refused = site.post("/admin/restored", &cookie, &[]).await;
    assert_eq!(refused.status, 409);
    refused.shows("nothing shows that the database of product-service is behind");
}
