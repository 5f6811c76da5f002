//! What may happen to a system: each scenario is a function that draws its plan.

mod broker;
mod instances;
mod mails;
mod messages;
mod network;
mod postgres;

use clap::builder::{PossibleValue, PossibleValuesParser};

use super::EVERY;
use super::plan::Draw;

/// Something that may happen.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What happens, in a line.
    pub(super) about: &'static str,
    /// Processes of each service that run when all is well.
    pub(super) instances: usize,
    /// Processes of each service that run at once, at the most.
    pub(super) most: usize,
    pub(super) draw: fn(&mut Draw),
}

impl Scenario {
    const fn new(name: &'static str, about: &'static str, draw: fn(&mut Draw)) -> Self {
        Self { name, about, instances: 1, most: 1, draw }
    }

    const fn with_instances(self, instances: usize, most: usize) -> Self {
        Self { instances, most, ..self }
    }
}

/// All of them, in the order in which they are run.
pub(super) static ALL: [Scenario; 17] = [
    Scenario::new("kill", "processes of both services are killed by SIGKILL", instances::kill)
        .with_instances(2, 2),
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
        "postgres-network",
        "the network to PostgreSQL is slow, broken or silent",
        network::to_postgres,
    ),
    Scenario::new(
        "kafka-network",
        "the network to Kafka is slow, broken or silent",
        network::to_kafka,
    ),
    Scenario::new("lost-commit", "the answers to commits are lost", network::lose_commits),
    Scenario::new("postgres-restart", "PostgreSQL shuts down or is killed", postgres::restart),
    Scenario::new("postgres-sessions", "PostgreSQL ends all sessions", postgres::end_sessions)
        .with_instances(2, 2),
    Scenario::new("postgres-read-only", "PostgreSQL lets nobody write", postgres::read_only),
    Scenario::new("postgres-full", "PostgreSQL has no connection left", postgres::fill_up),
    Scenario::new("broker-restart", "the broker shuts down, is killed or freezes", broker::restart),
    Scenario::new("slow-consumer", "order-service takes ten times as long", messages::slow_down),
    Scenario::new(
        "exhausted",
        "many events give up while mails can't leave",
        mails::give_up_without_mail,
    ),
    Scenario::new(
        "forged-answers",
        "answers come again, from strangers, and about nothing",
        messages::forge,
    ),
    Scenario::new("poison", "what nobody should send is on every topic", messages::poison),
    Scenario::new("duplicates", "each message comes one to five times", messages::duplicate)
        .with_instances(2, 2),
];

/// What `--scenario` may say.
pub(super) fn names() -> PossibleValuesParser {
    let every = PossibleValue::new(EVERY).help("one after the other");
    let one = |scenario: &'static Scenario| PossibleValue::new(scenario.name).help(scenario.about);
    PossibleValuesParser::new(std::iter::once(every).chain(ALL.iter().map(one)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::plan::{BrokerFault, Fault, Plan, PostgresFault, Who};
    use super::*;

    const TIME: Duration = Duration::from_secs(30);

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
                assert!(!plan.steps.is_empty(), "{}", scenario.name);
                assert!(plan.steps.is_sorted_by_key(|step| step.at), "{plan:?}");
                assert!(plan.steps.iter().all(|step| step.at <= plan.length), "{plan:?}");
            }
        }
    }

    #[test]
    fn both_services_are_met() {
        for scenario in ALL.iter().filter(|scenario| scenario.instances > 1) {
            let plan = Plan::draw(scenario, 5, TIME);
            let sides: BTreeSet<_> = plan.steps.iter().filter_map(|step| met(step.fault)).collect();
            assert!(sides.is_empty() || sides.len() == 2, "{}: {plan:?}", scenario.name);
        }
    }

    fn met(fault: Fault) -> Option<crate::check::Side> {
        match fault {
            Fault::Kill(who) | Fault::Terminate(who) | Fault::Freeze(who) => Some(who.side),
            _ => None,
        }
    }

    /// What is down or frozen, by what a plan says.
    #[derive(Default)]
    struct Down {
        ended: BTreeSet<Who>,
        frozen: BTreeSet<Who>,
        postgres: bool,
        broker: bool,
    }

    impl Down {
        fn take(&mut self, fault: Fault) {
            let is_new = match fault {
                Fault::Kill(who) | Fault::Terminate(who) => self.ended.insert(who),
                Fault::Start(who) => self.ended.remove(&who),
                Fault::Freeze(who) => self.frozen.insert(who),
                Fault::Thaw(who) => self.frozen.remove(&who),
                Fault::Postgres(PostgresFault::Stop | PostgresFault::Kill) => {
                    !std::mem::replace(&mut self.postgres, true)
                }
                Fault::Postgres(PostgresFault::Start) => std::mem::take(&mut self.postgres),
                Fault::Broker(BrokerFault::Stop | BrokerFault::Kill | BrokerFault::Freeze) => {
                    !std::mem::replace(&mut self.broker, true)
                }
                Fault::Broker(BrokerFault::Start | BrokerFault::Thaw) => {
                    std::mem::take(&mut self.broker)
                }
                _ => true,
            };
            assert!(is_new, "{fault} changes nothing");
        }
    }

    #[test]
    fn each_fault_meets_what_is_there_and_ends() {
        for scenario in &ALL {
            for seed in 0..20 {
                let mut down = Down::default();
                // These do not run at first.
                let sides = [crate::check::Side::Product, crate::check::Side::Order];
                for number in scenario.instances + 1..=scenario.most {
                    down.ended.extend(sides.map(|side| Who { side, number }));
                }
                let at_first = down.ended.clone();
                for step in Plan::draw(scenario, seed, TIME).steps {
                    down.take(step.fault);
                }
                assert!(down.frozen.is_empty() && !down.postgres && !down.broker);
                let missing: Vec<_> = down.ended.difference(&at_first).collect();
                assert!(missing.is_empty(), "{} of {}", missing.len(), scenario.name);
            }
        }
    }
}
