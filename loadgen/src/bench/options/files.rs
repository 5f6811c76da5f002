//! Where figures go, beside the table.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::files::{ensure_writable, write};

// No help of its own: it would take the place of the benchmark's.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::bench) struct Files {
    /// Also write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(in crate::bench) json: Option<PathBuf>,
    /// Also draw the figures to this file as SVG
    #[arg(long, value_name = "FILE")]
    pub(in crate::bench) svg: Option<PathBuf>,
}

impl Files {
    /// Fails where one could not be written after all is measured; what they hold stays until then.
    pub(in crate::bench) fn ensure_writable(&self) -> Result<()> {
        [&self.json, &self.svg].into_iter().flatten().try_for_each(|file| ensure_writable(file))
    }

    /// Writes what each of them is to hold.
    pub(in crate::bench) fn write(&self, json: &[u8], svg: &[u8]) -> Result<()> {
        for (file, content) in [(&self.json, json), (&self.svg, svg)] {
            if let Some(file) = file {
                write(file, content)?;
            }
        }
        Ok(())
    }
}
