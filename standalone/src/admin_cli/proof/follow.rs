//! What runs in the service, shown until it ends: a verification or a job, and what it came to.

use std::time::Duration;

use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::super::client::Query;
use super::super::context::CommandContext;
use super::super::listing::List;
use super::super::outcome::Outcome;
use super::super::table::{Column, grouped, printable};

/// Differences or skipped keys that a result lists for people.
const SHOWN: usize = 20;

/// How often what is followed is asked for its progress.
const POLL_EVERY: Duration = Duration::from_millis(300);

/// Where it is known how many there are, and where it is not; the prefix says what they are.
const OF_MANY: &str = "{elapsed_precise} {bar:30} {pos}/{len} {prefix}  {msg}";
const UNTIL_THE_END: &str = "{elapsed_precise} {spinner} {pos} {prefix}  {msg}";

/// A key that differs, in a list.
pub(super) const DIFFERENCES: &[Column] = &[
    Column::text("KEY", "key"),
    Column::text("CONSUMER", "consumer"),
    Column::text("KIND", "kind"),
    Column::number("VERSION HERE", "owner_version"),
    Column::text("REMOVED HERE", "owner_removed"),
    Column::number("VERSION THERE", "copy_version"),
    Column::text("REMOVED THERE", "copy_removed"),
    Column::number("EPOCH", "copy_epoch"),
    Column::text("OPEN EVENT", "event_id"),
];

const SKIPPED: &[Column] = &[Column::text("KEY", "key"), Column::text("WHY", "why")];

/// A number of something that the service told of.
pub(super) fn count(item: &Value, name: &str) -> u64 {
    item[name].as_u64().unwrap_or(0)
}

/// A text that the service told, as it may be printed.
pub(super) fn told(item: &Value, name: &str) -> String {
    item[name].as_str().map(printable).unwrap_or_default()
}

/// The seconds of a moment, without their fractions.
pub(super) fn moment(item: &Value, name: &str) -> String {
    let text = told(item, name);
    let text = text.split('.').next().unwrap_or_default().trim_end_matches('Z');
    format!("{} UTC", text.replace('T', " "))
}

/// Such as `1 key` or `2,000 keys`.
pub(super) fn keys(count: u64) -> String {
    format!("{} {}", grouped(count), if count == 1 { "key" } else { "keys" })
}

/// Such as `1 state` or `2,000 states`.
pub(super) fn states(count: u64) -> String {
    format!("{} {}", grouped(count), if count == 1 { "state" } else { "states" })
}

/// Where a job has got to: a key, and in the middle of its states also a version.
fn place(job: &Value) -> String {
    let key = told(job, "cursor");
    match job["cursor_version"].as_i64() {
        Some(version) => format!("{key}, version {version}"),
        None => key,
    }
}

/// Shows how far a verification is until it has ended; `expected` says how many keys there may be.
pub(super) async fn verification(
    ctx: &CommandContext,
    seq: &str,
    expected: Option<u64>,
) -> anyhow::Result<Value> {
    let message = |run: &Value| {
        let differ = grouped(count(run, "differences"));
        match run["state"].as_str() {
            Some("looking_again") => format!("{differ} differ; looking again at what moves"),
            _ => format!("{differ} differ  {}", told(run, "cursor")),
        }
    };
    let position = |run: &Value| count(run, "keys");
    let expected = (expected, "keys");
    until_ended(ctx, &["verifications", seq], expected, position, message).await
}

/// Starts the job that is asked for, and shows how far it is until it has ended.
pub(super) async fn started(ctx: &CommandContext, asked: &Value) -> anyhow::Result<Value> {
    let raw = ctx.client.send(Method::POST, &["resyncs"], Some(asked)).await?;
    job(ctx, &serde_json::from_str(&raw)?).await
}

