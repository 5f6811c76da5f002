//! The programs of both services, which are built beside this one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::check::Side;

/// The service that owns the products, and sends their changes.
pub(crate) const OWNER: &str = "product-service";

/// The one that keeps a copy of them, and answers.
pub(crate) const COPY: &str = "order-service";

/// Both programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) owner: PathBuf,
    pub(crate) copy: PathBuf,
}

impl Programs {
    /// Where they were said to be, else beside this one.
    pub(crate) fn find(owner: Option<&Path>, copy: Option<&Path>) -> Result<Self> {
        Ok(Self { owner: program(OWNER, owner)?, copy: program(COPY, copy)? })
    }

    /// The one whose database is on this side.
    pub(crate) fn of(&self, side: Side) -> &Path {
        match side {
            Side::Product => &self.owner,
            Side::Order => &self.copy,
        }
    }
}

/// Where the program `name` is: where it was `said` to be, else beside this one.
pub(crate) fn program(name: &str, said: Option<&Path>) -> Result<PathBuf> {
    let path = match said {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name(name),
    };
    ensure!(
        path.is_file(),
        "there is no {}: build it with `cargo build --release --package {name}`, or say --{name} PATH",
        path.display()
    );
    // The service runs in another folder.
    path.canonicalize().with_context(|| format!("{} can't be found", path.display()))
}
