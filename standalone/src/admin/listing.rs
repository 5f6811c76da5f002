//! Lists, page by page, so that no list has to fit into memory.

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Ending;
use super::client::Query;
use super::session::Session;
use super::table::Column;

/// Items that one page has at the most.
const PAGE: usize = 1_000;

/// How much of a list is wanted.
#[derive(Debug, Clone, Args)]
pub(super) struct Window {
    /// Items at the most.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// The whole list.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Window {
    /// The first `limit` items.
    pub(super) fn first(limit: usize) -> Self {
        Self { limit, all: false }
    }
}

/// A list of the API.
pub(super) struct List<'a> {
    pub(super) path: &'a [&'a str],
    pub(super) query: Query,
    pub(super) columns: &'a [Column],
    /// What to say when it is empty.
    pub(super) none: &'a str,
}

impl List<'_> {
    /// Prints as much of the list as `window` wants.
    pub(super) async fn show(&self, at: &Session, window: &Window) -> anyhow::Result<Ending> {
        let mut left = if window.all { usize::MAX } else { window.limit.max(1) };
        let (mut after, mut titled) = (None, true);
        loop {
            let query = self.query.clone().and("limit", Some(left.min(PAGE)));
            let page = at.client.page(self.path, &query.and("after", after)).await?;
            show_page(at, self.columns, &page.items, titled)?;
            titled = titled && page.items.is_empty();
            left = left.saturating_sub(page.items.len());
            after = page.next;
            // A page may be empty and yet have a next one: the service walks only so far for one request.
            if after.is_none() || left == 0 {
                break;
            }
        }
        if titled {
            at.remark(self.none);
        }
        if after.is_some() {
            at.remark("There are more: --limit N shows some more of them, --all shows all.");
        }
        Ok(Ending::Done)
    }

    /// Prints a list that comes in one piece.
    pub(super) async fn show_whole(&self, at: &Session) -> anyhow::Result<Ending> {
        let page = at.client.page(self.path, &self.query).await?;
        show_page(at, self.columns, &page.items, true)?;
        if page.items.is_empty() {
            at.remark(self.none);
        }
        Ok(Ending::Done)
    }
}

fn show_page(
    at: &Session,
    columns: &[Column],
    items: &[Box<RawValue>],
    titled: bool,
) -> anyhow::Result<()> {
    if at.json {
        return items.iter().try_for_each(|item| Ok(at.say_json(item.get())?));
    }
    if items.is_empty() {
        return Ok(());
    }
    let rows: Vec<Value> =
        items.iter().map(|item| serde_json::from_str(item.get())).collect::<Result<_, _>>()?;
    Ok(at.say_table(columns, &rows, titled)?)
}
