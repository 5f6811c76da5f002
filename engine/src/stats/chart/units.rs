//! What a chart's axes show: units, round steps, times of day.

use std::ops::Range;

use chrono::{DateTime, Utc};
use common::clock::Timestamp;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;

/// What the numbers of a panel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Events,
    PerSecond,
    Seconds,
    /// Seconds in powers of ten.
    LogSeconds,
}

impl Unit {
    pub(super) const fn caption(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::PerSecond => "per second",
            Self::Seconds => "age",
            Self::LogSeconds => "duration, each line ten times the one below",
        }
    }

    /// Where a value lies on the axis.
    pub(super) fn place(self, value: f64) -> f64 {
        match self {
            // Nothing is quicker than the tenth of a millisecond that clocks can tell.
            Self::LogSeconds => value.max(1e-4).log10(),
            _ => value,
        }
    }

    pub(super) fn scale(self, lowest: f64, highest: f64) -> (Range<f64>, Vec<f64>) {
        if self == Self::LogSeconds {
            let (low, high) = match lowest <= highest {
                true => (lowest.floor(), highest.ceil()),
                false => (-3.0, 0.0),
            };
            let high = high.max(low + 1.0);
            return (low..high, steps(low, high, 1.0));
        }
        let step = match self {
            Self::Seconds => nice_duration(highest / 4.0),
            Self::Events => nice(highest / 4.0).max(1.0),
            _ => nice(highest / 4.0),
        };
        let high = (highest / step).ceil().max(1.0) * step;
        (0.0..high, steps(0.0, high, step))
    }

    /// The label at a place of the axis.
    pub(super) fn label(self, place: f64) -> String {
        match self {
            Self::Events | Self::PerSecond => number(place),
            Self::Seconds => duration(place),
            Self::LogSeconds => duration(10_f64.powf(place)),
        }
    }

    /// A value in words.
    pub(super) fn words(self, value: f64) -> String {
        match self {
            Self::Events => format!("{value:.0}"),
            Self::PerSecond => format!("{} per second", number(value)),
            Self::Seconds | Self::LogSeconds => duration(value),
        }
    }
}

pub(super) fn steps(low: f64, high: f64, step: f64) -> Vec<f64> {
    let count = ((high - low) / step).round().max(0.0) as u32;
    (0..=count).map(|n| low + f64::from(n) * step).collect()
}

/// The next of 1, 2, 5, 10, … that is not below `value`.
pub(super) fn nice(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= value);
    factor.unwrap_or(10.0) * power
}

/// The same for durations, which people read in minutes and hours.
pub(super) fn nice_duration(seconds: f64) -> f64 {
    const STEPS: [f64; 15] = [
        1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0,
        43_200.0, 86_400.0, 604_800.0,
    ];
    STEPS.into_iter().find(|step| *step >= seconds).unwrap_or_else(|| nice(seconds))
}

/// Few digits: 0.25, 7.5, 120, 1.5k, 2M.
pub(super) fn number(value: f64) -> String {
    let (value, suffix) = match value {
        big if big >= 1e6 => (big / 1e6, "M"),
        big if big >= 1e4 => (big / 1e3, "k"),
        small => (small, ""),
    };
    let text = if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
}

pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        none if none <= 0.0 => "0 s".to_owned(),
        short if short < 0.9995 => format!("{} ms", number(short * 1e3)),
        short if short < 120.0 => format!("{} s", number(short)),
        middle if middle < 7_200.0 => format!("{} min", number(middle / 60.0)),
        long if long < 172_800.0 => format!("{} h", number(long / 3_600.0)),
        long => format!("{} d", number(long / 86_400.0)),
    }
}

pub(super) fn seconds_of(at: Timestamp) -> f64 {
    at.micros() as f64 / 1e6
}

pub(super) fn clock(seconds: f64, format: &str) -> String {
    let moment = DateTime::<Utc>::from_timestamp(seconds as i64, 0);
    moment.map(|moment| moment.format(format).to_string()).unwrap_or_default()
}

/// An axis that is labelled where it is told to be.
pub(super) struct Axis {
    pub(super) range: Range<f64>,
    pub(super) labels: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range.clone()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.labels.clone(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}
