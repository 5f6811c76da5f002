//! `replay`: sends the kept states of keys through the loop once more, or into another topic.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::super::confirm::confirmed;
use super::super::context::CommandContext;
use super::super::filter::Moment;
use super::super::outcome::Outcome;
use super::super::table::{grouped, printable};
use super::Connection;
use super::follow::{self, count, moment, states};
use super::resync;

/// Keys of which not all is kept that people are told of.
const SHOWN: usize = 10;

#[derive(Args)]
#[command(after_help = "\
Examples:
  stockloop replay --consumer order-service --key TEA --key MUG
  stockloop replay --consumer order-service --key TEA --from-version 7
  stockloop replay --consumer order-service --since 2h --reason 'rebuilt its copy'
  stockloop replay --into views.stock --since 7d --reason 'a new view'

For a consumer, each kept version goes out as a new event, oldest first, and each key ends with its
present state. A copy that has a state or a newer one answers `superseded` and stays as it is.

Into a topic, which has to be there and must be none of the loop's, each kept version goes out as
the message that its event was first sent as: same key, value and headers, each key's in the order
of its versions. Nobody answers, and no event is made. Messages may come twice, and after newer
ones, where the service stopped or the broker did not take all: go by the epoch and the version.
After a cancel, up to 100 that are on their way still arrive.

--since goes through the products that there are and those that were removed lately. Into a topic,
what is kept of others goes out by --key.

First it shows what would be sent at the most and what may be gone, and asks. Other jobs that send
states go before it.
`stockloop resync` sends present states only, which is enough wherever the way to them does not
matter.

Exit codes:
  0  all was sent, or nothing changed since then
  1  failed or refused, or the answer was no, or the job was cancelled
  2  not understood, or a question without a terminal to answer it on
  3  some keys were skipped; the command says why")]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(flatten)]
    receiver: Receiver,
    #[command(flatten)]
    selection: KeptSelection,
    /// Only from this version on, of one key.
    #[arg(long, value_name = "N", requires = "key")]
    from_version: Option<i64>,
    /// Why, for the job, the audit log and the causes of the events.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Don't ask for confirmation.
    #[arg(long, short)]
    yes: bool,
}

/// Where to: exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Receiver {
    /// Who is to have the states, through the loop; the other consumers get them, too, and answer that they have them.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Another topic that the states are sent into, beside the loop.
    #[arg(long, value_name = "TOPIC")]
    into: Option<String>,
}

/// Which states: exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct KeptSelection {
    /// Those since then, of all keys that changed: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    since: Option<Moment>,
    /// All of this key; may be given up to 1,000 times.
    #[arg(long, value_name = "SKU")]
    key: Vec<String>,
}

pub(super) async fn run(ctx: &CommandContext, args: &ReplayArgs) -> anyhow::Result<Outcome> {
    let kept = selected(ctx, args);
    let path = ["resyncs", "replay-preview"];
    let raw = ctx.client.send(Method::POST, &path, Some(&kept)).await?;
    let preview: Value = serde_json::from_str(&raw)?;
    if is_empty(&kept, &preview) {
        let since = moment(&kept, "since");
        ctx.remark(&format!("Nothing changed since {since}; nothing to send."));
        return Ok(Outcome::Done);
    }
    told(ctx, args, &preview);
    if args.receiver.into.is_some() && count(&preview, "events") == 0 {
        if ctx.json {
            eprintln!("stockloop: no event of that is kept; nothing to send");
        }
        return Ok(Outcome::NotDone);
    }
    if !confirmed(&question(&args.receiver), args.yes)? {
        ctx.remark("Nothing was done.");
        return Ok(Outcome::NotDone);
    }
    let job = json!({ "kind": "replay", "selection": { "kept": kept }, "reason": args.reason });
    resync::result(ctx, &follow::started(ctx, &job).await?).await
}

fn selected(ctx: &CommandContext, args: &ReplayArgs) -> Value {
    let mut kept = match &args.receiver {
        Receiver { into: Some(topic), .. } => json!({ "into": topic }),
        Receiver { consumer, .. } => json!({ "consumer": consumer }),
    };
    match args.selection.since {
        Some(since) => kept["since"] = json!(since.seen_from(ctx.now())),
        None => kept["keys"] = json!(args.selection.key),
    }
    if let Some(version) = args.from_version {
        kept["from_version"] = json!(version);
    }
    kept
}

fn question(receiver: &Receiver) -> String {
    match receiver {
        Receiver { into: Some(topic), .. } => format!("Send that into {}?", printable(topic)),
        Receiver { consumer, .. } => {
            let consumer = consumer.as_deref().unwrap_or_default();
            format!("Send that again, for {}?", printable(consumer))
        }
    }
}

/// Whether it is known that nothing changed since the moment that is asked for.
fn is_empty(kept: &Value, preview: &Value) -> bool {
    let since = !kept["since"].is_null() && preview["may_be_gone_before"].is_null();
    since && count(preview, "events") == 0
}

