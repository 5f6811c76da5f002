//! Files that are written once all is measured, which may be long after they were named.

use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result};

/// Fails where `file` could not be written later; what it holds stays until then.
pub(crate) fn ensure_writable(file: &Path) -> Result<()> {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.map(drop).with_context(|| not_written(file))
}

/// Writes `content` in the place of what `file` holds.
pub(crate) fn write(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(file, content).with_context(|| not_written(file))
}

/// Puts a file with `content` in the place of `file`: whoever is ended meanwhile leaves the one or the other, and whole.
pub(crate) fn replace(file: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    // A pipe, or a link to somewhere else, is to stay what it is.
    if !fs::symlink_metadata(file).is_ok_and(|found| found.is_file()) {
        return write(file, content);
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let replaced = fs::write(&beside, content).and_then(|()| fs::rename(&beside, file));
    replaced.with_context(|| not_written(file))
}

fn not_written(file: &Path) -> String {
    format!("cannot write {}", file.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_a_link_stays_one() {
        let folder = tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        for content in ["one", "two"] {
            replace(&file, content).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
        }
        symlink(&file, &link).unwrap();
        replace(&link, "three").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "three");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside");
        let nowhere = replace(&folder.path().join("no/such"), "").unwrap_err().to_string();
        assert!(nowhere.contains("cannot write"), "{nowhere}");
    }
}
