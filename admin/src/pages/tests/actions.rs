use common::http::Problem;
use engine::audit;
use stockloop_tests::on_every_database;

use super::Site;
use crate::access::Role;
use crate::api::tests::Is;

on_every_database!(Site::new =>
    an_event_is_retried_and_resolved,
    many_events_are_asked_for_before_they_are_touched,
    chosen_events_are_resolved_by_a_job,
    the_relay_and_keys_are_paused,
    keys_are_held_and_released,
    alerts_are_acknowledged_and_silenced,
    dead_letters_are_discarded,
    users_are_added_and_changed,
    a_token_is_shown_once,
);

impl Site {
    /// What was noted, newest first.
    async fn actions(&self) -> Vec<String> {
        let read = |conn: &mut _| {
            audit::list(conn, &audit::Filter::default(), None, 100).map_err(Problem::from)
        };
        let actions = self.fixture.db.read(read).await.unwrap();
        actions.into_iter().map(|entry| format!("{} {}", entry.who, entry.action)).collect()
    }
}

async fn an_event_is_retried_and_resolved(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    let id = site.fixture.event("TEA", 1, Is::Exhausted).await;
    let page = format!("/admin/events/{id}");
    let none = site.post(&format!("{page}/resolve"), &cookie, &[]).await;
    assert_eq!(none.status, 422);
    none.shows("this is required; fill it in");
    none.shows(r#"href="/admin/events?key=A""#);
    let fields = [("reason", "counted by hand")];
    let resolved = site.post(&format!("{page}/resolve"), &cookie, &fields).await;
    assert_eq!(resolved.leads_to(), format!("{page}?done=resolved"));
    let shown = site.get(resolved.leads_to(), &cookie).await;
    shown.shows("The event is resolved");
    shown.shows("counted by hand");
    let retried = site.post(&format!("{page}/retry"), &cookie, &[("attempts", "3")]).await;
    assert_eq!(retried.leads_to(), format!("{page}?done=retried"));
    site.get(&page, &cookie).await.shows("PENDING");
    let again = site.post(&format!("{page}/retry"), &cookie, &[]).await;
    assert_eq!(again.status, 409);
    again.shows("only an EXHAUSTED event can be retried");
    assert_eq!(site.actions().await[..2], ["operator event.retry", "operator event.resolve"]);
}

async fn many_events_are_asked_for_before_they_are_touched(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    for version in 1..=3 {
        site.fixture.event("TEA", version, Is::Exhausted).await;
    }
    site.fixture.event("MUG", 1, Is::Exhausted).await;
    let list = site.get("/admin/events?status=EXHAUSTED&key=TEA", &cookie).await;
    list.shows(r#"name="filter" value="key=TEA&#38;status=EXHAUSTED""#);
    let fields = [("do", "retry-all"), ("filter", "key=TEA&status=EXHAUSTED")];
    let asked = site.post("/admin/jobs/preview", &cookie, &fields).await;
    assert_eq!(asked.status, 200, "{asked:?}");
    asked.shows("<h1>Retry 3 events?</h1>");
    asked.shows("all with key TEA, status EXHAUSTED");
    asked.shows(r#"<a href="/admin/events?key=TEA&#38;status=EXHAUSTED">Cancel</a>"#);
    asked.shows(r#"<input type="hidden" name="preview" value="1">"#);
    let selection = r#"{"filter":{"status":"EXHAUSTED","key":"TEA"}}"#;
    let fields = |preview| {
        [
            ("action", "retry"),
            ("selection", selection),
            ("expected", "3"),
            ("preview", preview),
            ("attempts", "2"),
            ("reason", "the shelf was counted"),
        ]
    };
    // A preview that is over is taken anew, with what was filled in, and asked about again.
    let over = site.post("/admin/jobs", &cookie, &fields("99")).await;
    assert_eq!(over.status, 409);
    over.shows("the preview 99 is over");
    over.shows("<h1>Retry 3 events?</h1>");
    over.shows("the shelf was counted");
    // One more gives up while somebody reads: the job covers what was shown.
    site.fixture.event("TEA", 4, Is::Exhausted).await;
    let fields = fields("1");
    let job = site.post("/admin/jobs", &cookie, &fields).await;
    assert_eq!(job.leads_to(), "/admin/jobs/1");
    let shown = site.get("/admin/jobs/1", &cookie).await;
    shown.shows("waiting");
    shown.shows("the shelf was counted");
    assert_eq!(
        site.post("/admin/jobs/1/cancel", &cookie, &[]).await.leads_to(),
        "/admin/jobs/1?done=job-cancelled"
    );
    assert_eq!(site.post("/admin/jobs/1/cancel", &cookie, &[]).await.status, 409);
    site.get("/admin/jobs", &cookie).await.shows("cancelled");
    let bad = [("action", "retry"), ("selection", "{}"), ("expected", "3")];
    assert_eq!(site.post("/admin/jobs", &cookie, &bad).await.status, 422);
}

async fn chosen_events_are_resolved_by_a_job(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    let (a, b) = (
        site.fixture.event("A", 1, Is::Exhausted).await.to_string(),
        site.fixture.event("B", 1, Is::Exhausted).await.to_string(),
    );
    let none = site.post("/admin/jobs/preview", &cookie, &[("do", "resolve-chosen")]).await;
    assert_eq!(none.status, 422);
    none.shows("no event is selected");
    let fields = [("do", "resolve-chosen"), ("id", a.as_str()), ("id", b.as_str())];
    site.post("/admin/jobs/preview", &cookie, &fields).await.shows("<h1>Resolve 2 events?</h1>");
    let selection = format!(r#"{{"ids":["{a}","{b}"]}}"#);
    let fields = [("action", "resolve"), ("selection", &*selection), ("expected", "2")];
    let without_reason = site.post("/admin/jobs", &cookie, &fields).await;
    assert_eq!(without_reason.status, 422);
    without_reason.shows("a resolution needs a reason");
    without_reason.shows("<h1>Resolve 2 events?</h1>");
}

async fn the_relay_and_keys_are_paused(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    let reason = [("reason", "the broker moves")];
    let paused = site.post("/admin/relay/pause", &cookie, &reason).await;
    assert_eq!(paused.leads_to(), "/admin/relay?done=paused");
    // Whoever looks at any page is told.
    let viewer = site.signed_in(Role::Viewer).await;
    let other = site.get("/admin/jobs", &viewer).await;
    other.shows("The relay is paused: nothing is sent.");
    other.shows("the broker moves");
    site.get("/admin", &viewer).await.shows("The relay is paused;");
    assert_eq!(
        site.post("/admin/relay/resume", &cookie, &[]).await.leads_to(),
        "/admin/relay?done=resumed"
    );
    assert_eq!(site.post("/admin/relay/resume", &cookie, &[]).await.status, 404);
    site.get("/admin/jobs", &viewer).await.shows_not("The relay is paused");
    let key = [("key", "a/b & c"), ("reason", "too loud")];
    let answer = site.post("/admin/relay/pause-key", &cookie, &key).await;
    assert_eq!(answer.leads_to(), "/admin/relay?done=key-paused");
    site.get("/admin/relay", &cookie).await.shows("a/b &#38; c");
    let answer = site.post("/admin/relay/resume-key", &cookie, &[("key", "a/b & c")]).await;
    assert_eq!(answer.leads_to(), "/admin/relay?done=key-resumed");
    site.get("/admin/relay", &cookie).await.shows("No key is paused individually");
}

async fn keys_are_held_and_released(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    let key = [("key", "TEA"), ("reason", "the shelf is being counted")];
    assert_eq!(
        site.post("/admin/quarantine", &cookie, &key).await.leads_to(),
        "/admin/quarantine?done=held"
    );
    site.get("/admin/quarantine", &cookie).await.shows("the shelf is being counted");
    let answer = site.post("/admin/quarantine/release", &cookie, &[("key", "TEA")]).await;
    assert_eq!(answer.leads_to(), "/admin/quarantine?done=released");
    assert_eq!(
        site.post("/admin/quarantine/release", &cookie, &[("key", "TEA")]).await.status,
        404
    );
    assert_eq!(
        site.actions().await[..2],
        ["operator quarantine.release", "operator quarantine.put"]
    );
}

async fn alerts_are_acknowledged_and_silenced(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    site.fixture.alerts(&["first", "second", "third"]).await;
    let answer = site.post("/admin/alerts/3/acknowledge", &cookie, &[]).await;
    assert_eq!(answer.leads_to(), "/admin/alerts/3?done=acknowledged");
    site.get("/admin/alerts/3", &cookie).await.shows("acknowledged");
    let endless = site.post("/admin/silences", &cookie, &[("key", "A"), ("reason", "x")]).await;
    assert_eq!(endless.status, 422);
    endless.shows("a silence needs an end");
    let fields = [("key", "A"), ("reason", "planned work"), ("for_seconds", "3600")];
    let begun = site.post("/admin/silences", &cookie, &fields).await;
    assert_eq!(begun.leads_to(), "/admin/silences?done=silenced");
    site.get("/admin/silences", &cookie).await.shows("planned work");
    site.get("/admin/alerts?state=open", &cookie).await.shows("silenced");
    let ended = site.post("/admin/silences/1/end", &cookie, &[]).await;
    assert_eq!(ended.leads_to(), "/admin/silences?done=silence-ended");
}

async fn dead_letters_are_discarded(site: Site) {
    let cookie = site.signed_in(Role::Operator).await;
    site.fixture.dead_letter(7, b"{\"sku\": \xff}".to_vec()).await;
    let shown = site.get("/admin/dead-letters/1", &cookie).await;
    shown.shows("7b 22 73 6b 75 22 3a 20 ff 7d");
    let answer = site.post("/admin/dead-letters/1/discard", &cookie, &[("reason", "a test")]).await;
    assert_eq!(answer.leads_to(), "/admin/dead-letters/1?done=discarded");
    site.get("/admin/dead-letters?state=discarded", &cookie).await.shows("discarded");
    site.get("/admin/dead-letters?state=waiting", &cookie).await.shows("There are no dead letters");
    // It can't be read now either, and the page says so.
    let replayed = site.post("/admin/dead-letters/1/replay", &cookie, &[]).await;
    assert_eq!(replayed.status, 422);
    replayed.shows("nothing was sent");
}

async fn users_are_added_and_changed(site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    let fields = |name| [("name", name), ("role", "operator"), ("password", "a long password")];
    let added = site.post("/admin/users", &cookie, &fields("anna")).await;
    assert_eq!(added.leads_to(), "/admin/users?done=user-added");
    let again = site.post("/admin/users", &cookie, &fields("anna")).await;
    assert_eq!(again.status, 409);
    again.shows("operator anna already exists");
    again.shows(r#"value="anna""#);
    again.shows_not("a long password");
    let change = [("name", "anna"), ("role", "viewer"), ("disabled", "true"), ("password", "")];
    let changed = site.post("/admin/users/change", &cookie, &change).await;
    assert_eq!(changed.leads_to(), "/admin/users?done=user-changed");
    site.get("/admin/users", &cookie).await.shows("disabled");
    let last = [("name", "admin"), ("role", "viewer"), ("disabled", "false")];
    let last = site.post("/admin/users/change", &cookie, &last).await;
    assert_eq!(last.status, 409);
    last.shows("is the last admin");
}

async fn a_token_is_shown_once(site: Site) {
    let cookie = site.signed_in(Role::Admin).await;
    let fields =
        [("name", "nightly"), ("role", "operator"), ("area", "events"), ("area", "alerts")];
    let made = site.post("/admin/tokens", &cookie, &fields).await;
    assert_eq!(made.status, 200);
    made.shows("stockloop_");
    made.shows("it is shown only once");
    let list = site.get("/admin/tokens", &cookie).await;
    list.shows("nightly");
    list.shows("events, alerts");
    list.shows_not("stockloop_");
    let revoked = site.post("/admin/tokens/1/revoke", &cookie, &[]).await;
    assert_eq!(revoked.leads_to(), "/admin/tokens?done=token-revoked");
    site.get("/admin/tokens", &cookie).await.shows("revoked");
}
