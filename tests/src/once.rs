//! What is made once per test process.

use std::sync::OnceLock;

use anyhow::anyhow;

/// Something that is made on first use; whoever asks later gets the same, or the same error.
pub(crate) struct Once<T>(OnceLock<Result<T, String>>);

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn get(&self, make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<&T> {
        let made = self.0.get_or_init(|| make().map_err(|error| format!("{error:#}")));
        made.as_ref().map_err(|error| anyhow!("{error}"))
    }
}
