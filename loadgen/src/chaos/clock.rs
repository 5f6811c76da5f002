//! Processes whose clocks are wrong: libfaketime is loaded before everything else, and stands between them and the time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Names the library, where it is none of the usual places.
const VARIABLE: &str = "STOCKLOOP_LIBFAKETIME";

/// The library as packages call it, for programs of several threads, below a folder of libraries.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Folders of libraries; packages for several kinds of processors have folders in the first one.
const FOLDERS: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// Why no clock can be wrong here, if none can.
pub(super) fn missing() -> Option<String> {
    find().err().map(|error| error.to_string())
}

/// What a process is told whose clock is so many seconds ahead, or behind; nothing where it is right.
pub(super) fn settings(seconds: i32) -> Result<Vec<(&'static str, String)>> {
    if seconds == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![
        ("LD_PRELOAD", find()?.display().to_string()),
        ("FAKETIME", format!("{seconds:+}")),
        // Clocks that are wrong still go on evenly. The second name is that of older versions.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

fn find() -> Result<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let of_processors = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let folders = FOLDERS.map(PathBuf::from).into_iter();
    let folders = folders.chain(of_processors.map(|entry| entry.path()));
    let mut places = named.into_iter().chain(folders.map(|folder| folder.join(LIBRARY)));
    places.find(|place| Path::is_file(place)).with_context(|| {
        format!(
            "{LIBRARY} is not below /usr/lib; install the package libfaketime, or name the file in {VARIABLE}"
        )
    })
}
