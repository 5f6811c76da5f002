//! Both services behind a real PgBouncer in transaction mode, with fewer sessions than they have connections.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use stockloop_tests::poll::eventually;
use stockloop_tests::postgres::PgBouncer;
use stockloop_tests::process::{Launch, built_binary};
use stockloop_tests::program::Program;
use stockloop_tests::real;

use crate::system::load::Load;
use crate::system::random::Random;
use crate::system::{DEADLINE, RealParts, TestSystem};

/// For each database; a service has 15 connections.
const SESSIONS: u32 = 4;
const CHANGES: usize = 600;
const BIND: (&str, &str) = ("STOCKLOOP__HTTP__BIND", "127.0.0.1:0");

fn pgbouncer() -> Option<PgBouncer> {
    real::available("PgBouncer", PgBouncer::start(real::postgres()?, SESSIONS))
}

/// Two product-services migrate at the same moment, changes are made at both, and the pooler crashes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_loop_runs_behind_it() {
    let (Some(mut pgbouncer), Some(parts)) = (pgbouncer(), RealParts::shared("pooler")) else {
        return;
    };
    let url = pgbouncer.url(&parts.product_url);
    let parts = RealParts { pgbouncer: Some(&pgbouncer), ..parts };
    let mut system = TestSystem::prepared("pooler", parts).await;
    let mut second = system.another_product();
    second.launch();
    system.start_both();
    second.wait_until_it_listens();

    let bases = [system.product.base_url.clone(), second.base_url.clone()];
    let mut load = Load::start(&mut Random::new(), &system.product, &bases, 40, CHANGES).await;
    load.reached(CHANGES / 3).await;
    pgbouncer.kill9();
    pgbouncer.start_again().expect("it starts again");
    load.assert_all_arrived(&system).await;
    system.assert_no_attempt_was_lost().await;
    let unavailable = load.failures().statuses.into_iter().all(|status| status == 503);
    assert!(unavailable, "an outage is no flaw: {:?}", load.failures());

    orders_arrive(&system).await;
    operators_see_all(&system).await;
    nothing_is_left_in(&url);
    second.stop().await;
    system.stop().await;
}

async fn orders_arrive(system: &TestSystem) {
    system.product.put_product("TEA", 12).await;
    system.wait_until_settled().await;
    for _ in 0..12 {
        system.order.place_order("TEA", 1).await;
    }
    system.wait_until_settled().await;
    let state = "SELECT count(*) AS n FROM orders WHERE status = 'CONFIRMED'";
    assert_eq!(system.order.count(state).await, 12);
    system.assert_equal_at_rest().await;
}

async fn operators_see_all(system: &TestSystem) {
    for service in [&system.product, &system.order] {
        for list in [
            "overview",
            "events?limit=10",
            "events/export?format=ndjson",
            "alerts",
            "relay",
            "audit",
        ] {
            let answer = service.get(&format!("/api/admin/v1/{list}")).await;
            assert_eq!(answer.status, 200, "{list}: {answer:?}");
        }
        eventually("it to be ready", DEADLINE, async || {
            let answer = service.get("/health/ready").await;
            if answer.status == 200 { Ok(()) } else { Err(answer) }
        })
        .await;
    }
}

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = Text)]
    state: String,
}

/// Holds all sessions at once, and looks at what is in each: as the server gave it out.
fn nothing_is_left_in(url: &str) {
    let sql = "SELECT concat_ws(' ', \
                 (SELECT count(*) FROM pg_prepared_statements), \
                 (SELECT count(*) FROM pg_listening_channels()), \
                 (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())), \
                 current_setting('statement_timeout'), current_setting('lock_timeout'), \
                 current_setting('idle_in_transaction_session_timeout'), \
                 current_setting('enable_seqscan'), current_setting('client_min_messages')) AS state";
    let sessions: Vec<PgConnection> = (0..SESSIONS)
        .map(|_| {
            let mut conn = PgConnection::establish(url).expect("the pooler lets anybody in");
            conn.batch_execute("BEGIN").expect("a session becomes free");
            conn
        })
        .collect();
    for mut conn in sessions {
        let session: Session = sql_query(sql).get_result(&mut conn).expect("it answers");
        assert_eq!(session.state, "0 0 0 0 0 0 on notice");
    }
}

/// `migrate` of many on one new database, which has fewer sessions than there are of them.
#[test]
fn many_migrate_at_once() {
    let (Some(pgbouncer), Some(postgres)) = (pgbouncer(), real::postgres()) else { return };
    let url = pgbouncer.url(&postgres.database("pooler_migrate"));
    let program = built_binary("product-service").expect("the services are built");
    let running: Vec<_> = (0..2 * SESSIONS)
        .map(|_| {
            let launch = Launch::new(&program)
                .arg("migrate")
                .env("STOCKLOOP__DATABASE__URL", &url)
                .env("STOCKLOOP__DATABASE__POOLER", "transaction");
            launch.spawn().expect("it starts")
        })
        .collect();
    for mut one in running {
        let status = one.wait_for_exit(DEADLINE).expect("it ends");
        assert!(status.success(), "{status}\n{}", one.log_tail());
    }
    nothing_is_left_in(&url);
}

/// Without the setting a service does not start, and says which one it is, whether it is the first or not.
#[test]
fn a_pooler_that_nobody_told_of_is_named() {
    let (Some(pgbouncer), Some(postgres)) = (pgbouncer(), real::postgres()) else { return };
    let url = pgbouncer.url(&postgres.database("pooler_untold"));
    let program = Program::built("product-service");
    let untold = [("STOCKLOOP__DATABASE__URL", url.as_str()), BIND];
    for command in ["serve", "serve", "migrate"] {
        program.refusal(&[command], &untold, &["database.pooler", "\"transaction\""]);
    }
    // What those have left in the sessions harms nobody who was told.
    let told = [("STOCKLOOP__DATABASE__POOLER", "transaction")];
    program.output(&["migrate"], &[&untold[..], &told].concat());
}
