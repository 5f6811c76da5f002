//! The course of a copy's verifications as a picture: a bar for each, as high as keys differed.

use std::fmt::Write;

use crate::api::verifications::VerificationItem;

/// Pixels of a bar with its gap, of the bar, of the highest one, and of the line that each stands on.
const STEP: i64 = 14;
const BAR: i64 = 10;
const HEIGHT: i64 = 80;
const BASE: i64 = 4;

/// The digits of so many differences fill the height: a verification lists 100,000 at the most.
const DECADES: f64 = 5.0;

/// The verifications, given newest first, from left to right; each bar tells its numbers and leads to its page.
pub(super) fn course(runs: &[VerificationItem]) -> String {
    let width = i64::try_from(runs.len()).unwrap_or(0) * STEP;
    let bars = runs.iter().rev().zip(0..).fold(String::new(), |mut bars, (run, place)| {
        let (x, height) = (place * STEP, BASE + height(run.differences));
        let (seq, class, state) = (&run.seq, run.state_class(), run.state_name());
        let (keys, differences, waiting) = (run.keys, run.differences, run.waiting);
        let begun = run.started_at.unwrap_or(run.created_at);
        // Writing to a string can't fail.
        let _ = write!(
            bars,
            "<a href=\"/admin/proof/{seq}\"><title>{seq}: {state}, {keys} keys, {differences} differ, {waiting} wait, {begun}\
             </title><rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"{BAR}\" height=\"{height}\" fill=\"currentColor\"/></a>",
            HEIGHT + BASE - height,
        );
        bars
    });
    format!(
        "<svg width=\"{width}\" height=\"{}\" viewBox=\"0 0 {width} {}\" role=\"group\" \
         aria-label=\"Differences of each verification, oldest first; ten times as many are a step higher\">{bars}</svg>",
        HEIGHT + BASE,
        HEIGHT + BASE
    )
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a few pixels")]
fn height(differences: i64) -> i64 {
    if differences <= 0 {
        return 0;
    }
    let share = ((1.0 + (differences as f64).log10()) / (1.0 + DECADES)).min(1.0);
    (share * HEIGHT as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::height;

    #[test]
    fn a_bar_is_as_high_as_there_are_digits() {
        let heights = [0, 1, 10, 1_000, 100_000, 9_000_000].map(height);
        assert_eq!(heights, [0, 13, 26, 53, 80, 80]);
    }
}
