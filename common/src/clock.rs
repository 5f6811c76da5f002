//! Time as an injected source: UTC, cut to microseconds, so that both databases hold the same value.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::BigInt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use utoipa::ToSchema;

/// A moment in UTC, in whole microseconds since the Unix epoch; stored as `BIGINT`, written as ISO 8601.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    AsExpression,
    FromSqlRow,
    ToSchema,
)]
#[diesel(sql_type = BigInt)]
#[schema(
    description = "A moment in UTC, to the microsecond",
    value_type = String,
    format = DateTime,
    examples("2026-01-05T12:00:00.123456Z")
)]
pub struct Timestamp(i64);

/// What ISO 8601 has four digits of the year for: from the beginning of the year 0 to the end of 9999.
const WRITTEN: RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

impl Timestamp {
    /// The moment `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This moment moved forward by `by`; stays at the end of time instead of overflowing.
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(by)))
    }

    /// This moment moved back by `by`.
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(by)))
    }

    /// Until when something may wait now that never waits for longer than `longest`: what has noted a later moment did so by
    /// a clock that ran ahead. Clocks of instances may differ by a minute.
    pub fn latest(self, longest: Duration) -> Self {
        self.after(longest.saturating_add(CLOCKS_DIFFER))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// How far the clocks of instances may be apart, so that none calls due at once what another one lets wait.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(moment) => f.write_str(&moment.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "{}us", self.0),
        }
    }
}

/// Why a text is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TimestampError {
    /// It is not written as one.
    #[error(transparent)]
    Unreadable(#[from] chrono::ParseError),
    /// It could not be written so that it can be read again.
    #[error("it is not between the years 0 and 9999 in UTC")]
    OutOfRange,
}

impl std::str::FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let micros = DateTime::parse_from_rfc3339(text)?.timestamp_micros();
        match WRITTEN.contains(&micros) {
            true => Ok(Self(micros)),
            false => Err(TimestampError::OutOfRange),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<DB: Backend> ToSql<BigInt, DB> for Timestamp
where
    i64: ToSql<BigInt, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.to_sql(out)
    }
}

impl<DB: Backend> FromSql<BigInt, DB> for Timestamp
where
    i64: FromSql<BigInt, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        i64::from_sql(bytes).map(Self)
    }
}

/// Where the current time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(Utc::now().timestamp_micros())
    }
}

/// A clock that stands still until it is moved: for tests of anything that waits.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(start.micros())))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(micros_of(by), Ordering::SeqCst);
    }

    /// Sets the clock back, as a machine's clock is that ran ahead.
    pub fn set_back(&self, by: Duration) {
        self.0.fetch_sub(micros_of(by), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_iso_8601_and_read_back() {
        let moment = Timestamp::from_micros(1_291_191_960_123_456);
        assert_eq!(moment.to_string(), "2010-12-01T08:26:00.123456Z");
        assert_eq!("2010-12-01T08:26:00.123456Z".parse::<Timestamp>().ok(), Some(moment));
    }

    /// An offset, or a leap second, may lead out of the years that have four digits.
    #[test]
    fn what_could_not_be_written_is_not_read() {
        for (text, is_read) in [
            ("0000-01-01T00:00:00Z", true),
            ("0000-01-01T00:00:00+00:01", false),
            ("9999-12-31T23:59:59.999999Z", true),
            ("9999-12-31T23:59:60Z", false),
            ("9999-12-31T23:59:59-00:01", false),
        ] {
            let read = text.parse::<Timestamp>();
            assert_eq!(read.is_ok(), is_read, "{text}");
            if let Ok(moment) = read {
                assert_eq!(moment.to_string().parse(), Ok(moment), "{text}");
            }
        }
    }

    #[test]
    fn never_overflows() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(Timestamp::default().since(end), Duration::ZERO);
    }
}
