//! Durations as people write them into settings: read in any form, such as `90s` or `1h 30m`, and written in the
//! largest unit that keeps them whole (days from two on), so that `24h` and `365days` come back as that.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Name and milliseconds of the units, the largest first. Months and years are left out: they have no fixed length.
const UNITS: [(&str, u128); 5] =
    [("days", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(crate) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(*duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        de::Error::custom(format!("{text:?} is no duration, such as 30s: {error}"))
    })
}

/// `duration` in the largest unit that keeps it whole.
pub fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    let is_whole = duration == Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    let fits = |(name, unit): &&(&str, u128)| {
        millis.is_multiple_of(*unit) && (*name != "days" || millis > *unit)
    };
    match UNITS.iter().find(fits) {
        _ if millis == 0 && is_whole => "0s".to_owned(),
        Some((name, unit)) if is_whole => format!("{}{name}", millis / unit),
        _ => humantime::format_duration(duration).to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_duration_comes_back_as_it_was_written() {
        for text in ["365days", "24h", "90days", "2h", "15m", "90s", "300ms", "0s"] {
            assert_eq!(written(humantime::parse_duration(text).unwrap()), text);
        }
        for (text, written_as) in [("1h 30m", "90m"), ("1day", "24h"), ("1500us", "1ms 500us")] {
            assert_eq!(written(humantime::parse_duration(text).unwrap()), written_as);
        }
    }
}
