//! What each plan has to have, whatever the seed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::chores::Chore;
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

fn named(name: &str) -> &'static Scenario {
    ALL.iter().find(|scenario| scenario.name == name).unwrap()
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
        | Fault::KillIn(who, ..)
        | Fault::KillInCheckpoint(who)
        | Fault::Terminate(who)
        | Fault::Upgrade(who)
        | Fault::Freeze(who)
        | Fault::Clock(who, _)
        | Fault::Jump(who, _) => Some(who.side),
        Fault::File(side, _) => Some(side),
        // Only one has something to tell.
        Fault::Weather(link, _) if matches!(link.part, Part::Mail | Part::Webhook) => None,
        Fault::Weather(link, _) | Fault::Strike(link, _) => Some(link.side),
        Fault::Lose(side, ..) | Fault::Revoke(side, _) | Fault::Translate(side, _) => Some(side),
        _ => None,
    }
}

#[test]
fn processes_are_killed_at_every_moment_of_both_services() {
    let mut killed = Vec::new();
    for step in Plan::draw(named("kill-moments"), 1, Duration::from_secs(120)).steps {
        match step.fault {
            Fault::KillAt(who, moment) if !killed.contains(&(who.side, moment)) => {
                killed.push((who.side, moment));
            }
            _ => {}
        }
    }
    for side in Side::BOTH {
        for request in [Request::Commit, Request::Produce, Request::NoteOffsets] {
            for is_answered in [false, true] {
                let moment = Moment { request, is_answered };
                assert!(killed.contains(&(side, moment)), "{side}, {moment}");
            }
        }
    }
}

#[test]
fn all_longer_work_is_cut_off_at_each_service_that_has_a_part_in_it() {
    for seed in 0..20 {
        let (mut cut, mut untold) = (Vec::new(), BTreeSet::new());
        for step in Plan::draw(named("kill-jobs"), seed, Duration::from_secs(60)).steps {
            match step.fault {
                Fault::KillIn(who, chore, point) => {
                    assert!((1..=chore.updates()).contains(&point.update), "{chore}, {point}");
                    cut.push((chore, who.side));
                }
                Fault::KillUnanswered(who, part) => {
                    assert_eq!(who.side, Side::Product, "only that has something to tell");
                    untold.insert(part);
                }
                _ => {}
            }
        }
        let (first, later) = cut.split_first().unwrap();
        assert_eq!(*first, (Chore::Resend, Side::Product));
        assert!(!later.contains(first), "a flood comes once");
        let later: BTreeSet<_> = later.iter().copied().collect();
        let both = |chore| Side::BOTH.map(|side| (chore, side));
        let expected = [Chore::Verify, Chore::Repair, Chore::Fill].into_iter().flat_map(both);
        assert_eq!(later, expected.collect());
        assert_eq!(untold, BTreeSet::from([Part::Mail, Part::Webhook]));
    }
}

#[test]
fn every_broker_is_met() {
    for name in ["broker-killed", "brokers-killed", "brokers-rolled"] {
        let plan = Plan::draw(named(name), 2, TIME);
        let brokers: BTreeSet<Which> = plan.steps.iter().filter_map(broker_of).collect();
        let all: BTreeSet<Which> = (1..=broker::CLUSTER).map(Which::Number).collect();
        assert_eq!(brokers, all, "{name}");
    }
}

#[test]
fn brokers_and_rows_hang_in_turn_and_others_are_looked_at_each_time() {
    let faults = Plan::draw(named("partition-hung"), 8, Duration::from_secs(60)).steps;
    let faults: Vec<Fault> = faults.into_iter().map(|step| step.fault).collect();
    let is_broker = |fault: &Fault| matches!(fault, Fault::Broker(_, BrokerFault::Freeze));
    let is_row = |fault: &Fault| matches!(fault, Fault::Postgres(PostgresFault::Hold(_)));
    assert!(faults.iter().any(is_broker) && faults.iter().any(is_row), "{faults:?}");
    for episode in faults.chunks(3) {
        let hangs = is_broker(&episode[0]) || is_row(&episode[0]);
        assert!(hangs && episode[1] == Fault::OthersGoOn, "{faults:?}");
    }
}

#[test]
fn clocks_jump_by_seconds_and_by_minutes_both_ways() {
    let steps = Plan::draw(named("clocks-jump"), 9, Duration::from_secs(600)).steps;
    let seconds = |step: &Step| match step.fault {
        Fault::Jump(_, seconds) => Some(seconds),
        _ => None,
    };
    let drawn: BTreeSet<i32> = steps.iter().filter_map(seconds).collect();
    assert_eq!(drawn, BTreeSet::from([-120, -30, -5, 0, 5, 30, 120]));
}

#[test]
fn two_years_pass_most_of_them_by_months() {
    for (seed, seconds) in [(1, 1), (2, 5), (3, 600)] {
        let plan = Plan::draw(named("year"), seed, Duration::from_secs(seconds));
        let passed = |step: &Step| match step.fault {
            Fault::Pass(days) => Some(days),
            _ => None,
        };
        let days: Vec<u32> = plan.steps.iter().filter_map(passed).collect();
        let (last, months) = days.split_last().unwrap();
        assert!(months.iter().all(|days| (29..=33).contains(days)), "{days:?}");
        let of_months: u32 = months.iter().sum();
        assert!(of_months > 365 && of_months + last > 730, "{days:?}");
        let ended = plan.steps.iter().filter(|step| matches!(step.fault, Fault::Terminate(_)));
        assert_eq!(ended.count(), 4, "{plan:?}");
        assert!(plan.length < Duration::from_secs(2 * seconds + 30), "{plan:?}");
    }
}

