//! `stockloop import products` and `stockloop export products`: the inventory out of a file and into one; and
//! `stockloop history`, what a product was.
//!
//! [`reader`] reads a file product by product, [`chunks`] puts together what is sent together, [`mod@import`] sends it, and
//! [`rejects`] keeps what was refused. [`mod@export`] writes what the service has. Neither holds more in memory than a few
//! chunks, whatever the size of the file.

mod apostrophes;
mod chunks;
mod columns;
mod export;
mod history;
mod import;
mod part_file;
mod product;
mod reader;
mod refusal;
mod rejects;
mod sending;
mod service;
mod summary;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::admin_cli::exit_code;

pub(crate) use history::HistoryArgs;

/// The columns of a file of products, for messages.
const NAMES: &str = "sku, description, quantity and unit_price (or unit_price_minor)";

/// How a file of products is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    /// A table with a header.
    Csv,
    /// A JSON object on each line.
    Ndjson,
}

/// `stockloop import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    what: ImportCommand,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// Put products into product-service's inventory from a CSV or NDJSON file.
    Products(import::ImportProducts),
}

/// `stockloop export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    what: ExportCommand,
}

#[derive(Debug, Subcommand)]
enum ExportCommand {
    /// Write product-service's inventory as a CSV or NDJSON file.
    Products(export::ExportProducts),
}

/// Runs an import; errors are printed on standard error.
pub(crate) async fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let ImportCommand::Products(args) = args.what;
    let json = args.json;
    exit_code(import::run(args).await, json)
}

/// Runs an export; errors are printed on standard error.
pub(crate) async fn export(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let ExportCommand::Products(args) = args.what;
    exit_code(export::run(args).await, false)
}

/// Shows a product's history; errors are printed on standard error.
pub(crate) async fn history(args: HistoryArgs) -> anyhow::Result<ExitCode> {
    let json = args.json;
    exit_code(history::run(args).await, json)
}
