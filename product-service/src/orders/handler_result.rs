//! What an order's commands are answered: a function of its row alone, so that each repeat is answered the same.

use std::collections::BTreeMap;

use common::inbox::{Answer, ApplyError, Detail};
use common::inventory::Sku;
use common::orders::{Deduction, Refusal, RefusalReason, RefusedLine, Return};
use serde::Serialize;

use super::model::{Deducted, OrderRecord, State};
use crate::inventory;

/// The answer to an order's placing.
pub(super) fn to_placing(
    record: &OrderRecord,
    deducted: &BTreeMap<Sku, Deducted>,
    detail: Detail,
) -> Result<Answer, ApplyError> {
    match record.state {
        State::Deducted | State::Returned => success(detail, &deduction(record, deducted)),
        State::Refused => refused(record),
        State::Cancelled => {
            let result = json(&Refusal { lines: Vec::new(), cancelled: true })?;
            Ok(Answer::Rejected { result })
        }
    }
}

/// The answer to an order's cancellation, once that is carried out.
pub(super) fn to_cancelling(
    record: &OrderRecord,
    deducted: &BTreeMap<Sku, Deducted>,
    detail: Detail,
) -> Result<Answer, ApplyError> {
    match record.state {
        State::Refused => refused(record),
        State::Cancelled => success(detail, &Return { deducted: None, versions: BTreeMap::new() }),
        State::Deducted | State::Returned => {
            let returned = |row: &Deducted| Some((row.sku.clone(), row.returned_version?));
            let versions = deducted.values().filter_map(returned).collect();
            success(detail, &Return { deducted: Some(deduction(record, deducted)), versions })
        }
    }
}

/// A refusal of the inventory as a line of an order's.
pub(super) fn refused_line(sku: &Sku, refusal: &inventory::Refusal) -> RefusedLine {
    let reason = match refusal {
        inventory::Refusal::Unknown(_) => RefusalReason::UnknownProduct,
        inventory::Refusal::Removed { .. } => RefusalReason::RemovedProduct,
        inventory::Refusal::InsufficientStock { .. } => RefusalReason::InsufficientStock,
        inventory::Refusal::Overflow { .. } => RefusalReason::OutOfRange,
        inventory::Refusal::Negative | inventory::Refusal::Precondition(_) => RefusalReason::Other,
    };
    RefusedLine { sku: sku.clone(), reason, detail: refusal.to_string() }
}

fn deduction(record: &OrderRecord, deducted: &BTreeMap<Sku, Deducted>) -> Deduction {
    let versions = deducted.iter().map(|(sku, row)| (sku.clone(), row.version)).collect();
    Deduction { epoch: record.epoch, versions }
}

fn refused(record: &OrderRecord) -> Result<Answer, ApplyError> {
    let text = record.refusal.as_deref().unwrap_or("null");
    let result = serde_json::from_str(text).map_err(unwritable)?;
    Ok(Answer::Rejected { result })
}

fn success(detail: Detail, result: &impl Serialize) -> Result<Answer, ApplyError> {
    Ok(Answer::Success { detail, version: None, result: Some(json(result)?) })
}

pub(super) fn json(value: &impl Serialize) -> Result<serde_json::Value, ApplyError> {
    serde_json::to_value(value).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> ApplyError {
    ApplyError::Query(diesel::result::Error::SerializationError(Box::new(error)))
}
