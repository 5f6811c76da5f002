//! A job as it is asked for, and whether it can be.

use std::collections::BTreeSet;

use common::clock::Timestamp;
use common::http::{Problem, ProblemResult};
use engine::bulk::JobState;
use engine::resync::{MAX_KEYS, NewResync, ResyncKind, ResyncSelection, Which};
use engine::verify::Verification;
use engine::verify::wire::MAX_KEY;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::checked_reason;
use super::super::verifications::LISTED;
use super::replay::checked_kept;
use crate::access::Caller;

/// A job that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewResync)]
pub(crate) struct Create {
    /// A repair sends the `differences` of a verification, and verifies these keys at its end; a resync sends `keys`,
    /// or all `where` something is true; a replay sends the states that are `kept`, and through the loop ends with
    /// each key's present one.
    #[schema(value_type = ResyncKind)]
    pub(crate) kind: ResyncKind,
    pub(crate) selection: ResyncSelection,
    /// Why, for the audit log and the causes of the events.
    pub(crate) reason: Option<String>,
    /// How many keys there were said to be: the differences of the verification, or the keys that are named. The job is
    /// refused with 409 if there is another number.
    #[schema(minimum = 0)]
    pub(crate) expected: Option<i64>,
    /// Confirms that a repair covers what is listed, though more keys differ. No, if left out.
    #[serde(default)]
    pub(crate) only_listed: bool,
}

/// A job whose form is right; whether it fits what there is, [`super::create_now`] finds out.
pub(crate) struct Checked {
    pub(super) new: NewResync,
    /// What a repair repairs.
    pub(super) verification: Option<i64>,
    /// Whom a replay through the loop is for.
    pub(super) consumer: Option<String>,
    /// The topic that a replay sends into, if it is another one.
    pub(super) into: Option<String>,
    pub(super) only_listed: bool,
}

impl Create {
    /// The job that is asked for.
    ///
    /// # Errors
    /// 422 at the field that is wrong.
    pub(crate) fn check(self, (by, now): (&Caller, Timestamp)) -> ProblemResult<Checked> {
        self.reason.as_deref().map_or(Ok(()), checked_reason)?;
        let (selection, counted) = checked_selection(self.kind, self.selection, now)?;
        let verification = match selection {
            ResyncSelection::Differences(seq) => Some(seq),
            ResyncSelection::Keys(_) | ResyncSelection::Where(_) | ResyncSelection::Kept(_) => None,
        };
        let (consumer, into) = match &selection {
            ResyncSelection::Kept(kept) => (kept.consumer.clone(), kept.into.clone()),
            _ => (None, None),
        };
        let expected = checked_expected(self.expected, counted, verification.is_some())?;
        Ok(Checked {
            new: NewResync {
                kind: self.kind,
                selection: serde_json::to_string(&selection)
                    .map_err(|error| Problem::internal(&error))?,
                reason: self.reason,
                state: JobState::Waiting,
                expected,
                created_us: now,
                created_by: by.name.clone(),
                created_via: by.via.name().to_owned(),
            },
            verification,
            consumer,
            into,
            only_listed: self.only_listed,
        })
    }
}

