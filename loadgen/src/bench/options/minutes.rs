//! How long one benchmark may take.

use std::time::Duration;

use clap::Args;

/// Minutes unless it is told otherwise, and for a first look.
const USUAL: u16 = 6;
const QUICK: u16 = 1;

// No help of its own: it would take the place of the benchmark's.
#[derive(Debug, Clone, Args)]
pub(in crate::bench) struct Minutes {
    /// Minutes that one benchmark takes at the most: rounds that would not end by then are left out [default: 6, with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    minutes: Option<u16>,
}

impl Minutes {
    /// How long that is, for a first look if it is `quick`.
    pub(in crate::bench) fn limit(&self, quick: bool) -> Duration {
        let minutes = self.minutes.unwrap_or(if quick { QUICK } else { USUAL });
        Duration::from_secs(60 * u64::from(minutes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parsed;
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_benchmark_has_six_minutes_and_a_first_look_one() -> Result<(), clap::Error> {
        let minutes: Minutes = parsed(&[])?;
        assert_eq!((minutes.limit(false), minutes.limit(true)), (MINUTE * 6, MINUTE));
        let minutes: Minutes = parsed(&["--minutes", "20"])?;
        assert_eq!((minutes.limit(false), minutes.limit(true)), (MINUTE * 20, MINUTE * 20));
        Ok(())
    }
}
