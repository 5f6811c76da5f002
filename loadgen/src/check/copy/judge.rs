//! How a copy differs from its source, and whether it still may.

use common::ids::EventId;

use super::facts::Facts;
use super::rows::{Row, View};
use crate::check::finding::Kind;

/// What is to be said of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Equal,
    /// It has to be looked at again.
    Moving,
    /// It differs, and its event waits for a person, who knows.
    Waiting(EventId),
    Differs(Kind),
}

/// How a copy differs from its source, whatever is on its way.
pub(super) fn difference(facts: Facts, source: Option<&Row>, copy: Option<&Row>) -> Option<Kind> {
    match (source, copy) {
        (None, None) => None,
        // A removal that the copy may have forgotten.
        (Some(source), None)
            if source.product.removed
                && source.product.updated_us.micros() <= facts.copy.removals_forgotten =>
        {
            None
        }
        (Some(_), None) => Some(Kind::CopyMissing),
        // The source begins above it, should the product come again.
        (None, Some(copy)) if copy.product.removed && is_forgotten(facts, copy) => None,
        (None, Some(_)) => Some(Kind::CopyUnknown),
        // It would take no change of this epoch.
        (Some(_), Some(copy)) if copy.epoch > facts.source.epoch => Some(Kind::CopyNewer),
        (Some(source), Some(copy)) if source.product.version == copy.product.version => {
            (source.product != copy.product).then_some(Kind::CopyContent)
        }
        (Some(source), Some(copy)) => {
            let older =
                (copy.epoch, copy.product.version) < (facts.source.epoch, source.product.version);
            Some(if older { Kind::CopyOlder } else { Kind::CopyNewer })
        }
    }
}

fn is_forgotten(facts: Facts, copy: &Row) -> bool {
    (copy.epoch, copy.product.version) <= (facts.source.epoch, facts.source.forgotten_version)
}

/// Judges a key by what the source had `before` the look at the `copy`, and `after` it.
pub(super) fn judge(facts: Facts, before: &View, copy: Option<&Row>, after: &View) -> Verdict {
    let Some(kind) = difference(facts, before.row.as_ref(), copy) else { return Verdict::Equal };
    let moves = |view: &View| view.open.is_some_and(|event| event.is_on_its_way());
    if before.row != after.row || moves(before) || moves(after) {
        return Verdict::Moving;
    }
    match after.open.or(before.open) {
        Some(event) => Verdict::Waiting(event.id),
        None => Verdict::Differs(kind),
    }
}

#[cfg(test)]
mod tests {
    use common::clock::Timestamp;

    use super::super::facts::{CopyFacts, FACTS, SourceFacts};
    use super::super::rows::{EXHAUSTED, OpenEvent};
    use super::*;
    use crate::check::rows::ProductRow;

    fn row(version: i64, quantity: i64, epoch: i64) -> Row {
        let updated = Timestamp::from_micros(version);
        Row { product: ProductRow::tea(version, quantity, updated), epoch }
    }

    fn tombstone(version: i64, epoch: i64) -> Row {
        let Row { product, epoch } = row(version, 0, epoch);
        Row { product: ProductRow { removed: true, ..product }, epoch }
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        let source = row(4, 10, 0);
        let kind = |source: Option<&Row>, copy: Option<&Row>| difference(FACTS, source, copy);
        assert_eq!(kind(Some(&source), Some(&row(4, 10, 1))), None);
        assert_eq!(kind(Some(&source), Some(&row(4, 9, 1))), Some(Kind::CopyContent));
        assert_eq!(kind(Some(&source), Some(&row(3, 10, 1))), Some(Kind::CopyOlder));
        assert_eq!(kind(Some(&source), Some(&row(5, 10, 1))), Some(Kind::CopyNewer));
        assert_eq!(kind(Some(&source), Some(&row(1, 10, 2))), Some(Kind::CopyNewer));
        assert_eq!(kind(Some(&source), None), Some(Kind::CopyMissing));
        assert_eq!(kind(None, Some(&row(4, 10, 1))), Some(Kind::CopyUnknown));
        assert_eq!(kind(None, Some(&tombstone(5, 1))), None);
        assert_eq!(kind(None, Some(&tombstone(6, 1))), Some(Kind::CopyUnknown));
        assert_eq!(kind(Some(&tombstone(3, 0)), None), None);
        assert_eq!(kind(Some(&tombstone(4, 0)), None), Some(Kind::CopyMissing));
    }

    #[test]
    fn what_the_services_forgot_meanwhile_is_no_finding() {
        // Kept when the tables were walked, gone by the second look.
        let tombstone = tombstone(7, 0);
        let still = View { row: Some(tombstone.clone()), open: None };
        assert_eq!(judge(FACTS, &still, None, &still), Verdict::Differs(Kind::CopyMissing));
        let copy = CopyFacts { removals_forgotten: 7, ..FACTS.copy };
        assert_eq!(judge(Facts { copy, ..FACTS }, &still, None, &still), Verdict::Equal);
        let (gone, copied) = (View::default(), Row { epoch: 1, ..tombstone });
        let judged = |facts| judge(facts, &gone, Some(&copied), &gone);
        assert_eq!(judged(FACTS), Verdict::Differs(Kind::CopyUnknown));
        let source = SourceFacts { forgotten_version: 7, ..FACTS.source };
        assert_eq!(judged(Facts { source, ..FACTS }), Verdict::Equal);
    }

    #[test]
    fn what_moves_is_no_finding() {
        let view = |row: Row, status: Option<i16>| View {
            row: Some(row),
            open: status.map(|status| OpenEvent { id: EventId::MAX, status }),
        };
        let (still, copy) = (view(row(4, 10, 0), None), row(3, 10, 1));
        let judged = |before: &View, after: &View| judge(FACTS, before, Some(&copy), after);
        assert_eq!(judged(&still, &still), Verdict::Differs(Kind::CopyOlder));
        assert_eq!(judged(&view(row(4, 10, 0), Some(0)), &still), Verdict::Moving);
        assert_eq!(judged(&still, &view(row(5, 9, 0), None)), Verdict::Moving);
        let waits = view(row(4, 10, 0), Some(EXHAUSTED));
        assert_eq!(judged(&waits, &waits), Verdict::Waiting(EventId::MAX));
    }
}
