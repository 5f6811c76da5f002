//! Many rows in one statement of PostgreSQL, whose text is the same however many they are: it is parsed and planned once
//! a connection.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, HasSqlType};
use diesel::{PgConnection, QueryResult, RunQueryDsl};

/// `INSERT INTO … SELECT * FROM unnest(…)`, with an array for each column.
///
/// It is for inserts alone: a kept plan that reads a table outlives the size for which it was made.
pub struct InsertColumns<'a> {
    into: &'static str,
    columns: Vec<Box<dyn Column + 'a>>,
}

impl<'a> InsertColumns<'a> {
    /// Into this table, with its columns in parentheses.
    pub fn into(table_and_columns: &'static str) -> Self {
        Self { into: table_and_columns, columns: Vec::new() }
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

impl QueryFragment<Pg> for InsertColumns<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("INSERT INTO ");
        out.push_sql(self.into);
        out.push_sql(" SELECT * FROM unnest(");
        for (place, column) in self.columns.iter().enumerate() {
            if place > 0 {
                out.push_sql(", ");
            }
            column.push(&mut out)?;
        }
        out.push_sql(")");
        Ok(())
    }
}

impl QueryId for InsertColumns<'_> {
    type QueryId = ();
    // It is known again by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl RunQueryDsl<PgConnection> for InsertColumns<'_> {}
