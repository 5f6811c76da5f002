//! `dead-letters`: messages that could not be read, with their bytes.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::client::Query;
use super::context::CommandContext;
use super::listing::{List, ListLimit};
use super::outcome::Outcome;
use super::table::{Column, printable};

/// Lines of bytes that are shown.
const MAX_DUMP_LINES: usize = 64;

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
    Column::text("received", "at"),
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
    filter: DeadLetterFilter,
    #[command(subcommand)]
    command: Option<DeadLettersCommand>,
}

#[derive(Args)]
struct DeadLetterFilter {
    /// Only dead letters in this state.
    #[arg(long, value_parser = ["waiting", "replayed", "discarded"])]
    state: Option<String>,
    #[command(flatten)]
    limit: ListLimit,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// List them, newest first.
    List(DeadLetterFilter),
    /// Show one with its bytes.
    Show {
        /// The dead letter's number.
        seq: u64,
    },
    /// Send it again to the topic that it came from.
    Replay {
        /// The dead letter's number.
        seq: u64,
    },
    /// Close it without sending it again.
    Discard {
        /// The dead letter's number.
        seq: u64,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

pub(super) async fn run(ctx: &CommandContext, args: DeadLettersArgs) -> anyhow::Result<Outcome> {
    match args.command {
        None => list(ctx, args.filter).await,
        Some(DeadLettersCommand::List(filter)) => list(ctx, filter).await,
        Some(DeadLettersCommand::Show { seq }) => show(ctx, seq).await,
        Some(DeadLettersCommand::Replay { seq }) => {
            let path = ["dead-letters", &seq.to_string(), "replay"];
            let raw = ctx.client.send(Method::POST, &path, None).await?;
            ctx.print_done(&raw, &format!("Dead letter {seq} was sent again."))?;
            Ok(Outcome::Done)
        }
        Some(DeadLettersCommand::Discard { seq, reason }) => {
            let path = ["dead-letters", &seq.to_string(), "discard"];
            let body = json!({ "reason": reason });
            let raw = ctx.client.send(Method::POST, &path, Some(&body)).await?;
            ctx.print_done(&raw, &format!("Dead letter {seq} is discarded."))?;
            Ok(Outcome::Done)
        }
    }
}

async fn list(ctx: &CommandContext, filter: DeadLetterFilter) -> anyhow::Result<Outcome> {
    let query = Query::default().and("state", filter.state);
    let when_empty = "No dead letter matches.";
    List { path: &["dead-letters"], query, columns: LETTERS, when_empty }
        .show(ctx, &filter.limit)
        .await
}

async fn show(ctx: &CommandContext, seq: u64) -> anyhow::Result<Outcome> {
    let raw = ctx.client.get(&["dead-letters", &seq.to_string()], &Query::default()).await?;
    ctx.print_response(&raw, |letter| {
        ctx.print_fields(LETTER, letter)?;
        ctx.print_line("\nBytes:")?;
        dump(ctx, letter)
    })?;
    Ok(Outcome::Done)
}

fn dump(ctx: &CommandContext, letter: &Value) -> std::io::Result<()> {
    let hex = letter["bytes_hex"].as_str().unwrap_or_default();
    let lines = dump_lines(hex);
    lines.iter().take(MAX_DUMP_LINES).try_for_each(|line| ctx.print_line(line))?;
    if lines.len() > MAX_DUMP_LINES {
        ctx.print_line("… and more: --json prints all of them.")?;
    }
    Ok(())
}

/// Sixteen bytes per line: offset, hexadecimal, ASCII.
fn dump_lines(hex: &str) -> Vec<String> {
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
        let lines = dump_lines("7b22611b223a227c7d7e7f808182838485");
        let want = "00000000  7b 22 61 1b 22 3a 22 7c 7d 7e 7f 80 81 82 83 84  {\"a.\":\"|}~......";
        assert_eq!(lines[0], want);
        assert_eq!(lines[1], format!("00000010  {:<47}  .", "85"));
        assert!(dump_lines("").is_empty());
    }
}
