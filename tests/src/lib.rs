//! What the tests of all crates stand on, and the benchmarks of `loadgen`, which start the same real parts.
//!
//! **For unit tests**: a fresh database for each test and each body on both ([`database`], [`on_every_database!`]), the
//! check that a `schema.rs` is true ([`schema`]), what PostgreSQL makes of a table ([`storage`]), open events in any state
//! ([`outbox`]), transactions that wait for each other ([`locks`]), the routes that an app has ([`routes`]), requests and
//! what was answered ([`http`]), what nobody wants to read ([`fuzz`]), and waiting without a guess ([`poll`]).
//!
//! **Real parts**: PostgreSQL ([`postgres`]), Apache Kafka ([`kafka`]), Debezium ([`connect`]), Flink ([`flink`]), a mail
//! server ([`smtp`]), Chromium ([`browser`]), what certifies them ([`tls`]), a disk that can be filled ([`disk`]), and the
//! services as child processes that can be killed at any moment ([`process`]) or tried out on their command line
//! ([`program`], [`service_command_line!`]).
//!
//! A test asks [`real`] for a part and returns early when it gets `None`; with
//! `STOCKLOOP_REQUIRE_REAL=1` a missing part is a failure instead. Nothing a test starts outlives
//! the test process, however that ends ([`process`]).
//!
//! ```no_run
//! use common::db::ENGINE_MIGRATIONS;
//! use stockloop_tests::database::TestDatabase;
//! use stockloop_tests::real;
//!
//! let db = TestDatabase::sqlite().open(&[ENGINE_MIGRATIONS]);
//!
//! fn a_test() {
//!     let Some(postgres) = real::postgres() else { return };
//!     let url = postgres.database("orders");
//! }
//! ```
//!
//! A fixture keeps its [`TestDatabase`](database::TestDatabase) as `_database`: a file goes with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says what went wrong"
)]

pub mod browser;
pub mod connect;
pub mod database;
pub mod disk;
pub mod flink;
pub mod fuzz;
pub mod http;
pub mod kafka;
pub mod locks;
mod once;
pub mod outbox;
mod parts;
pub mod poll;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod program;
pub mod real;
pub mod routes;
pub mod schema;
mod scratch;
pub mod smtp;
pub mod storage;
mod template;
pub mod tls;
