//! `stockloop history`: what a product was.

use std::io::{self, Write};

use clap::Args;
use common::env::Env;
use serde_json::{Value, json};

use super::service::{InventoryService, ServiceTarget};
use crate::admin_cli::filter::Moment;
use crate::admin_cli::outcome::Outcome;
use crate::admin_cli::table::{Column, Table, harmless_json};

const VERSIONS: &[Column] = &[
    Column::text("VERSION", "version"),
    Column::time("SINCE", "at"),
    Column::number("QUANTITY", "after.quantity"),
    Column::number("PRICE", "after.unit_price_minor"),
    Column::text("CAUSE", "cause.kind"),
    Column::text("REFERENCE", "cause.reference"),
    Column::text("WHAT", "what"),
];

const STATE: &[Column] = &[
    Column::text("sku", "sku"),
    Column::text("version", "version"),
    Column::time("since", "updated_at"),
    Column::text("description", "description"),
    Column::text("quantity", "quantity"),
    Column::text("price (minor)", "unit_price_minor"),
    Column::text("backorders", "allow_backorder"),
];

/// What of a state is compared, and what people call it.
const FIELDS: [(&str, &str); 4] = [
    ("quantity", "quantity"),
    ("unit_price_minor", "price"),
    ("description", "description"),
    ("allow_backorder", "backorders"),
];

/// Versions of one page.
const PAGE: usize = 500;

/// `stockloop history`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockloop history TEA                     its newest versions, and what each changed
  stockloop history TEA --version 7         what it was as version 7
  stockloop history TEA --at 2h             what it was two hours ago
  stockloop history TEA --all --json        all that is kept, a page a line

It reads what the events keep, which is as long as outbox.retention. What is gone is told as gone.

Environment:
  STOCKLOOP_API_URL, STOCKLOOP_API_TOKEN    as --url and --token

Exit codes:
  0  done
  1  failed or refused: never there, removed at that point, or not kept any more
  2  not understood")]
pub(crate) struct HistoryArgs {
    /// Which product; removed ones have a history, too.
    sku: String,
    /// Show what it was as this version.
    #[arg(long, value_name = "N", conflicts_with_all = ["at", "limit", "all"])]
    version: Option<i64>,
    /// Show what it was then: 2026-01-31T12:00:00Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = Moment::parse, conflicts_with_all = ["limit", "all"])]
    at: Option<Moment>,
    /// List this many versions at the most.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// List all that are kept.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Print the service's own JSON, a line for each page or state.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    target: ServiceTarget,
}

pub(super) async fn run(args: HistoryArgs) -> anyhow::Result<Outcome> {
    let service = InventoryService::new(&args.target)?;
    let at = args.at.map(|moment| moment.seen_from(Env::system().now()).to_string());
    let asked = args.version.map(|version| ("version", version.to_string()));
    match asked.or(at.map(|at| ("at", at))) {
        Some(asked) => state(&service, &args, asked).await,
        None => versions(&service, &args).await,
    }
}

async fn state(
    service: &InventoryService,
    args: &HistoryArgs,
    asked: (&str, String),
) -> anyhow::Result<Outcome> {
    let raw = service.get(&[&args.sku], &[asked]).await?;
    if args.json {
        writeln!(io::stdout().lock(), "{}", harmless_json(&raw))?;
    } else {
        let state = serde_json::from_str(&raw)?;
        writeln!(io::stdout().lock(), "{}", table(STATE, true).render_fields(&state))?;
    }
    Ok(Outcome::Done)
}

async fn versions(service: &InventoryService, args: &HistoryArgs) -> anyhow::Result<Outcome> {
    let mut left = if args.all { usize::MAX } else { args.limit.max(1) };
    let (mut before, mut with_header) = (None, true);
    loop {
        let mut query = vec![("limit", left.min(PAGE).to_string())];
        query.extend(before.map(|before| ("before_version", before)));
        let raw = service.get(&[&args.sku, "history"], &query).await?;
        let page: Value = serde_json::from_str(&raw)?;
        let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if args.json {
            writeln!(io::stdout().lock(), "{}", harmless_json(&raw))?;
        } else if !items.is_empty() {
            let rows: Vec<Value> = items.iter().flat_map(rows).collect();
            writeln!(io::stdout().lock(), "{}", table(VERSIONS, with_header).render(&rows))?;
            with_header = false;
        }
        left = left.saturating_sub(items.len());
        before = page["next"].as_str().map(str::to_owned);
        if let (Some(version), false) = (page["gone_before"].as_i64(), args.json) {
            eprintln!("Nothing of before version {version} is kept.");
        }
        if before.is_none() || left == 0 {
            break;
        }
    }
    if before.is_some() && !args.json {
        eprintln!("There are more: use --limit N or --all.");
    }
    Ok(Outcome::Done)
}

/// A version's row, and one for what is missing below it.
fn rows(item: &Value) -> Vec<Value> {
    let mut version = item.clone();
    version["what"] = json!(what(item));
    let gap = item.get("gap").map(
        |gap| json!({ "version": format!("{}-{}", gap["from"], gap["to"]), "what": "(not kept)" }),
    );
    std::iter::once(version).chain(gap).collect()
}

/// What a version changed, in words.
fn what(item: &Value) -> String {
    let (before, after) = (&item["before"], &item["after"]);
    if after["removed"] == true {
        return "removed".to_owned();
    }
    if before.is_null() {
        let first = item["version"] == 1;
        return if first { "created" } else { "(what it was before is not kept)" }.to_owned();
    }
    if before["removed"] == true {
        return "created again".to_owned();
    }
    let differs = |(field, _): &(&str, &str)| before[*field] != after[*field];
    let changes: Vec<String> = FIELDS
        .into_iter()
        .filter(differs)
        .map(|(field, name)| format!("{name} {} -> {}", before[field], after[field]))
        .collect();
    if changes.is_empty() { "nothing but the version".to_owned() } else { changes.join(", ") }
}

fn table(columns: &'static [Column], with_header: bool) -> Table<'static> {
    Table { columns, now: Env::system().now(), width: None, with_header }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_says_what_it_changed_and_what_is_missing() {
        let state = |quantity: i64, removed: bool| {
            json!({
                "quantity": quantity, "unit_price_minor": 1, "description": "x", "allow_backorder": false,
                "removed": removed,
            })
        };
        let said =
            |item: Value| rows(&item).iter().map(|row| row["what"].clone()).collect::<Vec<_>>();
        let changed = json!({"version": 3, "before": state(2, false), "after": state(1, false)});
        assert_eq!(said(changed), ["quantity 2 -> 1"]);
        let same = json!({"version": 3, "before": state(2, false), "after": state(2, false)});
        assert_eq!(said(same), ["nothing but the version"]);
        let removed = json!({"version": 3, "before": state(2, false), "after": state(0, true)});
        assert_eq!(said(removed), ["removed"]);
        let again = json!({"version": 3, "before": state(0, true), "after": state(5, false)});
        assert_eq!(said(again), ["created again"]);
        assert_eq!(said(json!({"version": 1, "after": state(1, false)})), ["created"]);
        let gap = json!({"version": 9, "after": state(1, false), "gap": {"from": 4, "to": 8}});
        assert_eq!(said(gap.clone()), ["(what it was before is not kept)", "(not kept)"]);
        assert_eq!(rows(&gap)[1]["version"], "4-8");
    }
}
