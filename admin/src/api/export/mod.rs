//! Any list as a file: CSV for spreadsheets, NDJSON for programs, with every item that the list's filters let
//! through.
//!
//! A file is read and sent page by page, so it takes no more memory than one page and holds no connection of the
//! database while a slow client reads. When a page can't be read, the connection is broken off instead of ended: a
//! client never takes a part for the whole.

pub(super) mod lists;
pub(super) mod proof;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::ready;
use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, Resource};
use common::clock::Timestamp;
use common::db::Conn;
use common::http::{Page, Params, Problem, ProblemResult, wrong_method};
use csv::{QuoteStyle, Terminator, WriterBuilder};
use futures::stream::{StreamExt, once, try_unfold};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, RefOr, Response, ResponseBuilder, Schema};
use utoipa::{IntoParams, ToResponse, ToSchema};

use super::Admin;
use crate::access::Caller;

/// Items that are read at once.
const PAGE: i64 = 500;

/// What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"), full-width forms included.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Where a spreadsheet may begin a new cell: it guesses the separator, and may guess wrong.
const SEPARATORS: [char; 5] = [',', ';', '\t', '\r', '\n'];

/// The mark by which Excel knows UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// RFC 4180 with a header, in UTF-8. All but numbers is quoted, objects and arrays are JSON, and what a spreadsheet
    /// would take for a formula has an apostrophe in front.
    Csv,
    /// One JSON object per line, each as the list shows it.
    Ndjson,
}

/// What every export is asked for, besides the filters of its list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "it is there for the documentation; Export::of reads them")]
pub(super) struct ExportQuery {
    /// How the file is written. In CSV, everything but numbers is quoted, and whatever a spreadsheet could take for a
    /// formula has an apostrophe in front: at the start of a text, and after each comma, semicolon, tab and line break
    /// in it, since the separator is the spreadsheet's guess. Numbers stay as they are.
    #[param(inline)]
    format: Format,
    /// Whether a CSV file begins with a byte order mark, by which Excel knows UTF-8; no, if left out.
    bom: Option<bool>,
}

/// The answer of every export.
pub(super) struct File;

impl<'r> ToResponse<'r> for File {
    fn response() -> (&'r str, RefOr<Response>) {
        let text = || ObjectBuilder::new().schema_type(Type::String).build();
        let name = HeaderBuilder::new().schema(Some(text())).description(Some("The file's name"));
        let response = ResponseBuilder::new()
            .description("The file; if the connection ends early, the file is incomplete")
            .header("content-disposition", name.build())
            .content("text/csv", Content::new(Some(text())))
            .content("application/x-ndjson", Content::new(Some(text())));
        ("File", response.build().into())
    }
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "csv" => Ok(Self::Csv),
            "ndjson" => Ok(Self::Ndjson),
            _ => Err("use csv or ndjson"),
        }
    }
}

/// Where a list's file is to be had.
fn resource(path: &str) -> Resource {
    web::resource(path.to_owned()).default_service(wrong_method("GET"))
}

/// A file that somebody asked for.
pub(super) struct Export {
    list: &'static str,
    format: Format,
    bom: bool,
    filter: serde_json::Value,
}

impl Export {
    /// Reads `format` and `bom`; what is left of `params` are the filters of the list.
    ///
    /// # Errors
    /// 422 without a known format, for a byte order mark in NDJSON, or where a page is asked for.
    pub(super) fn of(list: &'static str, params: &mut Params) -> ProblemResult<Self> {
        for name in ["limit", "after"] {
            if params.text(name).is_some() {
                return Err(Problem::invalid(name, "an export has the whole list; leave this out"));
            }
        }
        let format = params
            .take("format", "a file format")?
            .ok_or_else(|| Problem::invalid("format", "give format=csv or format=ndjson"))?;
        let bom = params.take("bom", "true or false")?.unwrap_or(false);
        if bom && format != Format::Csv {
            return Err(Problem::invalid("bom", "only CSV has a byte order mark; leave this out"));
        }
        Ok(Self { list, format, bom, filter: params.as_json() })
    }

