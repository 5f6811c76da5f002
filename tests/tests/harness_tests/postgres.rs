use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use stockloop_tests::postgres::{Binaries, PostgresServer};
use stockloop_tests::real;

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
    postgres.kill9();
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
