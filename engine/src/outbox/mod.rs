//! Events on their way out, from the change's transaction until their consumer has answered.

mod acks;
mod advance;
mod alarm;
mod answers;
mod append;
mod asked;
mod class;
mod first_attempts;
mod found;
mod in_flight;
mod kept;
mod lease;
mod let_off;
mod listener;
mod log;
mod model;
mod neighbours;
mod noting;
mod observer;
mod offsets;
pub mod operate;
mod overdue;
mod partition_backoff;
pub mod pause;
mod position;
mod relay;
pub mod search;
mod send;
mod state;
#[cfg(any(test, feature = "measure"))]
mod statements;
mod store;
mod taking;
#[cfg(test)]
mod tests;
mod turn;
mod under_way;
mod update;
mod watched;

pub(crate) use acks::ACKS_AT_ONCE;
pub use acks::{Settlement, Settler, check_answers};
pub use answers::{Answers, Meaning};
pub use append::{AppendWatch, Outbox, SHARDS, partition_of, shard_of};
pub use class::{NO_ANSWER, NO_ERROR_NOTED, error_class};
pub use first_attempts::FirstAttempts;
pub(crate) use first_attempts::{UNTIL_SEEN, seen_within};
pub use found::{ConsumerAnswer, Found, LastError, answers_of, class_or_now, last_errors};
pub use in_flight::InFlight;
pub use kept::{KeptCount, Walk, count_kept_of, count_kept_since, kept_states, kept_version_at};
pub use lease::{Instance, LeaseSet, Share, instances, release, renew, renew_share, usable};
pub use let_off::LetOff;
pub use listener::{EventChange, EventUpdate, Listener};
pub use log::{LogError, LogReader, SlotState, Unused, drop_unused_slot, slot_state};
pub use model::{AnswerRow, FinalOutcome, HistoryKind, HistoryRow, OpenRow, Said, SettledRow};
pub use neighbours::Neighbours;
pub(crate) use neighbours::{is_from_another, message};
pub use observer::{Look, Observed, Observer};
pub use operate::OperateError;
pub use overdue::{OverdueMonitor, OverdueOutcome};
pub use relay::{Relay, RelayOutcome, RelayParts};
pub use send::{EventSender, SendResults};
pub use state::{AckOutcome, Policy, Transition, Trigger, step};
#[cfg(any(test, feature = "measure"))]
pub use statements::RelayStatements;
pub(crate) use store::{Behind, FIRST_ANSWER, behind};
pub use update::{Advanced, AnsweredTrace, ExhaustedEvent, SettledEvent};
