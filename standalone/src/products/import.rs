//! `import products`: reads a file, and sends it chunk by chunk.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use clap::Args;
use common::env::Env;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::FileFormat;
use super::chunks::{Chunk, next_chunk};
use super::reader::{FileError, ProductReader};
use super::rejects::Rejects;
use super::sending::{self, ChunkOutcome};
use super::service::{InventoryService, Mode, Sending, ServiceTarget};
use super::summary::Summary;
use crate::admin_cli::error::CommandError;
use crate::admin_cli::outcome::Outcome;

/// Requests that are under way at the same time.
const IN_FLIGHT: usize = 4;
/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;

const STYLE: &str = "{elapsed_precise} {bar:30} {bytes}/{total_bytes}  {msg}";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ImportProducts {
    /// The file, plain or gzipped; - is standard input.
    file: PathBuf,
    #[command(flatten)]
    mode: ModeArgs,
    /// Read and check everything, have the service say what would become of it, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write refused lines to this file, each with its number and the reason, to be corrected and imported again.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// The format; by default what the file looks like.
    #[arg(long)]
    format: Option<FileFormat>,
    /// Send everything as new, even what an earlier run of the same file has sent within a day.
    #[arg(long)]
    again: bool,
    /// Print the result as JSON, for programs.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    target: ServiceTarget,
}

/// The heading in `--help` of the modes and what belongs to them.
const MODES: &str = "Products that are there already";

#[derive(Debug, Args)]
struct ModeArgs {
    /// Leave them as they are; this is the default.
    #[arg(long, group = "mode", help_heading = MODES)]
    if_absent: bool,
    /// Replace them, their stock too.
    #[arg(long, group = "mode", help_heading = MODES)]
    replace: bool,
    /// Replace them, but come to the stock by an adjustment, which is kept with its reason.
    #[arg(long, group = "mode", help_heading = MODES)]
    adjust_to: bool,
    /// Why the stock is another one.
    #[arg(long, value_name = "TEXT", default_value = "stocktaking", requires = "adjust_to", help_heading = MODES)]
    reason: String,
    /// What the adjustments belong to, such as the number of a list.
    #[arg(long, value_name = "TEXT", requires = "adjust_to", help_heading = MODES)]
    reference: Option<String>,
}

const AFTER_HELP: &str = "\
The file has the columns sku, description, quantity, unit_price (such as 2.55) or unit_price_minor
(such as 255), and allow_backorder if need be. They may be in any order, and among others; between
fields are commas, semicolons or tabs. NDJSON has fields of these names.

A run that broke off is run again in the same way: what it has done is not done twice. Refused lines
write nothing, and stop no others. An apostrophe before a formula, as exports write it, is taken away.

Examples:
  stockloop import products stock.csv --dry-run
  stockloop import products stock.csv --replace --rejects refused.csv
  zcat count.csv.gz | stockloop import products - --adjust-to --reference 'count 2026-01'

Environment:
  STOCKLOOP_API_URL, STOCKLOOP_API_TOKEN    as --url and --token

Exit codes:
  0  done
  1  failed, or every line was refused
  2  not understood
  3  done, but some lines were refused";

impl ModeArgs {
    fn mode(self) -> Mode {
        if self.adjust_to {
            Mode::AdjustTo { reason: self.reason, reference: self.reference }
        } else if self.replace {
            Mode::Replace
        } else {
            Mode::IfAbsent
        }
    }
}

pub(super) async fn run(args: ImportProducts) -> anyhow::Result<Outcome> {
    if let Some(rejects) = &args.rejects {
        check_rejects(rejects, &args.file)?;
    }
    let service = Arc::new(InventoryService::new(&args.target)?);
    let input = Input::open(&args.file)?;
    let origin = input.name.clone();
    let bar = input.bar(args.json);
    let reader = tokio::task::spawn_blocking({
        let (origin, bytes, format) = (origin.clone(), input.bytes, args.format);
        move || ProductReader::open(BufReader::with_capacity(BUFFER, bytes), &origin, format)
    });
    let reader = reader.await.context("reading the file broke off")??;
    let rejects = args.rejects.as_deref().map(|path| Rejects::create(path, &reader)).transpose()?;
    let salt =
        if args.again { hex::encode(Env::system().random_bytes::<16>()) } else { String::new() };
    let mut import = Import {
        service,
        sending: Arc::new(Sending { mode: args.mode.mode(), dry_run: args.dry_run, salt }),
        rejects,
        summary: Summary::new(origin, args.dry_run),
        position: input.position,
        bar,
    };
    let ended = import.all(reader).await;
    import.finish(ended, args.json)
}

/// The refused lines must not take the place of the file that they come from.
fn check_rejects(rejects: &Path, file: &Path) -> anyhow::Result<()> {
    let same = matches!((rejects.canonicalize(), file.canonicalize()), (Ok(one), Ok(other)) if one == other);
    match same {
        true => Err(CommandError::Usage(format!(
            "--rejects names {}, which is the file to be read; name another one",
            file.display()
        ))
        .into()),
        false => Ok(()),
    }
}

