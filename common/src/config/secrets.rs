//! How settings are shown that may be secrets.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Serializer;

/// Only whether there is one.
pub(super) fn redacted<S: Serializer>(
    secret: &SecretString,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if secret.expose_secret().is_empty() { "" } else { "***" })
}

/// The values of those properties that are known to be no secrets.
pub(super) fn redacted_values<S: Serializer>(
    values: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let harmless =
        |name: &str| matches!(name, "security.protocol" | "sasl.mechanism" | "sasl.mechanisms");
    serializer.collect_map(
        values
            .iter()
            .map(|(name, value)| (name, if harmless(name) { value.as_str() } else { "***" })),
    )
}
