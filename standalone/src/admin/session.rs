//! One run of a command: whom it asks, and how it speaks.

use std::io::{self, IsTerminal, Write};

use common::clock::Timestamp;
use common::env::Env;
use serde_json::Value;

use super::client::Client;
use super::table::{Column, Table, harmless_json, printable};
use super::target::Target;

/// Whom is asked, and how the answer is shown.
pub(super) struct Session {
    pub(super) client: Client,
    /// Whether programs read it.
    pub(super) json: bool,
    env: Env,
}

impl Session {
    pub(super) fn new(target: &Target, json: bool) -> anyhow::Result<Self> {
        Ok(Self { client: Client::new(target)?, json, env: Env::system() })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.env.now()
    }

    /// Prints `text` and a line's end; what came from outside has to be [`printable`] by now.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// Says what belongs beside the result: nothing that a program would read as a part of it.
    pub(super) fn remark(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// Prints the service's JSON on one line, as it was written.
    pub(super) fn say_json(&self, raw: &str) -> io::Result<()> {
        self.say(&harmless_json(raw))
    }

    /// Prints `rows` as a table.
    pub(super) fn say_table(
        &self,
        columns: &[Column],
        rows: &[Value],
        titled: bool,
    ) -> io::Result<()> {
        let table = Table { columns, now: self.now(), width: terminal_width(), titled };
        self.say(&table.render(rows))
    }

    /// Prints what is known of one thing, a line for each part.
    pub(super) fn say_parts(&self, parts: &[Column], thing: &Value) -> io::Result<()> {
        let table = Table { columns: parts, now: self.now(), width: None, titled: true };
        self.say(&table.render_one(thing))
    }

    /// Prints the service's answer: as it is for programs, else by `people`.
    pub(super) fn answer(
        &self,
        raw: &str,
        people: impl FnOnce(&Value) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        if self.json {
            // A deed that has nothing to say answers with nothing, which is no JSON.
            return if raw.is_empty() { Ok(()) } else { Ok(self.say_json(raw)?) };
        }
        let value = if raw.is_empty() { Value::Null } else { serde_json::from_str(raw)? };
        Ok(people(&value)?)
    }

    /// Prints the answer to a deed: for people, one sentence about it.
    pub(super) fn done(&self, raw: &str, sentence: &str) -> anyhow::Result<()> {
        self.answer(raw, |_| self.say(&printable(sentence)))
    }
}

/// How wide the terminal is; elsewhere nothing is cut.
fn terminal_width() -> Option<u16> {
    let out = io::stdout();
    let width = console::Term::stdout().size_checked().map(|(_rows, columns)| columns);
    width.filter(|_| out.is_terminal())
}