/// The selection with each key once, and how many keys it names.
fn checked_selection(
    kind: ResyncKind,
    selection: ResyncSelection,
    now: Timestamp,
) -> ProblemResult<(ResyncSelection, Option<i64>)> {
    let wrong = |detail: &str| Err(Problem::invalid("selection", detail));
    match (kind, selection) {
        (ResyncKind::Repair, differences @ ResyncSelection::Differences(_)) => {
            Ok((differences, None))
        }
        (ResyncKind::Bootstrap, _) => Err(Problem::invalid(
            "kind",
            "a copy is filled by POST /api/admin/v1/bootstraps; use the kind resync",
        )),
        (ResyncKind::Repair, _) => wrong(
            "a repair is of the differences of a verification; name it, or use the kind resync",
        ),
        (ResyncKind::Restored, _) => Err(Problem::invalid(
            "kind",
            "a database that came back from a backup is mended at /api/admin/v1/restored",
        )),
        (ResyncKind::Replay, ResyncSelection::Kept(kept)) => {
            Ok((ResyncSelection::Kept(checked_kept(kept, now)?), None))
        }
        (ResyncKind::Replay, _) => {
            wrong("a replay is of states that are kept; name them as kept, or use the kind resync")
        }
        (ResyncKind::Resync, ResyncSelection::Kept(_)) => {
            wrong("a resync sends present states; use the kind replay for those that are kept")
        }
        (ResyncKind::Resync, ResyncSelection::Differences(_)) => {
            wrong("differences are repaired; use the kind repair")
        }
        (ResyncKind::Resync, ResyncSelection::Keys(keys)) => {
            let keys = checked_keys(keys)?;
            let counted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
            Ok((ResyncSelection::Keys(keys), Some(counted)))
        }
        (ResyncKind::Resync, ResyncSelection::Where(which)) => {
            checked_which(&which)?;
            Ok((ResyncSelection::Where(which), None))
        }
    }
}

pub(super) fn checked_keys(keys: Vec<String>) -> ProblemResult<Vec<String>> {
    let keys: BTreeSet<String> = keys.into_iter().collect();
    if keys.is_empty() || keys.len() > MAX_KEYS {
        let detail = format!("name 1 to {MAX_KEYS} keys; a prefix can match more");
        return Err(Problem::invalid("selection.keys", detail));
    }
    keys.iter().try_for_each(|key| checked_text(key, "selection.keys"))?;
    Ok(keys.into_iter().collect())
}

fn checked_which(which: &Which) -> ProblemResult<()> {
    which.prefix.as_deref().map_or(Ok(()), |prefix| checked_text(prefix, "selection.where.prefix"))
}

pub(super) fn checked_text(text: &str, field: &str) -> ProblemResult<()> {
    match text {
        "" => Err(Problem::invalid(field, "it must not be empty")),
        text if text.len() > MAX_KEY => {
            Err(Problem::invalid(field, format!("a key has {MAX_KEY} bytes at the most")))
        }
        text if text.contains('\0') => Err(Problem::invalid(field, "a key holds no U+0000")),
        _ => Ok(()),
    }
}

/// How many keys the job is for, as far as its selection tells.
fn checked_expected(
    expected: Option<i64>,
    counted: Option<i64>,
    repairs: bool,
) -> ProblemResult<Option<i64>> {
    match (expected, counted) {
        (Some(expected), _) if expected < 0 => {
            Err(Problem::invalid("expected", "a number of keys is not below 0"))
        }
        (Some(expected), Some(counted)) if expected != counted => Err(changed(format!(
            "{counted} keys are named, not {expected}; count them again, each once"
        ))),
        (Some(_), None) if !repairs => {
            let detail = "how many keys this is true of is not counted before; leave this out";
            Err(Problem::invalid("expected", detail))
        }
        (expected, counted) => Ok(counted.or(expected)),
    }
}

/// How many keys the repair of a verification's differences is for.
pub(super) fn repairable(
    verification: &Verification,
    expected: Option<i64>,
    only_listed: bool,
) -> ProblemResult<i64> {
    let Verification { seq, differences, cut, .. } = verification;
    if verification.ended_us.is_none() {
        let detail = format!("verification {seq} is not at its end; wait for it, or cancel it");
        return Err(Problem::conflict("verification-open", detail));
    }
    if *differences == 0 {
        let detail = format!("verification {seq} found no difference; there is nothing to repair");
        return Err(Problem::conflict("nothing-differs", detail));
    }
    if *cut && !only_listed {
        return Err(Problem::conflict(
            "verification-cut",
            format!(
                "verification {seq} ended when it had found {LISTED} differences, and there may be more: resync all \
                 keys, or confirm with only_listed that the listed ones are enough"
            ),
        ));
    }
    match expected {
        Some(expected) if expected != *differences => Err(changed(format!(
            "verification {seq} found {differences} differences, not {expected}; look at them again"
        ))),
        _ => Ok(*differences),
    }
}

fn changed(detail: String) -> Problem {
    Problem::conflict("preview-changed", detail)
}
