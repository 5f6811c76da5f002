//! Whether the `table!` blocks of a `schema.rs` say what the migrations make.
//!
//! diesel takes a `schema.rs` at its word: a column that is missing or of another type shows only in the statement
//! that stumbles over it. So the text of the file, which is what diesel compiles, is held against the database's own
//! catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use common::db::Conn;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};

/// The differences between the `table!` blocks of `schema`, a file's text, and the tables of the database, each in
/// words; none when the two agree.
///
/// Names, nullability and types count (of a view, names), the order of columns does not. Tables that `schema` does not name are left
/// alone: they are somebody else's.
pub fn check_schema(conn: &mut Conn, schema: &str) -> QueryResult<Vec<String>> {
    let tables = declared_tables(schema);
    if tables.is_empty() {
        return Ok(vec!["the text has no table! block".to_owned()]);
    }
    let mut differences = Vec::new();
    for (table, declared) in tables {
        let actual = actual_columns(conn, &table)?;
        if actual.is_empty() {
            differences.push(format!("{table}: the database has no such table"));
            continue;
        }
        let is_view = is_view(conn, &table)?;
        let names: BTreeSet<&String> = declared.keys().chain(actual.keys()).collect();
        for name in names {
            match (declared.get(name), actual.get(name)) {
                (Some(declared), Some(actual)) if is_view || declared.fits(conn, actual) => {}
                (Some(declared), Some(actual)) => differences.push(format!(
                    "{table}.{name}: the schema says {declared}, the database says {actual}"
                )),
                (Some(_), None) => {
                    differences.push(format!("{table}.{name}: the database has no such column"));
                }
                (None, _) => differences.push(format!("{table}.{name}: the schema lacks it")),
            }
        }
    }
    Ok(differences)
}

/// A column as one of the two has it; the type's name is diesel's there and the database's here.
#[derive(Debug, PartialEq, Eq)]
struct Column {
    sql_type: String,
    nullable: bool,
}

impl Column {
    /// Whether the database's `actual` column can hold what this one, diesel's, is said to be.
    fn fits(&self, conn: &Conn, actual: &Self) -> bool {
        let (postgres, sqlite): (&str, &[&str]) = match self.sql_type.as_str() {
            "SmallInt" => ("smallint", &["SMALLINT"]),
            "Integer" => ("integer", &["INTEGER"]),
            // The key that SQLite counts up by itself has to be declared as INTEGER; it has 64 bits all the same.
            "BigInt" => ("bigint", &["BIGINT", "INTEGER"]),
            "Bool" => ("boolean", &["BOOLEAN"]),
            "Text" => ("text", &["TEXT"]),
            "Binary" => ("bytea", &["BLOB"]),
            "EventIdSql" => ("uuid", &["TEXT"]),
            _ => return false,
        };
        let known = match conn {
            Conn::Pg(_) => actual.sql_type == postgres,
            Conn::Sqlite(_) => sqlite.contains(&actual.sql_type.as_str()),
        };
        known && self.nullable == actual.nullable
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let null = if self.nullable { "NULL" } else { "NOT NULL" };
        write!(f, "{} {null}", self.sql_type)
    }
}

type Columns = BTreeMap<String, Column>;

/// The tables of `schema` as diesel reads them: `name (key) {` begins one, `column -> Type,` is a column of it.
fn declared_tables(schema: &str) -> BTreeMap<String, Columns> {
    let mut tables = BTreeMap::new();
    for block in schema.split("diesel::table! {\n").skip(1) {
        let block = block.split("\n}\n").next().unwrap_or_default();
        let name = block.lines().find_map(|line| Some(line.trim().split_once(" (")?.0));
        let columns = block.lines().filter_map(declared_column).collect();
        tables.insert(name.unwrap_or_default().to_owned(), columns);
    }
    tables
}

