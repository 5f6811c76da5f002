//! Benchmark of outbox layouts: insert, relay and settle through diesel.
//!
//! [`store`] has the layouts and what a store does, [`postgres`] and [`sqlite`] are the stores of the two databases,
//! [`mod@measure`] runs one of them and [`report`] prints what came of it.

mod measure;
mod postgres;
mod report;
mod sqlite;
mod store;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::progress::progress_bar;

use self::measure::{Workload, measure};
use self::postgres::PlanMode;
use self::report::CaseResults;
use self::sqlite::{BatchStyle, Encoding, IdType};
use self::store::{Layout, Store};

/// Compares layouts of the outbox on PostgreSQL and SQLite.
///
/// Every run inserts a backlog, relays it in batches (read PENDING in order, mark SENT by
/// compare-and-set) and settles it (PROCESSED) a few batches behind. Statements are prepared
/// while the tables are empty, the backlog comes afterwards and statistics are never refreshed
/// by hand, so a plan that goes bad shows up as a slow run. Runs of different cases take turns;
/// the table shows medians in µs per event. PostgreSQL tables live in a schema of their own,
/// SQLite files in a directory; both are removed after each run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stockloop-loadgen storage --sqlite-dir /tmp/bench --rows 200000 --repeat 3
  stockloop-loadgen storage --postgres-url postgres://postgres@localhost/postgres --layouts b,c
  stockloop-loadgen storage --postgres-url postgres://postgres@localhost/postgres --layouts b --plans auto,custom,generic,unnamed
  stockloop-loadgen storage --sqlite-dir /tmp/bench --group-commit")]
pub(crate) struct Arguments {
    /// Measure on this PostgreSQL
    #[arg(long, value_name = "URL")]
    postgres_url: Option<String>,
    /// Measure on SQLite, with files made in this directory
    #[arg(long, value_name = "DIR")]
    sqlite_dir: Option<PathBuf>,
    /// Layouts to compare
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a,as,b,c,d,f")]
    layouts: Vec<Layout>,
    #[command(flatten)]
    workload: Workload,
    /// Runs per case
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// PostgreSQL: how statements get their plans
    #[arg(long, value_enum, value_delimiter = ',', default_value = "index")]
    plans: Vec<PlanMode>,
    /// PostgreSQL: keep autovacuum (and its statistics) away from the tables
    #[arg(long)]
    no_autovacuum: bool,
    /// SQLite: how ids are stored
    #[arg(long, value_enum, value_delimiter = ',', default_value = "blob")]
    ids: Vec<IdType>,
    /// SQLite: how a batch reaches its statements
    #[arg(long, value_enum, value_delimiter = ',', default_value = "values")]
    styles: Vec<BatchStyle>,
    /// SQLite: page cache in MiB
    #[arg(long, default_value_t = 8)]
    sqlite_cache: u32,
    /// SQLite: measure only one-change inserts with group commit, 4,000 at the most
    #[arg(long)]
    group_commit: bool,
    /// Also write every run to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A store that is still to be made, so that cases can take turns.
struct Case<'a> {
    open: Box<dyn Fn() -> Result<Box<dyn Store>> + 'a>,
    results: CaseResults,
}

/// Runs the benchmark and prints its table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workload = &arguments.workload;
    ensure!(workload.rows > 0 && workload.batch > 0, "--rows and --batch must be above 0");
    if let Some(directory) = &arguments.sqlite_dir {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("the folder {} can't be made", directory.display()))?;
    }
    if arguments.group_commit {
        let directory = arguments.sqlite_dir.as_ref().context("--group-commit: --sqlite-dir?")?;
        return sqlite::group_commit(
            directory,
            arguments.sqlite_cache,
            workload.rows,
            arguments.repeat,
        );
    }
    let mut cases = cases(arguments);
    ensure!(!cases.is_empty(), "give --postgres-url, --sqlite-dir or both");
    for round in 1..=arguments.repeat {
        for case in &mut cases {
            let name = &case.results.case;
            let title = format!("{round}/{} {name}", arguments.repeat);
            let bar = progress_bar(title, workload.rows * 3);
            let mut store = (case.open)()?;
            let run = measure(store.as_mut(), workload, &bar).context(name.clone())?;
            case.results.add(run);
            bar.finish_and_clear();
        }
    }
    let results: Vec<CaseResults> = cases.into_iter().map(|case| case.results).collect();
    report::print(&results);
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn cases(arguments: &Arguments) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for &layout in &arguments.layouts {
        cases.extend(postgres_cases(arguments, layout));
        cases.extend(sqlite_cases(arguments, layout));
    }
    cases
}

