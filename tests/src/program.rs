//! A program's command line, tried out: what it prints, how it ends, and the promises that every service keeps
//! ([`service`]).

pub mod service;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::poll::eventually_blocking;
use crate::process::built_binary;

/// What hangs has to end; a benchmark on real parts takes a minute on a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// A program and a folder of its own to run in.
pub struct Program {
    path: PathBuf,
    folder: TempDir,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Program {
    /// For `env!("CARGO_BIN_EXE_<name>")`, which also has cargo build it before any test runs.
    pub fn new(path: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { path: path.into(), folder }
    }

    /// One of this workspace's programs that have been built.
    pub fn built(name: &str) -> Self {
        let path = built_binary(name).expect("the programs are built");
        Self::new(&path.to_string_lossy())
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs it to its end with `args` and `env`, and with no settings from outside.
    pub fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Outcome {
        self.run_on("", args, env)
    }

    /// The same with `input` on standard input, which is no terminal.
    pub fn run_on(&self, input: &str, args: &[&str], env: &[(&str, &str)]) -> Outcome {
        let file = |name: &str| self.folder.path().join(name);
        fs::write(file("stdin"), input).expect("a file can be made");
        let mut command = Command::new(&self.path);
        command
            .args(args)
            .current_dir(self.folder.path())
            .stdin(File::open(file("stdin")).expect("just made"))
            .stdout(File::create(file("stdout")).expect("a file can be made"))
            .stderr(File::create(file("stderr")).expect("a file can be made"))
            .env_remove("COLUMNS");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("STOCKLOOP") || text.starts_with("PG") {
                command.env_remove(&name);
            }
        }
        let mut child =
            command.envs(env.iter().copied()).spawn().expect("the program can be started");
        let ended = eventually_blocking("the program's end", DEADLINE, || {
            child.try_wait().expect("a child can be asked").ok_or("it still runs")
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let read = |name: &str| fs::read_to_string(file(name)).unwrap_or_default();
        let (stdout, stderr) = (read("stdout"), read("stderr"));
        let status = ended.unwrap_or_else(|error| panic!("{error:#}\n{stdout}\n{stderr}"));
        Outcome { code: status.code(), stdout, stderr }
    }

    /// Runs it and returns what it printed; it has to succeed.
    pub fn output(&self, args: &[&str], env: &[(&str, &str)]) -> String {
        let outcome = self.run(args, env);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    }

    /// It has to refuse with exit code 1 and one line on standard error that holds all of `words`, which is returned.
    pub fn refusal(&self, args: &[&str], env: &[(&str, &str)], words: &[&str]) -> String {
        let quiet = [("STOCKLOOP__LOG__FILTER", "off"), ("STOCKLOOP_LOG", "off")];
        let quiet = [&quiet, env].concat();
        let outcome = self.run(args, &quiet);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let line = outcome.stderr.trim_end();
        assert!(!line.is_empty() && !line.contains('\n'), "one line: {outcome:?}");
        assert!(!line.contains("panicked"), "{outcome:?}");
        assert_contains(line, words);
        line.to_owned()
    }
}

/// Checks that `text` has all `words` in it.
#[track_caller]
pub fn assert_contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

/// The names of all options in a TOML file, as `section.name`; an empty section counts as one.
pub fn option_names(text: &str) -> BTreeSet<String> {
    let table: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    let mut names = BTreeSet::new();
    collect("", &table, &mut names);
    names
}

fn collect(prefix: &str, table: &toml::Table, names: &mut BTreeSet<String>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(table) if !table.is_empty() => {
                collect(&format!("{name}."), table, names);
            }
            _ => drop(names.insert(name)),
        }
    }
}
