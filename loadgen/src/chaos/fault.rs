//! What may happen at one moment: a fault, or the end of one.

use std::fmt;

use stockloop_tests::smtp::Manner;

use super::proxy::{Strike, Weather};
use super::rights::Right;
use super::translations::Release;
use super::webhook::Welcome;
use super::wire::{Moment, Request};
use crate::check::Side;

/// One process of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub(super) side: Side,
    /// From 1 on.
    pub(super) number: usize,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.side, self.number)
    }
}

/// What a service talks to, and who talks to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Postgres,
    Kafka,
    /// Clients, and the other service.
    Clients,
    Mail,
    Webhook,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Kafka => "Kafka",
            Self::Clients => "who calls it",
            Self::Mail => "the mail server",
            Self::Webhook => "the webhook",
        })
    }
}

/// The network between all processes of a service and one of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) side: Side,
    pub(super) part: Part,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} – {}", self.side, self.part)
    }
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL.
    Kill(Who),
    /// SIGKILL at this moment, when it comes.
    KillAt(Who, Moment),
    /// SIGTERM, and its end is waited for.
    Terminate(Who),
    /// SIGKILL while pages of SQLite's log are put into its file, when that comes.
    KillInCheckpoint(Who),
    Start(Who),
    /// It ends in good order, and comes back as the program of this release.
    Upgrade(Who),
    /// SIGSTOP.
    Freeze(Who),
    /// SIGCONT.
    Thaw(Who),
    /// From its next start on its clock is so many seconds ahead, or behind.
    Clock(Who, i32),
    /// From now on the network is like this.
    Weather(Link, Weather),
    /// All connections that are open end like this.
    Strike(Link, Strike),
    /// The answers to so many of the next requests are lost, with their connections.
    Lose(Side, Request, u32),
    Postgres(PostgresFault),
    /// What happens to the file of a service that keeps everything in one.
    File(Side, FileFault),
    Broker(Which, BrokerFault),
    Topic(TopicFault),
    /// While something hangs, all else has to go on.
    OthersGoOn,
    /// From now on a service may not do this at the broker.
    Revoke(Side, Right),
    /// It may again.
    Grant(Side, Right),
    /// How the mail server behaves from now on.
    Mail(Manner),
    /// How the receiver of the webhook's calls does.
    Webhook(Welcome),
    /// order-service refuses what concerns so many of the products that are adjusted.
    Quarantine(u32),
    /// So many new products at once, all of which order-service refuses, until all have given up.
    Flood(u32),
    /// Each event that order-service takes in costs it a millisecond more.
    SlowConsumer,
    /// What nobody should send, on every topic.
    Nonsense,
    /// Answers that were sent already, and answers of strangers.
    ForgedAnswers,
    /// What waits for a service is there as another release writes it, and no more as it was.
    Translate(Side, Release),
    /// From now on each message is delivered one to five times, the copies so much later at the most.
    Copy {
        late_ms: u64,
    },
    /// From now on, whichever process takes much more memory than it does now dies of it.
    BoundMemory,
    /// As many changes at once as there are to be, none of which is sent before all are there.
    Backlog,
    /// As many messages on product-service's topic, all of which were there before.
    Pile,
    /// What there is gets old soon, and goes.
    Forget,
}

/// What happens to the database server, which both services share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PostgresFault {
    /// A fast shutdown: sessions are ended, transactions undone.
    Stop,
    Kill,
    Start,
    /// The sessions of both services are ended.
    EndSessions,
    /// No transaction may write.
    ReadOnly,
    Writable,
    /// Sessions are ended, and strangers take all connections.
    Full,
    /// The strangers leave.
    Room,
    /// Strangers lock rows in the wrong order.
    Rivals,
    /// They leave.
    Peace,
    /// A stranger has the copy of the adjusted product of this number, and somebody waits for it.
    Hold(u32),
    /// The stranger leaves.
    LetGo,
    /// Some transactions are rolled back since others went first.
    Lose(Race),
    /// None is.
    Win,
    /// Transactions that do not say how are isolated like this.
    Isolate(Isolation),
    IsolateAsBefore,
    /// The pooler in front of it is killed.
    KillPooler,
    StartPooler,
    /// Something else takes its disk, but for so much.
    DiskFull {
        left_kib: u64,
    },
    /// That goes again.
    DiskFree,
    /// Its standby gets nothing more.
    LeaveBehind,
    /// The standby takes its place.
    Promote,
    /// It gets a new standby.
    StandBy,
}

/// Which transactions are rolled back since others went first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Race {
    /// When they commit; else at a statement.
    pub(super) is_at_commit: bool,
    /// One of so many that write.
    pub(super) one_in: u64,
}

