//! Pauses between attempts: exponential, capped, with jitter so that what failed together isn't tried together.
//!
//! After "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), with a narrow jitter instead of that
//! article's full one: a person who reads "next try in about 8 s" should not be off by 8 s.

use std::time::Duration;

/// How far a pause may lie from its middle, as a share of it.
const JITTER: f64 = 0.2;

/// A rule for pauses: `base`, then doubling, never above `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub base: Duration,
    /// The longest pause, jitter included.
    pub max: Duration,
}

impl Backoff {
    /// The pause after the failed attempt `attempt`, counted from 1 (0 counts as 1).
    ///
    /// The middle is `base * 2^(attempt-1)`, at the most `max`; `chance` (0 to 1, such as [`crate::env::Env::chance`])
    /// moves it by up to 20 % down or up, where `max` still cuts. Neither large attempts nor large settings overflow.
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let doublings = attempt.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let middle = self.base.saturating_mul(factor).min(self.max);
        let shortest = middle.mul_f64(1.0 - JITTER);
        // The jitter is added: multiplying the longest Duration by more than 1 would overflow.
        let longest = middle.saturating_add(middle.mul_f64(JITTER)).min(self.max);
        let spread = longest.saturating_sub(shortest);
        // Written so that NaN, too, becomes 0.
        let chance = if chance > 0.0 { chance.min(1.0) } else { 0.0 };
        // Floating point may round up above the longest.
        shortest.saturating_add(spread.mul_f64(chance)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn doubles_until_the_cap() {
        let middles: Vec<u64> =
            (0..9).map(|attempt| BACKOFF.delay(attempt, 0.5).as_secs()).collect();
        assert_eq!(middles, [1, 1, 2, 4, 8, 16, 32, 54, 54]);
    }

    #[test]
    fn spreads_by_a_fifth() {
        assert_eq!(BACKOFF.delay(3, 0.0), Duration::from_millis(3_200));
        assert_eq!(BACKOFF.delay(3, 1.0), Duration::from_millis(4_800));
        assert_eq!(BACKOFF.delay(40, 0.0), Duration::from_secs(48));
        assert_eq!(BACKOFF.delay(40, 1.0), Duration::from_secs(60));
    }

    fn durations() -> impl Strategy<Value = Duration> {
        (any::<u64>(), 0..64_u32).prop_map(|(nanos, shift)| Duration::from_nanos(nanos >> shift))
    }

    proptest! {
        #[test]
        fn stays_in_its_bounds(
            base in durations(),
            max in durations(),
            attempt: u32,
            chance in 0.0..1.0_f64,
        ) {
            let delay = Backoff { base, max }.delay(attempt, chance);
            prop_assert!(delay <= max);
            let middle = base.min(max);
            // A nanosecond, and one part in a million, for the rounding of floating point.
            prop_assert!(delay.as_secs_f64() + 1e-9 >= middle.as_secs_f64() * 0.8 * 0.999_999);
        }

        #[test]
        fn grows_with_attempt_and_chance(
            base in durations(),
            max in durations(),
            attempt in 0..100_u32,
            chance in 0.0..1.0_f64,
        ) {
            let backoff = Backoff { base, max };
            let seconds = |attempt, chance| backoff.delay(attempt, chance).as_secs_f64();
            // Some nanoseconds, and one part in a million, for the rounding of floating point.
            let rounded_up = |seconds: f64| seconds * 1.000_001 + 5e-9;
            prop_assert!(seconds(attempt, chance) <= rounded_up(seconds(attempt + 1, chance)));
            prop_assert!(seconds(attempt, chance) <= rounded_up(seconds(attempt, 1.0)));
        }

        #[test]
        fn never_overflows(base: u64, max: u64, attempt: u32, chance in proptest::num::f64::ANY) {
            let backoff = Backoff { base: Duration::from_secs(base), max: Duration::from_secs(max) };
            prop_assert!(backoff.delay(attempt, chance) <= backoff.max);
        }
    }
}
