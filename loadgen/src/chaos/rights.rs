//! What the services may do at a broker that asks, right by right, so that each can be taken away.

use std::collections::BTreeSet;
use std::fmt;

use stockloop_tests::kafka::{Acl, Operation, Resource, User};

use super::readers::read_by;
use crate::check::Side;

/// Something that a service has to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// To send events.
    SendEvents,
    /// To answer those of the other service.
    SendAnswers,
    /// To read those.
    ReadEvents,
    /// To read the answers to its own.
    ReadAnswers,
    /// To be in the group that reads the other's events.
    JoinEvents,
    /// To be in the group that reads answers.
    JoinAnswers,
    /// All that it may do with the topic to which its events go: not even that it is there is told then.
    SeeSent,
    /// The same of the topic from which the other's come.
    SeeRead,
}

impl Right {
    pub(super) const ALL: [Self; 8] = [
        Self::SendEvents,
        Self::SendAnswers,
        Self::ReadEvents,
        Self::ReadAnswers,
        Self::JoinEvents,
        Self::JoinAnswers,
        Self::SeeSent,
        Self::SeeRead,
    ];

    /// What of `side` goes with it.
    pub(super) fn acls(self, side: Side) -> Vec<Acl> {
        let Ways { events, answers, read, read_answers } = Ways::of(side);
        let ((read, group), (read_answers, group_of_answers)) = (read, read_answers);
        match self {
            Self::SendEvents => vec![of_topic(side, events, Operation::Write)],
            Self::SendAnswers => vec![of_topic(side, answers, Operation::Write)],
            Self::ReadEvents => vec![of_topic(side, read, Operation::Read)],
            Self::ReadAnswers => vec![of_topic(side, read_answers, Operation::Read)],
            Self::JoinEvents => vec![of_group(side, group)],
            Self::JoinAnswers => vec![of_group(side, group_of_answers)],
            Self::SeeSent => written(side, events),
            Self::SeeRead => vec![
                of_topic(side, read, Operation::Read),
                of_topic(side, read, Operation::Describe),
            ],
        }
    }

    /// What tells an operator that `side` lacks it: the kind of an alert, and the topic that this names.
    pub(super) fn alert(self, side: Side) -> (&'static str, &'static str) {
        let Ways { events, answers, read: (read, _), read_answers: (read_answers, _) } =
            Ways::of(side);
        match self {
            Self::SendEvents | Self::SeeSent => ("not_sent", events),
            Self::SendAnswers => ("not_applied", answers),
            Self::ReadEvents | Self::JoinEvents | Self::SeeRead => ("not_received", read),
            Self::ReadAnswers | Self::JoinAnswers => ("not_received", read_answers),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SendEvents => "send its events",
            Self::SendAnswers => "send answers",
            Self::ReadEvents => "read the other's events",
            Self::ReadAnswers => "read answers",
            Self::JoinEvents => "be in the group that reads events",
            Self::JoinAnswers => "be in the group that reads answers",
            Self::SeeSent => "see the topic of its events",
            Self::SeeRead => "see the topic of the other's events",
        })
    }
}

/// Where a service's messages go and come from, with the groups in which it reads.
struct Ways {
    events: &'static str,
    answers: &'static str,
    read: (&'static str, &'static str),
    read_answers: (&'static str, &'static str),
}

impl Ways {
    fn of(side: Side) -> Self {
        let [read, read_answers] = read_by(side);
        // What one writes, the other reads.
        let [(events, _), (answers, _)] = read_by(side.other());
        Self { events, answers, read, read_answers }
    }
}

/// All that a service needs.
pub(super) fn all_of(side: Side) -> Vec<Acl> {
    let Ways { answers, read_answers: (read_answers, _), .. } = Ways::of(side);
    let each = Right::ALL.iter().flat_map(|right| right.acls(side));
    let more = written(side, answers);
    let more = more.into_iter().chain([of_topic(side, read_answers, Operation::Describe)]);
    // Some go with several.
    each.chain(more).collect::<BTreeSet<Acl>>().into_iter().collect()
}

/// What a service may do with a topic that it writes to, whose shape and limits it watches.
fn written(side: Side, topic: &'static str) -> Vec<Acl> {
    [Operation::Write, Operation::Describe, Operation::DescribeConfigs]
        .map(|operation| of_topic(side, topic, operation))
        .into()
}

fn of_topic(side: Side, topic: &'static str, operation: Operation) -> Acl {
    Acl { user: user(side).name, resource: Resource::Topic(topic), operation }
}

fn of_group(side: Side, group: &'static str) -> Acl {
    let (resource, operation) = (Resource::Group(group), Operation::Read);
    Acl { user: user(side).name, resource, operation }
}

/// What the broker says where it refuses something to a service.
pub(super) fn denied(side: Side) -> String {
    format!("Principal = User:{} is Denied operation = ", user(side).name)
}

/// As whom a service comes to the broker.
pub(super) const fn user(side: Side) -> User {
    match side {
        Side::Product => User { name: "product", password: "of-products" },
        Side::Order => User { name: "order", password: "of-orders" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_is_one_that_the_service_has() {
        for side in Side::BOTH {
            let all = all_of(side);
            for right in Right::ALL {
                let acls = right.acls(side);
                assert!(!acls.is_empty() && acls.iter().all(|acl| all.contains(acl)), "{right}");
            }
        }
    }

    #[test]
    fn an_alert_names_the_topic_for_which_a_right_is_missing() {
        for side in Side::BOTH {
            for right in Right::ALL {
                let (_, named) = right.alert(side);
                let is_it = |acl: &Acl| match acl.resource {
                    Resource::Topic(topic) => topic == named,
                    Resource::Group(group) => read_by(side).contains(&(named, group)),
                };
                assert!(right.acls(side).iter().all(is_it), "{right}: {named}");
            }
        }
    }

    #[test]
    fn services_differ_in_who_they_are_and_in_what_they_may_do() {
        let [product, order] = Side::BOTH.map(all_of);
        assert!(product.iter().all(|acl| !order.contains(acl)));
        let nobodys = |acl: &Acl| (acl.resource, acl.operation);
        let order: Vec<_> = order.iter().map(nobodys).collect();
        let of_both = |acl: &&Acl| order.contains(&(acl.resource, acl.operation));
        let shared: Vec<&Acl> = product.iter().filter(of_both).collect();
        let is_look = |acl: &&Acl| acl.operation == Operation::Describe;
        assert!(shared.iter().all(is_look), "what one writes, the other reads: {shared:?}");
    }
}
