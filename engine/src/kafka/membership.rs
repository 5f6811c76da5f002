//! What a consumer's client says of itself, turned into its state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::telemetry::{BrokerState, ConsumerState, Heals, Standing, Trouble};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Partition;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Statistics, TopicPartitionList};

use super::{Record, client};

/// How often a client tells its statistics; they come also while there are no messages.
pub(super) const STATISTICS_MS: &str = "5000";

/// Hears one client of a consumer.
pub(super) struct Membership {
    pub(super) broker: BrokerState,
    pub(super) state: ConsumerState,
    /// Which of the consumer's clients it is.
    pub(super) client: u32,
    /// The partitions that it was assigned.
    pub(super) assigned: Assigned,
    /// Those that it has.
    pub(super) held: Held,
}

/// The partitions that a client has now.
#[derive(Default)]
pub(super) struct Held {
    /// Assignments so far, of all clients of the consumer: no number comes twice.
    assignments: Arc<AtomicU64>,
    partitions: Mutex<BTreeMap<i32, Holding>>,
}

/// A partition that a client has.
#[derive(Default)]
struct Holding {
    /// The number of its assignment.
    assignment: u64,
    /// The offset that the group was asked to commit last; none: it was not asked under this assignment.
    asked: Option<i64>,
    /// The same where it is to be asked: it was not yet, or has not committed it as far as is known.
    owed: Option<i64>,
}

impl Held {
    /// For another client of the same consumer, which has none yet.
    pub(super) fn anew(&self) -> Self {
        Self { assignments: Arc::clone(&self.assignments), partitions: Mutex::default() }
    }

    /// With which assignment it has `partition`; 0: it has not.
    pub(super) fn assignment_of(&self, partition: i32) -> u64 {
        self.partitions().get(&partition).map_or(0, |holding| holding.assignment)
    }

    /// Has the group commit what is `done`, and what it did not commit when it was asked before: `commit` is given the offsets
    /// behind that, if there are any.
    ///
    /// Nothing is of a partition that was taken away since `done` was taken, whether it was given back or not. While members
    /// change, a group refuses offsets also of partitions that their member keeps: until the next message it would look as if
    /// the last ones had not been read, and whoever came next got them again.
    pub(super) fn commit<'a>(
        &self,
        done: impl IntoIterator<Item = &'a Record>,
        commit: impl FnOnce(&BTreeMap<i32, i64>),
    ) {
        let mut partitions = self.partitions();
        for record in done {
            if let Some(holding) = partitions.get_mut(&record.partition)
                && holding.assignment == record.assignment
            {
                // The last one stands: where a client was made anew it repeats what follows, and in a topic that was made
                // anew offsets are smaller than before.
                holding.asked = Some(record.offset + 1);
                holding.owed = holding.asked;
            }
        }
        let owed =
            |(partition, holding): (&i32, &mut Holding)| Some((*partition, holding.owed.take()?));
        let offsets: BTreeMap<i32, i64> = partitions.iter_mut().filter_map(owed).collect();
        if !offsets.is_empty() {
            // Still locked: no older offset comes behind a newer one, and no partition goes before the group is asked.
            commit(&offsets);
        }
    }

    /// The group has committed `offset` of `partition`, as far as its client knows. What it was asked for may be on its way: to
    /// ask twice does no harm.
    pub(super) fn committed(&self, partition: i32, offset: i64) {
        if let Some(holding) = self.partitions().get_mut(&partition) {
            holding.owed = holding.asked.filter(|asked| *asked != offset);
        }
    }

    /// All of them.
    fn all(&self) -> BTreeSet<i32> {
        self.partitions().keys().copied().collect()
    }

    fn give(&self, given: BTreeSet<i32>) {
        let assignment = self.assignments.fetch_add(1, Ordering::Relaxed) + 1;
        let holding = |partition| (partition, Holding { assignment, ..Holding::default() });
        self.partitions().extend(given.into_iter().map(holding));
    }

    fn take_away(&self, taken: &BTreeSet<i32>) {
        self.partitions().retain(|partition, _| !taken.contains(partition));
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<i32, Holding>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Partitions that were assigned and not looked at yet; clones share them.
#[derive(Clone, Default)]
pub(super) struct Assigned(Arc<Mutex<BTreeSet<i32>>>);

impl Assigned {
    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes them.
    pub(super) fn take(&self) -> BTreeSet<i32> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds further ones.
    pub(super) fn add(&self, partitions: impl Iterator<Item = i32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(partitions);
    }
}

impl ClientContext for Membership {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::note(&self.broker, &error, reason);
        let Some(code) = error.rdkafka_error_code() else { return };
        match judge(code) {
            Some(trouble) => self.state.failed(self.client, trouble, reason),
            None => self.state.heard(self.client, reason),
        }
    }

    fn stats(&self, statistics: Statistics) {
        // Only here the client's library says what became of offsets that it was to commit in the background.
        let partitions = statistics.topics.get(self.state.topic()).map(|topic| &topic.partitions);
        for partition in partitions.into_iter().flat_map(|partitions| partitions.values()) {
            self.held.committed(partition.partition, partition.committed_offset);
        }
        self.state.looked(self.client, standing(&statistics, self.state.topic(), &self.held.all()));
    }
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            // Before the assignment counts, so that no message of it comes first.
            Rebalance::Assign(given) => {
                let given = self.partitions(given);
                self.assigned.add(given.iter().copied());
                self.held.give(given);
            }
            Rebalance::Revoke(taken) => self.held.take_away(&self.partitions(taken)),
            Rebalance::Error(_) => {}
        }
    }
}

