//! Many rows in one statement of PostgreSQL, whose text is the same however many they are: it is parsed and planned once
//! a connection.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, HasSqlType};
use diesel::{PgConnection, QueryResult, RunQueryDsl};

/// Where the arrays stand in a statement.
const PLACE: &str = "…";

/// A statement with `unnest(…)` in it, which has an array for each column of the rows.
///
/// It is for inserts alone: a kept plan that reads a table outlives the size for which it was made.
pub struct Unnest<'a> {
    statement: &'static str,
    columns: Vec<Box<dyn Column + 'a>>,
}

impl<'a> Unnest<'a> {
    /// This statement, without columns yet: `INSERT INTO t (a, b) SELECT * FROM unnest(…)`.
    pub fn of(statement: &'static str) -> Self {
        Self { statement, columns: Vec::new() }
    }

    /// With the values of the next column, of the SQL type `ST`.
    #[must_use]
    pub fn column<ST: 'static, T: 'a>(mut self, values: Vec<T>) -> Self
    where
        Vec<T>: ToSql<Array<ST>, Pg>,
        Pg: HasSqlType<Array<ST>>,
    {
        self.columns.push(Box::new(Values { values, kind: PhantomData::<ST> }));
        self
    }
}

trait Column {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()>;
}

struct Values<ST, T> {
    values: Vec<T>,
    kind: PhantomData<ST>,
}

impl<ST: 'static, T> Column for Values<ST, T>
where
    Vec<T>: ToSql<Array<ST>, Pg>,
    Pg: HasSqlType<Array<ST>>,
{
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<Array<ST>, _>(&self.values)
    }
}

impl QueryFragment<Pg> for Unnest<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        debug_assert!(self.statement.contains(PLACE), "{} has no place", self.statement);
        let (before, after) = self.statement.split_once(PLACE).unwrap_or((self.statement, ""));
        out.push_sql(before);
        for (place, column) in self.columns.iter().enumerate() {
            if place > 0 {
                out.push_sql(", ");
            }
            column.push(&mut out)?;
        }
        out.push_sql(after);
        Ok(())
    }
}

impl QueryId for Unnest<'_> {
    type QueryId = ();
    // It is known again by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<PgConnection> for Unnest<'_> {}
