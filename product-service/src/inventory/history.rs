//! What a product was, as far back as its events are kept: each of them holds the whole state of one version.
//!
//! The newest version is in the product's row as well, which stays when its event is gone. What is not kept is told as
//! such and never made up: a version may be gone because retention deleted its event, and a few never were, since a
//! repair passes numbers over.

use common::clock::Timestamp;
use common::db::Conn;
use common::event::EventRow;
use common::ids::EventId;
use common::inventory::{Cause, InventorySnapshot, Sku};
use diesel::QueryResult;
use diesel::result::Error;
use engine::outbox::{Walk, kept_states, kept_version_at};
use thiserror::Error;

use super::{Product, model};

/// The field of a snapshot that says since when its state holds.
pub(super) const SINCE: &str = "updated_at";

/// One version of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastState {
    /// What it was, or its tombstone.
    pub product: Product,
    /// The event that is kept of it, if one is.
    pub event: Option<PastEvent>,
}

/// What the event of a version adds to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastEvent {
    /// Its id.
    pub id: EventId,
    /// The epoch that it was made in.
    pub epoch: i64,
    /// What it came from.
    pub cause: Option<Cause>,
}

/// Some versions of a product, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The versions; the state before each is the next one, if that is the version before.
    pub states: Vec<PastState>,
    /// The state that follows the last of `states`, if one is kept.
    pub before: Option<PastState>,
}

/// A kept version, as people are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptVersion {
    /// Which.
    pub version: i64,
    /// Since when it held.
    pub at: Timestamp,
}

/// Why it can't be said what a product was.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Nothing is known of such a product.
    #[error("there is no product {0}, and nothing is kept of one")]
    Unknown(Sku),
    /// Its newest version is below.
    #[error("the product {sku} has no version {version} yet; its newest is {newest}")]
    NotYet {
        /// Which product.
        sku: Sku,
        /// What was asked for.
        version: i64,
        /// The newest.
        newest: i64,
    },
    /// It came later.
    #[error("there was no product {sku} at {at}; its version 1 came at {began}")]
    NotBorn {
        /// Which product.
        sku: Sku,
        /// What was asked for.
        at: Timestamp,
        /// When it came.
        began: Timestamp,
    },
    /// It was removed then.
    #[error(
        "the product {sku} was removed at version {version}, at {at}; there is none in that state"
    )]
    Removed {
        /// Which product.
        sku: Sku,
        /// Of the tombstone.
        version: i64,
        /// Since when.
        at: Timestamp,
    },
    /// It is not kept any more.
    #[error("{}", Self::gone(.sku, .asked, .oldest, .around))]
    Gone {
        /// Which product.
        sku: Sku,
        /// What was asked for, in words.
        asked: String,
        /// The oldest version that is kept.
        oldest: KeptVersion,
        /// The kept versions around what was asked for, where there is one before it.
        around: Option<(KeptVersion, Option<KeptVersion>)>,
    },
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] Error),
}

impl HistoryError {
    fn gone(
        sku: &Sku,
        asked: &str,
        oldest: &KeptVersion,
        around: &Option<(KeptVersion, Option<KeptVersion>)>,
    ) -> String {
        let told = |kept: &KeptVersion| format!("version {} of {}", kept.version, kept.at);
        let kept = match around {
            None => format!("the oldest that is kept is {}", told(oldest)),
            Some((before, Some(after))) => {
                format!("kept are {}, and then {}", told(before), told(after))
            }
            Some((before, None)) => format!("the newest that is kept is {}", told(before)),
        };
        format!("what the product {sku} was {asked} is not kept any more: {kept}")
    }
}

