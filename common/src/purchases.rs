//! The contract of the view of purchases, which another program keeps, such as Flink SQL: what its messages hold.
//!
//! The key of a message is the customer. Readers ignore fields that they don't know.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::http::Text;

/// Whom purchases are of: 1 to 200 characters.
pub type PurchasesCustomer = Text<1, 200>;

/// What a customer bought last: the value of their message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPurchases {
    /// Whose; also the message's key.
    pub customer: String,
    /// How often the view of this customer changed.
    pub version: i64,
    /// At most five, the newest first.
    pub purchases: Vec<Purchase>,
}

/// What was bought at once: an order, or an invoice of the till.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Purchase {
    /// When.
    pub sold_at: Timestamp,
    /// Where, such as `web` or `till`.
    pub channel: String,
    /// What the channel calls it.
    pub sale_id: String,
    /// Pieces in all.
    pub pieces: i64,
    /// The price of all in minor units; null if a line has none.
    pub total_minor: Option<i64>,
    /// What it is made of.
    pub lines: Vec<PurchaseLine>,
}

/// A product within a purchase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurchaseLine {
    /// Which.
    pub sku: String,
    /// Pieces.
    pub quantity: i64,
    /// The price of one piece in minor units; null where the channel names none.
    pub unit_price_minor: Option<i64>,
}
