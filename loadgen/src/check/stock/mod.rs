//! I7 and I3 in the history of each product: stock is conserved from one version to the next.
//!
//! Every change of stock is an event with what caused it. So from version to version the stock differs by exactly the
//! adjustment, or by what the order took or gave back; opening + adjustments − deductions = quantity follows, wherever the
//! history begins. That the product is what its last event says is [`source`](super::source)'s.

mod adjustments;
#[cfg(test)]
mod fixture;
mod judge;
mod state;
mod steps;

use anyhow::Result;
use common::clock::Timestamp;
use common::db::Conn;
use common::ids::EventId;

use self::adjustments::Adjustments;
use self::judge::find;
use self::state::ChangedBy;
pub(super) use self::state::State;
use self::steps::{Place, Step, steps};
use super::Terms;
use super::finding::{Finding, Invariant, Side};
use super::kept::Kept;
use super::reader::Reader;
use super::report::Report;
use super::suspects::Suspects;

/// Looks at the history of every product.
pub(super) fn check(
    product: &mut Reader,
    order: &mut Reader,
    (terms, kept): (&Terms, &Kept),
    report: &mut Report,
) -> Result<()> {
    let (mut adjustments, mut suspects) = (Adjustments::default(), Suspects::default());
    let mut chain = Chain { kept, last: None };
    let read = |conn: &mut Conn, after: &Place| steps(conn, after, &mut adjustments);
    let take = |steps: Vec<Step>| {
        let next = steps.last().map(|Step { row, .. }| (row.key.clone(), row.version, row.id));
        suspects.extend(steps.into_iter().filter_map(|step| chain.take(step)));
        Ok(next)
    };
    let begin = (String::new(), i64::MIN, EventId::NIL);
    let rows = product.walk("states of products", begin, read, take)?;
    report.looked(Invariant::I7, Side::Product, "states of products, by their causes", rows);
    let what = (Invariant::I7, "states of products");
    suspects.tell(what, report, || Kept::read(product, order, terms), Suspect::judge)
}

/// The last state of the product that the walk is at.
struct Chain<'a> {
    kept: &'a Kept,
    last: Option<Link>,
}

#[derive(Debug, Clone)]
struct Link {
    key: String,
    state: State,
    /// When its version was made, by its first event; none where that is gone, and the version was only told again, or where
    /// what came behind it can't be read.
    made: Option<Timestamp>,
}

/// A state that seems wrong, and the one of its product before it.
#[derive(Debug)]
struct Suspect {
    last: Option<Link>,
    step: Step,
}

impl Suspect {
    fn judge(&self, kept: &Kept) -> Option<Finding> {
        find(kept, self.last.as_ref(), &self.step)
    }
}

impl Chain<'_> {
    fn take(&mut self, step: Step) -> Option<Suspect> {
        let last = self.last.as_ref().filter(|last| last.key == step.row.key);
        let seems_wrong = find(self.kept, last, &step).is_some();
        let before = last.filter(|_| seems_wrong).cloned();
        // What is told again is no new link, and what caused a version is said by its first event.
        if step.row.version > last.map_or(i64::MIN, |last| last.state.version) {
            match step.own_state() {
                Some(state) => {
                    let is_first = state.changed_by() != ChangedBy::Nothing;
                    let made = is_first.then_some(step.row.created_us);
                    let key = step.row.key.clone();
                    self.last = Some(Link { key, state: state.clone(), made });
                }
                // It is a version that can't be read, but no gap.
                None => {
                    let last = self.last.as_mut().filter(|last| last.key == step.row.key);
                    last.into_iter().for_each(|last| last.made = None);
                }
            }
        }
        seems_wrong.then_some(Suspect { last: before, step })
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Kind;
    use super::fixture::{AT, adjusted, kept, kind, kinds, opening, state, step};
    use super::*;

    #[test]
    fn a_version_that_may_have_gone_proves_no_gap() {
        // Old, and told again a moment ago: when it was told says nothing of what came behind it.
        let replayed = step(state(1, 10, ("replay", None)));
        assert_eq!(kind(&[replayed, adjusted(3, 7, -3)]), None);
        let untold = Suspect {
            last: Some(Link {
                key: "TEA".to_owned(),
                state: state(1, 10, ("put", None)),
                made: Some(AT),
            }),
            step: adjusted(3, 7, -3),
        };
        assert!(untold.judge(&kept()).is_some());
        assert!(untold.judge(&Kept::from_all(AT)).is_none());
    }

    #[test]
    fn one_event_that_is_damaged_says_nothing_of_those_behind_it() {
        let damaged = |state: Result<State, String>| Step { state, ..adjusted(2, 7, -3) };
        let put = |version| state(version, 90, ("put", None));
        for bad in [
            damaged(Err("it is no JSON".to_owned())),
            damaged(Ok(put(1_000))),
            damaged(Ok(State { sku: Some("MILK".to_owned()), ..put(2) })),
        ] {
            let told = kinds(&[opening(), bad.clone(), adjusted(3, 5, -2), adjusted(4, 4, -1)]);
            assert_eq!(told, [None, Some(Kind::TwoContents), None, None], "{bad:?}");
            // What comes behind the next good one is judged again.
            let told = kinds(&[opening(), bad, adjusted(3, 5, -2), adjusted(5, 4, -1)]);
            assert_eq!(told.last(), Some(&Some(Kind::ChangeUntold)));
        }
    }
}
