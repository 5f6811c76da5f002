//! How much a batch may hold, and how long it waits for that.

use std::time::Duration;

/// Bytes that a batch may hold, unless something else is said.
const BYTES: usize = 8 << 20;

/// How much a batch may hold, and how long one that is not full waits for more.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Messages at the most.
    pub messages: usize,
    /// Bytes that it may hold before it is handed over though it is not full.
    pub bytes: usize,
    /// How long one that is not full waits for more.
    pub linger: Duration,
    /// Whether a message that comes alone is handed over at once.
    pub hurries: bool,
}

impl BatchLimits {
    /// At most `messages`, or 8 MiB, with all that come within `linger`.
    pub const fn new(messages: usize, linger: Duration) -> Self {
        Self { messages, bytes: BYTES, linger, hurries: false }
    }

    /// The same for whom somebody waits: a message that comes alone is handed over at once.
    #[must_use]
    pub const fn hurried(self) -> Self {
        Self { hurries: true, ..self }
    }

    /// Whether a batch of `messages` with `bytes` takes another one.
    pub(super) const fn have_room(&self, messages: usize, bytes: usize) -> bool {
        messages < self.messages && bytes < self.bytes
    }
}
