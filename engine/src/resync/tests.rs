#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use common::event::EventRow;
use common::on;
use common::schema::{outbox_event, resync_job};
use diesel::prelude::*;
use serde_json::{Value, json};
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;

use super::{
    KeptPage, KeptStates, NewResync, Resync, ResyncJob, ResyncKind, ResyncSelection, SentPage,
    cancel, find, insert, skipped,
};
use crate::bulk::JobState;
use crate::kafka::{Message, SendError};
use crate::verify::tests::fixture::{Items, Shelf, run};

on_every_database!(std::convert::identity =>
    a_replay_gives_way_to_other_jobs_and_goes_on_after_them,
    kept_states_go_into_another_topic_page_by_page,
    a_page_that_nobody_noted_is_sent_again_when_its_hold_is_over,
    what_hinders_a_page_is_kept_and_the_page_is_next_after_a_pause,
    what_the_broker_has_of_a_page_is_not_sent_again,
    a_message_that_no_broker_takes_is_left_out_and_noted_by_its_key,
    a_job_that_can_not_get_on_holds_up_no_other,
    a_job_that_is_cancelled_notes_no_page,
);

/// An owner, its copy, and the jobs of the owner.
struct Jobs(Shelf);

impl Jobs {
    async fn ask(&self, kind: ResyncKind, selection: &ResyncSelection) -> i64 {
        let job = NewResync {
            kind,
            selection: selection.to_json().unwrap(),
            reason: None,
            state: JobState::Waiting,
            expected: None,
            created_us: self.0.clock_now(),
            created_by: "anna".to_owned(),
            created_via: "session".to_owned(),
        };
        run(&self.0.owner, move |conn| insert(conn, &job)).await
    }

    /// A replay of all that is kept of `key`.
    async fn replay(&self, key: &str) -> i64 {
        let keys = vec![key.to_owned()];
        let kept = KeptStates { consumer: Some("copy".to_owned()), keys, ..KeptStates::default() };
        self.ask(ResyncKind::Replay, &ResyncSelection::Kept(kept)).await
    }

    /// One step by an instance that knows nothing of the steps before; whether there was something to do.
    async fn step(&self) -> bool {
        let (shelf, owner) = (&self.0, Arc::new(Items));
        let (db, env) = (&shelf.owner, &shelf.verifier.env);
        let step = Resync::default().run_once(db, env, &shelf.outbox, owner, "copy").await;
        step.unwrap().worked
    }

    /// A replay of all that is kept of `keys` into a topic.
    async fn topic_job(&self, keys: &[&str]) -> i64 {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let into = Some("views".to_owned());
        let kept = KeptStates { into, keys, ..KeptStates::default() };
        self.ask(ResyncKind::Replay, &ResyncSelection::Kept(kept)).await
    }

    /// The next page for a topic, taken by an instance that knows nothing of the steps before.
    async fn page(&self) -> Option<KeptPage> {
        self.page_of(&Resync::default()).await
    }

    /// The next page for a topic, taken by this instance.
    async fn page_of(&self, instance: &Resync) -> Option<KeptPage> {
        let (shelf, owner) = (&self.0, Arc::new(Items));
        let (db, env) = (&shelf.owner, &shelf.verifier.env);
        let step = instance.run_once(db, env, &shelf.outbox, owner, "copy").await.unwrap();
        assert_eq!((step.worked, step.appended), (step.page.is_some(), 0));
        step.page
    }

    async fn note(&self, page: KeptPage, sent: SentPage) {
        self.note_of(&Resync::default(), page, sent).await;
    }

    async fn note_of(&self, instance: &Resync, page: KeptPage, sent: SentPage) {
        let (db, env) = (&self.0.owner, &self.0.verifier.env);
        instance.note(db, env, page, sent).await.unwrap();
    }

    /// Notes a page that the broker has all of.
    async fn taken(&self, page: KeptPage) {
        let all = messages(&page).iter().map(|_| Ok(None)).collect();
        self.note(page, Ok(all)).await;
    }

    async fn cursor(&self, seq: i64) -> Value {
        serde_json::from_str(&self.job(seq).await.cursor.unwrap()).unwrap()
    }

    /// As if the time had passed for which a page is held, or a job rests.
    async fn end_wait(&self, seq: i64) {
        let mut cursor = self.cursor(seq).await;
        for wait in ["/held/until", "/rests_until"] {
            if let Some(until) = cursor.pointer_mut(wait) {
                *until = json!("2020-01-01T00:00:00Z");
            }
        }
        run(&self.0.owner, move |conn| {
            let at = resync_job::cursor.eq(cursor.to_string());
            on!(conn, c => diesel::update(resync_job::table.find(seq)).set(at).execute(c))
        })
        .await;
    }

