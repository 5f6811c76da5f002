//! A query that is written as text, and that PostgreSQL parses once a connection.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::{PgConnection, QueryResult, RunQueryDsl};

/// A query whose text is the same each time.
///
/// Its plan is kept with it, and outlives the sizes and the settings for which it was made. So it is for queries of two
/// kinds: those that always run with [`super::Conn::plan_by_index`], and have one way to go then, however large their tables
/// are; and those that read a small table or none, for which any way will do.
pub struct Kept<Q>(Q);

impl<Q> Kept<Q> {
    /// This one, with its parameters.
    pub fn of(query: Q) -> Self {
        Self(query)
    }
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Kept<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    // diesel can't know of a text that it will not be another one the next time.
    fn is_safe_to_cache_prepared(&self, _backend: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q> QueryId for Kept<Q> {
    type QueryId = ();
    // It is known again by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Kept<Q> {
    type SqlType = Q::SqlType;
}

impl<Q> RunQueryDsl<PgConnection> for Kept<Q> {}
