use actix_web::http::header::{CONTENT_SECURITY_POLICY, SET_COOKIE};
use actix_web::test::TestRequest;
use common::http::Problem;
use stockloop_tests::on_every_database;

use super::{PASSWORD, Site};
use crate::access::{Role, setup};

on_every_database!(Site::new =>
    signing_in_leads_back_to_the_page,
    no_link_leads_away_after_signing_in,
    wrong_passwords_are_told_on_the_form,
    signing_out_ends_the_session,
    the_first_admin_is_made_once,
    a_password_is_changed,
    other_sites_forms_are_refused,
);

async fn signing_in_leads_back_to_the_page(site: Site) {
    let asked = site.get("/admin/events?status=SENT&key=a%20b", "").await;
    let login = asked.leads_to().to_owned();
    assert_eq!(login, "/admin/login?next=%2Fadmin%2Fevents%3Fstatus%3DSENT%26key%3Da%2520b");
    site.get(&login, "").await.shows(r#"value="/admin/events?status=SENT&#38;key=a%20b""#);
    site.operator(Role::Viewer).await;
    let next = "/admin/events?status=SENT&key=a%20b";
    let fields = [("name", "viewer"), ("password", PASSWORD), ("next", next)];
    let answer = site.post("/admin/login", "", &fields).await;
    assert_eq!(answer.leads_to(), next);
    let set = answer.header(SET_COOKIE);
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
    site.get(next, &answer.cookie()).await.shows("viewer");
    // Who is signed in need not do so again.
    assert_eq!(site.get(&login, &answer.cookie()).await.leads_to(), next);
}

async fn no_link_leads_away_after_signing_in(site: Site) {
    site.operator(Role::Viewer).await;
    for next in ["https://evil.example", "//evil.example/admin", "/admin\\@evil.example", "/api/x"]
    {
        let fields = [("name", "viewer"), ("password", PASSWORD), ("next", next)];
        assert_eq!(site.post("/admin/login", "", &fields).await.leads_to(), "/admin", "{next}");
        let link = format!("/admin/login?next={}", crate::pages::context::encoded(next));
        site.get(&link, "").await.shows(r#"name="next" value="""#);
    }
}

async fn wrong_passwords_are_told_on_the_form(site: Site) {
    site.operator(Role::Viewer).await;
    let fields = [("name", "viewer"), ("password", "wrong"), ("next", "/admin/jobs")];
    let answer = site.post("/admin/login", "", &fields).await;
    assert_eq!(answer.status, 401);
    answer.shows("the name or the password is wrong");
    answer.shows(r#"value="viewer""#);
    answer.shows(r#"value="/admin/jobs""#);
    answer.shows_not("wrong\"");
    for _ in 0..20 {
        site.post("/admin/login", "", &fields).await;
    }
    let answer = site.post("/admin/login", "", &fields).await;
    assert_eq!(answer.status, 429);
    answer.shows("too many sign-ins failed");
}

async fn signing_out_ends_the_session(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    assert_eq!(site.get("/admin/account", &cookie).await.status, 200);
    let left = site.post("/admin/logout", &cookie, &[]).await;
    assert_eq!(left.leads_to(), "/admin/login?done=signed-out");
    assert!(left.header(SET_COOKIE).contains("Max-Age=0"), "{left:?}");
    site.get("/admin/login?done=signed-out", "").await.shows("You are signed out.");
    assert!(site.get("/admin/account", &cookie).await.leads_to().starts_with("/admin/login"));
}

async fn the_first_admin_is_made_once(site: Site) {
    let env = site.fixture.env.clone();
    let offer = move |conn: &mut _| setup::offer(conn, &env).map_err(Problem::from);
    let token = site.fixture.db.write(offer).await.unwrap().unwrap();
    let page = site.get(&format!("/admin/setup?token={token}"), "").await;
    page.shows(&format!(r#"name="token" value="{token}""#));
    let fields = |again| {
        [("token", token.as_str()), ("name", "ada"), ("password", PASSWORD), ("again", again)]
    };
    let unlike = site.post("/admin/setup", "", &fields("something else")).await;
    assert_eq!(unlike.status, 422);
    unlike.shows("the two passwords are not the same");
    let made = site.post("/admin/setup", "", &fields(PASSWORD)).await;
    assert_eq!(made.leads_to(), "/admin?done=set-up");
    site.get("/admin/account", &made.cookie()).await.shows("you may do everything");
    assert_eq!(site.post("/admin/setup", "", &fields(PASSWORD)).await.status, 401);
}

async fn a_password_is_changed(site: Site) {
    let cookie = site.signed_in(Role::Viewer).await;
    let fields = |old, again| {
        [("old_password", old), ("new_password", "another long password"), ("again", again)]
    };
    let wrong = fields("wrong", "another long password");
    let answer = site.post("/admin/account/password", &cookie, &wrong).await;
    assert_eq!(answer.status, 422);
    answer.shows("this is not your current password");
    let right = fields(PASSWORD, "another long password");
    let answer = site.post("/admin/account/password", &cookie, &right).await;
    assert_eq!(answer.leads_to(), "/admin/account?done=password");
    let fields = [("name", "viewer"), ("password", "another long password")];
    assert_eq!(site.post("/admin/login", "", &fields).await.leads_to(), "/admin");
}

async fn other_sites_forms_are_refused(site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    let request = TestRequest::post()
        .uri("/admin/users")
        .insert_header(("sec-fetch-site", "cross-site"))
        .set_form([("name", "mallory"), ("password", PASSWORD)]);
    let refused = site.ask(request, &cookie).await;
    assert_eq!(refused.status, 403);
    refused.shows("comes from a page of another site");
    assert!(refused.header(CONTENT_SECURITY_POLICY).contains("frame-ancestors 'none'"));
    site.get("/admin/users", &cookie).await.shows_not("mallory");
}
