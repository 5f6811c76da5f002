//! The promises that both services keep on their command line, tried one by one.

use std::fs;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};

use super::{Program, assert_contains, option_names};
use crate::real;

const SQLITE: (&str, &str) = ("STOCKLOOP__DATABASE__URL", "sqlite:test.db");
const BIND: (&str, &str) = ("STOCKLOOP__HTTP__BIND", "127.0.0.1:0");
const SECRETS: [(&str, &str); 8] = [
    ("STOCKLOOP__DATABASE__URL", "postgres://shop:s3cret-one@127.0.0.1:1/products"),
    ("STOCKLOOP__HTTP__ADMIN_TOKEN", "s3cret-two"),
    ("STOCKLOOP__HTTP__API_TOKEN", "s3cret-three"),
    ("STOCKLOOP__MAIL__PASSWORD", "s3cret-four"),
    ("STOCKLOOP__PEER__API_TOKEN", "s3cret-six"),
    ("STOCKLOOP__SIGNING__CURRENT", "k1"),
    ("STOCKLOOP__SIGNING__KEYS__K1", "s3cretNumberSevenWhichIsLongEnoughToBeAKeyA="),
    ("STOCKLOOP__HTTP__BIND", "127.0.0.1:0"),
];

/// The example is the file beside the program, names every option, and changes nothing.
pub fn example_is_the_defaults(program: &Program, file: &str) {
    let example = program.output(&["config", "--example"], &[]);
    assert_eq!(example, file);
    let defaults = program.output(&["config"], &[]);
    assert_eq!(option_names(&example), option_names(&defaults));
    fs::write(program.folder().join("example.toml"), &example).unwrap();
    assert_eq!(program.output(&["config", "--config", "example.toml"], &[]), defaults);
}

/// `config` with a secret in each place that may hold one, for a snapshot; none of them is printed.
pub fn redacted_config(program: &Program) -> String {
    let properties = "[kafka.properties]\n\"sasl.password\" = \"s3cret-five\"\n\
                      \"sasl.mechanism\" = \"SCRAM-SHA-512\"\n";
    fs::write(program.folder().join("secret.toml"), properties).unwrap();
    let outcome = program.run(&["config", "--config", "secret.toml"], &SECRETS);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("s3cret"), "{outcome:?}");
    outcome.stdout
}

/// A start that fails prints no secret, in its log or in its error.
pub fn a_failed_start_prints_no_secret(program: &Program) {
    let outcome = program.run(&["serve"], &SECRETS);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("can't be reached"), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("s3cret"), "{outcome:?}");
}

/// `migrate` makes the schema, and a second time finds nothing to do.
pub fn migrate_is_idempotent(program: &Program) {
    for _ in 0..2 {
        let said = program.output(&["migrate"], &[SQLITE]);
        assert_eq!(said, "sqlite:test.db is up to date\n");
    }
    if let Some(postgres) = real::postgres() {
        let url = postgres.database("migrate");
        for _ in 0..2 {
            program.output(&["migrate"], &[("STOCKLOOP__DATABASE__URL", &url)]);
        }
    }
}

/// A database URL that is wrong, or where nothing answers.
pub fn wrong_urls_are_refused(program: &Program) {
    let refused = |url: &str, words: &[&str]| {
        let env = [("STOCKLOOP__DATABASE__URL", url), BIND];
        for command in ["serve", "migrate"] {
            program.refusal(&[command], &env, words);
        }
    };
    refused("nonsense", &["nonsense", "scheme", "postgres://"]);
    refused("", &["scheme", "postgres://"]);
    refused("mysql://user:s3cret@host/db", &["only postgres: and sqlite:"]);
    refused("postgresql:nope", &["a host has to follow"]);
    for mistyped in ["postgres:u:s3cret@h/db", "postgres:/u:s3cret@h/db", "u:s3cret@h/db"] {
        let env = [("STOCKLOOP__DATABASE__URL", mistyped), BIND];
        let line = program.refusal(&["serve"], &env, &["***@h/db"]);
        assert!(!line.contains("s3cret"), "{line}");
    }
    refused("sqlite::memory:", &["needs a file"]);
    refused("sqlite:no/such/folder/x.db", &["no/such/folder/x.db", "can't be reached"]);
    refused("postgres://u@127.0.0.1:1/db", &["127.0.0.1:1", "can't be reached", "check that"]);
    let left = fs::read_dir(program.folder()).unwrap().count();
    assert_eq!(left, 3, "nothing but input and outputs: no stray database");
}

