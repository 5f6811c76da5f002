//! Answers on their way: cut into messages of limited size, each sent until the broker has it.

use std::collections::BTreeMap;

use common::env::Env;

use super::ack_routes::{AckRoutes, AckSender};
use crate::kafka::{Ack, AckBatch, Message, SendError};

/// Bytes of acks in one message at the most, counted generously.
pub(crate) const ACK_MESSAGE_BYTES: usize = 512 * 1024;

/// Answers that travel in one message.
pub(crate) struct AckPart {
    /// The partition that their events came from.
    partition: i32,
    acks: AckBatch,
}

/// What a try to send answers came to.
pub(crate) struct SendOutcome {
    /// What is to be sent again.
    pub(crate) again: Vec<AckPart>,
    /// Why, if the broker is to blame.
    pub(crate) trouble: Option<String>,
    /// Why some are left out, if there are any that the broker takes in no form.
    pub(crate) left_out: Option<String>,
}

/// Sends answers in the name of a service.
pub(crate) struct AckPublisher<'a, A> {
    pub(crate) env: &'a Env,
    pub(crate) consumer: &'a str,
    pub(crate) routes: &'a AckRoutes<A>,
}

impl<A: AckSender> AckPublisher<'_, A> {
    /// Sends each of `parts` once.
    pub(crate) async fn send(&self, parts: Vec<AckPart>) -> SendOutcome {
        let (written, messages): (Vec<AckPart>, Vec<Message>) =
            parts.into_iter().filter_map(|part| self.message(part)).unzip();
        let results = self.routes.send_all(&messages).await;
        let (mut again, mut trouble, mut left_out) = (Vec::new(), None, None);
        for ((part, message), result) in written.into_iter().zip(&messages).zip(results) {
            match result {
                Ok(_) => self.routes.took(message.partition),
                Err(refusal @ SendError::Message(_)) => {
                    let smaller = part.smaller(&refusal);
                    if smaller.is_empty() {
                        left_out = Some(refusal.to_string());
                    }
                    again.extend(smaller);
                }
                Err(error) => {
                    self.routes.refused(message.partition, self.env.chance());
                    again.push(part);
                    trouble = Some(self.routes.explain(&error));
                }
            }
        }
        SendOutcome { again, trouble, left_out }
    }

    /// `part` with the message that it travels in; none: a flaw of this program, which the log has.
    fn message(&self, part: AckPart) -> Option<(AckPart, Message)> {
        let Self { env, consumer, routes } = self;
        let (id, now) = (env.event_id(), env.now());
        match part.acks.to_message(id, now, consumer, routes.topic(), part.partition) {
            Ok(message) => {
                let message = Message { partition: routes.of(part.partition), ..message };
                Some((part, message))
            }
            Err(error) => {
                tracing::error!(%error, "acks can't be written");
                None
            }
        }
    }
}

/// `acks` by the partition that their events came from, in messages of limited size.
pub(crate) fn parts_of(acks: Vec<(i32, Ack)>) -> Vec<AckPart> {
    let mut by_partition: BTreeMap<i32, Vec<Ack>> = BTreeMap::new();
    for (partition, ack) in acks {
        by_partition.entry(partition).or_default().push(ack);
    }
    let parts = |(partition, acks)| {
        let part = move |acks| AckPart { partition, acks: AckBatch { acks } };
        in_parts(acks).into_iter().map(part)
    };
    by_partition.into_iter().flat_map(parts).collect()
}

impl AckPart {
    /// How many answers it has.
    pub(crate) fn answers(&self) -> usize {
        self.acks.acks.len()
    }

    /// What to send instead of a part that the broker takes in no way: its halves, and at last a bare verdict; nothing, if it
    /// is one already.
    fn smaller(self, error: &SendError) -> Vec<Self> {
        let Self { partition, acks: AckBatch { mut acks } } = self;
        let part = |acks| Self { partition, acks: AckBatch { acks } };
        if acks.len() > 1 {
            let second = acks.split_off(acks.len() / 2);
            return vec![part(acks), part(second)];
        }
        let bare = acks.into_iter().filter_map(|ack| {
            // The verdict has to arrive; what a handler adds to it must not prevent that.
            let event = ack.event_id;
            let bare = ack.bare();
            match bare {
                Some(_) => tracing::warn!(%event, %error, "an ack is too large and is sent without its details"),
                // Its sender hears nothing and tries again: better than a partition that stands still.
                None => tracing::error!(%event, %error, "an ack can't be sent and is left out"),
            }
            bare
        });
        bare.map(|ack| part(vec![ack])).collect()
    }
}

/// Cuts acks into parts that stay well below a broker's usual limit of 1 MB.
fn in_parts(acks: Vec<Ack>) -> Vec<Vec<Ack>> {
    let mut parts: Vec<Vec<Ack>> = Vec::new();
    let mut room = 0;
    for mut ack in acks {
        if ack.weight() > ACK_MESSAGE_BYTES {
            // The verdict has to arrive; what a handler adds to it must not prevent that.
            tracing::warn!(event = %ack.event_id, "an ack's result is too large and is left out");
            ack.result = None;
        }
        let weight = ack.weight();
        match parts.last_mut() {
            Some(part) if weight <= room => part.push(ack),
            _ => {
                room = ACK_MESSAGE_BYTES;
                parts.push(vec![ack]);
            }
        }
        room = room.saturating_sub(weight);
    }
    parts
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::kafka::Verdict;

    fn ack(result_bytes: usize) -> Ack {
        let env = Env::system();
        let result = serde_json::value::to_raw_value(&"x".repeat(result_bytes)).unwrap();
        let ack = Ack::new(env.event_id(), 1, Verdict::Success, "c", env.now());
        Ack { result: Some(result), ..ack }
    }

    #[test]
    fn parts_stay_below_the_limit_and_lose_no_verdict() {
        let acks: Vec<Ack> = [10, 300_000, 300_000, 2_000_000, 10].map(ack).into();
        let ids: Vec<_> = acks.iter().map(|ack| ack.event_id).collect();
        let parts = in_parts(acks);
        for part in &parts {
            let bytes = serde_json::to_vec(&AckBatch { acks: part.clone() }).unwrap().len();
            assert!(bytes <= ACK_MESSAGE_BYTES + 1_000, "{bytes}");
        }
        let sent: Vec<_> = parts.iter().flatten().map(|ack| ack.event_id).collect();
        assert_eq!(sent, ids);
        assert!(parts.iter().flatten().filter(|ack| ack.result.is_none()).count() == 1);
    }
}