    async fn job(&self, seq: i64) -> ResyncJob {
        run(&self.0.owner, move |conn| find(conn, seq)).await.unwrap()
    }

    async fn states<const N: usize>(&self, jobs: [i64; N]) -> [JobState; N] {
        let mut states = [JobState::Cancelled; N];
        for (state, seq) in states.iter_mut().zip(jobs) {
            *state = self.job(seq).await.state;
        }
        states
    }

    /// All events, in the order in which they were made.
    async fn events(&self) -> Vec<EventRow> {
        run(&self.0.owner, |conn| {
            on!(conn, c => outbox_event::table
                .order(outbox_event::id)
                .select(EventRow::as_select())
                .load(c))
        })
        .await
    }
}

async fn a_replay_gives_way_to_other_jobs_and_goes_on_after_them(database: TestDatabase) {
    use JobState::{Done, Running, Waiting};
    let jobs = Jobs(Shelf::made(database).await);
    for _ in 0..150 {
        jobs.0.change("LONG", "more", false).await;
    }
    jobs.0.change("SHORT", "once", false).await;
    let before = jobs.events().await.len();
    let replays = [jobs.replay("LONG").await, jobs.replay("SHORT").await];
    assert!(jobs.step().await);
    assert_eq!(jobs.states(replays).await, [Running, Waiting]);
    let reached = jobs.job(replays[0]).await.reached();
    assert_eq!(reached, (Some("LONG".to_owned()), Some(100)));
    let keys = ResyncSelection::Keys(vec!["LONG".to_owned()]);
    let resync = jobs.ask(ResyncKind::Resync, &keys).await;
    let all = [replays[0], replays[1], resync];
    assert!(jobs.step().await);
    assert_eq!(jobs.states(all).await, [Running, Waiting, Done], "the one that was asked for last");
    assert!(jobs.step().await);
    assert_eq!(jobs.states(all).await, [Done, Waiting, Done], "then the older of the two replays");
    assert!(jobs.step().await);
    assert_eq!(jobs.states(all).await, [Done, Done, Done]);
    assert!(!jobs.step().await);
    let told: Vec<_> = jobs.events().await.split_off(before);
    let told: Vec<_> = told.into_iter().map(|event| (event.key, event.version)).collect();
    let of = |key: &str, version: i64| (key.to_owned(), version);
    let mut expected: Vec<_> = (1..=100).map(|version| of("LONG", version)).collect();
    // The resync sends the present state, and the replay goes on where it was.
    expected.push(of("LONG", 150));
    expected.extend((101..=150).map(|version| of("LONG", version)));
    expected.push(of("SHORT", 1));
    assert_eq!(told, expected);
    let (first, sent) = (jobs.job(replays[0]).await, jobs.job(resync).await);
    assert_eq!((first.done, first.skipped, sent.done), (150, 0, 1));
}

fn messages(page: &KeptPage) -> Vec<Message> {
    page.messages("owner", 4)
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    message.headers.iter().find(|(header, _)| *header == name).unwrap().1.as_str()
}

async fn kept_states_go_into_another_topic_page_by_page(database: TestDatabase) {
    let jobs = Jobs(Shelf::made(database).await);
    jobs.0.change("SHORT", "once", false).await;
    for _ in 0..150 {
        jobs.0.change("LONG", "more", false).await;
    }
    let mut events = jobs.events().await;
    events.sort_by(|one, other| (&one.key, one.version).cmp(&(&other.key, other.version)));
    let seq = jobs.topic_job(&["SHORT", "NONE", "LONG"]).await;
    assert_eq!(jobs.job(seq).await.reached(), (None, None));
    let mut sent = Vec::new();
    for (count, reached, state) in
        [(100, ("LONG", Some(100)), JobState::Running), (51, ("LONG", Some(100)), JobState::Done)]
    {
        let page = jobs.page().await.unwrap();
        assert!(jobs.page().await.is_none(), "another instance leaves it alone");
        let said = messages(&page);
        assert_eq!(said.len(), count);
        sent.extend(said);
        jobs.taken(page).await;
        let job = jobs.job(seq).await;
        assert_eq!(job.reached(), (Some(reached.0.to_owned()), reached.1));
        assert_eq!(job.state, state);
    }
    assert!(jobs.page().await.is_none());
    assert_eq!(sent.len(), events.len());
    for (message, event) in sent.iter().zip(&events) {
        assert_eq!((&message.topic, &message.key), (&"views".to_owned(), &event.key));
        assert_eq!(message.payload, event.payload.as_bytes());
        assert_eq!(header(message, "ce_id"), event.id.to_string());
        assert_eq!(header(message, "ce_source"), "/owner");
        assert_eq!(header(message, "ce_time"), event.created_us.to_string());
        assert_eq!(header(message, "stockloopattempt"), "1");
        assert_eq!(header(message, "stockloopepoch"), event.epoch.to_string());
        assert_eq!(header(message, "traceparent"), event.traceparent.as_deref().unwrap());
    }
    let job = jobs.job(seq).await;
    assert_eq!((job.done, job.skipped, job.hindered()), (151, 1, None));
    let left = run(&jobs.0.owner, move |conn| skipped(conn, seq, "", 10)).await;
    assert_eq!((left[0].key.as_str(), left[0].why.as_str()), ("NONE", "no event of it is kept"));
    assert_eq!(jobs.events().await.len(), 151, "nothing entered the outbox");
}

