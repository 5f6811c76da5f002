//! One product of a file: read from its values, and checked by the service's own rules before it is sent.

use common::inventory::Sku;
use product_service::inventory::{Description, Price};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::tabular::minor_units;

/// What a file may say of a product, in the order of [`Values`].
pub(super) const COLUMNS: [&str; 6] =
    ["sku", "description", "quantity", "unit_price", "unit_price_minor", "allow_backorder"];

/// What a line says under each of [`COLUMNS`]; none where it says nothing.
pub(super) type Values = [Option<String>; COLUMNS.len()];

/// A product as the service takes and lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Product {
    pub(super) sku: Sku,
    pub(super) description: String,
    pub(super) quantity: i64,
    pub(super) unit_price_minor: i64,
    pub(super) allow_backorder: bool,
}

impl Product {
    /// Reads the values of a line.
    ///
    /// # Errors
    /// The first rule that they break.
    pub(super) fn parse(values: Values) -> Result<Self, Refusal> {
        let [sku, description, quantity, price, price_minor, backorder] = values;
        let sku = Sku::parse(sku.ok_or(Refusal::Missing("sku"))?)?;
        let description = description.ok_or(Refusal::Missing("description"))?;
        let quantity = pieces(&quantity.ok_or(Refusal::Missing("quantity"))?)?;
        let allow_backorder = yes_or_no(backorder.as_deref().unwrap_or_default())?;
        if quantity < 0 && !allow_backorder {
            return Err(Refusal::Negative);
        }
        Ok(Self {
            sku,
            description: Description::try_from(description)?.into_inner(),
            quantity,
            unit_price_minor: minor_price(price, price_minor)?,
            allow_backorder,
        })
    }

    /// The price in major units, with its two decimals.
    pub(super) fn unit_price(&self) -> String {
        let minor = self.unit_price_minor;
        format!("{}.{:02}", minor / 100, minor % 100)
    }
}

fn pieces(value: &str) -> Result<i64, Refusal> {
    value.parse().map_err(|_| Refusal::Quantity(value.to_owned()))
}

fn minor_price(major: Option<String>, minor: Option<String>) -> Result<i64, Refusal> {
    match (major, minor) {
        (Some(_), Some(_)) => Err(Refusal::TwoPrices),
        (None, None) => Err(Refusal::Missing("unit_price")),
        (Some(value), None) => minor_units(&value).map_err(|why| Refusal::Price { value, why }),
        (None, Some(value)) => {
            let price = value.parse().ok().and_then(|minor: i64| Price::try_from(minor).ok());
            price.map(Price::minor).ok_or(Refusal::PriceMinor(value))
        }
    }
}

fn yes_or_no(value: &str) -> Result<bool, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" | "" => Ok(false),
        _ => Err(Refusal::Backorder(value.to_owned())),
    }
}
