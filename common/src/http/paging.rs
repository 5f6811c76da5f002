//! Keyset paging: a page says where the next one starts, so that no page costs more than the first.

use std::fmt::Display;

use actix_web::web::QueryConfig;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Problem;

/// Items of a page unless the caller says otherwise.
const DEFAULT_LIMIT: i64 = 100;
/// At most this many items on a page.
const MAX_LIMIT: i64 = 1_000;

/// `?limit=&after=` of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// At most this many items, 1 to 1,000; 100 if left out.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<i64>,
    /// The `next` of the page before.
    pub after: Option<String>,
}

impl PageQuery {
    /// The checked number of items.
    ///
    /// # Errors
    /// 422 when it is out of range.
    pub fn limit(&self) -> Result<i64, Problem> {
        checked_limit(self.limit)
    }

    /// What the page begins after, if that is said.
    ///
    /// # Errors
    /// 422 at `after` when it can't be read.
    pub fn after<T: TryFrom<String, Error: Display>>(&self) -> Result<Option<T>, Problem> {
        let after = self.after.clone().map(T::try_from).transpose();
        after.map_err(|error| Problem::invalid("after", error.to_string()))
    }
}

/// Has `web::Query` refuse what it can't read as a problem like any other.
pub fn query_config() -> QueryConfig {
    QueryConfig::default()
        .error_handler(|error, _| Problem::invalid("query", error.to_string()).into())
}

/// The number of items that `limit` asks for.
///
/// # Errors
/// 422 when it is out of range.
pub fn checked_limit(limit: Option<i64>) -> Result<i64, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Problem::invalid("limit", format!("a page has 1 to {MAX_LIMIT} items"))),
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    /// Its items, in the list's order.
    pub items: Vec<T>,
    /// What `after` has to be for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Cuts `items`, of which one more than `limit` was asked for, into a page; `key` names an item.
    pub fn cut(mut items: Vec<T>, limit: i64, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}
