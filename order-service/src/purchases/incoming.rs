//! What a message of the view holds, and whether that makes sense.

use common::purchases::{LastPurchases, Purchase, PurchasesCustomer};
use thiserror::Error;

/// Purchases of one customer at the most.
const MAX_PURCHASES: usize = 5;

/// What a customer's message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) customer: String,
    /// 0 where the customer is taken out of the view.
    pub(super) version: i64,
    /// The newest first; none: the customer is taken out of the view.
    pub(super) purchases: Option<Vec<Purchase>>,
}

/// Why a message makes no sense.
#[derive(Debug, Error)]
pub(super) enum InvalidMessage {
    #[error("it has no key; the key is the customer as text")]
    NoKey,
    #[error("its key is not UTF-8; the key is the customer as text")]
    Key,
    #[error("its key {0}")]
    Customer(#[from] common::http::TextError),
    #[error("its value is no JSON document of a customer's purchases: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its key is {key:?}, and its value is about {customer:?}")]
    OtherCustomer { key: String, customer: String },
    #[error("it has {0} purchases, and a customer has at most {MAX_PURCHASES}")]
    Purchases(usize),
}

impl Arrival {
    /// Reads a message; one without a value takes its customer out of the view.
    pub(super) fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, InvalidMessage> {
        let key = std::str::from_utf8(key.ok_or(InvalidMessage::NoKey)?);
        let key = key.map_err(|_| InvalidMessage::Key)?.to_owned();
        let customer = PurchasesCustomer::try_from(key)?.into_inner();
        let Some(value) = value else {
            return Ok(Self { customer, version: 0, purchases: None });
        };
        let document: LastPurchases = serde_json::from_slice(value)?;
        if document.customer != customer {
            return Err(InvalidMessage::OtherCustomer {
                key: customer,
                customer: document.customer,
            });
        }
        let count = document.purchases.len();
        if count > MAX_PURCHASES {
            return Err(InvalidMessage::Purchases(count));
        }
        Ok(Self { customer, version: document.version, purchases: Some(document.purchases) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A message as deploy/flink/purchases.sql makes it.
    const MESSAGE: &str = r#"{"customer":"17850","version":1,"purchases":[{"sold_at":"2010-12-01T08:26:00.000000Z","channel":"till","sale_id":"536365","pieces":6,"total_minor":1530,"lines":[{"sku":"85123A","quantity":6,"unit_price_minor":255}]}]}"#;

    fn read(key: &str, value: &str) -> Result<Arrival, String> {
        Arrival::read(Some(key.as_bytes()), Some(value.as_bytes()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_message_is_read_as_it_is_made() {
        let arrival = read("17850", MESSAGE).unwrap();
        let purchases = arrival.purchases.unwrap();
        assert_eq!((arrival.version, purchases.len()), (1, 1));
        let again = serde_json::to_string(&purchases).unwrap();
        assert!(MESSAGE.contains(&again), "{again}");
        let none = r#"{"customer":"17850","version":3,"purchases":[]}"#;
        assert_eq!(read("17850", none).unwrap().purchases, Some(Vec::new()));
        let gone = Arrival::read(Some(b"17850"), None).unwrap();
        assert_eq!((gone.version, gone.purchases), (0, None));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let one = r#"{"sold_at":"2010-12-01T08:26:00Z","channel":"web","sale_id":"a","pieces":1,"total_minor":null,"lines":[]}"#;
        let six = [one; 6].join(",");
        let six = format!(r#"{{"customer":"17850","version":1,"purchases":[{six}]}}"#);
        let long = "c".repeat(201);
        for (key, value, words) in [
            ("17850", "printer out of paper", "no JSON document"),
            ("17850", r#"{"customer":"17850"}"#, "missing field"),
            ("17851", MESSAGE, "its value is about \"17850\""),
            ("17850", six.as_str(), "it has 6 purchases"),
            ("", MESSAGE, "its key must have 1 to 200 characters"),
            (long.as_str(), MESSAGE, "its key must have 1 to 200 characters"),
            ("178\u{0}50", MESSAGE, "its key must not hold control characters"),
        ] {
            let told = read(key, value).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        assert!(Arrival::read(None, None).is_err());
        assert!(Arrival::read(Some(b"\xff"), None).is_err());
    }
}