/// More than READ COMMITTED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    RepeatableRead,
    Serializable,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        })
    }
}

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFault {
    /// The service finds no room for what it writes.
    Full,
    Room,
    /// The service ends, and may not write into its file when it comes back.
    ReadOnly,
    Writable,
}

/// A broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// From 1 on.
    Number(usize),
    /// Whichever leads the others; where it is said that something ends, whichever it was.
    Controller,
}

/// What happens to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BrokerFault {
    Stop,
    Kill,
    Start,
    Freeze,
    Thaw,
}

/// What happens to topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopicFault {
    /// Each gets as many partitions again.
    Grow,
    /// The one of this number is deleted, with all that lies there, and made again.
    MakeAnew(usize),
    /// The one of this number takes no more than so many bytes at once.
    Limit { number: usize, bytes: u32 },
    /// It takes as much as others.
    Unlimit(usize),
    /// Those that a service reads keep no more than this, until something is gone that it has not read.
    DeleteUnread(Side, Keep),
    /// They keep everything.
    KeepAll(Side),
}

/// What a topic keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// What is younger than this.
    Ms(u64),
    /// So many bytes of each partition.
    Bytes(u64),
}

// What only the network, the databases and the brokers know of in the end.
pub(super) const IN_BAD_NETWORK: &str = "pieces in a bad network";
pub(super) const LOST_ANSWERS: &str = "answers that were lost";
pub(super) const COPIES: &str = "copies of messages";
pub(super) const GAVE_UP: &str = "events that gave up";
pub(super) const DEAD_LETTERS: &str = "dead letters";
pub(super) const DEADLOCKS: &str = "deadlocks";
pub(super) const LOST_RACES: &str = "transactions that were rolled back for others";
pub(super) const IN_NEW_PARTITIONS: &str = "messages in new partitions";
pub(super) const WITHOUT_ROOM: &str = "writes that found no room";
pub(super) const TAKEN_BACK: &str = "answered changes that a failover took back";
pub(super) const FORGOTTEN: &str = "rows that were forgotten";
pub(super) const REMOVALS: &str = "products that were removed";
pub(super) const TOO_LARGE: &str = "sends that were too large for their topic";
pub(super) const REFUSED: &str = "requests that the broker refused";
pub(super) const TOLD: &str = "alerts that say what is not allowed";
pub(super) const TRANSLATED: &str = "messages in the words of another release";
/// Only they themselves know.
pub(super) const WRONG_CLOCKS: &str = "processes whose clocks were wrong";

impl Fault {
    /// What has to be met by it: a fault that meets nothing is none. An end of one has nothing to meet.
    pub(super) fn meets(self) -> Option<&'static str> {
        Some(match self {
            Self::Kill(_) => "processes that were killed",
            Self::KillAt(..) => "processes that were killed at their moment",
            Self::KillInCheckpoint(_) => "processes that were killed in a checkpoint",
            Self::Upgrade(_) => "processes that were upgraded",
            Self::Terminate(_) => "processes that were told to end",
            Self::Freeze(_) => "processes that were frozen",
            Self::Clock(_, seconds) if seconds != 0 => WRONG_CLOCKS,
            Self::Weather(_, weather) if weather != Weather::Clear => IN_BAD_NETWORK,
            Self::Strike(..) => "connections that were struck",
            Self::Lose(..) => LOST_ANSWERS,
            Self::Postgres(fault) => fault.meets()?,
            Self::File(_, fault) => fault.meets()?,
            Self::Broker(_, fault) => fault.meets()?,
            Self::Topic(fault) => fault.meets()?,
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
            Self::Start(_)
            | Self::Thaw(_)
            | Self::Clock(..)
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who) => write!(f, "{who} is killed"),
            Self::KillAt(who, moment) => write!(f, "{who} is killed {moment}"),
            Self::KillInCheckpoint(who) => write!(f, "{who} is killed in a checkpoint"),
            Self::Terminate(who) => write!(f, "{who} is told to end"),
            Self::Upgrade(who) => write!(f, "{who} is upgraded"),
            Self::Start(who) => write!(f, "{who} is started"),
            Self::Freeze(who) => write!(f, "{who} is frozen"),
            Self::Thaw(who) => write!(f, "{who} goes on"),
            Self::Clock(who, seconds) => write!(f, "the clock of {who} is off by {seconds:+} s"),
            Self::Weather(link, weather) => write!(f, "{link}: {weather}"),
            Self::Strike(link, strike) => write!(f, "{link}: {strike}"),
            Self::Lose(side, request, count) => {
                write!(f, "{side}: {count} answers that say that {request} are lost")
            }
            Self::Postgres(fault) => write!(f, "{fault}"),
            Self::File(side, fault) => write!(f, "{side} {fault}"),
            Self::Broker(which, fault) => write!(f, "{which} {fault}"),
            Self::Topic(fault) => write!(f, "{fault}"),
            Self::OthersGoOn => f.write_str("all that does not hang goes on"),
            Self::Revoke(side, right) => write!(f, "{side} may not {right}"),
            Self::Grant(side, right) => write!(f, "{side} may {right} again"),
            Self::Mail(manner) => write!(f, "the mail server is {manner:?}"),
            Self::Webhook(welcome) => write!(f, "the webhook's receiver is {welcome:?}"),
            Self::Quarantine(products) => {
                write!(f, "order-service refuses what concerns {products} products")
            }
            Self::Flood(products) => write!(f, "{products} products come that are all refused"),
            Self::SlowConsumer => f.write_str("order-service takes 1 ms longer for each event"),
            Self::Nonsense => f.write_str("what nobody should send is on every topic"),
            Self::ForgedAnswers => f.write_str("answers come again, and answers of strangers"),
            Self::Translate(side, release) => {
                write!(f, "what waits for {side} is there as {release} writes it")
            }
            Self::Copy { late_ms } => {
                write!(f, "each message comes one to five times, up to {late_ms} ms later")
            }
            Self::BoundMemory => f.write_str("much more memory than now is death"),
            Self::Backlog => f.write_str("a backlog of changes is made, and sent once it is whole"),
            Self::Pile => f.write_str("a backlog of messages is on product-service's topic"),
            Self::Forget => f.write_str("what is old by seconds is forgotten"),
        }
    }
}

