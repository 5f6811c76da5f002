//! One run of a command: the service that it asks, and how it prints.

use std::io::{self, IsTerminal, Write};

use common::clock::Timestamp;
use common::env::Env;
use serde_json::Value;

use super::client::Client;
use super::table::{Column, Table, harmless_json, printable};
use super::target::Target;

/// The service that a command asks, and how the response is shown.
pub(super) struct CommandContext {
    pub(super) client: Client,
    /// Whether programs read the output.
    pub(super) json: bool,
    env: Env,
}

impl CommandContext {
    pub(super) fn new(target: &Target, json: bool) -> anyhow::Result<Self> {
        Ok(Self { client: Client::new(target)?, json, env: Env::system() })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.env.now()
    }

    /// Prints `text` and a line's end; what came from outside has to be [`printable`] by now.
    pub(super) fn print_line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// Prints the service's JSON on one line, as it was written.
    pub(super) fn print_json(&self, raw: &str) -> io::Result<()> {
        self.print_line(&harmless_json(raw))
    }

    /// Prints `rows` as a table.
    pub(super) fn print_table(
        &self,
        columns: &[Column],
        rows: &[Value],
        with_header: bool,
    ) -> io::Result<()> {
        let table = Table { columns, now: self.now(), width: terminal_width(), with_header };
        self.print_line(&table.render(rows))
    }

    /// Prints one item as a table with a header.
    pub(super) fn print_row(&self, columns: &[Column], item: &Value) -> io::Result<()> {
        self.print_table(columns, std::slice::from_ref(item), true)
    }

    /// Prints one item in full, a line for each field.
    pub(super) fn print_fields(&self, fields: &[Column], item: &Value) -> io::Result<()> {
        let table = Table { columns: fields, now: self.now(), width: None, with_header: true };
        self.print_line(&table.render_fields(item))
    }

    /// Prints the service's response: as it is for programs, else by `for_people`.
    pub(super) fn print_response(
        &self,
        raw: &str,
        for_people: impl FnOnce(&Value) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        if self.json {
            // An action without a result has an empty response, which is no JSON.
            return if raw.is_empty() { Ok(()) } else { Ok(self.print_json(raw)?) };
        }
        let value = if raw.is_empty() { Value::Null } else { serde_json::from_str(raw)? };
        Ok(for_people(&value)?)
    }

    /// Prints the response to an action: for people, one sentence about it.
    pub(super) fn print_done(&self, raw: &str, sentence: &str) -> anyhow::Result<()> {
        self.print_response(raw, |_| self.print_line(&printable(sentence)))
    }

    /// Tells people something beside the result, on standard error; programs get the result only.
    pub(super) fn remark(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }
}

/// How wide the terminal is; elsewhere nothing is cut.
fn terminal_width() -> Option<u16> {
    let out = io::stdout();
    let width = console::Term::stdout().size_checked().map(|(_rows, columns)| columns);
    width.filter(|_| out.is_terminal())
}