    /// Answers with the file; `page` reads up to so many items that come after a key.
    ///
    /// # Errors
    /// When the export can't be noted in the audit log, or its first page can't be read.
    pub(super) async fn run<T, K, F>(
        self,
        admin: &Admin,
        by: Caller,
        page: F,
    ) -> ProblemResult<HttpResponse>
    where
        T: Serialize + ToSchema + Send + 'static,
        K: FromStr<Err: Display> + Send + 'static,
        F: Fn(&mut Conn, Option<K>, i64) -> ProblemResult<Page<T>> + Send + Sync + 'static,
    {
        let now = admin.env.now();
        self.note(admin, by, now).await?;
        let file_name = self.file_name(now);
        let (format, bom) = (self.format, if self.bom { BOM } else { &[] });
        let walk = Walk { export: self, admin: admin.clone(), columns: columns::<T>(), page };
        let walk = Arc::new(walk);
        let (mut first, next) = walk.part(None).await?;
        if format == Format::Csv {
            first = [bom, &header(&walk.columns)?, &first].concat().into();
        }
        let rest = try_unfold((walk, next), |(walk, next)| async move {
            let Some(after) = next else { return Ok(None) };
            // What is written leaves first: a page that fails then cuts off the file, not the whole answer.
            tokio::task::yield_now().await;
            let (part, next) = walk.part(Some(after)).await.inspect_err(|problem| {
                tracing::error!(list = walk.export.list, %problem, "an export was cut off");
            })?;
            Ok::<_, Problem>(Some((part, (walk, next))))
        });
        Ok(HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, format.content_type()))
            .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{file_name}\"")))
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .streaming(once(ready(Ok(first))).chain(rest)))
    }

    async fn note(&self, admin: &Admin, by: Caller, now: Timestamp) -> ProblemResult<()> {
        let list = self.list;
        let detail = serde_json::json!({ "format": self.format, "filter": self.filter });
        admin
            .db
            .write(move |conn| {
                by.note(conn, now, "export", Some(list), Some(detail)).map_err(Problem::from)
            })
            .await
    }

    /// Such as `events-2026-01-05T12-00-00Z.csv`: no file system minds it.
    fn file_name(&self, now: Timestamp) -> String {
        let moment = now.to_string();
        let seconds = moment.split('.').next().unwrap_or_default().replace(':', "-");
        format!("{}-{seconds}Z.{}", self.list, self.format.extension())
    }
}