impl fmt::Display for PostgresFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::DiskFull { left_kib } => {
                return write!(f, "PostgreSQL's disk has {left_kib} KiB left");
            }
            Self::Lose(Race { is_at_commit, one_in }) => {
                let when = if *is_at_commit { "when they commit" } else { "at a statement" };
                return write!(f, "one transaction in {one_in} is rolled back for others {when}");
            }
            Self::Isolate(isolation) => {
                return write!(f, "transactions are {isolation}, if they do not say how");
            }
            Self::Hold(number) => {
                return write!(f, "a stranger has the copy of the adjusted product {number}");
            }
            Self::Stop => "PostgreSQL shuts down",
            Self::Kill => "PostgreSQL is killed",
            Self::Start => "PostgreSQL is started",
            Self::EndSessions => "PostgreSQL ends all sessions",
            Self::ReadOnly => "PostgreSQL lets nobody write",
            Self::Writable => "PostgreSQL lets everybody write",
            Self::Full => "PostgreSQL ends all sessions and has no connection left",
            Self::Room => "PostgreSQL has connections again",
            Self::Rivals => "strangers lock rows in the wrong order",
            Self::Peace => "the strangers leave",
            Self::LetGo => "the stranger leaves",
            Self::Win => "no transaction is rolled back for others",
            Self::IsolateAsBefore => "transactions are isolated as before",
            Self::KillPooler => "the pooler is killed",
            Self::StartPooler => "the pooler is started",
            Self::DiskFree => "PostgreSQL's disk has room again",
            Self::LeaveBehind => "PostgreSQL's standby gets nothing more",
            Self::Promote => "the standby takes PostgreSQL's place",
            Self::StandBy => "PostgreSQL gets a new standby",
        };
        f.write_str(words)
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "has no room for its files",
            Self::Room => "has room again",
            Self::ReadOnly => "ends, and its file is read-only",
            Self::Writable => "may write into its file again",
        })
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "broker {number}"),
            Self::Controller => f.write_str("the controller"),
        }
    }
}

impl fmt::Display for BrokerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "shuts down",
            Self::Kill => "is killed",
            Self::Start => "is started",
            Self::Freeze => "is frozen",
            Self::Thaw => "goes on",
        })
    }
}

impl fmt::Display for TopicFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grow => f.write_str("each topic gets as many partitions again"),
            Self::MakeAnew(number) => write!(f, "topic {number} is deleted and made again"),
            Self::Limit { number, bytes } => {
                write!(f, "topic {number} takes no more than {bytes} bytes at once")
            }
            Self::Unlimit(number) => write!(f, "topic {number} takes as much as others"),
            Self::DeleteUnread(side, Keep::Ms(ms)) => {
                write!(f, "what {side} reads is deleted after {ms} ms")
            }
            Self::DeleteUnread(side, Keep::Bytes(bytes)) => {
                write!(f, "what {side} reads is deleted but for {bytes} bytes")
            }
            Self::KeepAll(side) => write!(f, "what {side} reads is kept"),
        }
    }
}
