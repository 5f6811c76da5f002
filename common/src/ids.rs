//! Event ids: UUIDv7 (RFC 9562), so that they sort by time, made from an injected clock.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::SqlType;
use diesel::sqlite::Sqlite;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::{ContextV7, Uuid};

use crate::clock::Timestamp;

/// The column type of an event id: `uuid` in PostgreSQL, 36 characters of text in SQLite.
#[derive(Debug, Clone, Copy, Default, QueryId, SqlType)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951))]
#[diesel(sqlite_type(name = "Text"))]
pub struct EventIdSql;

/// The id of one event, the same in every database and on every topic; its order is the order of making.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    AsExpression,
    FromSqlRow,
    ToSchema,
)]
#[diesel(sql_type = EventIdSql)]
#[serde(transparent)]
#[schema(
    description = "A UUID (version 7, where it was made here), the same on both sides",
    value_type = String,
    format = "uuid",
    examples("01890a5d-ac96-774b-bcce-b302099a8057")
)]
pub struct EventId(Uuid);

impl EventId {
    /// Below every id that was ever made.
    pub const NIL: Self = Self(Uuid::nil());

    /// Above every id that was ever made.
    pub const MAX: Self = Self(Uuid::max());

    /// Wraps an id that came from elsewhere.
    pub const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    /// An id that is below all made at `moment` or later: a bound for looking through ids by time.
    pub fn first_at(moment: Timestamp) -> Self {
        let millis = u64::try_from(moment.micros()).unwrap_or(0) / 1_000;
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
    }

    /// When it was made, to the millisecond; the beginning of time for one that was made elsewhere and says nothing.
    pub fn made_at(self) -> Timestamp {
        let made = self.0.get_timestamp().map(|made| made.to_unix());
        let micros = |(seconds, nanos): (u64, u32)| {
            i64::try_from(seconds)
                .ok()?
                .checked_mul(1_000_000)?
                .checked_add(i64::from(nanos / 1_000))
        };
        Timestamp::from_micros(made.and_then(micros).unwrap_or(0))
    }

    /// The plain UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

impl ToSql<EventIdSql, Pg> for EventId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        <Uuid as ToSql<diesel::sql_types::Uuid, Pg>>::to_sql(&self.0, out)
    }
}

impl FromSql<EventIdSql, Pg> for EventId {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        <Uuid as FromSql<diesel::sql_types::Uuid, Pg>>::from_sql(value).map(Self)
    }
}

impl ToSql<EventIdSql, Sqlite> for EventId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.to_string());
        Ok(IsNull::No)
    }
}

impl FromSql<EventIdSql, Sqlite> for EventId {
    fn from_sql(
        value: <Sqlite as diesel::backend::Backend>::RawValue<'_>,
    ) -> deserialize::Result<Self> {
        let text = <String as FromSql<diesel::sql_types::Text, Sqlite>>::from_sql(value)?;
        Ok(text.parse()?)
    }
}

/// Makes event ids; each is greater than the one before, also within one microsecond.
pub struct Ids {
    context: Mutex<ContextV7>,
}

impl Default for Ids {
    fn default() -> Self {
        Self { context: Mutex::new(ContextV7::new().with_additional_precision()) }
    }
}

impl Ids {
    /// A new id for something that happens `now`.
    pub fn next(&self, now: Timestamp) -> EventId {
        let micros = u64::try_from(now.micros()).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
        // A panic while the counter was held leaves it usable: the next value is still a new one.
        let context = self.context.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        EventId(Uuid::new_v7(uuid::Timestamp::from_unix(&*context, micros / 1_000_000, nanos)))
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_within_one_microsecond() {
        let ids = Ids::default();
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let made: Vec<EventId> = (0..10_000).map(|_| ids.next(now)).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(made[0].uuid().get_version_num(), 7);
    }
}
