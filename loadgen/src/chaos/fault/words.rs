//! Faults in words, as a plan is printed.

use std::fmt;

use super::{
    BrokerFault, Fault, FileFault, Isolation, Keep, Link, Part, PostgresFault, Race, TopicFault,
    Which, Who,
};

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.side, self.number)
    }
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

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} – {}", self.side, self.part)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(who) => write!(f, "{who} is killed"),
            Self::KillAt(who, moment) => write!(f, "{who} is killed {moment}"),
            Self::KillIn(who, chore, point) => write!(f, "{who} is killed: {chore}, {point}"),
            Self::ChoreEnds(chore) => write!(f, "{chore} has to come to its end"),
            Self::KillUnanswered(who, part) => {
                write!(f, "{who} is killed when {part} has taken something, before it says so")
            }
            Self::KillInCheckpoint(who) => write!(f, "{who} is killed in a checkpoint"),
            Self::Terminate(who) => write!(f, "{who} is told to end"),
            Self::Upgrade(who) => write!(f, "{who} is upgraded"),
            Self::Start(who) => write!(f, "{who} is started"),
            Self::Freeze(who) => write!(f, "{who} is frozen"),
            Self::Thaw(who) => write!(f, "{who} goes on"),
            Self::Clock(who, seconds) => write!(f, "the clock of {who} is off by {seconds:+} s"),
            Self::Jump(who, 0) => write!(f, "the clock of {who} jumps back to what is right"),
            Self::Jump(who, seconds) => {
                write!(f, "the clock of {who} jumps, and is off by {seconds:+} s")
            }
            Self::Weather(link, weather) => write!(f, "{link}: {weather}"),
            Self::Strike(link, strike) => write!(f, "{link}: {strike}"),
            Self::Lose(side, request, count) => {
                write!(f, "{side}: {count} answers that say that {request} are lost")
            }
            Self::Postgres(fault) => write!(f, "{fault}"),
            Self::File(side, fault) => write!(f, "{side} {fault}"),
            Self::Broker(which, fault) => write!(f, "{which} {fault}"),
            Self::Topic(fault) => write!(f, "{fault}"),
            Self::UnfitIsTold => f.write_str("both services have to tell that topics do not fit"),
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
            Self::Pass(days) => write!(f, "{days} days pass"),
            Self::Withdraw(products) => write!(f, "{products} products come, and are removed"),
            Self::Discard => f.write_str("half of the dead letters are discarded"),
            Self::Release => f.write_str("order-service takes again what it refused"),
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
