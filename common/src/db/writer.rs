//! SQLite's one writer: a thread that takes changes from a queue and commits several of them together.
//!
//! Each change is a savepoint of a shared `BEGIN IMMEDIATE` transaction, so a failed one undoes only itself;
//! the disk is waited for once per group, and nobody is answered before that.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;

use super::{Conn, DbError, Fault};

/// Changes that one commit may carry: enough to share the disk's wait, few enough to answer soon.
const GROUP: usize = 64;
/// Changes that may wait; a caller beyond that waits for a place.
const QUEUE: usize = 1024;

/// A change in two steps: run it, then answer its caller once the group is committed or lost.
trait Change: Send {
    fn run(&mut self, conn: &mut Conn);
    fn answer(self: Box<Self>, committed: Result<(), String>);
}

/// The handle to the writer thread, which ends when the last handle is dropped.
pub(super) struct Writer {
    queue: SyncSender<Box<dyn Change>>,
}

impl Writer {
    pub(super) fn start(conn: Conn) -> Result<Self, DbError> {
        let (queue, changes) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || write_groups(conn, &changes))
            .map_err(|error| DbError::Unusable {
                location: "sqlite".to_owned(),
                reason: format!("its writer thread can't be started: {error}"),
            })?;
        Ok(Self { queue })
    }

    pub(super) async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + From<diesel::result::Error> + Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        self.enqueue(Box::new(Task { work: Some(work), outcome: None, caller })).await?;
        let gone =
            |_| DbError::NotKnown { fault: Fault::World, reason: "its writer ended".to_owned() };
        answer.await.map_err(gone)?
    }

    async fn enqueue(&self, change: Box<dyn Change>) -> Result<(), DbError> {
        match self.queue.try_send(change) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(DbError::Closed),
            Err(TrySendError::Full(change)) => {
                let queue = self.queue.clone();
                tokio::task::spawn_blocking(move || queue.send(change))
                    .await
                    .ok()
                    .and_then(Result::ok)
                    .ok_or(DbError::Closed)
            }
        }
    }
}

struct Task<T, E, F> {
    work: Option<F>,
    outcome: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Change for Task<T, E, F>
where
    T: Send + 'static,
    E: From<DbError> + From<diesel::result::Error> + Send + 'static,
    F: FnOnce(&mut Conn) -> Result<T, E> + Send + 'static,
{
    fn run(&mut self, conn: &mut Conn) {
        let Some(work) = self.work.take() else { return };
        // A panic in one change must not take the writer, and with it all later changes, down.
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| conn.transaction(work)));
        self.outcome = Some(caught.unwrap_or_else(|_panic| Err(DbError::Panicked.into())));
    }

    fn answer(self: Box<Self>, committed: Result<(), String>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(DbError::Closed.into()),
            (Err(_), Some(Err(error))) => Err(error),
            // SQLite has no code that says what of a failed commit a restart would find.
            (Err(reason), Some(Ok(_))) => {
                Err(DbError::NotKnown { fault: Fault::World, reason }.into())
            }
            (Err(reason), None) => {
                Err(DbError::Unusable { location: "sqlite".to_owned(), reason }.into())
            }
        };
        // A caller that went away has nobody to be told; its change is committed all the same.
        let _ = self.caller.send(outcome);
    }
}

fn write_groups(mut conn: Conn, changes: &Receiver<Box<dyn Change>>) {
    while let Ok(first) = changes.recv() {
        let mut group = vec![first];
        let committed = write_group(&mut conn, changes, &mut group).map_err(|e| e.to_string());
        for change in group {
            change.answer(committed.clone());
        }
    }
}

fn write_group(
    conn: &mut Conn,
    changes: &Receiver<Box<dyn Change>>,
    group: &mut Vec<Box<dyn Change>>,
) -> diesel::QueryResult<()> {
    conn.transaction(|conn| {
        let mut next = 0;
        while let Some(change) = group.get_mut(next) {
            change.run(conn);
            next += 1;
            // Whatever arrived meanwhile rides along.
            if group.len() < GROUP {
                group.extend(changes.try_recv().ok());
            }
        }
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use diesel::prelude::*;
    use diesel::sql_query;
    use diesel::sql_types::BigInt;

    use crate::db::{Conn, DatabaseSettings, Db, DbError, Pooler};
    use crate::on;

    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }

    async fn add(db: &Db, fails: bool) -> Result<(), DbError> {
        db.write(move |conn: &mut Conn| {
            conn.batch_execute("INSERT INTO t VALUES (NULL)")?;
            assert!(!fails, "a flaw");
            Ok(())
        })
        .await
    }

    /// What others see, on a connection of their own.
    async fn rows(db: &Db) -> i64 {
        let read = |conn: &mut Conn| {
            let counted: Count =
                on!(conn, c => sql_query("SELECT count(*) AS n FROM t").get_result(c))?;
            Ok::<_, DbError>(counted.n)
        };
        db.read(read).await.unwrap()
    }

    async fn open(folder: &tempfile::TempDir) -> Db {
        let settings = DatabaseSettings {
            url: format!("sqlite:{}", folder.path().join("t.db").display()).into(),
            pooler: Pooler::None,
            pool_size: 2,
            loop_pool_size: 1,
            connect_timeout: std::time::Duration::from_secs(5),
        };
        let db = Db::open(&settings).unwrap();
        let tables = "CREATE TABLE t (n INTEGER PRIMARY KEY); \
                      CREATE TABLE late (n INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED)";
        db.write::<_, DbError>(move |conn| Ok(conn.batch_execute(tables)?)).await.unwrap();
        db
    }

    #[tokio::test]
    async fn a_panic_takes_nothing_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder).await;
        add(&db, false).await.unwrap();
        assert!(matches!(add(&db, true).await, Err(DbError::Panicked)));
        add(&db, false).await.unwrap();
        assert_eq!(rows(&db).await, 2, "what is answered is committed, also after a panic");
    }

    #[tokio::test]
    async fn a_failed_commit_is_told_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder).await;
        // A key that is missed at the commit only.
        let work = |conn: &mut Conn| {
            conn.batch_execute("INSERT INTO late VALUES (7)").map_err(DbError::from)
        };
        let failed = db.write(work).await;
        assert!(matches!(failed, Err(DbError::NotKnown { .. })), "{failed:?}");
        add(&db, false).await.unwrap();
        assert_eq!(rows(&db).await, 1, "the next one is committed");
    }
}