impl Membership {
    /// Those of `list` that are of its topic.
    fn partitions(&self, list: &TopicPartitionList) -> BTreeSet<i32> {
        let elements = list.elements_for_topic(self.state.topic());
        elements.iter().map(|element| element.partition()).collect()
    }
}

/// How a client stands that has the partitions `held` of `topic`.
///
/// When a broker answers the question where a new assignment begins by an error, librdkafka 2.12.1 asks no more, and asks
/// nothing of later assignments either: its partitions stay "queried" for good (`rdkafka_assignment.c`). In the group all
/// is well then, so only what the client does not begin shows it.
fn standing(statistics: &Statistics, topic: &str, held: &BTreeSet<i32>) -> Standing {
    let Some(group) = statistics.cgrp.as_ref().filter(|group| group.state == "up") else {
        return Standing::Waits;
    };
    let partitions = statistics.topics.get(topic).map(|topic| &topic.partitions);
    let has_begun = |partition: &i32| {
        partitions.and_then(|partitions| partitions.get(partition)).is_some_and(has_begun)
    };
    match group.join_state.as_str() {
        "wait-unassign-to-complete" | "wait-incr-unassign-to-complete" => Standing::Stuck,
        "steady" if !held.iter().all(has_begun) => Standing::Stuck,
        "steady" if !partitions.into_iter().flat_map(|all| all.values()).any(waits) => {
            Standing::Receives
        }
        _ => Standing::Waits,
    }
}

/// Whether the client has begun to read a partition, or asks where to.
fn has_begun(partition: &Partition) -> bool {
    !matches!(partition.fetch_state.as_str(), "none" | "stopping" | "stopped")
}

/// Whether a partition is the client's, and nothing comes from it: there may be nobody who answers.
fn waits(partition: &Partition) -> bool {
    match partition.fetch_state.as_str() {
        // It asks where to begin to read.
        "offset-query" | "offset-wait" | "validate-epoch-wait" => true,
        "active" => partition.leader < 0,
        _ => false,
    }
}

