//! Messages that are refused for their signatures: told in the log now and then, and by an alert where none is taken any
//! more. Each is counted with its batch.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::clock::Timestamp;
use common::env::Env;

use crate::alerts::{Condition, NewAlert};
use crate::kafka::{BadSignature, SignatureChecks, cut_error};

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
    /// The partition and the offset of the last of them, and what is wrong with it.
    last: Option<(i32, i64, BadSignature)>,
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
            untold.add(checks);
            untold.due(self.env.now())
        };
        let Some((refused, (partition, offset, bad))) = due else { return };
        let topic = &self.topic;
        tracing::warn!(topic, refused, partition, offset, reason = %bad, "messages are not believed");
    }
}

impl Untold {
    fn add(&mut self, checks: &SignatureChecks) {
        if let Some(last) = checks.last_refused() {
            self.refused += checks.refused();
            self.last = Some(last.clone());
        }
    }

    /// How many the log is told of now, and of the last of them; none, if there are none, or it was told something lately.
    fn due(&mut self, now: Timestamp) -> Option<(usize, (i32, i64, BadSignature))> {
        // A clock that was set back tells at once.
        if self.told.is_some_and(|told| told <= now && now.since(told) < AGAIN) {
            return None;
        }
        let last = self.last.take()?;
        self.told = Some(now);
        Some((std::mem::take(&mut self.refused), last))
    }
}

#[cfg(test)]
mod tests {
    use common::config::SignatureRequirement;
    use common::telemetry::SignedMessage;

    use super::*;
    use crate::kafka::{Record, signing_for_tests};

    #[test]
    fn the_log_is_told_once_in_a_minute_and_of_all() {
        let signing = signing_for_tests(SignatureRequirement::All);
        let refused = |offsets: std::ops::Range<i64>| {
            let mut checks = SignatureChecks::default();
            for offset in offsets {
                let record = Record { partition: 3, offset, ..Record::default() };
                assert!(signing.check(SignedMessage::Event, &record, &mut checks).is_err());
            }
            checks
        };
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let mut untold = Untold::default();
        let mut told = |checks: SignatureChecks, now: Timestamp| {
            untold.add(&checks);
            untold.due(now)
        };
        let (none, last) =
            (SignatureChecks::default(), |offset| (3, offset, BadSignature::Missing));
        assert_eq!(told(none.clone(), now), None, "nothing was refused");
        assert_eq!(told(refused(0..2), now), Some((2, last(1))));
        assert_eq!(told(refused(2..1_002), now.after(AGAIN / 2)), None);
        assert_eq!(told(none.clone(), now.after(AGAIN)), Some((1_000, last(1_001))), "of before");
        assert_eq!(told(none, now.after(AGAIN * 3)), None, "all of them are told");
        assert_eq!(told(refused(0..1), now), Some((1, last(0))), "the clock was set back");
    }
}
