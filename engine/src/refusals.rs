//! Messages that are refused for their signatures: told in the log now and then, and by an alert where none is taken any
//! more. Each is counted with its batch.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use common::env::Env;

use crate::alerts::{Condition, NewAlert};
use crate::kafka::{SignatureChecks, cut_error};

/// How often the log tells of refusals at the most: whoever may write to a topic could fill the disk with lines.
const AGAIN: Duration = Duration::from_secs(60);

/// Tells of what one loop refuses.
pub struct Refusals {
    env: Env,
    service: String,
    topic: String,
    condition: Condition,
    untold: Mutex<Untold>,
}

/// What the log has not told yet.
#[derive(Debug, Default)]
struct Untold {
    refused: usize,
    /// When it told something last.
    told: Option<Timestamp>,
}

impl Refusals {
    /// Those of messages that `service` reads from `topic`; `condition` is of the kind `not_trusted`.
    pub fn new(env: &Env, service: &str, topic: &str, condition: Condition) -> Self {
        Self {
            env: env.clone(),
            service: service.to_owned(),
            topic: topic.to_owned(),
            condition: condition.about_key(topic),
            untold: Mutex::default(),
        }
    }

    /// Tells of a batch.
    pub async fn tell(&self, checks: &SignatureChecks) {
        self.log(checks);
        match checks.last_refused() {
            // One that is forged among others is no trouble: the others are taken.
            Some((partition, offset, bad)) if checks.valid() == 0 => {
                let cause = format!("the message {offset} of the partition {partition}: {bad}");
                let alert = NewAlert::not_trusted(&self.service, &self.topic, &cut_error(&cause));
                self.condition.met(|_, _| Ok(true), alert).await;
            }
            _ => self.condition.ended("messages are taken again").await,
        }
    }

    fn log(&self, checks: &SignatureChecks) {
        let due = {
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            untold.refused += checks.refused();
            untold.due(self.env.now())
        };
        let Some(refused) = due else { return };
        let last = checks.last_refused();
        let (partition, offset) = last.map(|(partition, offset, _)| (*partition, *offset)).unzip();
        let reason = last.map(|(_, _, bad)| bad.to_string());
        let topic = &self.topic;
        tracing::warn!(topic, refused, partition, offset, reason, "messages are not believed");
    }
}

impl Untold {
    /// How many the log is told of now; none, if there are none, or it was told something lately.
    fn due(&mut self, now: Timestamp) -> Option<usize> {
        // A clock that was set back tells at once.
        let lately = self.told.is_some_and(|told| told <= now && now.since(told) < AGAIN);
        if self.refused == 0 || lately {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_once_in_a_minute_and_of_all() {
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let mut untold = Untold::default();
        assert_eq!(untold.due(now), None, "nothing was refused");
        untold.refused = 2;
        assert_eq!(untold.due(now), Some(2));
        untold.refused += 1_000;
        assert_eq!(untold.due(now.after(AGAIN / 2)), None);
        untold.refused += 1;
        assert_eq!(untold.due(now.after(AGAIN)), Some(1_001));
        assert_eq!(untold.due(now.after(AGAIN * 3)), None, "all of them are told");
        untold.refused = 1;
        assert_eq!(untold.due(now), Some(1), "the clock was set back");
    }
}
