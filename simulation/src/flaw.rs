//! Ways to break the loop. Each has to be found: a simulation that finds none of them proves nothing.
//!
//! None is a switch in the engine. They are lies of the parts around it, or triggers of its databases.

/// One way to break the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A relay works with the leases of the other one, as if no fence were there.
    NoFence,
    /// A relay is told that the broker has its events before it does.
    SentBeforeDelivery,
    /// There may be as much in flight as there is.
    NoCap,
    /// A consumer's offsets are committed when it gets messages.
    OffsetsFirst,
    /// The inbox forgets what it has applied.
    NoInbox,
    /// A copy takes whatever comes.
    NoGuard,
    /// An attempt that failed is not counted.
    AttemptsForgotten,
    /// A consumer that is looked at counts as having passed by everything.
    PassedByAtOnce,
    /// Alerts vanish.
    NoAlert,
    /// The second of two consumers is not waited for.
    OneAnswerIsEnough,
}

impl Flaw {
    /// What breaks databases, if that does it; each has all tables of the engine.
    pub(crate) fn trigger(self) -> &'static str {
        match self {
            Self::NoInbox => {
                "CREATE TRIGGER flaw AFTER INSERT ON inbox \
                 BEGIN DELETE FROM inbox WHERE event_id = NEW.event_id; END"
            }
            Self::NoGuard => {
                "CREATE TRIGGER flaw BEFORE INSERT ON copied_state \
                 BEGIN DELETE FROM copied_state WHERE key = NEW.key; END"
            }
            Self::AttemptsForgotten => {
                "CREATE TRIGGER flaw AFTER INSERT ON outbox_failed \
                 BEGIN UPDATE outbox_failed SET attempt = attempt - 1 WHERE id = NEW.id; END"
            }
            Self::PassedByAtOnce => {
                "CREATE TRIGGER flaw AFTER UPDATE OF looked_us ON consumer_partition \
                 BEGIN UPDATE consumer_partition SET passed_offset = 1000000 \
                   WHERE partition = NEW.partition AND consumer = NEW.consumer; END"
            }
            Self::NoAlert => {
                "CREATE TRIGGER flaw AFTER INSERT ON alert \
                 BEGIN DELETE FROM alert WHERE seq = NEW.seq; END"
            }
            _ => "",
        }
    }
}
