//! The relay that reads PostgreSQL's log: the same loop, and nothing lost when the log fails.

use std::fmt::Write as _;

use common::db::{Conn, DbError};
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use engine::outbox::shard_of;
use stockloop_tests::poll::eventually;
use stockloop_tests::postgres::{Binaries, PostgresServer};
use stockloop_tests::real;

use crate::system::load::{Load, OPENING};
use crate::system::random::Random;
use crate::system::{DEADLINE, RealParts, TestService, TestSystem};

pub(crate) const BY_LOG: (&str, &str) = ("STOCKLOOP__OUTBOX__RELAY", "log");
pub(crate) const BY_TABLE: (&str, &str) = ("STOCKLOOP__OUTBOX__RELAY", "table");

/// However far behind a slot is, it is read on from.
const READS_ON: (&str, &str) = ("STOCKLOOP__OUTBOX__LOG_KEPT_BYTES", "1000000000000");

/// Of each partition: what is sent at once is much less than what waits then.
const FEW_IN_FLIGHT: (&str, &str) = ("STOCKLOOP__OUTBOX__IN_FLIGHT_EVENTS", "1000");

/// Products of a large transaction, and versions of each that it appends: more events than may wait for the relay and be in
/// flight.
const PRODUCTS: usize = 40;
const VERSIONS: usize = 750;

/// Slots of this database that somebody reads; who makes one has it active, too.
pub(crate) const READ: &str = "SELECT count(*) AS n FROM pg_replication_slots \
    WHERE database = current_database() AND active AND confirmed_flush_lsn IS NOT NULL";

const SLOTS: &str =
    "SELECT count(*) AS n FROM pg_replication_slots WHERE database = current_database()";

/// Makes the slot one that is known again: a service makes none for two phases.
const MARK_SLOT: &str = "SELECT pg_drop_replication_slot(slot_name), \
        pg_create_logical_replication_slot(slot_name, 'pgoutput', false, true) \
    FROM pg_replication_slots WHERE database = current_database()";

const MARKED: &str = "SELECT count(*) AS n FROM pg_replication_slots \
    WHERE database = current_database() AND two_phase";

/// Ends whoever reads from the slot, as often as it takes to be faster than the next session.
const DROP_THE_SLOT: &str = "DO $$ BEGIN LOOP
    PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots
        WHERE database = current_database() AND active;
    BEGIN
        PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots
            WHERE database = current_database();
        EXIT;
    EXCEPTION WHEN object_in_use OR undefined_object THEN
        PERFORM pg_sleep(0.01);
    END;
END LOOP; END $$";

const TAKE_THE_TABLE_OUT: &str = "ALTER PUBLICATION stockloop_outbox DROP TABLE outbox_event";

const PUT_ANOTHER_TABLE_IN: &str = "ALTER PUBLICATION stockloop_outbox ADD TABLE product";

const TELL_OF_TRUNCATE: &str =
    "ALTER PUBLICATION stockloop_outbox SET (publish = 'insert, truncate')";

/// The session that reads this database's log.
const READER: &str = "SELECT active_pid::bigint AS n FROM pg_replication_slots \
    WHERE database = current_database() AND active";

/// Tables that the publication tells of.
const PUBLISHED: &str =
    "SELECT count(*) AS n FROM pg_publication_tables WHERE pubname = 'stockloop_outbox'";

const TOLD_OF_TRUNCATE: &str =
    "SELECT count(*) AS n FROM pg_publication WHERE pubname = 'stockloop_outbox' AND pubtruncate";

