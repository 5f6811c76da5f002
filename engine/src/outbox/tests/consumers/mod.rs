//! Several consumers: whose answer ends an event, who is blamed, and what is left of those who are asked no more.

mod answers;
mod letting_off;
mod registry;
mod watched;

use std::collections::BTreeMap;

use common::schema::outbox_answer;

use super::*;
use crate::consumers::{self, NewConsumer, Role};

const FIRST: &str = "order-service";
const SEARCH: &str = "search-service";
const REPORTS: &str = "reports";

impl OutboxFixture {
    async fn register(&self, name: &'static str, role: Role) {
        let (since, now) = (self.env.event_id(), self.env.now());
        self.change(move |conn| {
            consumers::sync(conn, FIRST, &BTreeMap::new(), since, now)?;
            let new = NewConsumer { name, role, since, reason: None };
            consumers::register(conn, &new, now, "anna")
        })
        .await
        .unwrap();
    }

    async fn retire(&self, name: &'static str) -> Result<(), consumers::RegistryError> {
        let now = self.env.now();
        self.change(move |conn| consumers::retire(conn, name, FIRST, (now, "anna", Some("gone"))))
            .await
            .map(drop)
    }

    async fn set_role(&self, name: &'static str, role: Role) {
        let (since, now) = (self.env.event_id(), self.env.now());
        self.change(move |conn| {
            consumers::set_role(conn, (name, FIRST), role, since, (now, "anna", None))
        })
        .await
        .unwrap();
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, consumers::RegistryError> + Send + 'static,
    ) -> Result<T, consumers::RegistryError> {
        let changed = self.db.write::<_, DbError>(move |conn| Ok(work(conn)));
        changed.await.unwrap()
    }

    fn ack_of(&self, consumer: &str, id: EventId, attempt: i32, outcome: Verdict) -> Ack {
        Ack { consumer: consumer.to_owned(), ..self.ack(id, attempt, outcome) }
    }

    async fn status_of(&self, id: EventId) -> Status {
        self.open(id).await.map_or(Status::Processed, |row| row.status)
    }

    async fn said(&self, id: EventId) -> Vec<(String, Said, i32)> {
        self.run(move |conn| {
            on!(conn, c => outbox_answer::table
                .filter(outbox_answer::event_id.eq(id))
                .select((outbox_answer::consumer, outbox_answer::outcome, outbox_answer::failures))
                .order(outbox_answer::consumer)
                .load(c))
        })
        .await
    }

    async fn let_off_all(&self) -> usize {
        let step = LetOff {
            db: self.db.clone(),
            env: self.env.clone(),
            policy: POLICY,
            first: FIRST.to_owned(),
        };
        let mut settled = 0;
        while let Some(done) = step.run_once().await.unwrap() {
            settled += done.settled.len();
        }
        settled
    }

    async fn sent(&self, key: &str) -> EventId {
        let id = self.append(SNAPSHOT, key, 1).await;
        self.send(id, 1, 0).await;
        id
    }
}