impl Format {
    const fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// A walk over all pages of a list.
struct Walk<F> {
    export: Export,
    admin: Admin,
    columns: Vec<String>,
    page: F,
}

impl<F> Walk<F> {
    /// The next page as a part of the file, and the key of the one after it.
    async fn part<T, K>(
        self: &Arc<Self>,
        after: Option<String>,
    ) -> ProblemResult<(Bytes, Option<String>)>
    where
        T: Serialize + Send + 'static,
        K: FromStr<Err: Display> + Send + 'static,
        F: Fn(&mut Conn, Option<K>, i64) -> ProblemResult<Page<T>> + Send + Sync + 'static,
    {
        let admin = &self.admin;
        if admin.stopping.is_cancelled() {
            return Err(Problem::unavailable("the service is stopping"));
        }
        let after = after
            .map(|after| after.parse::<K>().map_err(|error| Problem::internal(&error)))
            .transpose()?;
        let walk = Arc::clone(self);
        let page = admin.db.read(move |conn| (walk.page)(conn, after, PAGE)).await?;
        let part = match self.export.format {
            Format::Csv => rows(&self.columns, &page.items)?,
            Format::Ndjson => lines(&page.items)?,
        };
        Ok((part.into(), page.next))
    }
}

/// The names of an item's values in the order of its type, as the documentation has them.
fn columns<T: ToSchema>() -> Vec<String> {
    let (mut known, mut names) = (Vec::new(), Vec::new());
    T::schemas(&mut known);
    collect(&T::schema(), &known, &mut names);
    names
}

fn collect(schema: &RefOr<Schema>, known: &[(String, RefOr<Schema>)], names: &mut Vec<String>) {
    match schema {
        RefOr::T(Schema::Object(object)) => names.extend(object.properties.keys().cloned()),
        // A type that is flattened into another one.
        RefOr::T(Schema::AllOf(parts)) => {
            parts.items.iter().for_each(|part| collect(part, known, names));
        }
        RefOr::T(_) => {}
        RefOr::Ref(to) => {
            let name = to.ref_location.rsplit('/').next().unwrap_or_default();
            if let Some((_, schema)) = known.iter().find(|(known, _)| known == name) {
                collect(schema, known, names);
            }
        }
    }
}

fn lines<T: Serialize>(items: &[T]) -> ProblemResult<Vec<u8>> {
    let mut lines = Vec::new();
    for item in items {
        serde_json::to_writer(&mut lines, item).map_err(|error| Problem::internal(&error))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn header(columns: &[String]) -> ProblemResult<Bytes> {
    written(|csv| csv.write_record(columns)).map(Bytes::from)
}

fn rows<T: Serialize>(columns: &[String], items: &[T]) -> ProblemResult<Vec<u8>> {
    let mut records = Vec::with_capacity(items.len());
    for item in items {
        records.push(record(columns, item).map_err(|error| Problem::internal(&error))?);
    }
    written(|csv| records.iter().try_for_each(|record| csv.write_record(record)))
}

/// The values of an item, each as it is written into its cell: what has no value is empty.
fn record<T: Serialize>(columns: &[String], item: &T) -> serde_json::Result<Vec<String>> {
    let json = serde_json::to_string(item)?;
    let values: BTreeMap<String, &RawValue> = serde_json::from_str(&json)?;
    let cells =
        columns.iter().map(|name| values.get(name).map_or(Ok(String::new()), |raw| cell(raw)));
    cells.collect()
}

fn cell(raw: &RawValue) -> serde_json::Result<String> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(String::new()),
        Some(b'"') => serde_json::from_str::<String>(text).map(|text| without_formulas(&text)),
        Some(b'{' | b'[') => Ok(without_formulas(text)),
        // A number or a truth value, which a spreadsheet may take for one.
        _ => Ok(text.to_owned()),
    }
}

/// The text with an apostrophe before each formula that any separator would let begin in it.
///
/// Quotes don't protect it: they mean nothing to a spreadsheet that cuts the line at another separator.
pub(super) fn without_formulas(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 1);
    // OWASP has these too among what a cell must not begin with.
    if text.starts_with(['\t', '\r', '\n']) {
        safe.push('\'');
    }
    let mut at_start = true;
    for c in text.chars() {
        if at_start && FORMULA.contains(&c) {
            safe.push('\'');
        }
        safe.push(c);
        let passed_over = c == '"' || c.is_whitespace();
        at_start = SEPARATORS.contains(&c) || (at_start && passed_over);
    }
    safe
}

/// All but numbers is quoted, as OWASP advises; so is what holds any separator.
fn written(
    write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>,
) -> ProblemResult<Vec<u8>> {
    let mut csv = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .quote_style(QuoteStyle::NonNumeric)
        .from_writer(Vec::new());
    write(&mut csv).map_err(|error| Problem::internal(&error))?;
    csv.into_inner().map_err(|error| Problem::internal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_separator_lets_a_formula_begin() {
        for (text, safe) in [
            ("=1+1", "'=1+1"),
            ("A;=1+1", "A;'=1+1"),
            ("A;  =1+1;+2", "A;  '=1+1;'+2"),
            ("A,@x\t-1", "A,'@x\t'-1"),
            ("A;\"=1", "A;\"'=1"),
            ("\"=1", "\"'=1"),
            (" \u{a0}=1", " \u{a0}'=1"),
            ("\tx", "'\tx"),
            ("\r\n=1", "'\r\n'=1"),
            ("two\n＝1", "two\n'＝1"),
            ("-5", "'-5"),
            (r#"{"reason":";=1"}"#, r#"{"reason":";'=1"}"#),
        ] {
            assert_eq!(without_formulas(text), safe);
        }
        for text in ["", "A-1", "a=b", "a@b.example", "1 - 2; 3 + 4", r#"{"delta":-5}"#] {
            assert_eq!(without_formulas(text), text);
        }
    }

    #[test]
    fn numbers_stay_numbers() {
        #[derive(Serialize)]
        struct Item {
            delta: i64,
            reference: &'static str,
            open: bool,
            since: Option<i64>,
        }
        let item = Item { delta: -5, reference: "-5", open: true, since: None };
        let columns = ["delta", "reference", "open", "since"].map(str::to_owned);
        let file = rows(&columns, &[item]).map(String::from_utf8);
        assert!(matches!(file, Ok(Ok(file)) if file == "-5,\"'-5\",\"true\",\"\"\r\n"));
    }
}
