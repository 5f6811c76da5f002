use super::fixture::START;
use crate::verify::judge::{Difference, OpenEvent, OwnerFacts, OwnerView, Verdict, judge};
use crate::verify::wire::KeyState;
use common::ids::EventId;

const FACTS: OwnerFacts = OwnerFacts { epoch: 2, forgotten_version: 5 };

fn state(epoch: Option<i64>, version: i64, content: &str) -> Option<KeyState> {
    let removed = content == "removed";
    Some(KeyState { key: "A".to_owned(), epoch, version, removed, digest: content.to_owned() })
}

fn owner(version: i64, content: &str) -> OwnerView {
    OwnerView { state: state(None, version, content), open: None }
}

fn with_event(view: OwnerView, on_its_way: bool) -> OwnerView {
    OwnerView { open: Some(OpenEvent { id: EventId::first_at(START), on_its_way }), ..view }
}

#[test]
fn what_stands_still_is_told_by_kind() {
    let none = OwnerView::default();
    for (owner, copy, verdict) in [
        (owner(7, "x"), state(Some(2), 7, "x"), Verdict::Equal),
        // Since a restore nothing was sent again, and the content is the same.
        (owner(7, "x"), state(Some(1), 7, "x"), Verdict::Equal),
        (owner(7, "x"), state(Some(3), 7, "x"), Verdict::Differs(Difference::Newer)),
        (owner(7, "x"), None, Verdict::Differs(Difference::Missing)),
        (owner(7, "x"), state(Some(2), 6, "x"), Verdict::Differs(Difference::Older)),
        (owner(7, "x"), state(Some(2), 8, "x"), Verdict::Differs(Difference::Newer)),
        (owner(7, "x"), state(Some(1), 9, "x"), Verdict::Differs(Difference::Older)),
        (owner(7, "x"), state(Some(2), 7, "y"), Verdict::Differs(Difference::Content)),
        (owner(7, "removed"), state(Some(2), 6, "x"), Verdict::Differs(Difference::Older)),
        (owner(7, "removed"), None, Verdict::Differs(Difference::Missing)),
        (none.clone(), state(Some(2), 6, "x"), Verdict::Differs(Difference::Unknown)),
        // A tombstone that the owner forgot: a new product begins above it.
        (none.clone(), state(Some(2), 5, "removed"), Verdict::Equal),
        (none.clone(), state(Some(2), 6, "removed"), Verdict::Differs(Difference::Unknown)),
        (none.clone(), state(Some(2), 5, "x"), Verdict::Differs(Difference::Unknown)),
        (none.clone(), None, Verdict::Equal),
    ] {
        assert_eq!(judge(FACTS, &owner, copy.as_ref(), &owner), verdict, "{owner:?} {copy:?}");
        let given_up = with_event(owner.clone(), false);
        assert_eq!(judge(FACTS, &given_up, copy.as_ref(), &given_up), verdict, "nobody sends it");
    }
}

#[test]
fn what_moves_is_looked_at_again() {
    let (before, copy) = (owner(7, "x"), state(Some(2), 6, "w"));
    let on_its_way = with_event(before.clone(), true);
    assert_eq!(judge(FACTS, &on_its_way, copy.as_ref(), &before), Verdict::Moving);
    assert_eq!(judge(FACTS, &before, copy.as_ref(), &on_its_way), Verdict::Moving);
    let changed = owner(8, "y");
    assert_eq!(judge(FACTS, &before, state(Some(2), 8, "y").as_ref(), &changed), Verdict::Moving);
    // The event is not settled yet, but what it brought is there.
    assert_eq!(
        judge(FACTS, &on_its_way, state(Some(2), 7, "x").as_ref(), &changed),
        Verdict::Equal
    );
}
