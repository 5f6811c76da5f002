//! The product's own proof, after the demo's: product-service verifies the copy, as anybody can ask it to.

use std::time::Duration;

use anyhow::Context;
use common::db::DbError;
use engine::verify::{self, NewVerification, State, Verification};

use crate::stack::Stack;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Lets product-service verify every copy of all keys; returns what that came to, the first consumer's first.
pub(crate) async fn verified(stack: &Stack) -> anyhow::Result<Vec<Verification>> {
    let settings = &stack.product.engine().settings;
    let first = std::iter::once(&settings.kafka.outbound_consumer);
    let mut all = Vec::new();
    for consumer in first.chain(settings.consumers.keys()) {
        all.push(verify_copy(stack, consumer).await?);
    }
    Ok(all)
}

async fn verify_copy(stack: &Stack, consumer: &str) -> anyhow::Result<Verification> {
    let engine = stack.product.engine();
    let verifier = engine.verifier.as_ref().context("product-service owns nothing")?;
    let new = NewVerification {
        consumer: consumer.to_owned(),
        keys_of: None,
        share: 1_000,
        state: State::Waiting,
        created_us: engine.env.now(),
        created_by: "the demo".to_owned(),
        created_via: "command".to_owned(),
    };
    let put = move |conn: &mut _| {
        // The schedule's, if it is that minute.
        if let Some(other) = verify::under_way(conn, &new.consumer)? {
            verify::cancel(conn, other.seq, new.created_us, &new.created_by)?;
        }
        Ok::<_, DbError>(verify::insert(conn, &new)?)
    };
    let seq = engine.db.write(put).await?.context("another verification is under way")?;
    verifier.wake();
    loop {
        let find = move |conn: &mut _| Ok::<_, DbError>(verify::find(conn, seq)?);
        let row = engine.db.read(find).await?.context("the verification is gone")?;
        if !row.state.is_open() {
            return Ok(row);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
