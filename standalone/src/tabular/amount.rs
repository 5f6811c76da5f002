//! Amounts of money as people write them.

use thiserror::Error;

/// Why a text is no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BadAmount {
    /// It isn't a decimal number, or too large to count.
    #[error("is not an amount like 2.55")]
    NotAnAmount,
    /// It has parts of a minor unit, which rounding would falsify.
    #[error("has more than two decimals; whole minor units, such as pence, are needed")]
    TooPrecise,
    /// It is below zero.
    #[error("is negative")]
    Negative,
}

/// An amount in whole minor units, a hundredth each, digit by digit: 2.55 has no exact binary fraction. A decimal comma
/// is one too.
///
/// # Errors
/// [`BadAmount`] for anything else than digits, with two decimals at the most.
pub(crate) fn minor_units(value: &str) -> Result<i64, BadAmount> {
    let amount = value.strip_prefix('-').unwrap_or(value);
    let (major, decimals) = amount.split_once(['.', ',']).unwrap_or((amount, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(major) || !digits(decimals) {
        return Err(BadAmount::NotAnAmount);
    }
    if amount.len() < value.len() {
        return Err(BadAmount::Negative);
    }
    let decimals = match decimals.len() {
        1 => format!("{decimals}0"),
        2 => decimals.to_owned(),
        _ => return Err(BadAmount::TooPrecise),
    };
    format!("{major}{decimals}").parse().map_err(|_| BadAmount::NotAnAmount)
}
