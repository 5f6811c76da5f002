//! The scenarios that there are.

use super::{
    Scenario, Store, amounts, broker, chores, instances, mails, messages, mixed, network, postgres,
    rights, sqlite, topics,
};

/// Each scenario, in the order in which they are run.
pub(in crate::chaos) static ALL: [Scenario; 52] = [
    Scenario::new("kill", "processes of both services are killed by SIGKILL", instances::kill)
        .with_instances(2, 2),
    Scenario::new(
        "kill-moments",
        "processes are killed just before and after each thing that is done for them",
        instances::kill_at_moments,
    ),
    Scenario::new(
        "kill-jobs",
        "processes are killed in the middle of longer work, and of what they tell",
        chores::kill,
    )
    .with_settings(&chores::WHEN_ASKED),
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
    Scenario::new(
        "clocks-jump",
        "clocks jump up to two minutes ahead or back, under load",
        instances::let_clocks_jump,
    )
    .with_instances(2, 2)
    .with_clocks_that_jump(),
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
        "year",
        "two years pass by months, and what is old by the services' own settings is forgotten",
        amounts::let_years_pass,
    )
    .with_instances(2, 2)
    .with_removals()
    .with_clocks_that_jump(),
    Scenario::new(
        "backlog",
        "as many changes wait, and then messages, as memory would not hold",
        amounts::pile_up,
    ),
    Scenario::new("two-at-once", "two of the other faults at a time", mixed::two_at_once)
        .with_instances(2, 2)
        .with_late_starts(),
];
