//! `export products`: writes the inventory, page by page.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use csv::{QuoteStyle, Terminator, Writer, WriterBuilder};
use indicatif::ProgressBar;

use super::FileFormat;
use super::apostrophes::without_formulas;
use super::part_file::PartFile;
use super::product::Product;
use super::service::{InventoryService, ProductPage, ServiceTarget};
use crate::admin_cli::error::CommandError;
use crate::admin_cli::outcome::Outcome;
use crate::admin_cli::table::grouped;

/// The mark by which Excel knows UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();

const COLUMNS: [&str; 5] = ["sku", "description", "quantity", "unit_price", "allow_backorder"];

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ExportProducts {
    /// The file, which appears once it is complete; by default, and with -, standard output.
    file: Option<PathBuf>,
    /// The format; by default what the file's name says, else csv.
    #[arg(long)]
    format: Option<FileFormat>,
    /// Begin a CSV file with a byte order mark, by which Excel knows UTF-8.
    #[arg(long)]
    bom: bool,
    #[command(flatten)]
    target: ServiceTarget,
}

const AFTER_HELP: &str = "\
`stockloop import products` takes what this writes; as long as nothing has changed, it says
`unchanged` of every line. In CSV, what a spreadsheet could take for a formula has an apostrophe in
front, which the import takes away. What changes during the export may be in it or not.

Examples:
  stockloop export products stock.csv --bom
  stockloop export products --format ndjson | jq 'select(.quantity < 5)'

Environment:
  STOCKLOOP_API_URL, STOCKLOOP_API_TOKEN    as --url and --token";

pub(super) async fn run(args: ExportProducts) -> anyhow::Result<Outcome> {
    let file = args.file.as_deref().filter(|file| file.as_os_str() != "-");
    if args.file.is_none() && io::stdout().is_terminal() {
        let text = "an export is not for the terminal: name a file, or use a pipe";
        return Err(CommandError::Usage(text.to_owned()).into());
    }
    let format = args.format.unwrap_or_else(|| format_of(file));
    if args.bom && format != FileFormat::Csv {
        return Err(CommandError::Usage("only CSV has a byte order mark".to_owned()).into());
    }
    let service = InventoryService::new(&args.target)?;
    // Before anything is written: a service that is away leaves no beginning of a file.
    let first = service.page(None).await?;
    match file {
        None => {
            let sink = Sink::new(BufWriter::new(io::stdout()), format, args.bom)?;
            write_all(&service, first, sink).await?.1.flush()?;
        }
        Some(path) => {
            let sink = Sink::new(PartFile::create(path)?, format, args.bom)?;
            let (count, out) = write_all(&service, first, sink).await?;
            out.finish()?;
            eprintln!("{} products written to {}", grouped(count), path.display());
        }
    }
    Ok(Outcome::Done)
}

fn format_of(file: Option<&Path>) -> FileFormat {
    let extension = file.and_then(Path::extension).and_then(|extension| extension.to_str());
    match extension {
        Some("ndjson" | "jsonl") => FileFormat::Ndjson,
        _ => FileFormat::Csv,
    }
}

/// Writes every product, from the first page on, and returns how many there were.
async fn write_all<W: Write>(
    service: &InventoryService,
    mut page: ProductPage,
    mut sink: Sink<W>,
) -> anyhow::Result<(u64, W)> {
    let spinner = ProgressBar::new_spinner();
    let mut count = 0;
    loop {
        page.items.iter().try_for_each(|product| sink.add(product))?;
        count += page.items.len() as u64;
        spinner.set_message(format!("{} products", grouped(count)));
        spinner.tick();
        let Some(after) = page.next else { break };
        page = service.page(Some(&after)).await?;
    }
    spinner.finish_and_clear();
    Ok((count, sink.into_inner()?))
}

/// Where products are written to, and how.
pub(super) enum Sink<W: Write> {
    Csv(Box<Writer<W>>),
    Ndjson(W),
}

impl<W: Write> Sink<W> {
    pub(super) fn new(mut out: W, format: FileFormat, bom: bool) -> anyhow::Result<Self> {
        if format == FileFormat::Ndjson {
            return Ok(Self::Ndjson(out));
        }
        if bom {
            out.write_all(BOM)?;
        }
        // As the operators' exports are written.
        let mut csv = WriterBuilder::new()
            .terminator(Terminator::CRLF)
            .quote_style(QuoteStyle::NonNumeric)
            .from_writer(out);
        csv.write_record(COLUMNS)?;
        Ok(Self::Csv(Box::new(csv)))
    }

    pub(super) fn add(&mut self, product: &Product) -> io::Result<()> {
        match self {
            Self::Csv(csv) => csv.write_record(cells(product)).map_err(io::Error::from),
            Self::Ndjson(out) => {
                serde_json::to_writer(&mut *out, product)?;
                out.write_all(b"\n")
            }
        }
    }

    pub(super) fn into_inner(self) -> io::Result<W> {
        match self {
            Self::Csv(csv) => csv.into_inner().map_err(|error| error.into_error()),
            Self::Ndjson(out) => Ok(out),
        }
    }
}

fn cells(product: &Product) -> [String; COLUMNS.len()] {
    [
        without_formulas(product.sku.as_str()),
        without_formulas(&product.description),
        product.quantity.to_string(),
        product.unit_price(),
        product.allow_backorder.to_string(),
    ]
}