async fn a_page_that_nobody_noted_is_sent_again_when_its_hold_is_over(database: TestDatabase) {
    let jobs = Jobs(Shelf::made(database).await);
    for _ in 0..120 {
        jobs.0.change("A", "more", false).await;
    }
    let seq = jobs.topic_job(&["A"]).await;
    let late = jobs.page().await.unwrap();
    assert!(jobs.page().await.is_none());
    jobs.end_wait(seq).await;
    let again = jobs.page().await.unwrap();
    assert_eq!(messages(&again), messages(&late));
    jobs.taken(late).await;
    assert_eq!(jobs.job(seq).await.done, 0, "another has taken it over");
    jobs.taken(again).await;
    let last = jobs.page().await.unwrap();
    assert_eq!(messages(&last).len(), 20);
    jobs.taken(last).await;
    let job = jobs.job(seq).await;
    assert_eq!((job.state, job.done), (JobState::Done, 120));
}

async fn what_hinders_a_page_is_kept_and_the_page_is_next_after_a_pause(database: TestDatabase) {
    let jobs = Jobs(Shelf::made(database).await);
    jobs.0.change("A", "once", false).await;
    let seq = jobs.topic_job(&["A"]).await;
    let missing = || Err("the topic views does not exist".to_owned());
    let first = jobs.page().await.unwrap();
    let said = messages(&first);
    jobs.note(first, missing()).await;
    assert!(jobs.page().await.is_none(), "it rests");
    let job = jobs.job(seq).await;
    assert_eq!(job.hindered().as_deref(), Some("the topic views does not exist"));
    assert_eq!((job.state, job.done, job.reached()), (JobState::Running, 0, (None, None)));
    for failures in [2, 3] {
        jobs.end_wait(seq).await;
        let again = jobs.page().await.unwrap();
        jobs.note(again, missing()).await;
        assert_eq!(jobs.cursor(seq).await["failures"], failures, "each pause is longer");
    }
    jobs.end_wait(seq).await;
    let again = jobs.page().await.unwrap();
    assert_eq!(messages(&again), said);
    jobs.taken(again).await;
    let job = jobs.job(seq).await;
    assert_eq!((job.state, job.done, job.hindered()), (JobState::Done, 1, None));
}

/// The keys and versions of a page.
fn states(page: &KeptPage) -> Vec<(String, i64)> {
    page.states.iter().map(|state| (state.key.clone(), state.version)).collect()
}

fn state(key: &str, version: i64) -> (String, i64) {
    (key.to_owned(), version)
}

fn away() -> SendError {
    SendError::Broker("no leader".to_owned())
}

fn too_large() -> SendError {
    SendError::Message("too large".to_owned())
}

async fn what_the_broker_has_of_a_page_is_not_sent_again(database: TestDatabase) {
    let jobs = Jobs(Shelf::made(database).await);
    for key in ["A", "A", "A", "B"] {
        jobs.0.change(key, "more", false).await;
    }
    let seq = jobs.topic_job(&["0", "A", "AA", "B"]).await;
    let page = jobs.page().await.unwrap();
    assert_eq!(states(&page), [state("A", 1), state("A", 2), state("A", 3), state("B", 1)]);
    jobs.note(page, Ok(vec![Ok(None), Err(away()), Ok(None), Ok(None)])).await;
    let job = jobs.job(seq).await;
    assert_eq!((job.done, job.skipped), (1, 1), "0 is behind it, and AA is not");
    assert_eq!(job.reached(), (Some("A".to_owned()), Some(1)));
    let told = job.hindered().unwrap();
    assert!(told.starts_with("version 2 of A can't be sent into the topic views"), "{told}");
    jobs.end_wait(seq).await;
    let page = jobs.page().await.unwrap();
    assert_eq!(states(&page), [state("A", 2), state("A", 3), state("B", 1)]);
    jobs.note(page, Ok(vec![Err(away()), Ok(None), Ok(None)])).await;
    assert_eq!(jobs.cursor(seq).await["failures"], 2);
    jobs.end_wait(seq).await;
    let page = jobs.page().await.unwrap();
    jobs.note(page, Ok(vec![Ok(None), Ok(None), Err(away())])).await;
    assert_eq!(jobs.cursor(seq).await["failures"], 1, "it has got on");
    jobs.end_wait(seq).await;
    let page = jobs.page().await.unwrap();
    assert_eq!(states(&page), [state("B", 1)]);
    jobs.taken(page).await;
    let job = jobs.job(seq).await;
    assert_eq!((job.state, job.done, job.skipped), (JobState::Done, 4, 2));
}

