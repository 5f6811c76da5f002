//! What may happen to a system: each scenario is a function that draws its plan. The files are by what is met: [`mixed`] has
//! those that meet several things, and [`amounts`] what there is much of, or what goes again.

mod amounts;
mod broker;
mod instances;
mod mails;
mod messages;
mod mixed;
mod network;
mod postgres;
mod rights;
mod sqlite;
mod topics;

use clap::builder::{PossibleValue, PossibleValuesParser};
use stockloop_tests::disk::SmallDisk;
use stockloop_tests::postgres::{BASE_BACKUP, Binaries, PgBouncer};

pub(super) use self::amounts::KEPT;
use super::clock;
use super::instance::Releases;
use super::plan::Draw;

/// What the services keep everything in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// PostgreSQL.
    Server,
    /// The same, reached by a pooler.
    Pooled,
    /// The same, on a small disk of its own.
    SmallDisk,
    /// The same, with a standby that has all that is committed.
    Standby,
    /// The same, with a standby that may be behind.
    LateStandby,
    /// SQLite.
    Files,
}

impl Store {
    pub(super) const fn has_standby(self) -> bool {
        matches!(self, Self::Standby | Self::LateStandby)
    }

    /// Whether what was answered may be gone again, so that the services have to find that.
    pub(super) const fn may_lose(self) -> bool {
        matches!(self, Self::LateStandby)
    }
}

/// Which brokers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cluster {
    /// One.
    Alone,
    /// One that asks who may do what.
    Guarded,
    /// Several, each with a replica of everything.
    Replicated,
    /// Several, each with partitions that no other has.
    Apart,
}

impl Cluster {
    /// How many.
    pub(super) const fn brokers(self) -> usize {
        match self {
            Self::Alone | Self::Guarded => 1,
            Self::Replicated | Self::Apart => broker::CLUSTER,
        }
    }
}

/// Something that may happen.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What happens, in a line.
    pub(super) about: &'static str,
    /// Processes of each service that run when all is well.
    pub(super) instances: usize,
    /// Processes of each service that run at once, at the most.
    pub(super) most: usize,
    pub(super) cluster: Cluster,
    pub(super) store: Store,
    /// What the services are told besides.
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// Whether all processes are of the release before at first.
    pub(super) is_upgraded: bool,
    /// Whether what a process stands on may be away when it is started.
    pub(super) may_start_late: bool,
    /// Whether clients remove products, too.
    pub(super) removes: bool,
    /// Whether clients describe products at length, so that events differ in size.
    pub(super) is_wordy: bool,
    /// Whether no event may be blamed for what happens: none may give up, be answered FAILED or count as one that can't be sent.
    pub(super) blames_nobody: bool,
    /// Whether who calls the services reaches them by a network that may be bad. Else it is known of a call that nobody takes
    /// that it had no effect.
    pub(super) is_called_by_network: bool,
    /// What it needs that is not on this machine, if it needs that.
    pub(super) missing: fn(&Releases) -> Option<String>,
    pub(super) draw: fn(&mut Draw),
}

impl Scenario {
    const fn new(name: &'static str, about: &'static str, draw: fn(&mut Draw)) -> Self {
        Self {
            name,
            about,
            instances: 1,
            most: 1,
            cluster: Cluster::Alone,
            store: Store::Server,
            settings: &[],
            is_upgraded: false,
            may_start_late: false,
            removes: false,
            is_wordy: false,
            blames_nobody: false,
            is_called_by_network: false,
            missing: nothing,
            draw,
        }
    }

    const fn with_instances(self, instances: usize, most: usize) -> Self {
        Self { instances, most, ..self }
    }

    const fn with_cluster(self) -> Self {
        Self { cluster: Cluster::Replicated, ..self }
    }

    const fn with_brokers_apart(self) -> Self {
        Self { cluster: Cluster::Apart, ..self }
    }