const WRITE_32_MB: &str =
    "SELECT pg_logical_emit_message(false, 'x', repeat('y', 2000000)) FROM generate_series(1, 16)";

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_can_be_changed_both_ways() {
    let Some(mut system) = TestSystem::real("log_and_back").await else { return };
    let (mut random, base) = (Random::new(), system.product.base_url.clone());
    for (round, relay) in [BY_TABLE, BY_LOG, BY_TABLE, BY_LOG].into_iter().enumerate() {
        let slots = i64::from(relay == BY_LOG);
        // What is left over is the next one's.
        let mut load =
            Load::start(&mut random, &system.product, std::slice::from_ref(&base), 40, 600).await;
        load.reached(300).await;
        system.product.restart_with(&[relay]).await;
        wait_until(&system.product, "slots", SLOTS, slots).await;
        wait_until(&system.product, "readers", READ, slots).await;
        load.finished().await;
        match relay {
            BY_LOG => until_more_comes_by_log(&system.product, &format!("ROUND-{round}"), 0).await,
            _ => assert_eq!(by_log(&system.product).await, 0),
        }
        system.wait_until_settled().await;
    }
    system.assert_equal_at_rest().await;
    system.assert_no_attempt_was_lost().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_breaks_loses_nothing() {
    let Some(kafka) = real::kafka() else { return };
    // So small that what nobody reads is soon thrown away.
    let settings = ["wal_level=logical", "max_slot_wal_keep_size=1MB", "min_wal_size=32MB"];
    let started = Binaries::find().and_then(|found| PostgresServer::start_with(found, &settings));
    let Some(postgres) = real::available("PostgreSQL", started) else { return };
    let parts = RealParts::on(&postgres, kafka, "log_breaks");
    let mut system = TestSystem::on("log_breaks", parts).await;
    system.product.restart_with(&[BY_LOG]).await;
    wait_until(&system.product, "readers", READ, 1).await;
    let (mut random, base) = (Random::new(), system.product.base_url.clone());
    let mut load = Load::start(&mut random, &system.product, &[base], 40, 3_000).await;
    load.reached(500).await;
    system
        .product
        .execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()")
        .await;
    load.reached(1_000).await;
    system.product.execute("DROP PUBLICATION stockloop_outbox").await;
    load.reached(1_500).await;
    system.product.kill9();
    // The server ends its reader a little later.
    wait_until(&system.product, "readers", READ, 0).await;
    system
        .product
        .execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
        .await;
    system.product.start();
    load.reached(2_000).await;
    wait_until(&system.product, "readers", READ, 1).await;
    system.product.kill9();
    lose_the_slot(&system.product).await;
    system.product.start();
    load.assert_all_arrived(&system).await;
    wait_until(&system.product, "readers", READ, 1).await;
    let before = by_log(&system.product).await;
    until_more_comes_by_log(&system.product, "AFTERWARDS", before).await;
    system.wait_until_settled().await;
    system.stop().await;
}

/// What people may do to slot, publication and table while they are in use.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_tampered_with_loses_nothing() {
    let Some(mut system) = TestSystem::real("log_tampered").await else { return };
    system.product.restart_with(&[BY_LOG]).await;
    let (mut random, base) = (Random::new(), system.product.base_url.clone());
    let mut load = Load::start(&mut random, &system.product, &[base], 40, 2_000).await;
    load.reached(300).await;
    wait_until(&system.product, "readers", READ, 1).await;
    let tampering = [(DROP_THE_SLOT, 700), (TAKE_THE_TABLE_OUT, 1_200)];
    for (round, (done, reached)) in tampering.into_iter().enumerate() {
        system.product.execute(done).await;
        wait_until(&system.product, "tables", PUBLISHED, 1).await;
        wait_until(&system.product, "readers", READ, 1).await;
        load.reached(reached).await;
        let before = by_log(&system.product).await;
        until_more_comes_by_log(&system.product, &format!("ROUND-{round}"), before).await;
    }
    // What another table says is passed by, in the same session.
    let reader = system.product.count(READER).await;
    system.product.execute(PUT_ANOTHER_TABLE_IN).await;
    load.reached(1_700).await;
    let before = by_log(&system.product).await;
    until_more_comes_by_log(&system.product, "OTHERS", before).await;
    load.assert_all_arrived(&system).await;
    assert_eq!(system.product.count(READER).await, reader, "no session ended by it");
    assert_eq!(system.product.count(PUBLISHED).await, 2, "the publication is left as it is");

    system.product.execute(TELL_OF_TRUNCATE).await;
    system.product.execute("TRUNCATE outbox_event, outbox_pending").await;
    let before = by_log(&system.product).await;
    until_more_comes_by_log(&system.product, "EMPTIED", before).await;
    // The next session wants to be told of nothing but events.
    system.product.restart_with(&[BY_LOG]).await;
    until_more_comes_by_log(&system.product, "ANEW", 0).await;
    wait_until(&system.product, "tables", PUBLISHED, 1).await;
    wait_until(&system.product, "publications with TRUNCATE", TOLD_OF_TRUNCATE, 0).await;
    system.wait_until_settled().await;
    assert_eq!(system.product.inventory().await, system.order.inventory().await);
    system.assert_nothing_came_back().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_in_the_middle_of_a_large_transaction_loses_nothing_of_it() {
    let started = PostgresServer::start_private();
    let Some(mut postgres) = real::available("PostgreSQL", started) else { return };
    let Some(parts) = RealParts::shared("log_large") else { return };
    let product_url = postgres.database("large");
    let parts = RealParts { product_url: product_url.clone(), ..parts };
    let mut system = TestSystem::on("log_large", parts).await;
    system.product.restart_with(&[BY_LOG, READS_ON, FEW_IN_FLIGHT]).await;
    for number in 0..PRODUCTS {
        system.product.put_product(&large(number), OPENING).await;
    }
    until_more_comes_by_log(&system.product, "FIRST", 0).await;
    system.wait_until_settled().await;

    let gate = stand_in_the_middle(&system, &product_url).await;
    system.product.kill9();
    drop(gate);
    system.product.start();
    system.wait_until_settled().await;
    until_more_comes_by_log(&system.product, "SECOND", 0).await;
    system.wait_until_settled().await;

    let gate = stand_in_the_middle(&system, &product_url).await;
    postgres.kill9().expect("it can be killed");
    drop(gate);
    postgres.start_again().expect("it starts");
    system.wait_until_settled().await;
    let before = by_log(&system.product).await;
    until_more_comes_by_log(&system.product, "THIRD", before).await;
    system.wait_until_settled().await;
    system.assert_equal_at_rest().await;
    system.assert_nothing_gave_up().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_pays_for_no_pause() {
    let Some(mut system) = TestSystem::real("log_paused").await else { return };
    system.product.restart_with(&[BY_LOG, READS_ON]).await;
    let (mut random, base) = (Random::new(), system.product.base_url.clone());
    let mut load = Load::start(&mut random, &system.product, &[base], 40, 2_000).await;
    for (settings, reached, kept) in [(&[BY_LOG, READS_ON][..], 500, 1), (&[BY_LOG][..], 1_000, 0)]
    {
        load.reached(reached).await;
        wait_until(&system.product, "readers", READ, 1).await;
        system.product.kill9();
        wait_until(&system.product, "readers", READ, 0).await;
        system.product.execute(MARK_SLOT).await;
        system.product.execute(WRITE_32_MB).await;
        system.product.restart_with(settings).await;
        wait_until(&system.product, "readers", READ, 1).await;
        assert_eq!(system.product.count(MARKED).await, kept, "{settings:?}");
    }
    load.assert_all_arrived(&system).await;
    until_more_comes_by_log(&system.product, "AFTERWARDS", 0).await;
    wait_until(&system.product, "slots", SLOTS, 1).await;
    system.wait_until_settled().await;
    system.assert_no_attempt_was_lost().await;
    system.stop().await;
}

/// Writes more than the server keeps for a slot that nobody reads.
async fn lose_the_slot(product: &TestService) {
    eventually("the slot to be lost", DEADLINE, async || {
        product.execute("SELECT pg_logical_emit_message(false, 'x', repeat('y', 2000000))").await;
        product.execute("SELECT pg_switch_wal()").await;
        product.execute("CHECKPOINT").await;
        let lost = "SELECT count(*) AS n FROM pg_replication_slots \
            WHERE database = current_database() AND wal_status = 'lost'";
        match product.count(lost).await {
            1 => Ok(()),
            n => Err(n),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_log_for_it_is_told_of() {
    let Some(kafka) = real::kafka() else { return };
    let started = Binaries::find()
        .and_then(|found| PostgresServer::start_with(found, &["wal_level=replica"]));
    let Some(postgres) = real::available("PostgreSQL", started) else { return };
    let parts = RealParts::on(&postgres, kafka, "no_log");
    let mut system = TestSystem::on("no_log", parts).await;
    system.product.restart_with(&[BY_LOG]).await;
    system.product.put_product("TEA", 5).await;
    system.wait_until_settled().await;
    let alert = eventually("an alert", DEADLINE, async || {
        let path = "/api/admin/v1/alerts?state=open&kind=log_not_read";
        let page = system.product.get(path).await.ok();
        page["items"].as_array().and_then(|items| items.first().cloned()).ok_or(page)
    })
    .await;
    let error = alert["error"].as_str().unwrap_or_default();
    assert!(error.contains("wal_level") && error.contains("logical"), "{alert}");
    system.product.restart_with(&[BY_TABLE]).await;
    system.assert_equal_at_rest().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_says_who_reads_the_log() {
    let Some(mut system) = TestSystem::real("log_instances").await else { return };
    system.product.restart_with(&[BY_LOG]).await;
    let mut second = system.second_product();
    let bases = [system.product.base_url.clone(), second.base_url.clone()];
    let mut random = Random::new();
    let mut load = Load::start(&mut random, &system.product, &bases, 40, 3_000).await;
    load.reached(500).await;
    assert_eq!(owners(&system.product).await, 1, "one instance has all shards");
    // It hangs for longer than its lease, and its session with it.
    system.product.child().pause().expect("it can be paused");
    until_more_comes_by_log(&second, "SECOND", 0).await;
    system.product.child().resume().expect("it can be resumed");
    load.reached(1_800).await;
    second.kill9();
    let before = by_log(&system.product).await;
    until_more_comes_by_log(&system.product, "FIRST", before).await;
    second.start();
    load.assert_all_arrived(&system).await;
    second.stop().await;
    system.stop().await;
}

/// The name of a product of the large transactions.
fn large(number: usize) -> String {
    format!("LARGE-{number:02}")
}

/// Appends a large transaction, and keeps the relay from noting what it sends of it: so the reader stands in the middle, with
/// all the room full. Returns what holds the relay.
async fn stand_in_the_middle(system: &TestSystem, url: &str) -> PgConnection {
    let mut gate = PgConnection::establish(url).expect("it connects");
    gate.batch_execute("BEGIN; LOCK TABLE outbox_sent IN SHARE MODE").expect("it is locked");
    let before = system.topics.events_sent();
    append_large_transaction(&system.product).await;
    eventually("some of it to be sent", DEADLINE, async || match system.topics.events_sent() {
        sent if sent > before => Ok(()),
        sent => Err(sent),
    })
    .await;
    gate
}

/// Further versions of each product, with their events as a service would append them, in one transaction.
async fn append_large_transaction(product: &TestService) {
    let mut shards = String::new();
    for sku in (0..PRODUCTS).map(large) {
        let comma = if shards.is_empty() { "" } else { ", " };
        write!(shards, "{comma}('{sku}', {})", shard_of(&sku)).expect("it is memory");
    }
    let sql = format!(
        "WITH shards (sku, shard) AS (VALUES {shards}),
         appended AS MATERIALIZED (
           SELECT n, sku, shard, e.epoch, e.version + n AS version,
             jsonb_set(e.payload::jsonb, '{{version}}', to_jsonb(e.version + n))::text AS payload,
             (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS now_us,
             -- As UUIDs of version 7 are: a key's ids grow with its versions.
             (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n), 3, '0')
               || '8' || substr(md5(sku || random()), 1, 15))::uuid AS id
           FROM product JOIN shards USING (sku)
           JOIN outbox_event e ON e.key = sku AND e.version = product.version
           CROSS JOIN generate_series(1, {VERSIONS}) AS n
         ),
         changed AS (UPDATE product SET version = version + {VERSIONS} WHERE sku IN (SELECT sku FROM shards)),
         event AS (
           INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, created_us)
           SELECT id, 0, 'stockloop.inventory.changed', sku, epoch, version, payload, now_us FROM appended ORDER BY n)
         INSERT INTO outbox_pending (id, shard, attempt_limit, due_us, size)
         SELECT id, shard, 3, now_us, octet_length(payload) FROM appended"
    );
    let append = move |conn: &mut Conn| Ok::<_, DbError>(conn.batch_execute(&sql)?);
    product.database().write(append).await.expect("it is appended");
}

async fn owners(product: &TestService) -> i64 {
    product.count("SELECT count(DISTINCT owner) AS n FROM relay_lease WHERE expires_us > 0").await
}

async fn wait_until(product: &TestService, what: &str, sql: &str, expected: i64) {
    eventually(&format!("{expected} {what}"), DEADLINE, async || match product.count(sql).await {
        n if n == expected => Ok(()),
        n => Err(n),
    })
    .await;
}

/// Puts in one product after the other until the log brings one: a new slot waits for every transaction on the server, so
/// a load may be over before it can be read.
pub(crate) async fn until_more_comes_by_log(product: &TestService, name: &str, before: u64) {
    let mut made = 0;
    eventually("a change to come by the log", DEADLINE, async || {
        made += 1;
        product.put_product(&format!("{name}-{made}"), OPENING).await;
        match by_log(product).await {
            n if n > before => Ok(()),
            n => Err(n),
        }
    })
    .await;
}

/// How many events of this process came by the log.
async fn by_log(product: &TestService) -> u64 {
    let text = product.metrics().await;
    let line = text.lines().find(|line| line.starts_with("stockloop_relay_sent_by_log_total"));
    let value =
        line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok());
    value.map_or(0, |value| value as u64)
}
