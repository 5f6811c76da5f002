//! What clients got done in one measurement.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::report::quantile;

/// The figures of all clients together.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Figures {
    /// Changes a second.
    pub(in crate::bench) per_s: f64,
    pub(in crate::bench) p50_ms: f64,
    pub(in crate::bench) p99_ms: f64,
    /// How many changes that were.
    changes: usize,
    /// Until the last one was answered.
    took: Duration,
}

impl Figures {
    /// Of what took so many ms each, and `took` in all.
    pub(in crate::bench) fn of(latencies: Vec<f64>, took: Duration) -> Result<Self> {
        ensure!(!latencies.is_empty(), "nothing was done in {took:?}: raise --seconds");
        Ok(Self {
            per_s: latencies.len() as f64 / took.as_secs_f64(),
            changes: latencies.len(),
            took,
            p50_ms: quantile(latencies.clone(), 0.5),
            p99_ms: quantile(latencies, 0.99),
        })
    }

    /// Changes a second, where so much `more` time counts, too.
    pub(in crate::bench) fn per_s_with(&self, more: Duration) -> f64 {
        self.changes as f64 / (self.took + more).as_secs_f64()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn nothing_done_is_no_figure() {
        let error = Figures::of(Vec::new(), Duration::from_secs(1)).unwrap_err().to_string();
        assert!(error.contains("--seconds"), "{error}");
        let figures = Figures::of(vec![4.0, 2.0], Duration::from_secs(2)).unwrap();
        assert_eq!((figures.per_s, figures.p99_ms), (1.0, 4.0));
        assert_eq!(figures.per_s_with(Duration::from_secs(2)), 0.5);
    }
}
