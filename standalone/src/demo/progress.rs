//! Where the demo is: a bar on a terminal, plain lines elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use super::client::{Client, Overview};

/// Shows how far the changes are on their way.
pub(crate) struct Progress {
    bar: ProgressBar,
    committed: Arc<AtomicU64>,
    refreshing: JoinHandle<()>,
}

const STYLE: &str = "{elapsed_precise} {bar:30} {pos}/{len} changes committed  {msg}";

impl Progress {
    /// Starts showing; `total` changes are expected.
    pub(crate) fn start(client: &Client, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        // The template is a constant; should it ever be wrong, the default will do.
        bar.set_style(
            ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let committed = Arc::new(AtomicU64::new(0));
        let refreshing = tokio::spawn(refresh(client.clone(), bar.clone(), Arc::clone(&committed)));
        Self { bar, committed, refreshing }
    }

    /// Counts changes that are committed.
    pub(crate) fn committed(&self, changes: u64) {
        self.committed.fetch_add(changes, Ordering::Relaxed);
        self.bar.inc(changes);
    }

    /// Prints what happens now.
    pub(crate) fn note(&self, text: &str) {
        if self.bar.is_hidden() {
            println!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Stops showing.
    pub(crate) fn finish(&self) {
        self.refreshing.abort();
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.refreshing.abort();
    }
}

async fn refresh(client: Client, bar: ProgressBar, committed: Arc<AtomicU64>) {
    let hidden = bar.is_hidden();
    let pause = Duration::from_millis(if hidden { 2_000 } else { 250 });
    loop {
        tokio::time::sleep(pause).await;
        // A request that fails is not the demo's failure; the next one may succeed.
        let Ok(overview) = client.overview().await else {
            continue;
        };
        let message = describe(&overview);
        if hidden {
            println!("{} changes committed  {message}", committed.load(Ordering::Relaxed));
        } else {
            bar.set_message(message);
        }
    }
}

fn describe(overview: &Overview) -> String {
    let counts = &overview.events;
    let lag = overview.oldest_unacknowledged.as_ref().map_or(0.0, |oldest| oldest.age_seconds);
    format!(
        "{} PROCESSED  {} SENT  {} waiting  {} EXHAUSTED  lag {lag:.1} s",
        counts.processed, counts.sent, counts.pending, counts.exhausted
    )
}
