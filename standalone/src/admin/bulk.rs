//! `retry` and `resolve`: one event at once, more of them as a job of the service, with its progress and its result.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::Ending;
use super::ask::confirmed;
use super::client::Query;
use super::events::EVENTS;
use super::fault::Fault;
use super::filter::EventFilter;
use super::jobs;
use super::session::Session;

/// How often a job is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const STYLE: &str = "{elapsed_precise} {bar:30} {pos}/{len} events  {msg}";

#[derive(Args)]
struct Which {
    /// The events' ids.
    #[arg(conflicts_with = "all_matching")]
    ids: Vec<String>,
    /// All events that match the options below; those that wait for a person, unless --status says otherwise.
    #[arg(long)]
    all_matching: bool,
    #[command(flatten)]
    filter: EventFilter,
    /// Don't ask before it begins.
    #[arg(long, short)]
    yes: bool,
    /// Don't wait for the end of the job.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin retry ID --reason 'the disk was full'
  stockloop admin retry --all-matching --key TEA
  stockloop admin retry --all-matching --error-class CLASS --attempts 3 --yes

More than one event is a job of the service: it says how many there are, asks, and shows its
progress. Ctrl-C leaves it running; `stockloop admin job SEQ --follow` shows it again. At the end it
says what it did, and what it skipped and why; the exit code is 3 if it skipped some.")]
pub(super) struct RetryArgs {
    #[command(flatten)]
    which: Which,
    /// So many attempts more; else as many as outbox.max_attempts says.
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Why, for whoever looks later.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop admin resolve ID --reason 'the product was a test'
  stockloop admin resolve --all-matching --older-than 30d --reason 'counted by hand'

A resolved event has not arrived: it only waits for nobody any more, and may still be retried.")]
pub(super) struct ResolveArgs {
    #[command(flatten)]
    which: Which,
    /// Why, for whoever looks later.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What is done to events.
struct Deed {
    /// As the API calls it.
    action: &'static str,
    /// What it is told besides.
    with: Map<String, Value>,
}

pub(super) async fn retry(at: &Session, args: RetryArgs) -> anyhow::Result<Ending> {
    let with = given([("attempts", json!(args.attempts)), ("reason", json!(args.reason))]);
    act(at, &args.which, Deed { action: "retry", with }).await
}

pub(super) async fn resolve(at: &Session, args: ResolveArgs) -> anyhow::Result<Ending> {
    let with = given([("reason", json!(args.reason))]);
    act(at, &args.which, Deed { action: "resolve", with }).await
}

fn given<const N: usize>(parts: [(&str, Value); N]) -> Map<String, Value> {
    let given = parts.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn act(at: &Session, which: &Which, deed: Deed) -> anyhow::Result<Ending> {
    if !which.all_matching && (which.ids.is_empty() || !which.filter.is_empty()) {
        let words = "name the events that you mean, or say --all-matching and which ones";
        return Err(Fault::Usage(words.to_owned()).into());
    }
    match which.ids.as_slice() {
        [id] => act_on_one(at, id, &deed).await,
        ids => act_on_many(at, which, ids, deed).await,
    }
}

async fn act_on_one(at: &Session, id: &str, deed: &Deed) -> anyhow::Result<Ending> {
    let body = Value::Object(deed.with.clone());
    let raw = at.client.send(Method::POST, &["events", id, deed.action], Some(&body)).await?;
    at.answer(&raw, |event| {
        let what = match deed.action {
            "retry" => "is sent again; `stockloop admin event` shows what becomes of it:",
            _ => "waits for nobody any more:",
        };
        at.say(&format!("The event {what}"))?;
        at.say_table(EVENTS, std::slice::from_ref(event), true)
    })?;
    Ok(Ending::Done)
}

async fn act_on_many(
    at: &Session,
    which: &Which,
    ids: &[String],
    deed: Deed,
) -> anyhow::Result<Ending> {
    let selection = match which.all_matching {
        true => which.filter.selection(at.now()),
        false => json!({ "ids": ids }),
    };
    let expected = preview(at, &selection, deed.action).await?;
    if expected == 0 {
        at.remark("No event matches; nothing is done.");
        return Ok(Ending::Done);
    }
    let question = format!("{} {} events?", capital(deed.action), grouped(expected));
    if !confirmed(&question, which.yes)? {
        at.remark("Nothing was done.");
        return Ok(Ending::NotDone);
    }
    let mut job = deed.with;
    job.extend(given([
        ("action", json!(deed.action)),
        ("selection", selection),
        ("expected", json!(expected)),
    ]));
    let raw = at.client.send(Method::POST, &["jobs"], Some(&Value::Object(job))).await?;
    if which.no_wait {
        at.answer(&raw, |job| at.say_table(jobs::JOBS, std::slice::from_ref(job), true))?;
        return Ok(Ending::Done);
    }
    let job: Value = serde_json::from_str(&raw)?;
    follow(at, job["seq"].as_str().unwrap_or_default()).await
}

/// Says how many there are, and shows some; returns how many.
async fn preview(at: &Session, selection: &Value, action: &str) -> anyhow::Result<u64> {
    let body = json!({ "selection": selection });
    let raw = at.client.send(Method::POST, &["jobs", "preview"], Some(&body)).await?;
    let preview: Value = serde_json::from_str(&raw)?;
    let matches = preview["matches"].as_u64().unwrap_or(0);
    let at_least = if preview["at_least"] == true { "at least " } else { "" };
    if matches > 0 && !at.json {
        at.remark(&format!("This will {action} {at_least}{} events, such as", grouped(matches)));
        if let Some(examples) = preview["examples"].as_array() {
            at.say_table(EVENTS, examples, true)?;
        }
    }
    Ok(matches)
}

/// Shows how far a job is until it has ended, then its result.
pub(super) async fn follow(at: &Session, seq: &str) -> anyhow::Result<Ending> {
    at.remark(&format!("Job {seq} runs in the service; Ctrl-C leaves it running."));
    let bar = ProgressBar::new(0);
    // The style is a constant; should it ever be wrong, the plain one serves.
    bar.set_style(
        ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let raw = loop {
        let raw = at.client.get(&["jobs", seq], &Query::default()).await?;
        let job: Value = serde_json::from_str(&raw)?;
        let number = |name: &str| job[name].as_u64().unwrap_or(0);
        let so_far = number("done") + number("skipped");
        bar.set_length(number("expected").max(so_far));
        bar.set_position(so_far);
        bar.set_message(format!("{} skipped", grouped(number("skipped"))));
        if matches!(job["state"].as_str(), Some("done" | "cancelled")) {
            break raw;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    bar.finish_and_clear();
    jobs::result(at, &raw).await
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