/// Tells people what would be sent at the most, what may be gone, and what to do before.
fn told(ctx: &CommandContext, args: &ReplayArgs, preview: &Value) {
    let into_topic = args.receiver.into.is_some();
    ctx.remark(&covered(preview, into_topic));
    if !preview["may_be_gone_before"].is_null() {
        let before = moment(preview, "may_be_gone_before");
        ctx.remark(&format!(
            "States may be gone whose events were made and settled before {before}."
        ));
    }
    let gone = preview["gone"].as_array().map(Vec::as_slice).unwrap_or_default();
    for key in gone.iter().take(SHOWN) {
        ctx.remark(&format!("  {}", missing(key, args.from_version, into_topic)));
    }
    if gone.len() > SHOWN {
        ctx.remark(&format!("  and {} more keys of which not all is kept", gone.len() - SHOWN));
    }
    if let (Some(consumer), false) = (&args.receiver.consumer, args.selection.key.is_empty()) {
        ctx.remark(&format!(
            "Where a key is in quarantine at {}, lift that first: else each state is tried until it is EXHAUSTED.",
            printable(consumer)
        ));
    }
}

/// How many states that may be: one that was sent again has more than one event, and is sent once.
fn covered(preview: &Value, into_topic: bool) -> String {
    let events = count(preview, "events");
    match (events, into_topic) {
        (0, true) => return "No event of that is kept; nothing to send.".to_owned(),
        (0, false) => {
            return "No event of that is kept; only present states would be sent.".to_owned();
        }
        _ => {}
    }
    let from = moment(preview, "from");
    let these = match preview["more"] == true {
        true => format!("There are {} kept events or more, from {from} on", grouped(events)),
        false => {
            let to = moment(preview, "to");
            format!("At most {}, of events from {from} to {to}", states(events))
        }
    };
    let end = if into_topic { "" } else { ", and each key ends with its present state" };
    format!("{these}; each version is sent once{end}.")
}

/// What is not kept of a key, of the versions that are asked for.
fn missing(key: &Value, asked: Option<i64>, into_topic: bool) -> String {
    let name = follow::told(key, "key");
    let (newest, kept) = (key["newest_version"].as_i64(), key["kept_from_version"].as_i64());
    match (newest, kept) {
        (_, None) if into_topic => format!("{name}: none is kept; it would be skipped"),
        (_, Some(version)) if into_topic => format!("{name}: kept from version {version} on"),
        (None, _) => format!("{name}: there is none; it would be skipped"),
        (Some(newest), _) if asked.is_some_and(|asked| asked > newest) => {
            format!("{name}: its newest version is {newest}; that would be sent")
        }
        (_, Some(version)) => format!("{name}: kept from version {version} on"),
        (Some(newest), None) => {
            format!("{name}: none is kept; its present version, {newest}, would be sent")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(events: u64, more: bool) -> Value {
        let (from, to) = ("2026-11-28T12:00:00.125000Z", "2026-11-28T12:00:03.000000Z");
        json!({ "events": events, "more": more, "from": from, "to": to, "may_be_gone_before": null, "gone": [] })
    }

    #[test]
    fn events_are_as_many_states_at_the_most() {
        let said = covered(&preview(55, false), false);
        let most = "At most 55 states, of events from 2026-11-28 12:00:00 UTC to 2026-11-28 12:00:03 UTC; each ";
        assert!(said.starts_with(most), "{said}");
        let said = covered(&preview(10_000, true), false);
        assert!(
            said.starts_with("There are 10,000 kept events or more, from 2026-11-28"),
            "{said}"
        );
        assert!(covered(&preview(0, false), false).contains("only present states"));
        assert!(covered(&preview(0, false), true).contains("nothing to send"));
        assert!(covered(&preview(5, false), true).ends_with("; each version is sent once."));
    }

    #[test]
    fn nothing_is_to_be_sent_only_where_that_is_known() {
        let since = json!({ "consumer": "copy", "since": "2026-11-28T12:00:00Z" });
        assert!(is_empty(&since, &preview(0, false)));
        assert!(!is_empty(&since, &preview(1, false)));
        let keys = json!({ "consumer": "copy", "keys": ["TEA"] });
        assert!(!is_empty(&keys, &preview(0, false)), "its present state would be");
        let mut old = preview(0, false);
        old["may_be_gone_before"] = json!("2026-10-29T12:00:00Z");
        assert!(!is_empty(&since, &old), "what changed may be gone");
    }

    #[test]
    fn a_key_says_what_is_missing_of_it() {
        for (newest, kept, asked, said) in [
            (Some(7_i64), None, Some(9), "TEA: its newest version is 7; that would be sent"),
            (Some(7), Some(4_i64), Some(2), "TEA: kept from version 4 on"),
            (Some(7), Some(4), None, "TEA: kept from version 4 on"),
            (Some(7), None, Some(7), "TEA: none is kept; its present version, 7, would be sent"),
            (None, None, Some(9), "TEA: there is none; it would be skipped"),
            (None, Some(4), None, "TEA: there is none; it would be skipped"),
        ] {
            let key = json!({ "key": "TEA", "newest_version": newest, "kept_from_version": kept });
            assert_eq!(missing(&key, asked, false), said);
        }
        let key = |kept: Option<i64>| json!({ "key": "TEA", "newest_version": null, "kept_from_version": kept });
        assert_eq!(missing(&key(Some(4)), None, true), "TEA: kept from version 4 on");
        assert_eq!(missing(&key(None), None, true), "TEA: none is kept; it would be skipped");
    }
}
