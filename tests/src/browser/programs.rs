//! Where Chromium and its driver are.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::Context;

/// The two programs; they have to be of one version, as Debian's packages are.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) browser: PathBuf,
    pub(super) driver: PathBuf,
}

impl Programs {
    /// Those on PATH.
    pub(super) fn find() -> anyhow::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::on(&path)
    }

    fn on(path: &OsStr) -> anyhow::Result<Self> {
        let find = |name: &str| {
            let candidates = std::env::split_paths(path).map(|folder| folder.join(name));
            candidates.into_iter().find(|candidate| candidate.is_file()).with_context(|| {
                format!(
                    "{name} is not on PATH; on Debian: apt-get install chromium chromium-driver"
                )
            })
        };
        Ok(Self { browser: find("chromium")?, driver: find("chromedriver")? })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Programs;

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("chromium"), "").unwrap();
        let error = Programs::on(folder.path().as_os_str()).unwrap_err().to_string();
        assert!(error.starts_with("chromedriver is not on PATH"), "{error}");
        fs::write(folder.path().join("chromedriver"), "").unwrap();
        let found = Programs::on(folder.path().as_os_str()).unwrap();
        assert_eq!(found.driver, folder.path().join("chromedriver"));
    }
}
