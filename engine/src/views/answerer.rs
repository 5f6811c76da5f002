//! The way of a view's answers to the broker, and what tells an operator where it does not take them.

use std::mem::take;

use common::clock::Timestamp;
use common::env::Env;
use tokio_util::sync::CancellationToken;

use crate::alerts::{Condition, NewAlert, utc};
use crate::inbox::{AckPart, AckPublisher, AckRoutes, AckSender, parts_of};
use crate::kafka::{Ack, Producer, cut_error};

/// Answers a view's messages in the name of a service.
pub(crate) struct Answerer<A = Producer> {
    /// Time, ids and chance.
    pub(crate) env: Env,
    /// In whose name.
    pub(crate) service: String,
    /// The topic of the messages.
    pub(crate) view: String,
    /// Where the answers go, and what sends them.
    pub(crate) routes: AckRoutes<A>,
    /// That the broker does not take them.
    pub(crate) hindered: Condition,
}

/// Answers that the broker does not have yet.
pub(crate) struct Unsent {
    parts: Vec<AckPart>,
    /// When they were tried first.
    since: Timestamp,
    /// Why some are left out, if there were any that the broker takes in no form.
    left_out: Option<String>,
}

impl<A: AckSender> Answerer<A> {
    /// `answers`, each with the partition that its message came from, before they are tried.
    pub(crate) fn begin(&self, answers: Vec<(i32, Ack)>) -> Unsent {
        Unsent { parts: parts_of(answers), since: self.env.now(), left_out: None }
    }

    /// Tries what is `unsent` once; returns why some of it is left, to be tried again.
    pub(crate) async fn run_once(
        &self,
        unsent: &mut Unsent,
        stop: &CancellationToken,
    ) -> Option<String> {
        if unsent.parts.is_empty() {
            // Nothing to send proves nothing.
            return None;
        }
        let Self { env, service, routes, .. } = self;
        let publisher = AckPublisher { env, consumer: service, routes };
        // What is too large comes back in smaller parts.
        while !unsent.parts.is_empty() {
            stop.run_until_cancelled(routes.look()).await;
            let sent = publisher.send(take(&mut unsent.parts)).await;
            unsent.parts = sent.again;
            unsent.left_out = sent.left_out.or(unsent.left_out.take());
            if let Some(trouble) = sent.trouble {
                self.tell_unsent(unsent, &trouble).await;
                return Some(trouble);
            }
        }
        match &unsent.left_out {
            Some(refusal) => self.tell_left_out(refusal).await,
            None => self.hindered.ended("messages are answered again").await,
        }
        None
    }

    async fn tell_unsent(&self, unsent: &Unsent, trouble: &str) {
        let (topic, since) = (self.routes.topic(), utc(unsent.since));
        let answers: usize = unsent.parts.iter().map(AckPart::answers).sum();
        let wait = if answers == 1 { "answer waits" } else { "answers wait" };
        let cause = format!(
            "{answers} {wait}, tried since {since}: {trouble}; make the topic {topic} if it is missing, allow this service's user WRITE on it, and see that its partitions have leaders"
        );
        self.hindered.met_since(unsent.since, |_, _| Ok(true), self.alert(&cause)).await;
    }

    async fn tell_left_out(&self, refusal: &str) {
        let topic = self.routes.topic();
        let cause = format!(
            "{refusal}; such answers are left out, and their messages stay unanswered until they come again: raise max.message.bytes of the topic {topic} if it is below a mebibyte"
        );
        self.hindered.met(|_, _| Ok(true), self.alert(&cause)).await;
    }

    fn alert(&self, cause: &str) -> NewAlert {
        NewAlert::not_answered(&self.service, &self.view, self.routes.topic(), &cut_error(cause))
    }
}
