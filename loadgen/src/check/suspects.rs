//! Rows that seem wrong, which are judged again before anything is told.
//!
//! The services delete what is old while the judge reads. What is missing on a page may have gone a moment before, by a bound
//! that rose since it was asked. Bounds only rise, so one that is asked after the page covers all that had gone by then.

use anyhow::Result;

use super::finding::{Finding, Invariant};
use super::kept::Kept;
use super::report::Report;

/// So many are judged again; more are counted.
const MOST: usize = 10_000;

/// The first rows that seemed wrong, and how many there were.
#[derive(Debug)]
pub(super) struct Suspects<T> {
    rows: Vec<T>,
    more: u64,
}

impl<T> Default for Suspects<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), more: 0 }
    }
}

impl<T> Extend<T> for Suspects<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, rows: I) {
        rows.into_iter().for_each(|row| self.add(row));
    }
}

impl<T> Suspects<T> {
    pub(super) fn add(&mut self, row: T) {
        match self.rows.len() < MOST {
            true => self.rows.push(row),
            false => self.more += 1,
        }
    }

    /// The rows; says of `what` how many more there were.
    pub(super) fn take(self, invariant: Invariant, what: &str, report: &mut Report) -> Vec<T> {
        if self.more > 0 {
            let (number, more) = (invariant.words().0, self.more);
            report.could_not_look(format!(
                "{number}: {more} more {what} seemed wrong and were not looked at again"
            ));
        }
        self.rows
    }

    /// Tells what is still wrong with them by what is `kept` now.
    pub(super) fn tell(
        self,
        (invariant, what): (Invariant, &str),
        report: &mut Report,
        kept: impl FnOnce() -> Result<Kept>,
        judge: impl Fn(&T, &Kept) -> Option<Finding>,
    ) -> Result<()> {
        let rows = self.take(invariant, what, report);
        if !rows.is_empty() {
            let kept = kept()?;
            report.tell_all(rows.iter().filter_map(|row| judge(row, &kept)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use common::clock::Timestamp;

    use super::super::finding::{Kind, Side};
    use super::*;

    #[test]
    fn what_went_while_it_was_looked_for_is_no_finding() {
        let at = Timestamp::from_micros;
        let judge = |row: &i64, kept: &Kept| {
            let is_young = at(*row) > kept.product_events;
            is_young
                .then(|| Finding::new(Kind::ChangeUntold, Side::Product, row, "an event", "none"))
        };
        let mut suspects = Suspects::default();
        let early = Kept::from_all(at(0));
        suspects.extend((1..=3).filter(|row| judge(row, &early).is_some()));
        let mut report = Report::new(10);
        let swept = || Ok(Kept::from_all(at(2)));
        assert!(suspects.tell((Invariant::I1, "rows"), &mut report, swept, judge).is_ok());
        assert_eq!(report.kinds(), [(Kind::ChangeUntold, 1)]);
        assert!(report.is_whole());
    }

    #[test]
    fn so_many_are_kept_and_more_are_said() {
        let mut suspects = Suspects::default();
        suspects.extend(0..=MOST);
        let mut report = Report::new(10);
        assert_eq!(suspects.take(Invariant::I7, "orders", &mut report).len(), MOST);
        assert!(!report.is_whole());
        let said = "I7: 1 more orders seemed wrong and were not looked at again";
        assert_eq!(report.to_json()["unchecked"][0], said);
    }
}
