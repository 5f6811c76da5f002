//! Transactions that get in each other's way: one is kept open, another one waits for what it holds.

use std::sync::mpsc;

use common::db::{Conn, Db, DbError};
use diesel::QueryResult;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A transaction that has done something and goes on until [`OpenTransaction::commit`].
pub struct OpenTransaction<T> {
    /// What it came to so far.
    pub value: T,
    go_on: mpsc::Sender<()>,
    task: JoinHandle<Result<(), DbError>>,
}

/// Runs `work` in a transaction beside the test's own, which stays open.
pub async fn keep_open<T: Send + 'static>(
    db: &Db,
    work: impl FnOnce(&mut Conn) -> Result<T, DbError> + Send + 'static,
) -> OpenTransaction<T> {
    let ((done, is_done), (go_on, may_go_on)) = (oneshot::channel(), mpsc::channel());
    let db = db.clone();
    let task = tokio::spawn(async move {
        let transaction = move |conn: &mut Conn| {
            assert!(done.send(work(conn)?).is_ok(), "the test waits for it");
            may_go_on.recv().expect("the test says when it may end");
            Ok::<_, DbError>(())
        };
        db.write(transaction).await
    });
    let value = is_done.await.expect("the transaction does its work");
    OpenTransaction { value, go_on, task }
}

impl<T> OpenTransaction<T> {
    /// Lets it commit, and waits until it has.
    pub async fn commit(self) {
        self.go_on.send(()).expect("the transaction is open");
        let committed = self.task.await.expect("the transaction does not panic");
        committed.expect("the transaction commits");
    }
}

/// Waits, within a transaction on PostgreSQL, until so many others wait for a lock.
///
/// # Errors
/// When the statement fails.
pub fn until_waiting(conn: &mut Conn, sessions: u32) -> QueryResult<()> {
    conn.batch_execute(&format!(
        "DO $$ BEGIN WHILE (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND datname = current_database()) < {sessions} LOOP \
         PERFORM pg_sleep(0.01), pg_stat_clear_snapshot(); END LOOP; END $$"
    ))
}
