//! What an order's commands are answered: a function of its row alone, so that each repeat is answered the same.

use std::collections::BTreeMap;

use common::inventory::Sku;
use common::orders::{Deduction, Refusal, RefusalReason, RefusedLine, Return};
use engine::batch::BatchError;
use engine::inbox::{Detail, HandlerOutcome};
use serde::Serialize;

use super::model::{OrderDeduction, OrderRecord, OrderState};
use crate::inventory::ChangeRefusal;

/// The answer to an order's placing.
pub(super) fn of_placing(
    record: &OrderRecord,
    deductions: &BTreeMap<Sku, OrderDeduction>,
    detail: Detail,
) -> Result<HandlerOutcome, BatchError> {
    match record.state {
        OrderState::Deducted | OrderState::Returned => {
            success(detail, &deduction(record, deductions))
        }
        OrderState::Refused => refused(record),
        OrderState::Cancelled => {
            let result = to_json(&Refusal { lines: Vec::new(), cancelled: true })?;
            Ok(HandlerOutcome::Rejected { result })
        }
    }
}

/// The answer to an order's cancellation, once that is carried out.
pub(super) fn of_cancelling(
    record: &OrderRecord,
    deductions: &BTreeMap<Sku, OrderDeduction>,
    detail: Detail,
) -> Result<HandlerOutcome, BatchError> {
    match record.state {
        OrderState::Refused => refused(record),
        OrderState::Cancelled => {
            success(detail, &Return { deducted: None, versions: BTreeMap::new() })
        }
        OrderState::Deducted | OrderState::Returned => {
            let returned = |row: &OrderDeduction| Some((row.sku.clone(), row.returned_version?));
            let versions = deductions.values().filter_map(returned).collect();
            success(detail, &Return { deducted: Some(deduction(record, deductions)), versions })
        }
    }
}

/// A refusal of the inventory as a line of an order's refusal.
pub(super) fn refused_line(sku: &Sku, refusal: &ChangeRefusal) -> RefusedLine {
    let reason = match refusal {
        ChangeRefusal::Unknown(_) => RefusalReason::UnknownProduct,
        ChangeRefusal::Removed { .. } => RefusalReason::RemovedProduct,
        ChangeRefusal::InsufficientStock { .. } => RefusalReason::InsufficientStock,
        ChangeRefusal::Overflow { .. } | ChangeRefusal::TooFar { .. } => RefusalReason::OutOfRange,
        ChangeRefusal::Name(_) | ChangeRefusal::Negative | ChangeRefusal::Precondition(_) => {
            RefusalReason::Other
        }
    };
    RefusedLine { sku: sku.clone(), reason, detail: refusal.to_string() }
}

fn deduction(record: &OrderRecord, deductions: &BTreeMap<Sku, OrderDeduction>) -> Deduction {
    let versions = deductions.iter().map(|(sku, row)| (sku.clone(), row.version)).collect();
    Deduction { epoch: record.epoch, versions }
}

fn refused(record: &OrderRecord) -> Result<HandlerOutcome, BatchError> {
    let text = record.refusal.as_deref().unwrap_or("null");
    let result = serde_json::from_str(text).map_err(json_error)?;
    Ok(HandlerOutcome::Rejected { result })
}

fn success(detail: Detail, result: &impl Serialize) -> Result<HandlerOutcome, BatchError> {
    Ok(HandlerOutcome::Success { detail, version: None, result: Some(to_json(result)?) })
}

pub(super) fn to_json(value: &impl Serialize) -> Result<serde_json::Value, BatchError> {
    serde_json::to_value(value).map_err(json_error)
}

fn json_error(error: serde_json::Error) -> BatchError {
    BatchError::Query(diesel::result::Error::SerializationError(Box::new(error)))
}
