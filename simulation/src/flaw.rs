//! Ways to break the loop. Each has to be found: a simulation that finds none of them proves nothing.
//!
//! None is a switch in the engine. They are lies of the parts around it, or triggers of its database.

/// One way to break the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A relay works with the leases of another one, as if no fence were there.
    NoFence,
    /// A relay is told that the broker has its events before it does.
    SentBeforeDelivery,
    /// A consumer's offsets are committed when it gets messages.
    OffsetsFirst,
    /// The inbox forgets what it has applied.
    NoInbox,
    /// A copy takes whatever comes.
    NoGuard,
    /// Alerts vanish.
    NoAlert,
    /// The second of two consumers is not waited for.
    OneAnswerIsEnough,
}

impl Flaw {
    /// What breaks the sender's database.
    pub(crate) fn of_the_sender(self) -> &'static str {
        match self {
            Self::NoAlert => {
                "CREATE TRIGGER flaw AFTER INSERT ON alert \
                 BEGIN DELETE FROM alert WHERE seq = NEW.seq; END"
            }
            _ => "",
        }
    }

    /// What breaks the database of a consumer.
    pub(crate) fn of_a_consumer(self) -> &'static str {
        match self {
            Self::NoInbox => {
                "CREATE TRIGGER flaw AFTER INSERT ON inbox \
                 BEGIN DELETE FROM inbox WHERE event_id = NEW.event_id; END"
            }
            _ => "",
        }
    }
}
