//! What a client was shown, which says what it may be shown later.

use std::collections::BTreeMap;

use super::setbacks::Setbacks;
use crate::check::Side;

/// The greatest version of each product that a client was shown by each service, since the last setback.
pub(super) struct Seen {
    versions: BTreeMap<(Side, String), i64>,
    /// Begins and ends of setbacks until then.
    since: u64,
    setbacks: Setbacks,
}

impl Seen {
    pub(super) fn new(setbacks: Setbacks) -> Self {
        Self { versions: BTreeMap::new(), since: 0, setbacks }
    }

    /// A service that was asked after so many setbacks showed this version; returns a greater one that it had shown before.
    pub(super) fn take(
        &mut self,
        side: Side,
        sku: &str,
        version: i64,
        setbacks: u64,
    ) -> Option<i64> {
        if !self.forget_before(setbacks) {
            return None;
        }
        let greatest = self.versions.entry((side, sku.to_owned())).or_insert(version);
        let before = *greatest;
        *greatest = before.max(version);
        (version < before).then_some(before)
    }

    /// Whether a service that was asked after so many setbacks has shown a product before.
    pub(super) fn has(&mut self, side: Side, sku: &str, setbacks: u64) -> bool {
        self.forget_before(setbacks) && self.versions.contains_key(&(side, sku.to_owned()))
    }

    /// Forgets what was shown before the last setback; whether what was asked for after so many counts.
    fn forget_before(&mut self, setbacks: u64) -> bool {
        let so_far = self.setbacks.so_far();
        if self.since < so_far {
            self.since = so_far;
            self.versions.clear();
        }
        setbacks == so_far && so_far.is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: Side = Side::Order;

    #[test]
    fn a_version_below_the_greatest_is_told() {
        let mut seen = Seen::new(Setbacks::default());
        assert!(!seen.has(SIDE, "a", 0));
        let shown = [3, 5, 4, 5, 6].map(|version| seen.take(SIDE, "a", version, 0));
        assert_eq!(shown, [None, None, Some(5), None, None]);
        assert!(seen.has(SIDE, "a", 0));
        assert!(!seen.has(SIDE, "b", 0) && !seen.has(Side::Product, "a", 0));
    }

    #[test]
    fn what_was_asked_for_before_a_setback_is_mended_counts_no_more() {
        let setbacks = Setbacks::default();
        let mut seen = Seen::new(setbacks.clone());
        assert_eq!(seen.take(SIDE, "a", 5, 0), None);
        setbacks.begin();
        for asked in [0, 1] {
            assert_eq!(seen.take(SIDE, "a", 4, asked), None);
            assert!(!seen.has(SIDE, "a", asked));
        }
        setbacks.end();
        assert!(!seen.has(SIDE, "a", 2), "it may be gone");
        assert_eq!(seen.take(SIDE, "a", 3, 1), None, "it was asked for too soon");
        assert_eq!([4, 3].map(|version| seen.take(SIDE, "a", version, 2)), [None, Some(4)]);
    }
}