    const fn with_guard(self) -> Self {
        Self { cluster: Cluster::Guarded, ..self }
    }

    const fn with_many_words(self) -> Self {
        Self { is_wordy: true, ..self }
    }

    const fn without_blame(self) -> Self {
        Self { blames_nobody: true, ..self }
    }

    const fn with_pooler(self) -> Self {
        Self { store: Store::Pooled, missing: pooler, ..self }
    }

    const fn with_small_disk(self) -> Self {
        Self { store: Store::SmallDisk, missing: small_disk, ..self }
    }

    const fn with_standby(self, store: Store) -> Self {
        Self { store, missing: standby, ..self }
    }

    const fn with_files(self) -> Self {
        Self { store: Store::Files, ..self }
    }

    const fn with_settings(self, settings: &'static [(&'static str, &'static str)]) -> Self {
        Self { settings, ..self }
    }

    const fn with_release_before(self) -> Self {
        Self { is_upgraded: true, missing: release_before, ..self }
    }

    const fn with_late_starts(self) -> Self {
        Self { may_start_late: true, ..self }
    }

    const fn with_removals(self) -> Self {
        Self { removes: true, ..self }
    }

    const fn with_network_to_clients(self) -> Self {
        Self { is_called_by_network: true, ..self }
    }

    const fn with_wrong_clocks(self) -> Self {
        Self { missing: library, ..self }
    }
}

fn nothing(_: &Releases) -> Option<String> {
    None
}

fn pooler(_: &Releases) -> Option<String> {
    (!PgBouncer::is_installed()).then(|| "PgBouncer is not installed".to_owned())
}

fn library(_: &Releases) -> Option<String> {
    clock::missing()
}

fn small_disk(_: &Releases) -> Option<String> {
    SmallDisk::missing()
}

fn standby(_: &Releases) -> Option<String> {
    Binaries::with(BASE_BACKUP).err().map(|error| format!("{error:#}"))
}

fn release_before(releases: &Releases) -> Option<String> {
    let words = "--old-programs does not say where the programs of the last release are";
    releases.before.is_none().then(|| words.to_owned())
}

