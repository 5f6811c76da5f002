//! The bars that runs show.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar named `name` that is full at `length`.
pub(crate) fn progress_bar(name: String, length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {per_sec} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(name);
    bar.tick();
    bar
}

/// A bar over `length` measurements, each of which takes about as long as the others.
pub(crate) fn turns_bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    // A measurement shows nothing by itself for as long as it takes.
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

/// Counts rows of which nobody knows how many there are.
pub(crate) fn rows_bar(name: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {human_pos} rows {per_sec}") {
        bar.set_style(style);
    }
    bar.set_message(name);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
