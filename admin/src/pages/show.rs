//! How moments, numbers and states are shown; askama finds these as filters.

use std::fmt::{self, Display};

use askama::filters::HtmlSafe;
use chrono::DateTime;
use common::clock::Timestamp;
use common::event::Status;

/// A value that templates hand over behind as many references as it happens to have there.
pub(super) trait Plain<T> {
    /// The value itself.
    fn plain(&self) -> T;
}

impl Plain<Self> for i64 {
    fn plain(&self) -> Self {
        *self
    }
}

impl Plain<Self> for f64 {
    fn plain(&self) -> Self {
        *self
    }
}

impl Plain<Self> for Timestamp {
    fn plain(&self) -> Self {
        *self
    }
}

impl<T, P: Plain<T>> Plain<T> for &P {
    fn plain(&self) -> T {
        (**self).plain()
    }
}

/// A moment: UTC to the second, all of it in the attribute; a script puts the local time into the title.
pub(super) struct When(Timestamp);

impl HtmlSafe for When {}

impl Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = DateTime::from_timestamp_micros(self.0.micros()).unwrap_or_default();
        let short = moment.format("%Y-%m-%d %H:%M:%S");
        write!(f, r#"<time datetime="{0}" title="{0}">{short}</time>"#, self.0)
    }
}

/// Digits in groups of three.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// A length of time in the two units that matter.
pub(super) fn span(seconds: f64) -> String {
    if seconds < 1.0 {
        return format!("{:.0} ms", seconds.max(0.0) * 1_000.0);
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.min(1e15) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", whole % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{} d {hours} h", grouped(i64::try_from(days).unwrap_or(0))),
    }
}

/// How a status looks.
pub(super) const fn status_class(status: Status) -> &'static str {
    match status {
        Status::Pending | Status::Sent => "info",
        Status::Exhausted => "bad",
        Status::Processed => "good",
    }
}

/// Filters of the templates.
#[allow(unreachable_pub, reason = "askama's macro writes pub")]
pub(super) mod filters {
    use super::*;

    /// A moment.
    #[askama::filter_fn]
    pub(in crate::pages) fn when(
        at: impl Plain<Timestamp>,
        _: &dyn askama::Values,
    ) -> askama::Result<When> {
        Ok(When(at.plain()))
    }

    /// A number.
    #[askama::filter_fn]
    pub(in crate::pages) fn grouped(
        number: impl Plain<i64>,
        _: &dyn askama::Values,
    ) -> askama::Result<String> {
        Ok(super::grouped(number.plain()))
    }

    /// A text of which people can see all.
    #[askama::filter_fn]
    pub(in crate::pages) fn visible(
        text: impl Display,
        _: &dyn askama::Values,
    ) -> askama::Result<String> {
        Ok(common::text::visible(&text.to_string()).into_owned())
    }

    /// A length of time, given in seconds.
    #[askama::filter_fn]
    pub(in crate::pages) fn span(
        seconds: impl Plain<f64>,
        _: &dyn askama::Values,
    ) -> askama::Result<String> {
        Ok(super::span(seconds.plain()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lengths_are_read_at_a_glance() {
        assert_eq!([0, 999, 1_000, -1_234_567].map(grouped), ["0", "999", "1,000", "-1,234,567"]);
        let spans = [0.0042, 3.25, 59.9, 61.0, 3_720.0, 90_000.0].map(span);
        assert_eq!(spans, ["4 ms", "3.2 s", "59 s", "1 min 1 s", "1 h 2 min", "1 d 1 h"]);
    }
}