/// All of them, in the order in which they are run.
pub(super) static ALL: [Scenario; 49] = [
    Scenario::new("kill", "processes of both services are killed by SIGKILL", instances::kill)
        .with_instances(2, 2),
    Scenario::new(
        "kill-moments",
        "processes are killed just before and after each thing that is done for them",
        instances::kill_at_moments,
    ),
    Scenario::new("terminate", "processes are told to end, under load", instances::terminate)
        .with_instances(2, 2),
    Scenario::new(
        "freeze",
        "processes are stopped past every lease and session, and go on",
        instances::freeze,
    )
    .with_instances(2, 2),
    Scenario::new("scale", "two to four processes of each service come and go", instances::scale)
        .with_instances(2, 4),
    Scenario::new(
        "clocks",
        "clocks are up to two minutes ahead or behind",
        instances::set_clocks_wrong,
    )
    .with_instances(2, 2)
    .with_wrong_clocks(),
    Scenario::new("upgrade", "a rolling upgrade from the last release", instances::upgrade)
        .with_instances(2, 2)
        .with_release_before(),
    Scenario::new(
        "postgres-network",
        "the network to PostgreSQL is slow, broken or silent",
        network::to_postgres,
    ),
    Scenario::new(
        "kafka-network",
        "the network to Kafka is slow, broken or silent",
        network::to_kafka,
    ),
    Scenario::new(
        "client-network",
        "the network from clients and between the services is slow, broken or silent",
        network::to_clients,
    )
    .with_network_to_clients(),
    Scenario::new(
        "mail-network",
        "the network to the mail server and the webhook is slow or silent",
        network::to_who_is_told,
    ),
    Scenario::new("lost-commit", "the answers to commits are lost", network::lose_commits),
    Scenario::new("lost-send", "what the broker says to messages is lost", network::lose_sends),
    Scenario::new("postgres-restart", "PostgreSQL shuts down or is killed", postgres::restart),
    Scenario::new("postgres-sessions", "PostgreSQL ends all sessions", postgres::end_sessions)
        .with_instances(2, 2),
    Scenario::new("postgres-read-only", "PostgreSQL lets nobody write", postgres::read_only),
    Scenario::new("postgres-full", "PostgreSQL has no connection left", postgres::fill_up),
    Scenario::new(
        "postgres-deadlocks",
        "strangers lock rows in the wrong order",
        postgres::lock_crosswise,
    ),
    Scenario::new(
        "serialization",
        "PostgreSQL rolls transactions back for others, and isolates them more by itself",
        postgres::lose_races,
    )
    .with_instances(2, 2)
    .without_blame(),
    Scenario::new("postgres-disk-full", "PostgreSQL's disk fills up", postgres::fill_disk)
        .with_small_disk(),
    Scenario::new(
        "failover",
        "a standby takes PostgreSQL's place, with all that was committed",
        postgres::fail_over,
    )
    .with_standby(Store::Standby),
    Scenario::new(
        "failover-behind",
        "a standby takes PostgreSQL's place, without what was committed last",
        postgres::fail_over_behind,
    )
    .with_standby(Store::LateStandby),
    Scenario::new("sqlite-checkpoint", "processes are killed in a checkpoint", sqlite::kill)
        .with_files(),
    Scenario::new("sqlite-disk-full", "SQLite finds no room for what it writes", sqlite::fill_up)
        .with_files(),
    Scenario::new(
        "sqlite-read-only",
        "a service may not write into its file when it comes back",
        sqlite::read_only,
    )
    .with_files(),
    Scenario::new("pooler", "PgBouncer is killed, and sessions end", postgres::trouble_pooler)
        .with_instances(2, 2)
        .with_pooler(),
    Scenario::new("broker-restart", "the broker shuts down, is killed or freezes", broker::restart),
    Scenario::new("broker-killed", "of three brokers, each is killed in turn", broker::kill_each)
        .with_cluster(),
    Scenario::new("brokers-killed", "of three brokers, two are killed at once", broker::kill_two)
        .with_cluster(),
    Scenario::new(
        "controller-moved",
        "of three brokers, the one that leads goes",
        broker::move_controller,
    )
    .with_cluster(),
    Scenario::new("brokers-rolled", "three brokers are restarted in turn", broker::roll)
        .with_cluster(),
    Scenario::new(
        "partition-hung",
        "the only broker of some partitions freezes, or a stranger has a row that one needs",
        broker::hang,
    )
    .with_instances(2, 2)
    .with_brokers_apart(),
    Scenario::new("partitions-added", "topics get more partitions", topics::grow),
    Scenario::new(
        "topic-made-anew",
        "topics are deleted, with all messages, and made again",
        topics::make_anew,
    ),
    Scenario::new(
        "limit-lowered",
        "topics take less than some messages are large, and then as much as before",
        topics::limit,
    )
    .with_many_words(),
    Scenario::new(
        "unread-deleted",
        "the broker deletes what a service has not read yet",
        topics::delete_unread,
    ),
    Scenario::new(
        "acls",
        "a service may not do at the broker what it has to do",
        rights::take_away,
    )
    .with_guard()
    .without_blame(),
    Scenario::new("slow-consumer", "order-service takes ten times as long", messages::slow_down),
    Scenario::new(
        "exhausted",
        "many events give up while nobody can be told",
        mails::give_up_untold,
    ),
    Scenario::new(
        "ten-thousand",
        "ten thousand events give up at once, and nobody can be told",
        mails::flood,
    ),
    Scenario::new(
        "forged-answers",
        "answers come again, from strangers, and about nothing",
        messages::forge,
    ),
    Scenario::new("poison", "what nobody should send is on every topic", messages::poison),
    Scenario::new(
        "mixed-envelopes",
        "messages of older and newer releases are among those of this one",
        messages::mix_releases,
    )
    .without_blame(),
    Scenario::new("duplicates", "each message comes one to five times", messages::duplicate)
        .with_instances(2, 2),
    Scenario::new(
        "late-messages",
        "each message comes again, up to 6 s later and in any order",
        messages::come_late,
    )
    .with_instances(2, 2),
    Scenario::new(
        "removals",
        "products are removed and put in again, while processes are killed and messages come late",
        mixed::remove,
    )
    .with_instances(2, 2)
    .with_removals(),
    Scenario::new(
        "retention",
        "what is settled is forgotten after seconds, while processes are killed",
        amounts::forget,
    )
    .with_instances(2, 2)
    .with_settings(&amounts::SHORT),
    Scenario::new(
        "backlog",
        "as many changes wait, and then messages, as memory would not hold",
        amounts::pile_up,
    ),
    Scenario::new("two-at-once", "two of the other faults at a time", mixed::two_at_once)
        .with_instances(2, 2)
        .with_late_starts(),
];

