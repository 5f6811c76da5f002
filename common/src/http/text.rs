//! Texts that people write into requests.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::text::{IdentifierError, check_identifier};

/// A text of `MIN` to `MAX` characters without control characters; not blank unless it may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text<const MIN: usize, const MAX: usize>(String);

/// A text of 1 to `MAX` characters that names something, so that no other one may look like it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Identifier<const MAX: usize>(Text<1, MAX>);

/// Why a text is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// Too few or too many characters.
    #[error("must have {0} to {1} characters")]
    Length(usize, usize),
    /// Nothing but white space.
    #[error("must not be blank")]
    Blank,
    /// A control character, such as a line break.
    #[error("must not hold control characters")]
    Control,
    /// It is to name something, and could be taken for another text.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
}

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// The text.
    pub fn into_inner(self) -> String {
        self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> PartialSchema for Text<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A text in one line"))
            .min_length(Some(MIN))
            .max_length(Some(MAX))
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
            .into()
    }
}

impl<const MIN: usize, const MAX: usize> ToSchema for Text<MIN, MAX> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("Text{MIN}To{MAX}"))
    }
}

impl<const MIN: usize, const MAX: usize> TryFrom<String> for Text<MIN, MAX> {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        let length = text.chars().count();
        if !(MIN..=MAX).contains(&length) {
            Err(TextError::Length(MIN, MAX))
        } else if text.chars().any(char::is_control) {
            Err(TextError::Control)
        } else if MIN > 0 && text.trim().is_empty() {
            Err(TextError::Blank)
        } else {
            Ok(Self(text))
        }
    }
}

impl<const MAX: usize> Identifier<MAX> {
    /// The text.
    pub fn into_inner(self) -> String {
        self.0.into_inner()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<const MAX: usize> PartialSchema for Identifier<MAX> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "A text in one line that names something: in Unicode NFC, without invisible characters, and without white space at its ends",
            ))
            .min_length(Some(1))
            .max_length(Some(MAX))
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
            .into()
    }
}

impl<const MAX: usize> ToSchema for Identifier<MAX> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("Identifier1To{MAX}"))
    }
}

impl<const MAX: usize> TryFrom<String> for Identifier<MAX> {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        let text = Text::<1, MAX>::try_from(text)?;
        check_identifier(text.as_str())?;
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_a_text_that_no_other_looks_like() {
        let identifier = |text: &str| Identifier::<10>::try_from(text.to_owned());
        assert_eq!(identifier("17850").map(Identifier::into_inner), Ok("17850".to_owned()));
        assert_eq!(identifier(""), Err(TextError::Length(1, 10)));
        assert_eq!(identifier("a\tb"), Err(TextError::Control));
        let hidden = IdentifierError::Hidden { code: 0x200b, place: 6 };
        assert_eq!(identifier("17850\u{200b}"), Err(TextError::Identifier(hidden)));
        assert_eq!(identifier(" 17850"), Err(TextError::Identifier(IdentifierError::Space)));
        // A text in people's own words may be written as they like.
        assert!(Text::<1, 10>::try_from(" 17850\u{200b}".to_owned()).is_ok());
    }
}