/// Shows how far a job is until it has ended.
pub(super) async fn job(ctx: &CommandContext, job: &Value) -> anyhow::Result<Value> {
    let seq = job["seq"].as_str().unwrap_or_default();
    ctx.remark(&format!(
        "Job {} runs in the service; Ctrl-C leaves it running, and the page /admin/proof shows and cancels it.",
        printable(seq)
    ));
    let message = |job: &Value| {
        let hindered = match job["hindered"].is_null() {
            true => String::new(),
            false => format!("  waits: {}", told(job, "hindered")),
        };
        format!("{} skipped  {}{hindered}", keys(count(job, "skipped")), place(job))
    };
    let replays = job["kind"] == "replay";
    let position = |job: &Value| {
        // What it skips are keys, also where it counts states.
        count(job, "done") + if replays { 0 } else { count(job, "skipped") }
    };
    let expected = (job["expected"].as_u64(), if replays { "states" } else { "keys" });
    until_ended(ctx, &["resyncs", seq], expected, position, message).await
}

/// Shows how far a filling is until it has ended.
pub(super) async fn filling(ctx: &CommandContext, row: &Value) -> anyhow::Result<Value> {
    let seq = row["seq"].as_str().unwrap_or_default();
    ctx.remark(&format!(
        "Filling {} runs in the service; Ctrl-C leaves it running, and the page /admin/proof shows and stops it.",
        printable(seq)
    ));
    let message = |row: &Value| {
        let left = row["seconds_left"].as_f64().map(|left| format!(", about {left:.0} s left"));
        format!("{}{}", told(row, "state"), left.unwrap_or_default())
    };
    let position = |row: &Value| count(row, "done");
    let expected = (row["expected"].as_u64(), "keys");
    until_ended(ctx, &["bootstraps", seq], expected, position, message).await
}

