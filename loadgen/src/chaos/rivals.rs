//! Strangers in a database who lock rows in another order than the services do, so that each waits for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

/// Between a transaction that failed and the next one.
const PAUSE: Duration = Duration::from_millis(20);

/// It looks late for who waits for whom, so that a service is the first that finds out, and the one that is undone.
const PATIENT: &str = "SET statement_timeout = '10s'; SET deadlock_timeout = '2s'";

/// One stranger, until this value is dropped.
pub(super) struct Rival {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rival {
    /// Locks a few rows of `table` at a time, which has a column `sku`, from the last SKU to the first.
    pub(super) fn start(mut conn: PgConnection, table: &str) -> Result<Self> {
        conn.batch_execute(PATIENT)?;
        let transaction = format!(
            "DO $$ DECLARE one text; BEGIN \
               FOR one IN SELECT sku FROM (SELECT sku FROM {table} ORDER BY random() LIMIT 8) AS few \
                          ORDER BY sku DESC LOOP \
                 PERFORM 1 FROM {table} WHERE sku = one FOR UPDATE; \
                 PERFORM pg_sleep(0.005); \
               END LOOP; END $$"
        );
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                // It may be the one that is undone.
                if conn.batch_execute(&transaction).is_err() {
                    thread::sleep(PAUSE);
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
