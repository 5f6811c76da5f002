//! Work on a thread of its own, beside what is measured.

use std::thread::{self, JoinHandle};

use anyhow::Result;
use tokio::sync::oneshot;

/// A thread that works until this value is dropped.
pub(super) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts one with a runtime of its own. What works is made within that: a consumer begins at once what goes on beside it.
    pub(super) fn start<W, F>(
        make: impl FnOnce() -> Result<W>,
        work: impl FnOnce(W, oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> Result<Self>
    where
        W: Send + 'static,
        F: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = {
            let _inside = runtime.enter();
            make()?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || runtime.block_on(work(worker, stopped)));
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A consumer takes leave of the broker, which has to be there until then.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
