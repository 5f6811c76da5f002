//! The titles of tables, with what takes from the worth of their figures.

use crate::bench::options::Options;
use crate::bench::parts::in_memory;

/// The title of a table of `what`, measured as `options` say.
pub(in crate::bench) fn title(what: &str, options: &Options) -> String {
    let reservations = reservations(options.database.is_none());
    format!("{what}, {} round(s){reservations}", options.rounds())
}

/// What takes from the worth of figures: how this was built, and where the data of a server lies that `is_started` for them.
pub(in crate::bench) fn reservations(is_started: bool) -> String {
    let build = if cfg!(debug_assertions) { ", an unoptimized build" } else { "" };
    let found = is_started.then(|| in_memory(&std::env::temp_dir())).flatten();
    let memory = found.map_or_else(String::new, |kind| {
        format!(", its data in memory (TMPDIR is {kind}): no disk is measured")
    });
    format!("{build}{memory}")
}