async fn a_message_that_no_broker_takes_is_left_out_and_noted_by_its_key(database: TestDatabase) {
    let jobs = Jobs(Shelf::made(database).await);
    for key in ["A", "A", "A", "A", "B"] {
        jobs.0.change(key, "more", false).await;
    }
    let seq = jobs.topic_job(&["A", "B"]).await;
    let page = jobs.page().await.unwrap();
    let large = || Err(too_large());
    jobs.note(page, Ok(vec![large(), Ok(None), large(), Err(away()), Ok(None)])).await;
    let job = jobs.job(seq).await;
    assert_eq!((job.done, job.skipped), (1, 1), "two states of one key");
    assert_eq!(job.reached(), (Some("A".to_owned()), Some(3)));
    jobs.end_wait(seq).await;
    let page = jobs.page().await.unwrap();
    assert_eq!(states(&page), [state("A", 4), state("B", 1)]);
    jobs.note(page, Ok(vec![large(), Ok(None)])).await;
    let job = jobs.job(seq).await;
    assert_eq!((job.state, job.done, job.skipped), (JobState::Done, 2, 1));
    let left = run(&jobs.0.owner, move |conn| skipped(conn, seq, "", 10)).await;
    assert_eq!((left.len(), left[0].key.as_str()), (1, "A"));
    assert!(left[0].why.starts_with("version 1 of A can't be sent"), "{}", left[0].why);
    assert!(left[0].why.contains("too large"), "{}", left[0].why);
}

async fn a_job_that_can_not_get_on_holds_up_no_other(database: TestDatabase) {
    let jobs = Jobs(Shelf::made(database).await);
    jobs.0.change("A", "once", false).await;
    for _ in 0..120 {
        jobs.0.change("B", "more", false).await;
    }
    let [hindered, other] = [jobs.topic_job(&["A"]).await, jobs.topic_job(&["B"]).await];
    let instance = Resync::default();
    let page = jobs.page_of(&instance).await.unwrap();
    assert_eq!(states(&page), [state("A", 1)]);
    jobs.note_of(&instance, page, Err("no leader".to_owned())).await;
    // Its pause is over at once, and still it is the other's turn.
    jobs.end_wait(hindered).await;
    let page = jobs.page_of(&instance).await.unwrap();
    assert_eq!(states(&page)[0], state("B", 1));
    jobs.taken(page).await;
    let page = jobs.page_of(&instance).await.unwrap();
    assert_eq!(states(&page), [state("A", 1)], "it is tried again");
    jobs.note(page, Err("no leader".to_owned())).await;
    let page = jobs.page().await.unwrap();
    assert_eq!(states(&page)[0], state("B", 101));
    assert!(jobs.page().await.is_none(), "the one rests, and the other is under way");
    jobs.taken(page).await;
    assert_eq!(jobs.states([hindered, other]).await, [JobState::Running, JobState::Done]);
    jobs.end_wait(hindered).await;
    let page = jobs.page().await.unwrap();
    jobs.taken(page).await;
    assert_eq!(jobs.states([hindered, other]).await, [JobState::Done; 2]);
}

async fn a_job_that_is_cancelled_notes_no_page(database: TestDatabase) {
    let jobs = Jobs(Shelf::made(database).await);
    jobs.0.change("A", "once", false).await;
    let seq = jobs.topic_job(&["A"]).await;
    let page = jobs.page().await.unwrap();
    let now = jobs.0.clock_now();
    assert!(run(&jobs.0.owner, move |conn| cancel(conn, seq, now, "bob")).await);
    jobs.taken(page).await;
    let job = jobs.job(seq).await;
    assert_eq!((job.state, job.done), (JobState::Cancelled, 0));
    assert!(jobs.page().await.is_none());
}
