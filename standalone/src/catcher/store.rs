//! Keeps the newest mails.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mail::{Mail, ReceivedMail};

/// The most mails kept; the oldest go first.
pub(crate) const MAX_MAILS: usize = 500;
/// The most bytes kept over all mails: 500 mails of the largest size would be 2.5 GB.
pub(crate) const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The newest mails, at most [`MAX_MAILS`] and [`MAX_BYTES`] of them.
#[derive(Debug, Default)]
pub(crate) struct Store {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    mails: VecDeque<Arc<Mail>>,
    bytes: usize,
    arrived: u64,
}

impl Store {
    /// Reads and keeps a mail, and gives it the next number, from 1 on.
    pub(crate) fn add(&self, received: ReceivedMail) {
        // Parsing stays outside the lock: a large mail must not hold up the pages.
        let mut mail = Mail::read(received);
        let mut kept = self.lock();
        kept.arrived += 1;
        mail.id = kept.arrived;
        kept.bytes += mail.size();
        kept.mails.push_back(Arc::new(mail));
        kept.drop_oldest();
    }

    /// The mails kept, newest first.
    pub(crate) fn newest_first(&self) -> Vec<Arc<Mail>> {
        self.lock().mails.iter().rev().cloned().collect()
    }

    /// One mail by its number, if it is still kept.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Mail>> {
        let kept = self.lock();
        let found = kept.mails.binary_search_by_key(&id, |mail| mail.id).ok()?;
        kept.mails.get(found).cloned()
    }

    /// How many mails arrived so far, kept or not.
    pub(crate) fn arrived(&self) -> u64 {
        self.lock().arrived
    }

    /// No code that holds the lock can leave a mail half kept, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The newest mail always stays.
    fn drop_oldest(&mut self) {
        while self.mails.len() > 1 && (self.mails.len() > MAX_MAILS || self.bytes > MAX_BYTES) {
            let oldest = self.mails.pop_front();
            self.bytes -= oldest.map_or(0, |mail| mail.size());
        }
    }
}
