//! What can go wrong with a batch of messages, and whose fault it is: both the inbox and the settling of answers
//! take batches in one transaction each, and look for the bad message only where the data is to blame.

use common::db::{Conn, DbError, Fault, bisect};
use thiserror::Error;

/// How a batch is tried in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// As it is: what fails takes all of the transaction along, so that is to be tried again in halves.
    Whole,
    /// In savepoints, as far as it has to be cut until what fails stands alone.
    Halves {
        /// Whether the batch has failed several times, so that single data may be to blame for what else would be the
        /// world's fault.
        repeats: bool,
    },
}

impl Attempt {
    /// Tries a batch as it is, which is all that most need, and in halves where that calls for it. What `repeats` is cut at
    /// once: it would only fail once more.
    ///
    /// # Errors
    /// Those of the last try.
    pub(crate) async fn each<T, F>(repeats: bool, run: impl Fn(Self) -> F) -> Result<T, BatchError>
    where
        F: Future<Output = Result<T, BatchError>>,
    {
        let halves = Self::Halves { repeats };
        if repeats {
            return run(halves).await;
        }
        match run(Self::Whole).await {
            Err(error) if error.calls_for_bisection(repeats) => run(halves).await,
            tried => tried,
        }
    }

    /// Whether it is of a batch that has failed several times.
    pub(crate) fn repeats(self) -> bool {
        matches!(self, Self::Halves { repeats: true })
    }

    /// Runs `work` on `items`; in halves, `bad` answers for those that fail alone and are to blame for that.
    ///
    /// # Errors
    /// Those of `work` for which no item answers, and those of `bad`.
    pub(crate) fn run<I, T>(
        self,
        conn: &mut Conn,
        items: &[I],
        work: &mut impl FnMut(&mut Conn, &[I]) -> Result<Vec<T>, BatchError>,
        bad: &mut impl FnMut(&mut Conn, &I, BatchError) -> Result<T, BatchError>,
    ) -> Result<Vec<T>, BatchError> {
        match self {
            Self::Whole => work(conn, items),
            Self::Halves { repeats } => {
                let blame = |error: &BatchError| error.calls_for_bisection(repeats);
                bisect(conn, items, work, &blame, bad)
            }
        }
    }
}

/// Why a batch of messages was not taken; nothing of it is kept.
#[derive(Debug, Error)]
pub enum BatchError {
    /// A statement failed: the engine finds out whose fault it was.
    #[error(transparent)]
    Query(#[from] diesel::result::Error),
    /// No database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Another consumer applies the same events at this moment: the batch is to be repeated.
    #[error("another consumer applied some of the same events at the same time")]
    Raced,
    /// Nothing of a batch passes, and nothing shows that its events are to blame.
    #[error("nothing passes now: {0}")]
    World(String),
    /// The handler itself is flawed.
    #[error("the handler {0}; that is a flaw of this service")]
    Flawed(String),
}

impl BatchError {
    /// Whether the batch is to be bisected: the data is to blame, or, where that `repeats`, single data may be.
    pub fn calls_for_bisection(&self, repeats: bool) -> bool {
        let fault = self.fault();
        fault.is_of_data() || (repeats && fault.may_be_of_one())
    }

    /// What an event that fails alone is suspected of: a handler that is flawed may be so for everything.
    pub fn suspicion(&self) -> Fault {
        match self {
            Self::Flawed(_) => Fault::Unknown,
            _ => self.fault(),
        }
    }

    /// Whose fault it is, as far as the error says so.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Query(error) => Fault::of_query(error),
            Self::Db(error) => Fault::of(error),
            Self::Raced | Self::World(_) => Fault::World,
            Self::Flawed(_) => Fault::Data,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use diesel::result::Error;

    use super::*;

    async fn attempts(repeats: bool, failing: fn() -> Option<BatchError>) -> Vec<Attempt> {
        let tried = RefCell::new(Vec::new());
        let run = |attempt| {
            tried.borrow_mut().push(attempt);
            ready(failing().map_or(Ok(()), Err))
        };
        let outcome = Attempt::each(repeats, run).await;
        assert_eq!(outcome.is_ok(), failing().is_none());
        tried.into_inner()
    }

    #[tokio::test]
    async fn a_batch_is_cut_only_where_its_data_may_be_to_blame() {
        use Attempt::{Halves, Whole};
        let [once, again] = [false, true].map(|repeats| Halves { repeats });
        let flawed = || Some(BatchError::Flawed("panicked".to_owned()));
        let unknown = || Some(BatchError::Query(Error::NotFound));
        assert_eq!(attempts(false, || None).await, [Whole]);
        assert_eq!(attempts(false, flawed).await, [Whole, once]);
        assert_eq!(attempts(false, || Some(BatchError::Raced)).await, [Whole]);
        assert_eq!(attempts(false, unknown).await, [Whole]);
        assert_eq!(attempts(true, unknown).await, [again]);
        assert_eq!(attempts(true, || None).await, [again]);
    }
}
