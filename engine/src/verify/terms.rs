//! On which terms two sides can be compared, if they can.

use std::time::Duration;

use common::clock::Timestamp;

use super::side::{Local, Side, SideError};
use super::wire::{PROTOCOL, Terms};

/// On which terms both sides can be compared.
pub(super) async fn terms<C: Side>(local: &Local, consumer: &C) -> Result<Terms, SideError> {
    let (own, theirs) = tokio::try_join!(local.info(), consumer.info())?;
    let unfit = |reason: String| SideError::Unfit { consumer: theirs.service.clone(), reason };
    if own.collection != theirs.collection {
        return Err(unfit(format!(
            "it has a copy of {:?}, and this service owns {:?}",
            theirs.collection, own.collection
        )));
    }
    let mut once = theirs.fields.clone();
    once.sort_unstable();
    once.dedup();
    if once.is_empty() || once.len() != theirs.fields.len() {
        return Err(unfit("it says that it holds no field, or one several times".to_owned()));
    }
    if let Some(field) = theirs.fields.iter().find(|field| !own.fields.contains(field)) {
        return Err(unfit(format!("it holds {field:?}, which this service knows nothing of")));
    }
    Ok(Terms {
        protocol: PROTOCOL,
        collection: own.collection,
        fields: theirs.fields,
        tombstones_since: own.tombstones_since.max(theirs.tombstones_since),
    })
}

/// The moment since which removed keys are not forgotten for sure, whatever clocks differ by.
pub(super) fn surely_known(now: Timestamp, tombstones: Duration) -> Timestamp {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    now.before(tombstones).after(DAY).max(Timestamp::default())
}