/// The name that stands for every scenario.
pub(super) const EVERY: &str = "all";

/// What `--scenario` may say.
pub(super) fn names() -> PossibleValuesParser {
    let every = PossibleValue::new(EVERY).help("each of them");
    let one = |scenario: &'static Scenario| PossibleValue::new(scenario.name).help(scenario.about);
    PossibleValuesParser::new(std::iter::once(every).chain(ALL.iter().map(one)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::fault::{
        BrokerFault, Fault, FileFault, Part, PostgresFault, TopicFault, Which, Who,
    };
    use super::super::plan::{Plan, Step};
    use super::super::readers::TOPICS;
    use super::super::translations::Release;
    use super::super::wire::{Moment, Request};
    use super::*;
    use crate::check::Side;

    const TIME: Duration = Duration::from_secs(30);

    fn named(name: &str) -> impl Iterator<Item = &'static Scenario> {
        ALL.iter().filter(move |scenario| scenario.name == name)
    }

    #[test]
    fn names_differ() {
        let names: BTreeSet<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(!names.contains(EVERY));
    }

    #[test]
    fn a_seed_makes_one_plan_and_another_seed_another() {
        for scenario in &ALL {
            let plan = |seed| Plan::draw(scenario, seed, TIME);
            assert_eq!(plan(7), plan(7), "{}", scenario.name);
            let some: Vec<Plan> = (0..20).map(plan).collect();
            assert!(some.iter().any(|one| *one != some[0]), "{}", scenario.name);
        }
    }

    #[test]
    fn something_happens_in_order_however_short_the_time_is() {
        for scenario in &ALL {
            for seconds in [1, 5, 60] {
                let plan = Plan::draw(scenario, 3, Duration::from_secs(seconds));
                let meets = |step: &Step| step.fault.meets().is_some();
                assert!(plan.steps.iter().any(meets), "{}", scenario.name);
                assert!(plan.steps.is_sorted_by_key(|step| step.at), "{plan:?}");
                assert!(plan.steps.iter().all(|step| step.at <= plan.length), "{plan:?}");
            }
        }
    }

    #[test]
    fn both_services_are_met() {
        for scenario in &ALL {
            let plan = Plan::draw(scenario, 5, TIME);
            let is_with_pile = plan.steps.iter().any(|step| step.fault == Fault::Pile);
            let met = |step: &Step| met(step.fault, is_with_pile);
            let sides: BTreeSet<_> = plan.steps.iter().filter_map(met).collect();
            assert!(sides.is_empty() || sides.len() == 2, "{}: {plan:?}", scenario.name);
        }
    }

    fn met(fault: Fault, is_with_pile: bool) -> Option<Side> {
        match fault {
            // A service that is away for a while, since nobody reads what waits for it.
            Fault::Terminate(_) if is_with_pile => None,
            Fault::Kill(who)
            | Fault::KillAt(who, _)
            | Fault::KillInCheckpoint(who)
            | Fault::Terminate(who)
            | Fault::Upgrade(who)
            | Fault::Freeze(who)
            | Fault::Clock(who, _) => Some(who.side),
            Fault::File(side, _) => Some(side),
            // Only one has something to tell.
            Fault::Weather(link, _) if matches!(link.part, Part::Mail | Part::Webhook) => None,
            Fault::Weather(link, _) | Fault::Strike(link, _) => Some(link.side),
            Fault::Lose(side, ..) | Fault::Revoke(side, _) | Fault::Translate(side, _) => {
                Some(side)
            }
            _ => None,
        }
    }

    #[test]
    fn processes_are_killed_at_every_moment_of_both_services() {
        let mut killed = Vec::new();
        for scenario in named("kill-moments") {
            for step in Plan::draw(scenario, 1, Duration::from_secs(120)).steps {
                match step.fault {
                    Fault::KillAt(who, moment) if !killed.contains(&(who.side, moment)) => {
                        killed.push((who.side, moment));
                    }
                    _ => {}
                }
            }
        }
        for side in [Side::Product, Side::Order] {
            for request in [Request::Commit, Request::Produce, Request::NoteOffsets] {
                for is_answered in [false, true] {
                    let moment = Moment { request, is_answered };
                    assert!(killed.contains(&(side, moment)), "{side}, {moment}");
                }
            }
        }
    }

    #[test]
    fn every_broker_is_met() {
        for name in ["broker-killed", "brokers-killed", "brokers-rolled"] {
            for scenario in named(name) {
                let plan = Plan::draw(scenario, 2, TIME);
                let brokers: BTreeSet<Which> = plan.steps.iter().filter_map(broker_of).collect();
                let all: BTreeSet<Which> = (1..=broker::CLUSTER).map(Which::Number).collect();
                assert_eq!(brokers, all, "{name}");
            }
        }
    }

    #[test]
    fn brokers_and_rows_hang_in_turn_and_others_are_looked_at_each_time() {
        for scenario in named("partition-hung") {
            let faults = Plan::draw(scenario, 8, Duration::from_secs(60)).steps;
            let faults: Vec<Fault> = faults.into_iter().map(|step| step.fault).collect();
            let is_broker = |fault: &Fault| matches!(fault, Fault::Broker(_, BrokerFault::Freeze));
            let is_row = |fault: &Fault| matches!(fault, Fault::Postgres(PostgresFault::Hold(_)));
            assert!(faults.iter().any(is_broker) && faults.iter().any(is_row), "{faults:?}");
            for episode in faults.chunks(3) {
                let hangs = is_broker(&episode[0]) || is_row(&episode[0]);
                assert!(hangs && episode[1] == Fault::OthersGoOn, "{faults:?}");
            }
        }
    }

    #[test]
    fn each_service_hears_older_and_newer_releases() {
        for scenario in named("mixed-envelopes") {
            let steps = Plan::draw(scenario, 6, Duration::from_secs(60)).steps;
            let heard = |step: &Step| match step.fault {
                Fault::Translate(side, release) => Some((side, release)),
                _ => None,
            };
            let heard: Vec<_> = steps.iter().filter_map(heard).collect();
            for side in [Side::Product, Side::Order] {
                for release in [Release::Older, Release::Newer] {
                    assert!(heard.contains(&(side, release)), "{side}, {release}: {heard:?}");
                }
            }
        }
    }

    #[test]
    fn every_topic_is_limited_and_takes_as_much_as_others_again() {
        for scenario in named("limit-lowered") {
            let (mut limited, mut open) = (BTreeSet::new(), BTreeSet::new());
            for step in Plan::draw(scenario, 4, Duration::from_secs(60)).steps {
                match step.fault {
                    Fault::Topic(TopicFault::Limit { number, .. }) => {
                        limited.insert(number);
                        open.insert(number);
                    }
                    Fault::Topic(TopicFault::Unlimit(number)) => assert!(open.remove(&number)),
                    _ => {}
                }
            }
            assert_eq!(limited, (0..TOPICS.len()).collect(), "{}", scenario.name);
            assert!(open.is_empty());
        }
    }

    #[test]
    fn processes_and_databases_are_met_at_once_in_some_plan() {
        let is_of_database = |fault| match fault {
            Fault::Postgres(_) => true,
            Fault::Weather(link, _) | Fault::Strike(link, _) => link.part == Part::Postgres,
            Fault::Lose(_, request, _) => request.part() == Part::Postgres,
            _ => false,
        };
        let is_of_process =
            |fault| matches!(fault, Fault::Kill(_) | Fault::Terminate(_) | Fault::Freeze(_));
        let mut both = 0;
        for scenario in named("two-at-once") {
            for seed in 0..60 {
                let steps = Plan::draw(scenario, seed, TIME).steps;
                let first = |is_it: &dyn Fn(Fault) -> bool| steps.iter().find(|s| is_it(s.fault));
                let (process, database) = (first(&is_of_process), first(&is_of_database));
                both += usize::from(process.is_some() && database.is_some());
                let begun = [process, database].into_iter().flatten().map(|step| step.at);
                assert!(begun.max().is_none_or(|at| at <= Duration::from_secs(2)), "{steps:?}");
            }
        }
        assert!(both > 0, "some seed draws both");
    }

    #[test]
    fn each_process_is_upgraded_once_and_none_of_the_release_before_is_started() {
        for scenario in named("upgrade") {
            for seed in 0..20 {
                let mut upgraded = BTreeSet::new();
                for step in Plan::draw(scenario, seed, TIME).steps {
                    match step.fault {
                        Fault::Upgrade(who) => assert!(upgraded.insert(who), "{who}"),
                        Fault::Kill(who) | Fault::Start(who) => assert!(upgraded.contains(&who)),
                        _ => {}
                    }
                }
                assert_eq!(upgraded.len(), 2 * scenario.instances);
            }
        }
    }

    fn broker_of(step: &Step) -> Option<Which> {
        match step.fault {
            Fault::Broker(which, _) => Some(which),
            _ => None,
        }
    }

    /// What is down, frozen or in the way, by what a plan says.
    #[derive(Default)]
    struct Down {
        ended: BTreeSet<Who>,
        frozen: BTreeSet<Who>,
        brokers: BTreeSet<Which>,
        /// Of the database server and its pooler, of topics, and of what services may do.
        others: BTreeSet<&'static str>,
    }

    impl Down {
        fn take(&mut self, fault: Fault) {
            use PostgresFault as Pg;
            let is_new = match fault {
                Fault::Kill(who)
                | Fault::KillAt(who, _)
                | Fault::KillInCheckpoint(who)
                | Fault::Terminate(who) => self.ended.insert(who),
                Fault::Upgrade(who) => !self.ended.contains(&who),
                Fault::File(side, FileFault::ReadOnly) => {
                    let is_there = self.ended.insert(Who { side, number: 1 });
                    self.others.insert(word(side, "read-only")) && is_there
                }
                Fault::File(side, FileFault::Writable) => {
                    self.others.remove(word(side, "read-only"))
                }
                Fault::File(side, FileFault::Full) => self.others.insert(word(side, "full")),
                Fault::File(side, FileFault::Room) => self.others.remove(word(side, "full")),
                Fault::Start(who) => self.ended.remove(&who),
                Fault::Freeze(who) => self.frozen.insert(who),
                Fault::Thaw(who) => self.frozen.remove(&who),
                Fault::Clock(who, _) => self.ended.contains(&who),
                Fault::Postgres(Pg::Stop | Pg::Kill) => self.others.insert("server"),
                Fault::Postgres(Pg::Start | Pg::Promote) => self.others.remove("server"),
                Fault::Postgres(Pg::DiskFull { .. }) => self.others.insert("disk"),
                Fault::Postgres(Pg::DiskFree) => self.others.remove("disk"),
                Fault::Postgres(Pg::LeaveBehind) => self.others.insert("standby"),
                Fault::Postgres(Pg::StandBy) => {
                    self.others.remove("standby");
                    !self.others.contains("server")
                }
                Fault::Postgres(Pg::ReadOnly) => self.others.insert("writes"),
                Fault::Postgres(Pg::Writable) => self.others.remove("writes"),
                Fault::Postgres(Pg::Full) => self.others.insert("room"),
                Fault::Postgres(Pg::Room) => self.others.remove("room"),
                Fault::Postgres(Pg::Rivals) => self.others.insert("peace"),
                Fault::Postgres(Pg::Peace) => self.others.remove("peace"),
                Fault::Postgres(Pg::Lose(_)) => self.others.insert("races"),
                Fault::Postgres(Pg::Win) => self.others.remove("races"),
                Fault::Postgres(Pg::Isolate(_)) => self.others.insert("isolation"),
                Fault::Postgres(Pg::IsolateAsBefore) => self.others.remove("isolation"),
                Fault::Postgres(Pg::Hold(_)) => self.others.insert("row"),
                Fault::Postgres(Pg::LetGo) => self.others.remove("row"),
                Fault::OthersGoOn => self.others.contains("row") || !self.brokers.is_empty(),
                Fault::Postgres(Pg::KillPooler) => self.others.insert("pooler"),
                Fault::Postgres(Pg::StartPooler) => self.others.remove("pooler"),
                Fault::Translate(side, _) => self.ended.contains(&Who { side, number: 1 }),
                Fault::Topic(TopicFault::DeleteUnread(side, _)) => {
                    let is_away = self.ended.contains(&Who { side, number: 1 });
                    self.others.insert("unread") && is_away
                }
                Fault::Topic(TopicFault::KeepAll(_)) => self.others.remove("unread"),
                Fault::Topic(TopicFault::Limit { .. }) => self.others.insert("limit"),
                Fault::Topic(TopicFault::Unlimit(_)) => self.others.remove("limit"),
                Fault::Revoke(..) => self.others.insert("rights"),
                Fault::Grant(..) => self.others.remove("rights"),
                Fault::Broker(which, BrokerFault::Start | BrokerFault::Thaw) => {
                    self.brokers.remove(&which)
                }
                Fault::Broker(which, _) => self.brokers.insert(which),
                _ => true,
            };
            assert!(is_new, "{fault} changes nothing");
        }
    }

    /// What is wrong with a service's file, in a word.
    fn word(side: Side, what: &'static str) -> &'static str {
        match (side, what) {
            (Side::Product, "full") => "products are full",
            (Side::Order, "full") => "orders are full",
            (Side::Product, _) => "products are read-only",
            (Side::Order, _) => "orders are read-only",
        }
    }

    #[test]
    fn each_fault_meets_what_is_there_and_ends() {
        for scenario in &ALL {
            for seed in 0..20 {
                let mut down = Down::default();
                // These do not run at first.
                for number in scenario.instances + 1..=scenario.most {
                    let sides = [Side::Product, Side::Order];
                    down.ended.extend(sides.map(|side| Who { side, number }));
                }
                let at_first = down.ended.clone();
                for step in Plan::draw(scenario, seed, TIME).steps {
                    down.take(step.fault);
                }
                assert_eq!(down.ended, at_first, "{}", scenario.name);
                assert!(down.frozen.is_empty() && down.brokers.is_empty(), "{}", scenario.name);
                assert!(down.others.is_empty(), "{}: {:?}", scenario.name, down.others);
            }
        }
    }
}