fn declared_column(line: &str) -> Option<(String, Column)> {
    let (name, sql_type) = line.trim().trim_end_matches(',').split_once(" -> ")?;
    let inner = sql_type.strip_prefix("Nullable<").and_then(|rest| rest.strip_suffix('>'));
    let column =
        Column { sql_type: inner.unwrap_or(sql_type).to_owned(), nullable: inner.is_some() };
    Some((name.to_owned(), column))
}

#[derive(QueryableByName)]
struct CatalogRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    sql_type: String,
    #[diesel(sql_type = Bool)]
    nullable: bool,
}

/// Whether `name` is a view: of its columns a catalog knows little more than the names.
fn is_view(conn: &mut Conn, name: &str) -> QueryResult<bool> {
    let sql = match conn {
        Conn::Pg(_) => {
            "SELECT viewname::text AS name FROM pg_views \
             WHERE schemaname = current_schema() AND viewname = $1"
        }
        Conn::Sqlite(_) => "SELECT name FROM sqlite_master WHERE type = 'view' AND name = ?",
    };
    let views: Vec<ViewRow> = on!(conn, c => sql_query(sql).bind::<Text, _>(name).load(c))?;
    Ok(!views.is_empty())
}

#[derive(QueryableByName)]
struct ViewRow {
    #[diesel(sql_type = Text, column_name = name)]
    _name: String,
}

/// The columns of `table` as the database's catalog has them; none when there is no such table.
fn actual_columns(conn: &mut Conn, table: &str) -> QueryResult<Columns> {
    let rows: Vec<CatalogRow> = match conn {
        Conn::Pg(c) => sql_query(
            "SELECT column_name::text AS name, data_type::text AS sql_type,
                    is_nullable::text = 'YES' AS nullable
             FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = $1",
        )
        .bind::<Text, _>(table)
        .load(c)?,
        // SQLite says nothing of NOT NULL where it follows from the primary key, and of computed columns only in this list.
        Conn::Sqlite(c) => sql_query(
            "SELECT name, type AS sql_type, \"notnull\" = 0 AND pk = 0 AS nullable
             FROM pragma_table_xinfo(?)",
        )
        .bind::<Text, _>(table)
        .load(c)?,
    };
    let column =
        |row: CatalogRow| (row.name, Column { sql_type: row.sql_type, nullable: row.nullable });
    Ok(rows.into_iter().map(column).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "
diesel::table! {
    product (sku) {
        sku -> Text,
        quantity -> BigInt,
        supplier -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    order_line (order_id, sku) {
        order_id -> EventIdSql,
        sku -> Text,
    }
}
";

    fn database(sql: &str) -> Conn {
        let mut c = SqliteConnection::establish(":memory:").unwrap();
        diesel::connection::SimpleConnection::batch_execute(&mut c, sql).unwrap();
        Conn::Sqlite(c)
    }

    #[test]
    fn a_schema_that_is_true_differs_in_nothing() {
        let mut conn = database(
            "CREATE TABLE product (sku TEXT PRIMARY KEY, quantity BIGINT NOT NULL,
               supplier TEXT GENERATED ALWAYS AS (upper(sku)) VIRTUAL);
             CREATE TABLE order_line (order_id TEXT, sku TEXT, PRIMARY KEY (order_id, sku));
             CREATE TABLE mail (seq INTEGER)",
        );
        assert_eq!(check_schema(&mut conn, SCHEMA).unwrap(), [""; 0]);
    }

    #[test]
    fn every_difference_is_named() {
        let mut conn = database(
            "CREATE TABLE product (sku TEXT PRIMARY KEY, quantity TEXT NOT NULL, supplier TEXT NOT NULL, colour TEXT)",
        );
        let differences = [
            "order_line: the database has no such table",
            "product.colour: the schema lacks it",
            "product.quantity: the schema says BigInt NOT NULL, the database says TEXT NOT NULL",
            "product.supplier: the schema says Text NULL, the database says TEXT NOT NULL",
        ];
        assert_eq!(check_schema(&mut conn, SCHEMA).unwrap(), differences);
        assert_eq!(check_schema(&mut conn, "").unwrap(), ["the text has no table! block"]);
    }
}
