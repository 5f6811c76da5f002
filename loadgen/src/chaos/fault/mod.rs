//! What may happen at one moment: a fault, or the end of one. [`met`] says what each has to meet, and [`words`] how each is
//! told.

mod met;
mod words;

use stockloop_tests::smtp::Manner;

pub(super) use self::met::{
    COPIES, DEAD_LETTERS, DEADLOCKS, FORGOTTEN, GAVE_UP, IN_BAD_NETWORK, IN_NEW_PARTITIONS,
    LOST_ANSWERS, LOST_RACES, REFUSED, REMOVALS, TAKEN_BACK, TOLD, TOO_LARGE, TRANSLATED,
    WITHOUT_ROOM, WRONG_CLOCKS,
};
use super::chores::{Chore, Point};
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

/// The network between all processes of a service and one of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) side: Side,
    pub(super) part: Part,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL.
    Kill(Who),
    /// SIGKILL at this moment, when it comes.
    KillAt(Who, Moment),
    /// SIGKILL while this is done, at this point of it.
    KillIn(Who, Chore, Point),
    /// What was cut off has to come to its end, and a good one.
    ChoreEnds(Chore),
    /// SIGKILL when the mail server, or the webhook's receiver, has taken what it tells, and has not said so yet.
    KillUnanswered(Who, Part),
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
    /// While it runs, its clock jumps, and is so many seconds ahead, or behind, from then on.
    Jump(Who, i32),
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
    /// Both services have to tell that topics are not as they are set.
    UnfitIsTold,
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
    /// So many days pass for both services, while no client asks for anything.
    Pass(u32),
    /// So many new products come, and are removed again.
    Withdraw(u32),
    /// Half of the dead letters that wait are discarded.
    Discard,
    /// order-service takes again what it refused.
    Release,
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