/// What an error means to an operator; none: it passes by itself, or its consequences show otherwise.
fn judge(code: RDKafkaErrorCode) -> Option<Trouble> {
    use RDKafkaErrorCode as Code;
    let trouble = |problem, advice, heals| Some(Trouble { problem, advice, heals });
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => trouble(
            "the broker does not accept its credentials",
            "check the sasl properties of kafka.properties",
            Heals::ByItself,
        ),
        Code::SSL => trouble(
            "no TLS connection can be made",
            "check the ssl properties of kafka.properties, and the certificates",
            Heals::ByItself,
        ),
        Code::GroupAuthorizationFailed => {
            trouble("it may not use its group", "allow its user READ on the group", Heals::ByItself)
        }
        Code::TopicAuthorizationFailed => {
            trouble("it may not read the topic", "allow its user READ on the topic", Heals::Anew)
        }
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId => trouble(
            "the topic, or a partition of it, does not exist",
            "make it, with the number of partitions that it had",
            Heals::Anew,
        ),
        Code::InvalidTopic => trouble(
            "the topic's name is not allowed",
            "set the topic's name right: kafka.inbound_topic, kafka.outbound_ack_topic or views.purchases_topic",
            Heals::Anew,
        ),
        Code::Fatal | Code::FencedInstanceId => trouble(
            "its client failed for good",
            "give each instance a group.instance.id of its own, if it has one; a new client is made by itself",
            Heals::Lasting,
        ),
        // The group has it back, or the statistics say that it has not.
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::Resolve
        | Code::WaitingForCoordinator
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::RebalanceInProgress
        | Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::PollExceeded
        | Code::PartitionEOF => None,
        _ => trouble(
            "the broker refuses what it asks for",
            "look for the error among those of Apache Kafka, and into the broker's log",
            Heals::Anew,
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use rdkafka::ClientConfig;
    use rdkafka::consumer::Consumer as _;
    use rdkafka::statistics::{ConsumerGroup, Topic};

    #[test]
    fn what_was_taken_away_is_done_no_more_though_it_was_given_back() {
        let broker = BrokerState::default();
        let state = broker.consumer("inbox", "t", "g");
        let (assigned, held) = (Assigned::default(), Held::default());
        let membership = Membership { broker, state, client: 0, assigned, held };
        // Without a group it needs no broker to take leave of.
        let client: BaseConsumer<Membership> =
            ClientConfig::new().create_with_context(membership).unwrap();
        let list = |topic: &str, partitions: &[i32]| {
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                list.add_partition(topic, *partition);
            }
            list
        };
        let member = client.context();
        let taken =
            || (0..3).map(|partition| taken_of(&member.held, partition)).collect::<Vec<_>>();
        let done =
            |records: &[Record]| committed(&member.held, records).into_keys().collect::<Vec<_>>();
        let (both, second) = (list("t", &[0, 1]), list("t", &[1]));
        assert_eq!(done(&taken()), [0; 0], "nothing is its own yet");
        member.pre_rebalance(&client, &Rebalance::Assign(&both));
        let before = taken();
        assert_eq!((done(&before), member.assigned.take()), (vec![0, 1], [0, 1].into()));
        member.pre_rebalance(&client, &Rebalance::Revoke(&list("another", &[0])));
        member.pre_rebalance(&client, &Rebalance::Revoke(&second));
        assert_eq!(done(&before), [0], "the other member commits what it does itself");
        member.pre_rebalance(&client, &Rebalance::Assign(&second));
        assert_eq!((done(&before), member.assigned.take()), (vec![0], [1].into()));
        assert_eq!(done(&taken()), [0, 1], "what is taken from now on");
    }

    #[test]
    fn what_an_earlier_client_took_is_not_a_later_ones() {
        let first = Held::default();
        first.give([0].into());
        let (taken, later) = ([taken_of(&first, 0)], first.anew());
        assert_eq!(committed(&first, &taken), [(0, 8)].into());
        assert_eq!(committed(&later, &taken), [].into());
        later.give([0].into());
        assert_eq!(committed(&later, &taken), [].into());
        assert_eq!(committed(&later, &[taken_of(&later, 0)]), [(0, 8)].into());
    }

    #[test]
    fn what_is_done_last_of_a_partition_is_committed() {
        let held = Held::default();
        held.give([0, 1].into());
        let done = [at(&held, 0, 7), at(&held, 1, 2), at(&held, 0, 5), at(&held, 0, 6)];
        assert_eq!(committed(&held, &done), [(0, 7), (1, 3)].into());
    }

    #[test]
    fn what_was_not_committed_is_asked_again_until_it_is_or_the_partition_is_gone() {
        let held = Held::default();
        held.give([0, 1].into());
        let nothing = BTreeMap::new();
        held.committed(0, 4);
        assert_eq!(committed(&held, &[]), nothing, "that is where it began");
        let both = [at(&held, 0, 4), at(&held, 1, 2)];
        assert_eq!(committed(&held, &both), [(0, 5), (1, 3)].into());
        assert_eq!(committed(&held, &[]), nothing, "both are on their way");
        held.committed(0, 4);
        held.committed(1, 3);
        assert_eq!(committed(&held, &[at(&held, 1, 3)]), [(0, 5), (1, 4)].into());
        assert_eq!(committed(&held, &[]), nothing, "that was asked");
        held.committed(0, 4);
        assert_eq!(committed(&held, &[at(&held, 0, 5)]), [(0, 6)].into(), "the last one stands");
        held.committed(0, 6);
        held.committed(1, 4);
        assert_eq!(committed(&held, &[]), nothing);
        held.committed(0, 5);
        held.take_away(&[0].into());
        held.give([0].into());
        held.committed(0, 5);
        assert_eq!(committed(&held, &[]), nothing, "another member may have done more since");
    }

    /// What the group is asked to commit once `done` is.
    fn committed(held: &Held, done: &[Record]) -> BTreeMap<i32, i64> {
        let mut asked = BTreeMap::new();
        held.commit(done, |offsets| asked = offsets.clone());
        asked
    }

    /// The message at `offset` of `partition`, taken now.
    fn at(held: &Held, partition: i32, offset: i64) -> Record {
        Record { offset, ..taken_of(held, partition) }
    }

    /// A message of `partition` that is taken now.
    fn taken_of(held: &Held, partition: i32) -> Record {
        Record {
            topic: "t".to_owned(),
            partition,
            offset: 7,
            assignment: held.assignment_of(partition),
            ..Record::default()
        }
    }

    #[test]
    fn a_client_receives_where_it_is_in_its_group_and_knows_where_to_read() {
        let led_by = |leader: i32, state: &str, join: &str, fetch: &str| {
            let held = (fetch != "none").then_some(0).into_iter().collect();
            standing(&statistics(leader, state, join, fetch), "t", &held)
        };
        let of = |state: &str, join: &str, fetch: &str| led_by(1, state, join, fetch);
        assert_eq!(of("up", "steady", "active"), Standing::Receives);
        assert_eq!(of("up", "steady", "none"), Standing::Receives, "another member has them");
        assert_eq!(
            of("query-coord", "steady", "active"),
            Standing::Waits,
            "its coordinator is lost"
        );
        assert_eq!(of("up", "wait-join", "none"), Standing::Waits);
        assert_eq!(of("up", "steady", "offset-query"), Standing::Waits);
        assert_eq!(led_by(-1, "up", "steady", "active"), Standing::Waits, "there is no leader");
        assert_eq!(led_by(-1, "up", "steady", "none"), Standing::Receives, "not its trouble");
        assert_eq!(standing(&Statistics::default(), "t", &[].into()), Standing::Waits);
    }

    #[test]
    fn a_client_that_does_not_begin_or_does_not_end_is_stuck() {
        let of = |join: &str, fetch: &str, held: &[i32]| {
            standing(&statistics(1, "up", join, fetch), "t", &held.iter().copied().collect())
        };
        for fetch in ["none", "stopping", "stopped"] {
            assert_eq!(of("steady", fetch, &[0]), Standing::Stuck, "{fetch}");
            assert_eq!(of("steady", fetch, &[]), Standing::Receives, "{fetch}: it is given back");
            assert_eq!(of("wait-sync", fetch, &[0]), Standing::Waits, "{fetch}: members change");
        }
        assert_eq!(of("steady", "active", &[0, 1]), Standing::Stuck, "it knows nothing of another");
        assert_eq!(of("wait-incr-unassign-to-complete", "active", &[0]), Standing::Stuck);
        let lost = statistics(1, "wait-coord", "steady", "none");
        assert_eq!(standing(&lost, "t", &[0].into()), Standing::Waits, "for its coordinator");
    }

    /// Of a client in such a group, with one partition.
    fn statistics(leader: i32, state: &str, join: &str, fetch: &str) -> Statistics {
        let group = ConsumerGroup {
            state: state.to_owned(),
            join_state: join.to_owned(),
            ..ConsumerGroup::default()
        };
        let partition = Partition { fetch_state: fetch.to_owned(), leader, ..Partition::default() };
        let topic = Topic { partitions: [(0, partition)].into(), ..Topic::default() };
        let topics = [("t".to_owned(), topic)].into();
        Statistics { cgrp: Some(group), topics, ..Statistics::default() }
    }

    #[test]
    fn what_passes_by_itself_is_no_trouble() {
        assert_eq!(judge(RDKafkaErrorCode::AllBrokersDown), None);
        assert_eq!(judge(RDKafkaErrorCode::PollExceeded), None);
        let heals = |code| judge(code).map(|trouble| trouble.heals);
        assert_eq!(heals(RDKafkaErrorCode::Authentication), Some(Heals::ByItself));
        assert_eq!(heals(RDKafkaErrorCode::GroupAuthorizationFailed), Some(Heals::ByItself));
        assert_eq!(heals(RDKafkaErrorCode::UnknownTopicOrPartition), Some(Heals::Anew));
        let missing = judge(RDKafkaErrorCode::UnknownTopicOrPartition);
        assert_eq!(judge(RDKafkaErrorCode::UnknownPartition), missing, "the same in other words");
        assert_eq!(heals(RDKafkaErrorCode::Fatal), Some(Heals::Lasting));
        assert_eq!(heals(RDKafkaErrorCode::FencedInstanceId), Some(Heals::Lasting));
    }
}