fn postgres_cases(arguments: &Arguments, layout: Layout) -> Vec<Case<'_>> {
    let Some(url) = &arguments.postgres_url else { return Vec::new() };
    let autovacuum = !arguments.no_autovacuum;
    let case = |&plans: &PlanMode| Case {
        open: Box::new(move || postgres::open(url, layout, plans, autovacuum)),
        results: CaseResults::new(format!("postgres {layout:?} {plans:?}").to_lowercase()),
    };
    arguments.plans.iter().map(case).collect()
}

fn sqlite_cases(arguments: &Arguments, layout: Layout) -> Vec<Case<'_>> {
    let Some(directory) = &arguments.sqlite_dir else { return Vec::new() };
    if layout == Layout::G {
        // What it is for, indexes on what changes and dead rows, costs nothing here.
        return Vec::new();
    }
    let cache = arguments.sqlite_cache;
    let mut cases = Vec::new();
    for &ids in &arguments.ids {
        for &style in &arguments.styles {
            let encoding = Encoding { ids, style };
            cases.push(Case {
                open: Box::new(move || sqlite::open(directory, layout, encoding, cache)),
                results: CaseResults::new(
                    format!("sqlite {layout:?} {ids:?} {style:?}").to_lowercase(),
                ),
            });
        }
    }
    cases
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;
    use stockloop_tests::database::TestDatabase;
    use stockloop_tests::on_every_database;
    use tempfile::TempDir;

    use indicatif::ProgressBar;

    use super::report::Metric;
    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        storage: Arguments,
    }

    /// A place to measure on: an empty folder, or an empty database of the server.
    struct StorageFixture {
        folder: TempDir,
        database: TestDatabase,
    }

    impl StorageFixture {
        fn new(database: TestDatabase) -> Self {
            Self { folder: tempfile::tempdir().unwrap(), database }
        }

        fn is_sqlite(&self) -> bool {
            self.database.url().starts_with("sqlite:")
        }

        fn path(&self, name: &str) -> String {
            self.folder.path().join(name).display().to_string()
        }

        fn arguments(&self, more: &[&str]) -> Arguments {
            let (option, place) = match self.is_sqlite() {
                true => ("--sqlite-dir", self.path("files")),
                false => ("--postgres-url", self.database.url()),
            };
            let small = ["test", option, &place, "--rows", "330", "--batch", "20"];
            Cli::try_parse_from(small.iter().chain(more)).unwrap().storage
        }
    }

    on_every_database!(StorageFixture::new =>
        every_layout_drains,
        the_medians_are_written_as_json,
    );

    async fn every_layout_drains(fixture: StorageFixture) {
        std::fs::create_dir_all(fixture.path("files")).unwrap();
        let (variants, expected): (&[&str], usize) = match fixture.is_sqlite() {
            true => (&["--ids", "text,blob", "--styles", "rows,json,values"], 8 * 2 * 3),
            false => (&["--plans", "auto,custom,generic,index,unnamed"], 9 * 5),
        };
        let layouts = ["--layouts", "a,as,b,bx,c,d,e,f,g"];
        let arguments = fixture.arguments(&[&layouts, variants].concat());
        let cases = cases(&arguments);
        assert_eq!(cases.len(), expected);
        for case in cases {
            let mut store = (case.open)().unwrap();
            let metrics = measure(store.as_mut(), &arguments.workload, &ProgressBar::hidden())
                .context(case.results.case)
                .unwrap();
            assert_eq!(metrics.get(&Metric::Events), Some(&330.0));
        }
    }

    async fn the_medians_are_written_as_json(fixture: StorageFixture) {
        let json = fixture.path("results.json");
        let arguments = ["--layouts", "b", "--repeat", "2", "--json", &json];
        run(&fixture.arguments(&arguments)).unwrap();
        let text = std::fs::read_to_string(&json).unwrap();
        let results: serde_json::Value = serde_json::from_str(&text).unwrap();
        let case = &results[0];
        assert_eq!(case["runs"].as_array().map(Vec::len), Some(2), "{text}");
        assert_eq!(case["median"]["events"].as_f64(), Some(330.0), "{text}");
    }

    #[test]
    fn group_commit_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        let arguments = ["test", "--sqlite-dir", &place, "--group-commit", "--rows", "30"];
        run(&Cli::try_parse_from(arguments).unwrap().storage).unwrap();
    }
}