/// Shows how far something is until it has ended; `expected` says of how many, if that is known, and of what.
async fn until_ended(
    ctx: &CommandContext,
    path: &[&str],
    expected: (Option<u64>, &'static str),
    position: impl Fn(&Value) -> u64,
    message: impl Fn(&Value) -> String,
) -> anyhow::Result<Value> {
    let bar = bar(expected);
    let mut said = Value::Null;
    let ended = loop {
        let raw = ctx.client.get(path, &Query::default()).await?;
        let item: Value = serde_json::from_str(&raw)?;
        let position = position(&item);
        // A filling counts its keys first.
        if let Some(expected) = item["expected"].as_u64().filter(|_| bar.length().is_some()) {
            bar.set_length(expected);
        }
        if bar.length().is_some_and(|length| length < position) {
            bar.set_length(position);
        }
        bar.set_position(position);
        bar.set_message(message(&item));
        bar.tick();
        // Also where no bar is drawn: else nothing would say why it does not end.
        if item["ended_at"].is_null() && !item["hindered"].is_null() && item["hindered"] != said {
            said = item["hindered"].clone();
            bar.suspend(|| eprintln!("stockloop: it waits: {}", told(&item, "hindered")));
        }
        if !item["ended_at"].is_null() {
            break item;
        }
        tokio::time::sleep(POLL_EVERY).await;
    };
    bar.finish_and_clear();
    Ok(ended)
}

fn bar((expected, counts): (Option<u64>, &'static str)) -> ProgressBar {
    let (bar, template) = match expected {
        Some(expected) => (ProgressBar::new(expected), OF_MANY),
        None => (ProgressBar::new_spinner(), UNTIL_THE_END),
    };
    // The templates are constants; should one ever be wrong, the default will do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_prefix(counts)
}

/// Shows what a verification came to: for programs its differences, for people a sentence and the first of them.
pub(super) async fn show_result(
    ctx: &CommandContext,
    run: &Value,
    all: bool,
) -> anyhow::Result<Outcome> {
    let outcome = match run["state"].as_str() {
        Some("equal") => Outcome::Done,
        Some("different") => Outcome::Different,
        _ => Outcome::Unknown,
    };
    let sentence = sentence(run);
    match (ctx.json, outcome) {
        (false, _) => ctx.print_line(&sentence)?,
        // Else nothing would say why: no difference is listed for what is not known.
        (true, Outcome::Unknown) => eprintln!("stockloop: {sentence}"),
        (true, _) => {}
    }
    let seq = run["seq"].as_str().unwrap_or_default();
    if count(run, "differences") > 0 {
        differences(ctx, seq, if all || ctx.json { usize::MAX } else { SHOWN }).await?;
    }
    Ok(outcome)
}

async fn differences(ctx: &CommandContext, seq: &str, max_items: usize) -> anyhow::Result<()> {
    let path = ["verifications", seq, "differences"];
    let query = Query::default();
    let list = List { path: &path, query, columns: DIFFERENCES, when_empty: "" };
    if list.print(ctx, max_items).await?.more {
        ctx.remark("There are more: `stockloop verify --last --all` shows all of the last one.");
    }
    Ok(())
}

/// What a verification that has ended says, in a sentence or two.
fn sentence(run: &Value) -> String {
    let (consumer, seq) = (told(run, "consumer"), told(run, "seq"));
    let all = count(run, "keys");
    let found = match run["state"].as_str() {
        Some("equal") => {
            let equal = all.saturating_sub(count(run, "waiting"));
            format!("{consumer} is equal: {}", keys(equal))
        }
        Some("different") => {
            let differ = grouped(count(run, "differences"));
            let more = if run["cut"] == true { " at least" } else { "" };
            format!("{consumer} is different: {differ} of {}{more}", keys(all))
        }
        Some("cancelled") => {
            return format!(
                "It is not known whether {consumer} is equal: verification {seq} was cancelled by {}.",
                told(run, "ended_by")
            );
        }
        _ => {
            return format!(
                "It is not known whether {consumer} is equal: {} (verification {seq}).",
                told(run, "reason")
            );
        }
    };
    let waiting = match count(run, "waiting") {
        0 => String::new(),
        waiting => format!(" {} could not be decided on: their events were open.", keys(waiting)),
    };
    format!(
        "{found}. Verified {} (verification {seq}), for all that was committed before {}.{waiting}",
        moment(run, "ended_at"),
        moment(run, "started_at"),
    )
}

/// Lists the keys that a job left as they are, for people.
pub(super) async fn skipped(ctx: &CommandContext, seq: &str) -> anyhow::Result<()> {
    let path = ["resyncs", seq, "skipped"];
    let list = List { path: &path, query: Query::default(), columns: SKIPPED, when_empty: "" };
    if list.print(ctx, SHOWN).await?.more {
        ctx.remark(&format!(
            "There are more: `stockloop admin export resync-skipped --job {}` has all.",
            printable(seq)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(state: &str) -> Value {
        json!({
            "seq": "7", "consumer": "order-service", "state": state, "keys": 1_041, "differences": 6,
            "waiting": 0, "cut": false, "reason": "nobody answers\u{1b}[2J", "ended_by": "ada",
            "started_at": "2026-11-28T12:00:00.125000Z", "ended_at": "2026-11-28T12:00:03.000000Z",
        })
    }

    #[test]
    fn a_result_says_when_and_up_to_what() {
        let equal = "order-service is equal: 1,041 keys. Verified 2026-11-28 12:00:03 UTC (verification 7), for all \
                     that was committed before 2026-11-28 12:00:00 UTC.";
        assert_eq!(sentence(&ended("equal")), equal);
        assert!(sentence(&ended("different")).contains("is different: 6 of 1,041 keys. Verified"));
        let mut waiting = ended("equal");
        waiting["waiting"] = json!(1);
        let said = sentence(&waiting);
        assert!(said.contains("equal: 1,040 keys") && said.contains("1 key could not"), "{said}");
    }

    #[test]
    fn a_job_has_got_to_a_key_or_to_a_version_of_it() {
        let job = |version: Value| json!({ "cursor": "TEA\u{1b}", "cursor_version": version });
        assert_eq!(place(&job(json!(7))), r"TEA\u{1b}, version 7");
        assert_eq!(place(&job(Value::Null)), r"TEA\u{1b}");
        assert_eq!(place(&json!({ "cursor": null, "cursor_version": null })), "");
        assert_eq!((states(1), states(2_000)), ("1 state".to_owned(), "2,000 states".to_owned()));
    }

    #[test]
    fn what_is_not_known_says_why_and_nothing_reaches_the_terminal_as_a_command() {
        let said = sentence(&ended("unknown"));
        assert!(said.contains(r"not known") && said.contains(r"\u{1b}[2J"), "{said}");
        assert!(sentence(&ended("cancelled")).contains("cancelled by ada"));
    }
}
