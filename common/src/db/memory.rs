//! A database inside the process, for simulations: SQLite in memory, on one connection that is used in place.
//!
//! There is no file, no pool and no thread: whoever asks does the work itself, when it is its turn. So a program of one
//! thread does the same in each run.

use std::panic::UnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::QueryResult;
use diesel::result::Error;
use diesel::sql_types::{Double, Text};
use futures::future::BoxFuture;

use super::conn::Begin;
use super::{Access, Conn, Db, DbError, Location, MigrationSet, Pooler, migrate, pool};
use crate::clock::Clock;

/// What SQLite calls a database that is no file.
const IN_MEMORY: &str = ":memory:";

/// A database in memory; clones are the same one.
#[derive(Clone)]
pub struct MemoryDatabase {
    location: Location,
    conn: Arc<Mutex<Conn>>,
}

/// The way from a service to its database, and the way back.
pub trait Line: Send + Sync + 'static {
    /// Waits until one way is over: before the work, and again before its caller hears what came of it.
    ///
    /// # Errors
    /// When the connection breaks on this way: if it is the way back, the work is done all the same.
    fn pass(&self) -> BoxFuture<'_, Result<(), DbError>>;
}

impl MemoryDatabase {
    /// A new one with the tables of `sets`, which goes by `clock`.
    ///
    /// # Errors
    /// When a table can't be made.
    pub fn new(sets: &[MigrationSet], clock: impl Clock + UnwindSafe) -> Result<Self, DbError> {
        let location = Location::Sqlite { path: IN_MEMORY.into() };
        let mut conn = pool::connect(&location)?;
        migrate::run(&mut conn, &location, sets)?;
        set_clock(&mut conn, clock)?;
        // What happens until it is kept or cleared is one transaction, in which all others are savepoints.
        conn.begin(Begin::Plain(Pooler::None))?;
        Ok(Self { location, conn: Arc::new(Mutex::new(conn)) })
    }

    /// It as a service sees it, at the other end of `line`.
    pub fn open(&self, line: Arc<dyn Line>) -> Db {
        let in_place = InPlace { conn: Arc::clone(&self.conn), line };
        Db::by(self.location.clone(), Access::InPlace(in_place))
    }

    /// Runs `work` in one transaction, at once.
    ///
    /// # Errors
    /// Whatever `work` returned; nothing was written then.
    pub fn run<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, E>,
    ) -> Result<T, E> {
        lock(&self.conn).transaction(work)
    }

    /// Keeps what was done until now: it is there after each [`MemoryDatabase::clear`].
    ///
    /// # Errors
    /// When the database refuses.
    pub fn keep(&self) -> QueryResult<()> {
        let mut conn = lock(&self.conn);
        conn.commit()?;
        conn.begin(Begin::Plain(Pooler::None))
    }

    /// Undoes all that was done since: cheaper than to make a new one.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn clear(&self) -> QueryResult<()> {
        let mut conn = lock(&self.conn);
        conn.roll_back();
        conn.begin(Begin::Plain(Pooler::None))
    }
}

/// One service's access to a database in memory.
pub(super) struct InPlace {
    conn: Arc<Mutex<Conn>>,
    line: Arc<dyn Line>,
}

impl InPlace {
    pub(super) fn conn(&self) -> MutexGuard<'_, Conn> {
        lock(&self.conn)
    }

    /// Runs `work` at the other end of the line.
    pub(super) async fn run<T, E: From<DbError>>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, E>,
    ) -> Result<T, E> {
        self.line.pass().await?;
        let done = work(&mut self.conn());
        self.line.pass().await?;
        done
    }
}

/// Has the function that [`super::database_now`] asks show `clock`, whatever it is asked for.
fn set_clock(conn: &mut Conn, clock: impl Clock + UnwindSafe) -> QueryResult<()> {
    let Conn::Sqlite(conn) = conn else { return Ok(()) };
    let seconds = move |(_modifier,): (String,)| clock.now().micros() as f64 / 1_000_000.0;
    conn.register_sql_function::<(Text,), Double, _, _, _>("unixepoch", false, seconds)
}

fn lock(conn: &Mutex<Conn>) -> MutexGuard<'_, Conn> {
    conn.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use diesel::prelude::*;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::db::{ENGINE_MIGRATIONS, Fault, database_now};
    use crate::schema::counter;

    const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    /// Breaks on the way of this number, counted from 1.
    struct BreaksAt(usize, AtomicUsize);

    impl Line for BreaksAt {
        fn pass(&self) -> BoxFuture<'_, Result<(), DbError>> {
            let way = self.1.fetch_add(1, Ordering::Relaxed) + 1;
            let broken =
                || DbError::NotKnown { fault: Fault::World, reason: "it broke".to_owned() };
            Box::pin(async move { if way == self.0 { Err(broken()) } else { Ok(()) } })
        }
    }

    fn open(database: &MemoryDatabase, breaks_at: usize) -> Db {
        database.open(Arc::new(BreaksAt(breaks_at, AtomicUsize::new(0))))
    }

    async fn add(db: &Db, name: &'static str) -> Result<(), DbError> {
        let row = (counter::name.eq(name), counter::slot.eq(0_i16), counter::value.eq(1_i64));
        db.write(move |conn| {
            crate::on!(conn, c => diesel::insert_into(counter::table).values(row).execute(c))?;
            Ok(())
        })
        .await
    }

    fn names(database: &MemoryDatabase) -> Vec<String> {
        let names = counter::table.select(counter::name).order(counter::name);
        database.run(|conn| crate::on!(conn, c => names.load(c))).unwrap()
    }

    #[tokio::test]
    async fn a_line_breaks_before_or_after_the_work() {
        let database = MemoryDatabase::new(&[ENGINE_MIGRATIONS], ManualClock::at(START)).unwrap();
        add(&open(&database, 0), "well").await.unwrap();
        assert!(add(&open(&database, 1), "on the way there").await.is_err());
        assert!(add(&open(&database, 2), "on the way back").await.is_err());
        assert!(add(&open(&database, 0), "well").await.is_err(), "it is there already");
        assert_eq!(names(&database), ["on the way back", "well"]);
    }

    #[tokio::test]
    async fn it_is_cleared_to_what_was_kept() {
        let database = MemoryDatabase::new(&[ENGINE_MIGRATIONS], ManualClock::at(START)).unwrap();
        add(&open(&database, 0), "kept").await.unwrap();
        database.keep().unwrap();
        for _ in 0..2 {
            add(&open(&database, 0), "cleared").await.unwrap();
            assert!(add(&open(&database, 0), "kept").await.is_err(), "it is there already");
            assert_eq!(names(&database), ["cleared", "kept"]);
            database.clear().unwrap();
            assert_eq!(names(&database), ["kept"]);
        }
    }

    #[test]
    fn it_goes_by_the_clock_that_it_is_given() {
        let clock = ManualClock::at(START);
        let database = MemoryDatabase::new(&[ENGINE_MIGRATIONS], clock.clone()).unwrap();
        for _ in 0..2 {
            let now = database.run(database_now).unwrap();
            assert!(now.abs_diff(clock.now().micros()) <= 1, "{now}");
            clock.advance(Duration::from_secs(1));
        }
    }
}
