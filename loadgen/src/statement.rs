//! A hot statement: literal SQL that diesel still keeps prepared.

use std::borrow::Cow;
use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;

/// Literal SQL with a `{}` for each bind and rows of the SQL type `ST`.
///
/// `diesel::sql_query` is never kept prepared: it is parsed and planned again on every call.
pub(crate) struct Statement<'a, DB, ST = ()> {
    sql: Cow<'a, str>,
    binds: Vec<Box<dyn Bind<DB> + 'a>>,
    prepared: bool,
    row: PhantomData<ST>,
}

impl<'a, DB: Backend, ST> Statement<'a, DB, ST> {
    /// A statement that stays prepared on its connection.
    pub(crate) fn new(sql: impl Into<Cow<'a, str>>) -> Self {
        Self { sql: sql.into(), binds: Vec::new(), prepared: true, row: PhantomData }
    }

    /// Whether the connection keeps the statement prepared.
    pub(crate) fn prepared(mut self, prepared: bool) -> Self {
        self.prepared = prepared;
        self
    }

    /// Binds the next `{}`.
    pub(crate) fn bind<T, U>(mut self, value: U) -> Self
    where
        DB: HasSqlType<T>,
        U: ToSql<T, DB> + 'a,
        T: 'a,
    {
        self.binds.push(Box::new(Value(value, PhantomData::<T>)));
        self
    }
}

/// A bind whose types were forgotten.
trait Bind<DB: Backend> {
    fn push<'b>(&'b self, out: AstPass<'_, 'b, DB>) -> QueryResult<()>;
}

struct Value<U, T>(U, PhantomData<T>);

impl<DB, U, T> Bind<DB> for Value<U, T>
where
    DB: Backend + HasSqlType<T>,
    U: ToSql<T, DB>,
{
    fn push<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_bind_param::<T, U>(&self.0)
    }
}

impl<DB: Backend, ST> QueryFragment<DB> for Statement<'_, DB, ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        if !self.prepared {
            out.unsafe_to_cache_prepared();
        }
        let mut parts = self.sql.split("{}");
        out.push_sql(parts.next().unwrap_or_default());
        for (part, bind) in parts.zip(&self.binds) {
            bind.push(out.reborrow())?;
            out.push_sql(part);
        }
        Ok(())
    }
}

impl<DB, ST> QueryId for Statement<'_, DB, ST> {
    type QueryId = ();

    // The SQL text itself is the key of diesel's statement cache.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<DB, ST> Query for Statement<'_, DB, ST> {
    type SqlType = ST;
}

impl<DB, ST, C> RunQueryDsl<C> for Statement<'_, DB, ST> {}
