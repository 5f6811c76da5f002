//! `dead-letters`: messages that could not be read, with their bytes.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::Ending;
use super::client::Query;
use super::listing::{List, Window};
use super::session::Session;
use super::table::{Column, printable};

/// Lines of bytes that are shown.
const DUMPED: usize = 64;

const LETTERS: &[Column] = &[
    Column::number("LETTER", "seq"),
    Column::text("STATE", "state"),
    Column::text("TOPIC", "topic"),
    Column::number("PARTITION", "partition"),
    Column::number("OFFSET", "offset"),
    Column::age("AGE", "at"),
    Column::number("BYTES", "size"),
    Column::text("ERROR", "error"),
];

const LETTER: &[Column] = &[
    Column::text("letter", "seq"),
    Column::text("state", "state"),
    Column::text("topic", "topic"),
    Column::text("partition", "partition"),
    Column::text("offset", "offset"),
    Column::text("came", "at"),
    Column::text("error", "error"),
    Column::text("SHA-256", "hash"),
    Column::text("bytes", "size"),
    Column::text("key", "key"),
    Column::list("headers", "headers"),
    Column::text("handled", "handled_at"),
    Column::text("by", "handled_by"),
    Column::text("reason", "reason"),
];

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin --order dead-letters --state waiting
  stockloop admin --order dead-letters show 1
  stockloop admin --order dead-letters discard 1 --reason 'a test message'")]
pub(super) struct DeadLettersArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    command: Option<DeadLettersCommand>,
}

#[derive(Args)]
struct Which {
    /// Only those in this state.
    #[arg(long, value_parser = ["waiting", "replayed", "discarded"])]
    state: Option<String>,
    #[command(flatten)]
    window: Window,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// List them, newest first.
    List(Which),
    /// Show one with its bytes.
    Show {
        /// Its number.
        seq: u64,
    },
    /// Send it again to the topic that it came from.
    Replay {
        /// Its number.
        seq: u64,
    },
    /// Say that it is of no use.
    Discard {
        /// Its number.
        seq: u64,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

pub(super) async fn run(at: &Session, args: DeadLettersArgs) -> anyhow::Result<Ending> {
    match args.command {
        None => list(at, args.which).await,
        Some(DeadLettersCommand::List(which)) => list(at, which).await,
        Some(DeadLettersCommand::Show { seq }) => show(at, seq).await,
        Some(DeadLettersCommand::Replay { seq }) => {
            let path = ["dead-letters", &seq.to_string(), "replay"];
            let raw = at.client.send(Method::POST, &path, None).await?;
            at.done(&raw, &format!("Dead letter {seq} was sent again."))?;
            Ok(Ending::Done)
        }
        Some(DeadLettersCommand::Discard { seq, reason }) => {
            let path = ["dead-letters", &seq.to_string(), "discard"];
            let body = json!({ "reason": reason });
            let raw = at.client.send(Method::POST, &path, Some(&body)).await?;
            at.done(&raw, &format!("Dead letter {seq} waits for nobody any more."))?;
            Ok(Ending::Done)
        }
    }
}

async fn list(at: &Session, which: Which) -> anyhow::Result<Ending> {
    let query = Query::default().and("state", which.state);
    let none = "There is no such dead letter.";
    List { path: &["dead-letters"], query, columns: LETTERS, none }.show(at, &which.window).await
}

async fn show(at: &Session, seq: u64) -> anyhow::Result<Ending> {
    let raw = at.client.get(&["dead-letters", &seq.to_string()], &Query::default()).await?;
    at.answer(&raw, |letter| {
        at.say_parts(LETTER, letter)?;
        at.say("\nBytes:")?;
        dump(at, letter)
    })?;
    Ok(Ending::Done)
}

fn dump(at: &Session, letter: &Value) -> std::io::Result<()> {
    let hex = letter["bytes_hex"].as_str().unwrap_or_default();
    let lines = dumped(hex);
    lines.iter().take(DUMPED).try_for_each(|line| at.say(line))?;
    if lines.len() > DUMPED {
        at.say("… and more: --json has them all.")?;
    }
    Ok(())
}

/// Sixteen bytes a line: where, in hexadecimal, and as ASCII.
fn dumped(hex: &str) -> Vec<String> {
    let digits: Vec<char> = hex.chars().collect();
    let lines = digits.chunks(32).enumerate().map(|(line, digits)| {
        let bytes: Vec<String> = digits.chunks(2).map(String::from_iter).collect();
        let text = bytes.iter().map(|byte| match u8::from_str_radix(byte, 16) {
            Ok(byte @ b' '..=b'~') => char::from(byte),
            _ => '.',
        });
        let text: String = text.collect();
        format!("{:08x}  {:<47}  {}", line * 16, printable(&bytes.join(" ")), text)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_sixteen_a_line() {
        let lines = dumped("7b22611b223a227c7d7e7f808182838485");
        let want = "00000000  7b 22 61 1b 22 3a 22 7c 7d 7e 7f 80 81 82 83 84  {\"a.\":\"|}~......";
        assert_eq!(lines[0], want);
        assert_eq!(lines[1], format!("00000010  {:<47}  .", "85"));
        assert!(dumped("").is_empty());
    }
}
