#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use common::event::EventRow;
use common::on;
use common::schema::outbox_event;
use diesel::prelude::*;
use stockloop_tests::database::TestDatabase;
use stockloop_tests::on_every_database;

use super::{KeptStates, NewResync, Resync, ResyncJob, ResyncKind, ResyncSelection, find, insert};
use crate::bulk::JobState;
use crate::verify::tests::fixture::{Items, Shelf, run};

on_every_database!(std::convert::identity =>
    a_replay_gives_way_to_other_jobs_and_goes_on_after_them,
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
        let kept = KeptStates { consumer: "copy".to_owned(), keys, ..KeptStates::default() };
        self.ask(ResyncKind::Replay, &ResyncSelection::Kept(kept)).await
    }

    /// One step by an instance that knows nothing of the steps before; whether there was something to do.
    async fn step(&self) -> bool {
        let (shelf, owner) = (&self.0, Arc::new(Items));
        let (db, env) = (&shelf.owner, &shelf.verifier.env);
        let step = Resync::default().run_once(db, env, &shelf.outbox, owner, "copy").await;
        step.unwrap().worked
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
