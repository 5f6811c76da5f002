//! Databases that come back as they were before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether the databases have come back as they were before. What clients saw of them until then counts no more; and until all
/// is mended, the copy may show what its owner does not have.
#[derive(Debug, Clone, Default)]
pub(in crate::chaos) struct Setbacks(Arc<AtomicU64>);

impl Setbacks {
    /// They are about to come back so.
    pub(in crate::chaos) fn begin(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// All is mended.
    pub(in crate::chaos) fn end(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Begins and ends so far: an odd number means that nothing is mended yet.
    pub(super) fn so_far(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