#[test]
fn each_service_hears_older_and_newer_releases() {
    let steps = Plan::draw(named("mixed-envelopes"), 6, Duration::from_secs(60)).steps;
    let heard = |step: &Step| match step.fault {
        Fault::Translate(side, release) => Some((side, release)),
        _ => None,
    };
    let heard: Vec<_> = steps.iter().filter_map(heard).collect();
    for side in Side::BOTH {
        for release in [Release::Older, Release::Newer] {
            assert!(heard.contains(&(side, release)), "{side}, {release}: {heard:?}");
        }
    }
}

#[test]
fn every_topic_is_limited_and_takes_as_much_as_others_again() {
    let limited = |seed, seconds| {
        let (mut limited, mut open) = (BTreeSet::new(), BTreeSet::new());
        for step in Plan::draw(named("limit-lowered"), seed, Duration::from_secs(seconds)).steps {
            match step.fault {
                Fault::Topic(TopicFault::Limit { number, .. }) => {
                    limited.insert(number);
                    assert!(open.insert(number));
                }
                Fault::Topic(TopicFault::Unlimit(number)) => assert!(open.remove(&number)),
                _ => {}
            }
        }
        assert!(open.is_empty());
        limited
    };
    let all: BTreeSet<usize> = (0..TOPICS.len()).collect();
    assert_eq!(limited(4, 60), all);
    let short: Vec<_> = (0..20).map(|seed| limited(seed, 5)).collect();
    assert!(short.iter().all(|limited| limited.contains(&0) && limited.len() == 2));
    assert_eq!(short.into_iter().flatten().collect::<BTreeSet<_>>(), all);
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
    let scenario = named("two-at-once");
    for seed in 0..60 {
        let steps = Plan::draw(scenario, seed, TIME).steps;
        let first = |is_it: &dyn Fn(Fault) -> bool| steps.iter().find(|s| is_it(s.fault));
        let (process, database) = (first(&is_of_process), first(&is_of_database));
        both += usize::from(process.is_some() && database.is_some());
        let begun = [process, database].into_iter().flatten().map(|step| step.at);
        assert!(begun.max().is_none_or(|at| at <= Duration::from_secs(2)), "{steps:?}");
    }
    assert!(both > 0, "some seed draws both");
}

#[test]
fn each_process_is_upgraded_once_and_none_of_the_release_before_is_started() {
    let scenario = named("upgrade");
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
    /// Whose clock has jumped.
    jumped: BTreeSet<Who>,
    brokers: BTreeSet<Which>,
    /// Topics that take less than others.
    limited: BTreeSet<usize>,
    /// Of the database server and its pooler, of topics, and of what services may do.
    others: BTreeSet<&'static str>,
}

impl Down {
    fn take(&mut self, fault: Fault) {
        use PostgresFault as Pg;
        let is_new = match fault {
            Fault::Kill(who)
            | Fault::KillAt(who, _)
            | Fault::KillUnanswered(who, _)
            | Fault::KillInCheckpoint(who)
            | Fault::Terminate(who) => self.ended.insert(who),
            Fault::KillIn(who, chore, _) => {
                self.others.insert(chore.cut_off()) && self.ended.insert(who)
            }
            Fault::ChoreEnds(chore) => self.others.remove(chore.cut_off()) && self.ended.is_empty(),
            Fault::Upgrade(who) => !self.ended.contains(&who),
            Fault::File(side, FileFault::ReadOnly) => {
                let is_there = self.ended.insert(Who { side, number: 1 });
                self.others.insert(word(side, "read-only")) && is_there
            }
            Fault::File(side, FileFault::Writable) => self.others.remove(word(side, "read-only")),
            Fault::File(side, FileFault::Full) => self.others.insert(word(side, "full")),
            Fault::File(side, FileFault::Room) => self.others.remove(word(side, "full")),
            Fault::Start(who) => self.ended.remove(&who),
            Fault::Freeze(who) => self.frozen.insert(who),
            Fault::Thaw(who) => self.frozen.remove(&who),
            Fault::Clock(who, _) => self.ended.contains(&who),
            Fault::Jump(who, 0) => self.jumped.remove(&who),
            // One at a time, and one that runs.
            Fault::Jump(who, _) => {
                let is_alone = self.jumped.is_empty() && !self.ended.contains(&who);
                self.jumped.insert(who) && is_alone
            }
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
            Fault::Topic(TopicFault::Limit { number, .. }) => self.limited.insert(number),
            Fault::Topic(TopicFault::Unlimit(number)) => self.limited.remove(&number),
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
                down.ended.extend(Side::BOTH.map(|side| Who { side, number }));
            }
            let at_first = down.ended.clone();
            for step in Plan::draw(scenario, seed, TIME).steps {
                down.take(step.fault);
            }
            assert_eq!(down.ended, at_first, "{}", scenario.name);
            assert!(down.frozen.is_empty() && down.brokers.is_empty(), "{}", scenario.name);
            assert!(down.jumped.is_empty() && down.limited.is_empty(), "{}", scenario.name);
            assert!(down.others.is_empty(), "{}: {:?}", scenario.name, down.others);
        }
    }
}
