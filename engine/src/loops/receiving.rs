//! The half that receives: events of the other service, applied and answered.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::telemetry::{Metrics, SignedMessage};
use tokio_util::sync::CancellationToken;

use super::count;
use crate::Engine;
use crate::alerts::AlertKind;
use crate::inbox::{AckRoutes, Applied, Control, Handler, Inbox, InboxConsumer};
use crate::kafka::{BatchLimits, Consumer, Producer, Verdict};
use crate::refusals::Refusals;
use crate::restored::ReadPositions;
use crate::worker::Tasks;

impl Engine {
    pub(super) fn start_receiving(
        &self,
        handler: Arc<dyn Handler>,
        stop: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        let (kafka, inbox) = (&self.settings.kafka, &self.settings.inbox);
        let name = &self.settings.service.name;
        let signing = self.producer.signing().clone();
        // One of its own, so that answers stand behind no events.
        let producer = Producer::new(kafka, name, self.broker.clone())?;
        let producer = producer.signed_by(signing.clone());
        let consumer = InboxConsumer {
            inbox: Inbox {
                db: self.db.clone(),
                env: self.env.clone(),
                handler,
                consumer: name.clone(),
                spans: self.spans.clone(),
                control: Control::default(),
                positions: ReadPositions::new(name, &kafka.inbound_topic),
                signing,
            },
            source: Consumer::subscribe(kafka, name, &kafka.inbound_topic, self.broker.clone())?,
            routes: AckRoutes::new(producer, &kafka.inbound_ack_topic),
            batch: BatchLimits::new(inbox.batch, inbox.linger).hurried(),
            hindered: self.condition(AlertKind::NotApplied),
            refusals: self.refusals(&kafka.inbound_topic),
            is_stuck: AtomicBool::default(),
        };
        let (metrics, outbox, stop) = (self.metrics.clone(), self.outbox.clone(), stop.clone());
        let appends = outbox.watch_appends();
        tasks.spawn_loop("inbox", async move {
            Arc::new(consumer)
                .run(&stop, |applied: &Applied| {
                    count_answers(&metrics, applied);
                    // A handler may have caused events of its own.
                    outbox.wake_after(&appends);
                })
                .await;
        });
        Ok(())
    }

    /// What tells of messages of `topic` that are refused for their signatures.
    pub(super) fn refusals(&self, topic: &str) -> Refusals {
        let condition = self.condition(AlertKind::NotTrusted);
        Refusals::new(&self.env, &self.settings.service.name, topic, condition)
    }
}

fn count_answers(metrics: &Metrics, applied: &Applied) {
    let answered = |verdict| applied.acks.iter().filter(|(_, ack)| ack.outcome == verdict).count();
    metrics.inbox_events("success", count(answered(Verdict::Success)));
    metrics.inbox_events("rejected", count(answered(Verdict::Rejected)));
    metrics.inbox_events("failed", count(answered(Verdict::Failed)));
    metrics.inbox_events("unreadable", count(applied.unreadable));
    for (outcome, messages) in applied.signatures.counts() {
        metrics.signatures(SignedMessage::Event, outcome, count(messages));
    }
}
