//! A disk of its own that is small enough to be filled: a file system in memory, which only root may mount.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process::run;
use crate::scratch;

/// What fills it is written in pieces of so many bytes.
const PIECE: usize = 1 << 20;

/// Root may mount, unless this right is taken from it, as containers do: the number of its bit (capabilities(7)).
const CAP_SYS_ADMIN: u32 = 21;

/// A small disk; it ends with this value, unless the data of this process is kept.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Why there can be none here, if there can't.
    pub fn missing() -> Option<String> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let words = "this process may not mount a small disk: root may, where no container takes that right from it";
        (!may_mount(&status)).then(|| words.to_owned())
    }

    /// Mounts one of so many MiB.
    pub fn mount(mib: u64) -> anyhow::Result<Self> {
        let folder = scratch::folder("disk")?;
        scratch::watch_disk(&folder)?;
        // Open to all, since a server on it may run as another user.
        let options = format!("size={mib}m,mode=755,nosuid,nodev,noexec");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "stockloop-tests"])
            .arg(&folder))?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes all that is free, but for so many bytes.
    pub fn fill(&self, left: u64) -> anyhow::Result<()> {
        // On top of what is taken already: that is not free meanwhile.
        let mut file = OpenOptions::new().append(true).create(true).open(self.filler())?;
        let (piece, mut taken) = (vec![1_u8; PIECE], file.metadata()?.len());
        loop {
            match file.write(&piece) {
                Ok(written) => taken += u64::try_from(written)?,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("the small disk can't be filled"),
            }
        }
        Ok(file.set_len(taken.saturating_sub(left))?)
    }

    /// Gives back what was taken, if anything was.
    pub fn clear(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if !scratch::keeps() {
            // Lazily: what is on it may be in use for a moment longer. Where it fails, the janitor tries once more.
            let _ = run(Command::new("umount").arg("-l").arg(&self.folder));
        }
    }
}

/// Whether a process may mount, by what Linux says of it.
fn may_mount(status: &str) -> bool {
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = rights.and_then(|rights| u64::from_str_radix(rights.trim(), 16).ok());
    rights.is_some_and(|rights| (rights >> CAP_SYS_ADMIN) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::may_mount;

    #[test]
    fn who_may_mount_is_known_by_its_rights() {
        assert!(may_mount("Name:\ta\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n"));
        // Root in a container, and anybody else.
        assert!(!may_mount("CapEff:\t00000000a80425fb\n"));
        assert!(!may_mount("CapEff:\t0000000000000000\n") && !may_mount(""));
    }
}
