//! How far partitions are by the broker's offsets, and whether a topic was made anew.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use common::db::{Conn, Db, DbError};

use super::store::{self, Confirmation};

/// The greatest offset that is known of each partition; not read at first.
#[derive(Default)]
pub(super) struct KnownOffsets(Mutex<Option<BTreeMap<i32, i64>>>);

impl KnownOffsets {
    /// Reads, before the first send to `topic`, how far its partitions were when others sent to them.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn learn(&self, db: &Db, topic: &str) -> Result<(), DbError> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let topic = topic.to_owned();
        let read = move |conn: &mut Conn| store::known_offsets(conn, &topic).map_err(DbError::from);
        let known = db.read(read).await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(())
    }

    /// The partitions that give smaller offsets than before, as a topic does that was made anew, and the smallest of
    /// them.
    pub(super) fn begun_anew(&self, sent: &BTreeMap<i32, (i64, i64)>) -> BTreeMap<i32, i64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = &*known else { return BTreeMap::new() };
        let anew = |(partition, (first, _)): (&i32, &(i64, i64))| {
            known.get(partition).is_some_and(|last| last >= first).then_some((*partition, *first))
        };
        sent.iter().filter_map(anew).collect()
    }

    /// Only what is noted counts as known: else a note that fails would hide that a topic began anew.
    pub(super) fn remember(&self, sent: &BTreeMap<i32, (i64, i64)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |(partition, (_, last)): (&i32, &(i64, i64))| (*partition, *last);
        known.get_or_insert_default().extend(sent.iter().map(last));
    }
}

/// The smallest and the greatest offset in each partition.
pub(super) fn offsets_of(sent: &[Confirmation]) -> BTreeMap<i32, (i64, i64)> {
    let mut offsets: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
    for (partition, offset) in sent.iter().filter_map(|row| Some((row.partition, row.offset?))) {
        let (first, last) = offsets.entry(partition).or_insert((offset, offset));
        (*first, *last) = (offset.min(*first), offset.max(*last));
    }
    offsets
}
