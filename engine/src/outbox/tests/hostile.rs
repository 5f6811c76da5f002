//! Answers that nobody should send, among good ones.

use stockloop_tests::fuzz::{self, Input, Target};
use tokio::time::timeout;

use super::*;

/// Hostile messages of one batch.
const AT_ONCE: usize = 8;

/// How long a batch may take.
const LONGEST: Duration = Duration::from_secs(30);

on_every_database!(OutboxFixture::new => good_answers_settle_whatever_comes_beside_them);

async fn good_answers_settle_whatever_comes_beside_them(fixture: OutboxFixture) {
    for (version, inputs) in (1..).zip(fuzz::inputs_of(Target::Settler).chunks(AT_ONCE)) {
        let mut good = Vec::new();
        for key in ["A", "B"] {
            let id = fixture.append(SNAPSHOT, key, version).await;
            fixture.send(id, 1, 0).await;
            good.push(id);
        }
        let answers = good.iter().map(|id| {
            let acks = AckBatch { acks: vec![fixture.ack(*id, 1, Verdict::Success)] };
            serde_json::to_vec(&acks).unwrap()
        });
        let mut payloads: Vec<Vec<u8>> = answers.collect();
        let last = payloads.pop().unwrap();
        payloads.extend(inputs.iter().map(Input::bytes));
        payloads.push(last);
        fixture.settle_at_last(payloads, inputs).await;
        for id in good {
            assert!(fixture.open(id).await.is_none(), "it is PROCESSED: {inputs:?}");
        }
    }
}

impl OutboxFixture {
    /// As the consumer does it: what fails is tried again, and at last single ones are suspected.
    async fn settle_at_last(&self, payloads: Vec<Vec<u8>>, inputs: &[Input]) {
        let record = |payload| Record {
            topic: "acks".to_owned(),
            offset: self.next_offset().unwrap(),
            payload: Some(payload),
            ..Record::default()
        };
        let records: Vec<Record> = payloads.into_iter().map(record).collect();
        for repeats in [false, true] {
            let settled = self.settler.settle(&self.db, records.clone(), repeats);
            let settled = timeout(LONGEST, settled).await;
            match settled.unwrap_or_else(|_late| panic!("it hangs at {inputs:?}")) {
                Ok(_) => return,
                Err(error) => assert!(!repeats, "{error} at {inputs:?}"),
            }
        }
    }
}
