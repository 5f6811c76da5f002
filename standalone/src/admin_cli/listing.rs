//! Lists, page by page, so that no list has to fit into memory.

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::Query;
use super::context::CommandContext;
use super::outcome::Outcome;
use super::table::Column;

/// Items per page at the most.
const PAGE_SIZE: usize = 1_000;

/// How much of a list is wanted.
#[derive(Debug, Clone, Args)]
pub(super) struct ListLimit {
    /// List this many items at the most.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// List all items.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl ListLimit {
    /// The first `limit` items.
    pub(super) fn first(limit: usize) -> Self {
        Self { limit, all: false }
    }

    fn max_items(&self) -> usize {
        if self.all { usize::MAX } else { self.limit.max(1) }
    }
}

/// A list of the API.
pub(super) struct List<'a> {
    pub(super) path: &'a [&'a str],
    pub(super) query: Query,
    pub(super) columns: &'a [Column],
    /// What to tell people when it is empty.
    pub(super) when_empty: &'a str,
}

/// What of a list was printed.
pub(super) struct Printed {
    /// There was nothing.
    pub(super) none: bool,
    /// There is more than was asked for.
    pub(super) more: bool,
}

impl List<'_> {
    /// Prints as many items as `limit` says.
    pub(super) async fn show(
        &self,
        ctx: &CommandContext,
        limit: &ListLimit,
    ) -> anyhow::Result<Outcome> {
        let printed = self.print(ctx, limit.max_items()).await?;
        if printed.none {
            ctx.remark(self.when_empty);
        }
        if printed.more {
            ctx.remark("There are more: use --limit N or --all.");
        }
        Ok(Outcome::Done)
    }

    /// Prints up to `max_items` items, without any remark.
    pub(super) async fn print(
        &self,
        ctx: &CommandContext,
        max_items: usize,
    ) -> anyhow::Result<Printed> {
        let mut left = max_items;
        let (mut after, mut with_header) = (None, true);
        loop {
            let query = self.query.clone().and("limit", Some(left.min(PAGE_SIZE)));
            let page = ctx.client.page(self.path, &query.and("after", after)).await?;
            show_page(ctx, self.columns, &page.items, with_header)?;
            with_header = with_header && page.items.is_empty();
            left = left.saturating_sub(page.items.len());
            after = page.next;
            // A page may be empty and yet have a next one: the service walks only so far for one request.
            if after.is_none() || left == 0 {
                break;
            }
        }
        // Still without its header, so nothing was in it.
        Ok(Printed { none: with_header, more: after.is_some() })
    }

    /// Prints a list that comes in one piece.
    pub(super) async fn show_whole(&self, ctx: &CommandContext) -> anyhow::Result<Outcome> {
        let page = ctx.client.page(self.path, &self.query).await?;
        show_page(ctx, self.columns, &page.items, true)?;
        if page.items.is_empty() {
            ctx.remark(self.when_empty);
        }
        Ok(Outcome::Done)
    }
}

fn show_page(
    ctx: &CommandContext,
    columns: &[Column],
    items: &[Box<RawValue>],
    with_header: bool,
) -> anyhow::Result<()> {
    if ctx.json {
        return items.iter().try_for_each(|item| Ok(ctx.print_json(item.get())?));
    }
    if items.is_empty() {
        return Ok(());
    }
    let rows: Vec<Value> =
        items.iter().map(|item| serde_json::from_str(item.get())).collect::<Result<_, _>>()?;
    Ok(ctx.print_table(columns, &rows, with_header)?)
}
