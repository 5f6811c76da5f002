//! What each fault has to meet, so as not to be none.

use stockloop_tests::smtp::Manner;

use super::{BrokerFault, Fault, FileFault, Part, PostgresFault, TopicFault};
use crate::chaos::proxy::Weather;
use crate::chaos::webhook::Welcome;

// What only the network, the databases and the brokers know of in the end.
pub(in crate::chaos) const IN_BAD_NETWORK: &str = "pieces in a bad network";
pub(in crate::chaos) const LOST_ANSWERS: &str = "answers that were lost";
pub(in crate::chaos) const COPIES: &str = "copies of messages";
pub(in crate::chaos) const GAVE_UP: &str = "events that gave up";
pub(in crate::chaos) const DEAD_LETTERS: &str = "dead letters";
pub(in crate::chaos) const DEADLOCKS: &str = "deadlocks";
pub(in crate::chaos) const LOST_RACES: &str = "transactions that were rolled back for others";
pub(in crate::chaos) const IN_NEW_PARTITIONS: &str = "messages in new partitions";
pub(in crate::chaos) const WITHOUT_ROOM: &str = "writes that found no room";
pub(in crate::chaos) const TAKEN_BACK: &str = "answered changes that a failover took back";
pub(in crate::chaos) const FORGOTTEN: &str = "rows that were forgotten";
pub(in crate::chaos) const REMOVALS: &str = "products that were removed";
pub(in crate::chaos) const TOO_LARGE: &str = "sends that were too large for their topic";
pub(in crate::chaos) const REFUSED: &str = "requests that the broker refused";
pub(in crate::chaos) const TOLD: &str = "alerts that say what is not allowed";
pub(in crate::chaos) const TRANSLATED: &str = "messages in the words of another release";
/// Only they themselves know.
pub(in crate::chaos) const WRONG_CLOCKS: &str = "processes whose clocks were wrong";

impl Fault {
    /// What has to be met by it: a fault that meets nothing is none. An end of one has nothing to meet.
    pub(in crate::chaos) fn meets(self) -> Option<&'static str> {
        Some(match self {
            Self::Kill(_) => "processes that were killed",
            Self::KillAt(..) => "processes that were killed at their moment",
            Self::KillIn(_, chore, _) => chore.cut_off(),
            Self::ChoreEnds(chore) => chore.gone_on(),
            Self::KillUnanswered(_, Part::Mail) => {
                "mails whose sender did not hear that they were taken"
            }
            Self::KillUnanswered(..) => "calls whose sender did not hear that they were taken",
            Self::KillInCheckpoint(_) => "processes that were killed in a checkpoint",
            Self::Upgrade(_) => "processes that were upgraded",
            Self::Terminate(_) => "processes that were told to end",
            Self::Freeze(_) => "processes that were frozen",
            Self::Clock(_, seconds) if seconds != 0 => WRONG_CLOCKS,
            Self::Jump(_, seconds) if seconds != 0 => "clocks that jumped",
            Self::Weather(_, weather) if weather != Weather::Clear => IN_BAD_NETWORK,
            Self::Strike(..) => "connections that were struck",
            Self::Lose(..) => LOST_ANSWERS,
            Self::Postgres(fault) => fault.meets()?,
            Self::File(_, fault) => fault.meets()?,
            Self::Broker(_, fault) => fault.meets()?,
            Self::Topic(fault) => fault.meets()?,
            Self::UnfitIsTold => "services that told of topics that do not fit",
            Self::OthersGoOn => "changes that arrived beside what hung",
            Self::Revoke(..) => REFUSED,
            Self::Mail(manner) if manner != Manner::Accept => "mails while their server was bad",
            Self::Webhook(welcome) if welcome != Welcome::Take => "calls that were not welcome",
            Self::Quarantine(_) | Self::Flood(_) => GAVE_UP,
            Self::SlowConsumer => "services that were slowed down",
            Self::Nonsense => DEAD_LETTERS,
            Self::ForgedAnswers => "answers that were forged",
            Self::Translate(..) => TRANSLATED,
            Self::Copy { .. } => COPIES,
            Self::BoundMemory => "processes whose memory was bounded",
            Self::Backlog => "events in a backlog",
            Self::Pile => "messages in a backlog",
            Self::Forget => FORGOTTEN,
            Self::Pass(_) => "days that passed",
            Self::Withdraw(_) => "products that came and went",
            Self::Discard => "dead letters that were discarded",
            Self::Release
            | Self::Start(_)
            | Self::Thaw(_)
            | Self::Clock(..)
            | Self::Jump(..)
            | Self::Weather(..)
            | Self::Grant(..)
            | Self::Mail(_)
            | Self::Webhook(_) => return None,
        })
    }
}

impl PostgresFault {
    fn meets(self) -> Option<&'static str> {
        match self {
            Self::Stop | Self::Kill => Some("ends of PostgreSQL"),
            Self::EndSessions => Some("sessions that were ended"),
            Self::ReadOnly => Some("times without a write"),
            Self::Full => Some("connections that strangers took"),
            Self::Rivals => Some(DEADLOCKS),
            Self::Lose(_) => Some(LOST_RACES),
            Self::Isolate(_) => Some("times of another isolation"),
            Self::Hold(_) => Some("sessions that waited for a row"),
            Self::KillPooler => Some("ends of the pooler"),
            Self::DiskFull { .. } => Some(WITHOUT_ROOM),
            Self::LeaveBehind => Some(TAKEN_BACK),
            Self::Promote => Some("failovers"),
            Self::Start
            | Self::Writable
            | Self::Room
            | Self::Peace
            | Self::LetGo
            | Self::Win
            | Self::IsolateAsBefore
            | Self::StartPooler
            | Self::DiskFree
            | Self::StandBy => None,
        }
    }
}

impl FileFault {
    fn meets(self) -> Option<&'static str> {
        match self {
            Self::Full => Some(WITHOUT_ROOM),
            Self::ReadOnly => Some("starts that were refused for a file"),
            Self::Room | Self::Writable => None,
        }
    }
}

impl BrokerFault {
    fn meets(self) -> Option<&'static str> {
        match self {
            Self::Stop | Self::Kill => Some("ends of a broker"),
            Self::Freeze => Some("brokers that were frozen"),
            Self::Start | Self::Thaw => None,
        }
    }
}

impl TopicFault {
    fn meets(self) -> Option<&'static str> {
        match self {
            Self::Grow => Some(IN_NEW_PARTITIONS),
            Self::MakeAnew(_) => Some("topics that were made anew"),
            Self::Limit { .. } => Some(TOO_LARGE),
            Self::DeleteUnread(..) => Some("messages that were deleted unread"),
            Self::Unlimit(_) | Self::KeepAll(_) => None,
        }
    }
}
