//! PostgreSQL refuses to run as root, so under root it runs as a user without rights.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, ensure};

use crate::scratch;

/// The user a server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    /// `postgres`, else `nobody`, if this process is root's; `None` if it may run servers itself.
    pub(super) fn needed() -> anyhow::Result<Option<Self>> {
        if !scratch::is_of_root()? {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
        let owner = ["postgres", "nobody"].iter().find_map(|name| Self::listed(&accounts, name));
        owner.map(Some).context(
            "PostgreSQL refuses to run as root and /etc/passwd has neither `postgres` nor `nobody`; \
             add one of them or run the tests as another user",
        )
    }

    fn listed(accounts: &str, name: &str) -> Option<Self> {
        accounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [account, _, uid, gid, ..] = fields[..] else {
                return None;
            };
            if account != name {
                return None;
            }
            Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })
    }

    /// Makes what is at `path` this user's.
    pub(super) fn take(&self, path: &Path) -> anyhow::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("could not give {} away", path.display()))
    }

    /// Makes `folder` this user's alone.
    pub(super) fn give(&self, folder: &Path) -> anyhow::Result<()> {
        self.take(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        let parent = folder.parent().unwrap_or(folder);
        ensure!(
            open_to_all(parent)?,
            "another user cannot pass through to {}; set TMPDIR to a folder open to all, such as /tmp",
            parent.display()
        );
        Ok(())
    }
}

/// Whether every user may pass through `folder` and all folders above it.
pub(super) fn open_to_all(folder: &Path) -> anyhow::Result<bool> {
    let folder = folder.canonicalize()?;
    for above in folder.ancestors() {
        if fs::metadata(above)?.permissions().mode() & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8:::\npostgres:x:101:104:::\n";
        assert_eq!(Owner::listed(accounts, "postgres"), Some(Owner { uid: 101, gid: 104 }));
        assert_eq!(Owner::listed(accounts, "nobody"), None);
    }
}