/// A cron expression that is not understood is told with the name of its setting, whichever that is.
pub fn wrong_crons_are_refused(program: &Program) {
    let names = option_names(&program.output(&["config"], &[]));
    let crons: Vec<&String> = names.iter().filter(|name| name.ends_with("cron")).collect();
    assert!(crons.len() >= 5, "{crons:?}");
    for name in crons {
        let variable = format!("STOCKLOOP__{}", name.to_uppercase().replace('.', "__"));
        for wrong in ["", "whenever"] {
            // Empty, this one means that nothing is done by itself.
            if wrong.is_empty() && name == "verify.cron" {
                continue;
            }
            let env = [SQLITE, BIND, (variable.as_str(), wrong)];
            program.refusal(
                &["serve"],
                &env,
                &[name.as_str(), &format!("{wrong:?}"), "six fields"],
            );
        }
    }
}

/// A server that takes the connection and never says a word is not waited for without end.
pub fn a_silent_server_is_given_up(program: &Program) {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u:s3cret@{}/db", silent.local_addr().unwrap());
    let env = [
        ("STOCKLOOP__DATABASE__URL", url.as_str()),
        ("STOCKLOOP__DATABASE__CONNECT_TIMEOUT", "1s"),
        BIND,
    ];
    let line = program.refusal(&["serve"], &env, &["can't be reached", "timeout"]);
    assert!(!line.contains("s3cret"), "{line}");
}

/// A file that is no database, or one that can't be written to, with or without its schema.
pub fn unusable_files_are_refused(program: &Program) {
    let refused = |url: &str, words: &[&str]| {
        program.refusal(&["serve"], &[("STOCKLOOP__DATABASE__URL", url), BIND], words);
    };
    fs::write(program.folder().join("text.db"), "no database, ".repeat(1_000)).unwrap();
    refused("sqlite:text.db", &["text.db", "not a database"]);
    // By URI, since file modes don't stop root.
    fs::write(program.folder().join("empty.db"), "").unwrap();
    refused("sqlite:file:empty.db?mode=ro", &["read"]);
    program.output(&["migrate"], &[SQLITE]);
    refused("sqlite:file:test.db?mode=ro", &["read"]);
}

/// A server's database that only lets us read.
pub fn a_read_only_server_is_refused(program: &Program) {
    let Some(postgres) = real::postgres() else { return };
    let url = postgres.database("read_only");
    let env = [("STOCKLOOP__DATABASE__URL", url.as_str()), BIND];
    let name = url.rsplit_once('/').unwrap().1;
    let read_only = |on: &str| {
        let statement = format!("ALTER DATABASE {name} SET default_transaction_read_only = {on}");
        postgres.execute(&statement).unwrap();
    };
    read_only("on");
    program.refusal(&["serve"], &env, &["read-only"]);
    read_only("off");
    program.output(&["migrate"], &env);
    read_only("on");
    program.refusal(&["serve"], &env, &["read-only"]);
}

/// A database that stores texts in another encoding than UTF-8; no table is made in it.
pub fn other_encodings_are_refused(program: &Program) {
    let refused = |url: &str, words: &[&str]| {
        for command in ["serve", "migrate"] {
            program.refusal(&[command], &[("STOCKLOOP__DATABASE__URL", url), BIND], words);
        }
    };
    let file = program.folder().join("utf16.db");
    let mut conn = SqliteConnection::establish(&file.to_string_lossy()).unwrap();
    conn.batch_execute("PRAGMA encoding = 'UTF-16le'; CREATE TABLE other (name TEXT)").unwrap();
    drop(conn);
    refused("sqlite:utf16.db", &["utf16.db", "UTF-16le", "use a new file"]);
    let mut conn = SqliteConnection::establish(&file.to_string_lossy()).unwrap();
    assert!(conn.batch_execute("SELECT 1 FROM __diesel_schema_migrations").is_err());
    let Some(postgres) = real::postgres() else { return };
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let options = format!("ENCODING '{encoding}' TEMPLATE template0");
        let url = postgres.database_with("encoding", &options);
        refused(&url, &[encoding, "ENCODING 'UTF8' TEMPLATE template0"]);
        let mut conn = PgConnection::establish(&url).unwrap();
        assert!(conn.batch_execute("SELECT FROM __diesel_schema_migrations").is_err());
    }
}

/// Operators and tokens are made on the database, without the service; the last admin stays.
pub fn operators_are_made_here(program: &Program) {
    operators_on(program, "sqlite:test.db");
    if let Some(postgres) = real::postgres() {
        operators_on(program, &postgres.database("operators"));
    }
}

