//! The loop: changes of one key, relays, a partition, consumers with their copies, and answers.
//!
//! A transaction is one step. Between two steps anything may happen, so whoever is slow may have been frozen for as long
//! as it pleases. Leases end when they like ([`crate::leases`] is about when). An answer, once it is there, may be settled
//! at any time and as often as it pleases, so no order of answers and no repetition is left out.

mod actions;
mod advance;
mod bounds;
mod consuming;
mod properties;
mod relaying;
mod state;

use std::time::Duration;

use common::clock::Timestamp;
use common::ids::EventId;
use common::retry::Backoff;
use engine::consumers::{Consumer as Registered, ConsumerState, Consumers};
use engine::outbox::Policy;

pub use actions::Action;
pub use bounds::{Bounds, Faults, Flaw};
pub use state::{Answer, Batch, Consumer, Hand, Message, Place, Relay, Reply, Row, State};

use crate::{Model, Property};

/// As they call themselves.
const NAMES: [&str; 3] = ["order-service", "search-service", "reports"];

/// The partition that all messages lie in.
const PARTITION: i32 = 0;

/// The shard that the key belongs to.
const SHARD: i16 = 0;

/// The model.
#[derive(Debug)]
pub struct Loop {
    bounds: Bounds,
    flaw: Option<Flaw>,
    policy: Policy,
}

impl Loop {
    /// The protocol as it is.
    pub fn new(bounds: Bounds) -> Self {
        let backoff = Backoff { base: Duration::ZERO, max: Duration::ZERO };
        Self { bounds, flaw: None, policy: Policy { backoff, listener: None } }
    }

    /// The protocol, broken.
    #[must_use]
    pub fn with(self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    /// How large it is.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Epoch and version of an event.
    fn version(&self, event: Place) -> (i64, i64) {
        self.bounds.versions.get(event).copied().unwrap_or_default()
    }

    /// The registry, as a transaction finds it.
    fn consumers(&self, state: &State) -> Consumers {
        let registered = |(place, name): (Place, &&str)| {
            let is_retired = state.retired == Some(place);
            Registered {
                name: (*name).to_owned(),
                required: true,
                since_id: EventId::NIL,
                state: if is_retired { ConsumerState::Retired } else { ConsumerState::Active },
                letting_off: is_retired && state.is_letting_off,
                cursor: EventId::NIL,
                let_off: 0,
                registered_us: Timestamp::default(),
                registered_by: String::new(),
                changed_us: None,
                changed_by: None,
                reason: None,
            }
        };
        let all = NAMES.iter().take(self.bounds.consumers).enumerate();
        Consumers::of(all.map(registered).collect(), name_of(0))
    }
}

impl Model for Loop {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        State::initial(&self.bounds)
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        self.possible(state)
    }

    fn next(&self, state: &State, action: &Action) -> State {
        let mut next = state.clone();
        // What an action is about is there, wherever it is one of the possible ones.
        let _done = self.perform(&mut next, action);
        next
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

fn name_of(consumer: Place) -> &'static str {
    NAMES.get(consumer).copied().unwrap_or_default()
}

/// The ids of events are in the order of their commits.
fn id_of(event: Place) -> EventId {
    let millis = i64::try_from(event).unwrap_or(i64::MAX).saturating_add(1);
    EventId::first_at(Timestamp::from_micros(millis.saturating_mul(1_000)))
}
