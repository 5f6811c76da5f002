//! What two sides say to each other, whoever says it.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stockloop_tests::fuzz::{self, Target};

use super::super::replica::Range;
use super::super::side::fits;
use super::super::wire::{
    CompleteCopy, DigestAnswer, DigestRequest, KeySet, MAX_STATES, ReplicaInfo, StatesAnswer,
    StatesRequest,
};

#[test]
fn what_a_side_says_comes_back_or_is_refused() {
    fuzz::apart(Target::Replica, |input| {
        let json = input.bytes();
        read::<ReplicaInfo>(&json);
        read::<CompleteCopy>(&json);
        read::<DigestRequest>(&json);
        read::<DigestAnswer>(&json);
        read::<StatesRequest>(&json);
        if let Some(answer) = read::<StatesAnswer>(&json) {
            let keys = answer.states.iter().map(|state| state.key.clone()).collect();
            for of in [KeySet::Keys(keys), KeySet::Range(Range::default())] {
                let in_order = answer.states.is_sorted_by(|one, next| one.key < next.key);
                let fits = fits(&answer, &of);
                assert!(!fits || (in_order && answer.states.len() <= MAX_STATES));
            }
        }
    });
}

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(json: &[u8]) -> Option<T> {
    let read: T = match serde_json::from_slice(json) {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let written = serde_json::to_vec(&read).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), read);
    Some(read)
}
