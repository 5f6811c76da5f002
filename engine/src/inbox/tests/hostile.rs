//! Messages that nobody should send, among good ones.

use std::time::Duration;

use stockloop_tests::fuzz::{self, Input, Target};
use tokio::time::timeout;

use super::*;
use crate::kafka::hostile::record_of;

/// Hostile messages of one batch.
const AT_ONCE: usize = 8;

/// How long a batch may take.
const LONGEST: Duration = Duration::from_secs(30);

on_every_database!(InboxFixture::new => good_messages_pass_whatever_comes_beside_them);

async fn good_messages_pass_whatever_comes_beside_them(fixture: InboxFixture) {
    let mut passed = 0;
    for inputs in fuzz::inputs_of(Target::Inbox).chunks(AT_ONCE) {
        let good = ["good", "good"].map(|key| fixture.event("test.changed", key));
        let mut records = vec![record(&good[0])];
        records.extend(inputs.iter().map(record_of));
        records.push(record(&good[1]));
        let readable = records.iter().filter(|record| Envelope::read(record).is_ok()).count();
        let applied = fixture.apply_at_last(records.clone(), inputs).await;
        assert!(applied.acks.len() >= readable, "each is answered: {inputs:?}");
        assert_eq!(applied.unreadable, records.len() - readable, "or kept: {inputs:?}");
        for event in &good {
            let ack = applied.acks.iter().find(|(_, ack)| ack.event_id == event.id);
            assert_eq!(ack.unwrap().1.outcome, Verdict::Success, "{inputs:?}");
        }
        passed += 2;
        assert_eq!(fixture.effects("good").await, passed, "{inputs:?}");
    }
}

impl InboxFixture {
    /// As the consumer does it: what fails is tried again, and at last single ones are suspected.
    async fn apply_at_last(&self, records: Vec<Record>, inputs: &[Input]) -> Applied {
        for repeats in [false, true] {
            let applied = timeout(LONGEST, self.inbox.apply(records.clone(), repeats)).await;
            match applied.unwrap_or_else(|_late| panic!("it hangs at {inputs:?}")) {
                Ok(applied) => return applied,
                Err(error) => assert!(!repeats, "{error} at {inputs:?}"),
            }
        }
        unreachable!("the second try returned or failed")
    }
}
