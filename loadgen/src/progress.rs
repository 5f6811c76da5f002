//! The bar that a run shows.

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
