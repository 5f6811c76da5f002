//! `retry` and `resolve`: one event at once, more of them as a bulk job of the service.

use clap::Args;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::bulk_jobs::{JOBS, follow};
use super::confirm::confirmed;
use super::context::CommandContext;
use super::error::CommandError;
use super::events::EVENTS;
use super::filter::EventFilter;
use super::outcome::Outcome;
use super::table::grouped;

#[derive(Args)]
struct EventSelection {
    /// The events' ids.
    #[arg(conflicts_with = "all_matching")]
    ids: Vec<String>,
    /// All events that match the options below; without --status, unresolved EXHAUSTED ones.
    #[arg(long)]
    all_matching: bool,
    #[command(flatten)]
    filter: EventFilter,
    /// Don't ask for confirmation.
    #[arg(long, short)]
    yes: bool,
    /// Don't wait for the job to end.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin retry ID --reason 'the disk was full'
  stockloop admin retry --all-matching --key TEA
  stockloop admin retry --all-matching --error-class CLASS --attempts 3 --yes

More than one event becomes a bulk job of the service: the command says how many events there are,
asks, and shows the job's progress. The job covers these events, and none that match later. Ctrl-C
leaves the job running; `stockloop admin job SEQ --follow` shows it again. At the end the command
says what was done, and what was skipped and why; the exit code is 3 if some events were skipped.")]
pub(super) struct RetryArgs {
    #[command(flatten)]
    selection: EventSelection,
    /// This many more attempts; by default outbox.max_attempts.
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Why, for the events' history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin resolve ID --reason 'the product was a test'
  stockloop admin resolve --all-matching --older-than 30d --reason 'counted by hand'

A resolved event has not arrived; it only waits for nobody any more, and can still be retried.")]
pub(super) struct ResolveArgs {
    #[command(flatten)]
    selection: EventSelection,
    /// Why, for the events' history.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What is done to events.
struct Action {
    /// As the API calls it.
    name: &'static str,
    /// The other fields of its body.
    fields: Map<String, Value>,
}

pub(super) async fn retry(ctx: &CommandContext, args: RetryArgs) -> anyhow::Result<Outcome> {
    let fields = given([("attempts", json!(args.attempts)), ("reason", json!(args.reason))]);
    act(ctx, &args.selection, Action { name: "retry", fields }).await
}

pub(super) async fn resolve(ctx: &CommandContext, args: ResolveArgs) -> anyhow::Result<Outcome> {
    let fields = given([("reason", json!(args.reason))]);
    act(ctx, &args.selection, Action { name: "resolve", fields }).await
}

/// The fields that have a value.
fn given<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn act(
    ctx: &CommandContext,
    selection: &EventSelection,
    action: Action,
) -> anyhow::Result<Outcome> {
    if !selection.all_matching && (selection.ids.is_empty() || !selection.filter.is_empty()) {
        let text = "give the events' ids, or --all-matching with options that select them";
        return Err(CommandError::Usage(text.to_owned()).into());
    }
    match selection.ids.as_slice() {
        [id] => act_on_one(ctx, id, action).await,
        _ => act_on_many(ctx, selection, action).await,
    }
}

async fn act_on_one(ctx: &CommandContext, id: &str, action: Action) -> anyhow::Result<Outcome> {
    let body = Value::Object(action.fields);
    let raw = ctx.client.send(Method::POST, &["events", id, action.name], Some(&body)).await?;
    ctx.print_response(&raw, |event| {
        ctx.print_line(match action.name {
            "retry" => "The event is sent again; `stockloop admin event` shows how it goes on:",
            _ => "The event is resolved:",
        })?;
        ctx.print_row(EVENTS, event)
    })?;
    Ok(Outcome::Done)
}

async fn act_on_many(
    ctx: &CommandContext,
    selection: &EventSelection,
    action: Action,
) -> anyhow::Result<Outcome> {
    let events = match selection.all_matching {
        true => selection.filter.selection(ctx.now()),
        false => json!({ "ids": selection.ids }),
    };
    let Preview { matches: expected, preview } = preview(ctx, &events, action.name).await?;
    if expected == 0 {
        ctx.remark("No event matches; nothing is done.");
        return Ok(Outcome::Done);
    }
    let question = format!("{} {} events?", capitalized(action.name), grouped(expected));
    if !confirmed(&question, selection.yes)? {
        ctx.remark("Nothing was done.");
        return Ok(Outcome::NotDone);
    }
    let mut job = action.fields;
    job.extend(given([
        ("action", json!(action.name)),
        ("selection", events),
        ("expected", json!(expected)),
        ("preview", preview),
    ]));
    let raw = ctx.client.send(Method::POST, &["jobs"], Some(&Value::Object(job))).await?;
    if selection.no_wait {
        ctx.print_response(&raw, |job| ctx.print_row(JOBS, job))?;
        return Ok(Outcome::Done);
    }
    let job: Value = serde_json::from_str(&raw)?;
    follow(ctx, job["seq"].as_str().unwrap_or_default()).await
}

/// What the person is asked about.
struct Preview {
    /// How many events there are.
    matches: u64,
    /// What the job names, so that it covers these; null where the events' ids are given.
    preview: Value,
}

/// Says how many events there are, and shows some.
async fn preview(ctx: &CommandContext, selection: &Value, action: &str) -> anyhow::Result<Preview> {
    let body = json!({ "selection": selection });
    let raw = ctx.client.send(Method::POST, &["jobs", "preview"], Some(&body)).await?;
    let mut found: Value = serde_json::from_str(&raw)?;
    let matches = found["matches"].as_u64().unwrap_or(0);
    if matches > 0 && !ctx.json {
        ctx.remark(&format!("This will {action} {} events, such as", grouped(matches)));
        if let Some(examples) = found["examples"].as_array() {
            ctx.print_table(EVENTS, examples, true)?;
        }
        if found["at_least"] == true {
            ctx.remark("There may be more: run the command again for those.");
        }
    }
    Ok(Preview { matches, preview: found["preview"].take() })
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
}
