use std::fs;
use std::process::Command;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use stockloop_tests::poll::eventually_blocking;
use stockloop_tests::postgres::{BASE_BACKUP, Binaries, PostgresServer};
use stockloop_tests::real;

const DEADLINE: Duration = Duration::from_secs(60);

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

fn connect(url: &str) -> PgConnection {
    PgConnection::establish(url).unwrap()
}

fn run(connection: &mut PgConnection, statement: &str) {
    diesel::sql_query(statement).execute(connection).unwrap();
}

fn count(connection: &mut PgConnection) -> i64 {
    diesel::sql_query("SELECT count(*) FROM things").get_result::<Count>(connection).unwrap().count
}

fn setting(connection: &mut PgConnection, name: &str) -> String {
    diesel::sql_query(format!("SELECT current_setting('{name}') AS value"))
        .get_result::<Setting>(connection)
        .unwrap()
        .value
}

#[test]
fn each_database_is_new_and_durable() {
    let Some(postgres) = real::postgres() else {
        return;
    };
    let (one, other) = (postgres.database("Some Thing"), postgres.database("Some Thing"));
    assert_ne!(one, other);
    let mut one = connect(&one);
    run(&mut one, "CREATE TABLE things (id BIGINT PRIMARY KEY)");
    run(&mut one, "INSERT INTO things SELECT generate_series(1, 10)");
    assert_eq!(count(&mut one), 10);
    assert_eq!(setting(&mut one, "fsync"), "on");
    assert_eq!(setting(&mut one, "synchronous_commit"), "on");
    run(&mut connect(&other), "CREATE TABLE things (id TEXT)");
}

#[test]
fn a_stopped_or_killed_server_comes_back_with_its_data() {
    let Some(mut postgres) = real::available("PostgreSQL", PostgresServer::start_private()) else {
        return;
    };
    let url = postgres.database("comes_back");
    run(&mut connect(&url), "CREATE TABLE things (id BIGINT)");

    // The open connection also shows that stopping doesn't wait for clients.
    let mut open = connect(&url);
    postgres.stop().unwrap();
    assert!(PgConnection::establish(&url).is_err());
    assert!(diesel::sql_query("SELECT 1").execute(&mut open).is_err());
    postgres.start_again().unwrap();
    run(&mut connect(&url), "INSERT INTO things VALUES (1)");

    let _open = connect(&url);
    postgres.kill9().unwrap();
    assert!(PgConnection::establish(&url).is_err());
    postgres.start_again().unwrap();
    assert_eq!(count(&mut connect(&url)), 1);
}

#[test]
fn a_fetched_server_takes_settings() {
    let started = Binaries::fetched()
        .and_then(|binaries| PostgresServer::start_with(binaries, &["wal_level=logical"]));
    let Some(postgres) = real::available("PostgreSQL from Maven", started) else {
        return;
    };
    let mut connection = connect(&postgres.database("fetched"));
    assert_eq!(setting(&mut connection, "wal_level"), "logical");
    assert!(setting(&mut connection, "server_version").starts_with("17."));
}

#[test]
fn a_standby_takes_the_place_of_its_server() {
    let started =
        Binaries::with(BASE_BACKUP).and_then(|binaries| PostgresServer::start_with(binaries, &[]));
    let Some(mut postgres) = real::available("PostgreSQL with its tools", started) else {
        return;
    };
    let url = postgres.database("stood_by");
    run(&mut connect(&url), "CREATE TABLE things (id BIGINT)");
    let standby = postgres.stand_by().unwrap();
    run(&mut connect(&url), "INSERT INTO things VALUES (1)");
    let url = standby.url(url.rsplit('/').next().unwrap());
    let mut reader = connect(&url);
    eventually_blocking("what was written to be there", DEADLINE, || match count(&mut reader) {
        1 => Ok(()),
        other => Err(other),
    })
    .unwrap();
    assert!(diesel::sql_query("DELETE FROM things").execute(&mut reader).is_err(), "not yet");
    postgres.kill9().unwrap();
    standby.promote().unwrap();
    run(&mut connect(&url), "INSERT INTO things VALUES (2)");
    assert_eq!(count(&mut connect(&url)), 2);
}

#[test]
fn a_server_that_ended_by_itself_is_started_again() {
    let Some(mut postgres) = real::available("PostgreSQL", PostgresServer::start_private()) else {
        return;
    };
    postgres.execute("DO $$ BEGIN RAISE LOG 'remember this'; END $$").unwrap();
    assert!(postgres.is_running() && postgres.said("remember this") > 0);
    let data = setting(&mut connect(&postgres.url("postgres")), "data_directory");
    let pid = fs::read_to_string(format!("{data}/postmaster.pid")).unwrap();
    let end = format!("kill -s INT {}", pid.lines().next().unwrap());
    assert!(Command::new("sh").args(["-c", &end]).status().unwrap().success());
    eventually_blocking("its end", DEADLINE, || {
        if postgres.is_running() { Err("it runs") } else { Ok(()) }
    })
    .unwrap();
    postgres.start_again().unwrap();
    assert!(postgres.is_running());
    run(&mut connect(&postgres.url("postgres")), "SELECT 1");
}

#[test]
fn a_server_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let Some(disk) = real::small_disk(256) else { return };
    let started = Binaries::find().and_then(|binaries| {
        PostgresServer::start_on(&disk, binaries, &["min_wal_size=32MB", "max_wal_size=64MB"])
    });
    let Some(mut postgres) = real::available("PostgreSQL", started) else { return };
    let url = postgres.database("full");
    run(&mut connect(&url), "CREATE TABLE things (id BIGINT)");
    disk.fill(0).unwrap();
    let many = "INSERT INTO things SELECT generate_series(1, 1000000)";
    assert!(diesel::sql_query(many).execute(&mut connect(&url)).is_err());
    assert!(postgres.said("No space left on device") > 0);
    disk.clear().unwrap();
    eventually_blocking("a server that writes again", DEADLINE, || {
        // It may have ended for want of room, or may still be about to.
        postgres.start_again().map_err(|error| format!("{error:#}"))?;
        let mut connection = PgConnection::establish(&url).map_err(|error| error.to_string())?;
        let written = diesel::sql_query("INSERT INTO things VALUES (1)").execute(&mut connection);
        written.map_err(|error| error.to_string())
    })
    .unwrap();
    assert_eq!(count(&mut connect(&url)), 1, "what failed left nothing");
}