/// A page of versions below `before`, newest first.
///
/// # Errors
/// [`HistoryError::Unknown`], or a failed statement.
pub fn history(
    conn: &mut Conn,
    sku: &Sku,
    before: Option<i64>,
    limit: i64,
) -> Result<HistoryPage, HistoryError> {
    // The row is read before the events: what is committed in between is newer than the row, and has its event.
    let row = model::find(conn, sku)?;
    let walk = Walk::Down(before.unwrap_or(i64::MAX));
    let mut states = past_states(conn, sku, walk, limit + 1)?;
    if row.is_none() && states.is_empty() && past_states(conn, sku, Walk::Up(1), 1)?.is_empty() {
        return Err(HistoryError::Unknown(sku.clone()));
    }
    if let Some(row) = row.filter(|row| before.is_none_or(|before| row.version < before)) {
        add_row(&mut states, row);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let before = (states.len() > limit).then(|| states.swap_remove(limit));
    states.truncate(limit);
    Ok(HistoryPage { states, before })
}

/// Puts the product's row where no event of its version is kept.
fn add_row(states: &mut Vec<PastState>, row: Product) {
    let place = states.partition_point(|state| state.product.version > row.version);
    if states.get(place).is_none_or(|state| state.product.version != row.version) {
        states.insert(place, PastState { product: row, event: None });
    }
}

/// What the product was as this version.
///
/// # Errors
/// Why that can't be said, or a failed statement.
pub fn at_version(conn: &mut Conn, sku: &Sku, version: i64) -> Result<Product, HistoryError> {
    let row = model::find(conn, sku)?;
    if let Some(row) = row.as_ref().filter(|row| row.version == version) {
        return present(row.clone());
    }
    let kept = past_states(conn, sku, Walk::Up(version), 1)?;
    match kept.into_iter().next() {
        Some(state) if state.product.version == version => present(state.product),
        after => {
            let after = after
                .map(|state| state.product)
                .or(row.clone().filter(|row| row.version > version));
            let before = newest_below(conn, sku, row, version)?;
            let Some(after) = after else {
                let newest = before.ok_or_else(|| HistoryError::Unknown(sku.clone()))?.version;
                return Err(HistoryError::NotYet { sku: sku.clone(), version, newest });
            };
            gone(conn, sku, format!("as version {version}"), before, Some(after))
        }
    }
}

/// What the product was at this moment; of several changes within its microsecond, what the last one made of it.
///
/// # Errors
/// Why that can't be said, or a failed statement.
pub fn at_moment(conn: &mut Conn, sku: &Sku, at: Timestamp) -> Result<Product, HistoryError> {
    let row = model::find(conn, sku)?;
    if let Some(row) = row.as_ref().filter(|row| row.updated_us <= at) {
        return present(row.clone());
    }
    let asked = format!("at {at}");
    let Some(version) = kept_version_at(conn, sku.as_str(), at, SINCE)? else {
        let kept = past_states(conn, sku, Walk::Up(1), 1)?;
        let oldest = kept.into_iter().next().map(|state| state.product).or(row);
        return match oldest {
            None => Err(HistoryError::Unknown(sku.clone())),
            Some(oldest) if oldest.version == 1 => {
                Err(HistoryError::NotBorn { sku: sku.clone(), at, began: oldest.updated_us })
            }
            Some(oldest) => gone(conn, sku, asked, None, Some(oldest)),
        };
    };
    let mut kept =
        past_states(conn, sku, Walk::Up(version), 2)?.into_iter().map(|state| state.product);
    // It was there a moment ago; retention may have come between.
    let Some(state) = kept.next() else { return Err(HistoryError::Unknown(sku.clone())) };
    match kept.next().or(row) {
        // The version after it came later, so it held until then.
        Some(next) if next.version == state.version + 1 => present(state),
        next => gone(conn, sku, asked, Some(state), next),
    }
}

fn present(product: Product) -> Result<Product, HistoryError> {
    match product.removed {
        true => Err(HistoryError::Removed {
            sku: product.sku,
            version: product.version,
            at: product.updated_us,
        }),
        false => Ok(product),
    }
}

fn gone(
    conn: &mut Conn,
    sku: &Sku,
    asked: String,
    before: Option<Product>,
    after: Option<Product>,
) -> Result<Product, HistoryError> {
    let oldest =
        past_states(conn, sku, Walk::Up(1), 1)?.into_iter().next().map(|state| state.product);
    let oldest = oldest.as_ref().or(before.as_ref()).or(after.as_ref());
    let Some(oldest) = oldest.map(KeptVersion::of) else {
        return Err(HistoryError::Unknown(sku.clone()));
    };
    let around =
        before.map(|before| (KeptVersion::of(&before), after.as_ref().map(KeptVersion::of)));
    Err(HistoryError::Gone { sku: sku.clone(), asked, oldest, around })
}

fn newest_below(
    conn: &mut Conn,
    sku: &Sku,
    row: Option<Product>,
    version: i64,
) -> QueryResult<Option<Product>> {
    let kept = past_states(conn, sku, Walk::Down(version), 1)?;
    let kept = kept.into_iter().next().map(|state| state.product);
    Ok(row.filter(|row| row.version < version).or(kept))
}

fn past_states(
    conn: &mut Conn,
    sku: &Sku,
    walk: Walk,
    versions: i64,
) -> QueryResult<Vec<PastState>> {
    let kept = kept_states(conn, sku.as_str(), walk, versions)?;
    kept.into_iter().map(PastState::of).collect()
}

impl PastState {
    /// The state that an event keeps.
    pub(super) fn of(kept: EventRow) -> QueryResult<Self> {
        let snapshot: InventorySnapshot = serde_json::from_str(&kept.payload)
            .map_err(|error| Error::DeserializationError(Box::new(error)))?;
        let event = PastEvent { id: kept.id, epoch: kept.epoch, cause: snapshot.cause };
        let product = Product {
            sku: snapshot.sku,
            description: snapshot.description,
            quantity: snapshot.quantity,
            unit_price_minor: snapshot.unit_price_minor,
            allow_backorder: snapshot.allow_backorder,
            removed: snapshot.removed,
            version: snapshot.version,
            updated_us: snapshot.updated_at,
        };
        Ok(Self { product, event: Some(event) })
    }
}

impl KeptVersion {
    const fn of(product: &Product) -> Self {
        Self { version: product.version, at: product.updated_us }
    }
}