/// The bytes of a file, and how far they are read.
struct Input {
    name: String,
    bytes: Box<dyn Read + Send>,
    /// Of a file, but not of a pipe.
    length: Option<u64>,
    position: Arc<AtomicU64>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, FileError> {
        let position = Arc::<AtomicU64>::default();
        if path.as_os_str() == "-" {
            let (name, bytes) = ("standard input".to_owned(), Box::new(io::stdin()));
            return Ok(Self { name, bytes, length: None, position });
        }
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (known, file) = match opened {
            Ok((known, _)) if known.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            opened => opened,
        }
        .map_err(|error| FileError::Open { origin: name.clone(), error })?;
        let length = known.is_file().then_some(known.len());
        let bytes = Box::new(Counted { file, position: Arc::clone(&position) });
        Ok(Self { name, bytes, length, position })
    }

    fn bar(&self, json: bool) -> ProgressBar {
        if json {
            return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        }
        let Some(length) = self.length else { return ProgressBar::new_spinner() };
        // The template is a constant; should it ever be wrong, the default will do.
        let style = ProgressStyle::with_template(STYLE);
        ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

struct Counted {
    file: File,
    position: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(into)?;
        self.position.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// A run.
struct Import {
    service: Arc<InventoryService>,
    sending: Arc<Sending>,
    rejects: Option<Rejects>,
    summary: Summary,
    position: Arc<AtomicU64>,
    bar: ProgressBar,
}

/// The requests that are under way, in the order of the file.
#[derive(Default)]
struct UnderWay {
    requests: FuturesOrdered<JoinHandle<anyhow::Result<ChunkOutcome>>>,
    /// The products of each.
    skus: VecDeque<HashSet<String>>,
}

impl UnderWay {
    /// Whether another one has to wait: for room, or for an earlier line of the same product.
    fn is_in_the_way_of(&self, skus: &HashSet<String>) -> bool {
        self.requests.len() >= IN_FLIGHT
            || self.skus.iter().any(|under_way| !under_way.is_disjoint(skus))
    }

    fn start(
        &mut self,
        skus: HashSet<String>,
        request: impl Future<Output = anyhow::Result<ChunkOutcome>> + Send + 'static,
    ) {
        self.skus.push_back(skus);
        // Tasks of their own, which go on while the file is waited for.
        self.requests.push_back(tokio::spawn(request));
    }

    /// What became of the one that comes first in the file; none if none is under way.
    async fn next(&mut self) -> anyhow::Result<Option<ChunkOutcome>> {
        let Some(ended) = self.requests.next().await else { return Ok(None) };
        self.skus.pop_front();
        ended.context("a request broke off")?.map(Some)
    }
}

impl Import {
    /// Sends the whole file; what was sent is counted, even if it ends early.
    async fn all(&mut self, reader: ProductReader) -> anyhow::Result<()> {
        let (chunks, reading) = read(reader);
        let sent = self.send_all(chunks).await;
        // Without it, a reader that waits for a pipe would be waited for.
        sent?;
        let (ignored, broken) = reading.await.context("reading the file broke off")?;
        self.summary.ignored = ignored;
        match broken {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn send_all(&mut self, mut chunks: mpsc::Receiver<Chunk>) -> anyhow::Result<()> {
        let mut under_way = UnderWay::default();
        while let Some(chunk) = chunks.recv().await {
            let skus = chunk.skus();
            while under_way.is_in_the_way_of(&skus) {
                let Some(outcome) = under_way.next().await? else { break };
                self.note(&outcome)?;
            }
            let (service, sending) = (Arc::clone(&self.service), Arc::clone(&self.sending));
            under_way.start(skus, async move { sending::send(&service, &sending, chunk).await });
        }
        while let Some(outcome) = under_way.next().await? {
            self.note(&outcome)?;
        }
        Ok(())
    }

    fn note(&mut self, outcome: &ChunkOutcome) -> anyhow::Result<()> {
        self.summary.add(outcome);
        if let Some(rejects) = &mut self.rejects {
            for refused in &outcome.refused {
                rejects.add(refused.line, &refused.refusal.to_string(), &refused.original)?;
            }
        }
        self.bar.set_position(self.position.load(Ordering::Relaxed));
        self.bar.set_message(self.summary.progress());
        self.bar.tick();
        Ok(())
    }

    /// Prints what became of the run, and says how it ended.
    fn finish(mut self, ended: anyhow::Result<()>, json: bool) -> anyhow::Result<Outcome> {
        self.bar.finish_and_clear();
        self.summary.complete = ended.is_ok();
        let has_rejects = self.rejects.is_some();
        self.summary.print(json, has_rejects)?;
        ended?;
        // Only now: a run that broke off must not take an earlier run's file away.
        self.rejects.map_or(Ok(()), Rejects::finish)?;
        Ok(self.summary.outcome())
    }
}

/// What a file held that was not read, and why it could not be read to its end.
type ReadingEnded = (Vec<String>, Option<FileError>);

/// Reads in a thread of its own, no further ahead than a chunk.
fn read(mut reader: ProductReader) -> (mpsc::Receiver<Chunk>, JoinHandle<ReadingEnded>) {
    let (to, chunks) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || {
        loop {
            let (chunk, broken) = next_chunk(&mut reader);
            let ended = broken.is_some() || chunk.entries.is_empty();
            let nobody_waits = !chunk.entries.is_empty() && to.blocking_send(chunk).is_err();
            if ended || nobody_waits {
                return (reader.ignored().map(str::to_owned).collect(), broken);
            }
        }
    });
    (chunks, reading)
}