fn operators_on(program: &Program, url: &str) {
    let env =
        [("STOCKLOOP__DATABASE__URL", url), ("STOCKLOOP__LOG__FILTER", "off"), ("USER", "eve")];
    let done = |input: &str, args: &[&str]| {
        let outcome = program.run_on(input, args, &env);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
        outcome.stdout
    };
    let refused = |input: &str, args: &[&str], word: &str| {
        let outcome = program.run_on(input, args, &env);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert_contains(&outcome.stderr, &[word]);
    };
    let add = |name: &str, role: &str, input: &str| {
        done(input, &["users", "add", name, "--role", role, "--password-stdin"])
    };
    assert!(add("alice", "admin", "correct horse\n").starts_with("alice may sign in as admin"));
    add("bob", "operator", "battery staple");
    let again = ["users", "add", "bob", "--role", "viewer", "--password-stdin"];
    refused("battery staple", &again, "choose another name");
    let dora = ["users", "add", "dora", "--role", "viewer", "--password-stdin"];
    refused("short", &dora, "10 to 200 characters");
    refused("", &dora, "holds no password");
    refused("", &["users", "add", "dora", "--role", "viewer"], "--password-stdin");
    refused("", &["users", "change", "alice", "--role", "viewer"], "the last admin");
    refused("", &["users", "change", "alice", "--disable"], "the last admin");
    refused("", &["users", "change", "nobody", "--disable"], "no operator");
    assert_eq!(program.run(&["users", "change", "alice"], &env).code, Some(2));
    done("", &["users", "change", "bob", "--role", "admin", "--disable"]);
    refused("", &["users", "change", "alice", "--disable"], "the last admin");
    done("", &["users", "change", "bob", "--enable"]);
    done("", &["users", "change", "alice", "--disable"]);
    let list = done("", &["users", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("alice  admin"), "{list}");
    assert!(lines[0].contains("by eve  may not sign in since"), "{list}");
    assert!(lines[1].starts_with("bob  admin") && lines[1].ends_with("by eve"), "{list}");
    tokens_on(program, &env);
}

fn tokens_on(program: &Program, env: &[(&str, &str)]) {
    let args = ["tokens", "add", "backups", "--role", "viewer", "--areas", "events,overview"];
    let made = program.run(&args, env);
    assert_eq!(made.code, Some(0), "{made:?}");
    let secret = made.stdout.trim_end();
    assert!(secret.starts_with("stockloop_") && !secret.contains(char::is_whitespace));
    assert!(made.stderr.contains("shown only once") && !made.stderr.contains(secret));
    let list = program.output(&["tokens", "list"], env);
    assert!(list.contains("\"backups\"  viewer") && !list.contains(secret), "{list}");
    let seq = list.split(' ').next().unwrap_or_default();
    let revoked = program.output(&["tokens", "revoke", seq], env);
    assert!(revoked.contains("  revoked "), "{revoked}");
}

/// A schema with a migration that this program doesn't know.
pub fn a_newer_schema_is_refused(program: &Program) {
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')";
    let words = ["newer than this binary", "29990101000000", "run the binary"];
    program.output(&["migrate"], &[SQLITE]);
    let file = program.folder().join("test.db");
    let mut conn = SqliteConnection::establish(&file.to_string_lossy()).unwrap();
    conn.batch_execute(newer).unwrap();
    drop(conn);
    for command in ["serve", "migrate"] {
        program.refusal(&[command], &[SQLITE, BIND], &words);
    }
    if let Some(postgres) = real::postgres() {
        let url = postgres.database("newer");
        let env = [("STOCKLOOP__DATABASE__URL", url.as_str()), BIND];
        program.output(&["migrate"], &env);
        PgConnection::establish(&url).unwrap().batch_execute(newer).unwrap();
        program.refusal(&["serve"], &env, &words);
    }
}

/// An address that others reach needs a token; one that is taken or no address is refused.
pub fn wrong_addresses_are_refused(program: &Program) {
    let refused = |bind: &str, words: &[&str]| {
        program.refusal(&["serve"], &[SQLITE, ("STOCKLOOP__HTTP__BIND", bind)], words);
    };
    refused("0.0.0.0:0", &["refusing", "STOCKLOOP__HTTP__ADMIN_TOKEN"]);
    refused("[::]:0", &["refusing", "STOCKLOOP__HTTP__ADMIN_TOKEN"]);
    let open = [
        SQLITE,
        ("STOCKLOOP__HTTP__BIND", "0.0.0.0:0"),
        ("STOCKLOOP__HTTP__ADMIN_TOKEN", "s3cret"),
        ("STOCKLOOP__ACCESS__OPEN", "true"),
    ];
    program.refusal(&["serve"], &open, &["refusing", "access.open"]);
    refused("nowhere", &["nowhere", "http.bind"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    refused(&taken.local_addr().unwrap().to_string(), &["can't listen", "http.bind"]);
}

/// An option that there isn't, and values that can't be.
pub fn wrong_settings_are_refused(program: &Program) {
    let env = |name: &str, value: &str, words: &[&str]| {
        program.refusal(&["serve"], &[SQLITE, BIND, (name, value)], words);
    };
    env("STOCKLOOP__OUTBOX__ACK_TIMEOUT", "soon", &["ack_timeout", "config --example"]);
    env("STOCKLOOP__OUTBOX__MAX_ATTEMPTS", "many", &["max_attempts"]);
    env("STOCKLOOP__DATABASE__POOLER", "session", &["session", "database.pooler"]);
    env("STOCKLOOP__MAIL__TRANSPORT", "pigeon", &["pigeon", "mail.transport"]);
    env("STOCKLOOP__OUTBOX__MAX_ATEMPTS", "3", &["max_atempts"]);
    env("STOCKLOOP__OUTBOX__SWEEP_CRON", "now and then", &["now and then", "cron"]);
    env("STOCKLOOP__LOG__FILTER", "=,=", &["=,="]);
    let file = |text: &str, words: &[&str]| {
        fs::write(program.folder().join("own.toml"), text).unwrap();
        program.refusal(&["serve", "--config", "own.toml"], &[SQLITE, BIND], words);
    };
    file("[outbox]\nmax_atempts = 3\n", &["max_atempts"]);
    file("[outbx]\n", &["outbx"]);
    file("[outbox]\nmax_attempts = \"3 or 4\"\n", &["max_attempts"]);
    // Here more lines than one show the place.
    fs::write(program.folder().join("own.toml"), "[outbox\n").unwrap();
    let outcome = program.run(&["serve", "--config", "own.toml"], &[]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("own.toml"), "{outcome:?}");
    program.refusal(&["serve", "--config", "missing.toml"], &[], &["missing.toml"]);
}

/// The tests of a service's command line, as the whole of its `tests/cli.rs`.
///
/// `program` is `env!("CARGO_BIN_EXE_<name>")`, which also has cargo build the program before any test that starts it;
/// `defaults` is the text of the settings file beside it. The snapshots `help` and `config` stand with the caller.
#[macro_export]
macro_rules! service_command_line {
    (program: $program:expr, defaults: $defaults:expr $(,)?) => {
        use $crate::program::{Program, service as promises};

        fn program() -> Program {
            Program::new($program)
        }

        #[test]
        fn help_teaches() {
            insta::assert_snapshot!("help", program().output(&["--help"], &[]));
        }

        #[test]
        fn config_hides_secrets() {
            insta::assert_snapshot!("config", promises::redacted_config(&program()));
            promises::a_failed_start_prints_no_secret(&program());
        }

        #[test]
        fn the_example_is_the_defaults() {
            promises::example_is_the_defaults(&program(), $defaults);
        }

        #[test]
        fn migrate_is_idempotent() {
            promises::migrate_is_idempotent(&program());
        }

        #[test]
        fn operators_are_made_here() {
            promises::operators_are_made_here(&program());
        }

        #[test]
        fn wrong_urls_are_refused() {
            promises::wrong_urls_are_refused(&program());
        }

        #[test]
        fn wrong_crons_are_refused() {
            promises::wrong_crons_are_refused(&program());
        }

        #[test]
        fn a_silent_server_is_given_up() {
            promises::a_silent_server_is_given_up(&program());
        }

        #[test]
        fn unusable_files_are_refused() {
            promises::unusable_files_are_refused(&program());
        }

        #[test]
        fn a_read_only_server_is_refused() {
            promises::a_read_only_server_is_refused(&program());
        }

        #[test]
        fn other_encodings_are_refused() {
            promises::other_encodings_are_refused(&program());
        }

        #[test]
        fn a_newer_schema_is_refused() {
            promises::a_newer_schema_is_refused(&program());
        }

        #[test]
        fn wrong_addresses_are_refused() {
            promises::wrong_addresses_are_refused(&program());
        }

        #[test]
        fn wrong_settings_are_refused() {
            promises::wrong_settings_are_refused(&program());
        }
    };
}
