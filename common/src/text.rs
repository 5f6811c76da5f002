//! Texts that people tell apart by eye: what may name a thing, how any text is shown, and what a part of a
//! URL stands for.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use thiserror::Error;

/// Why a text can't name a thing: it could be taken for another one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentifierError {
    /// It begins or ends with white space.
    #[error("must not begin or end with white space")]
    Space,
    /// It holds what can't be seen, is no character, or is a space but not U+0020.
    #[error("must not hold U+{code:04X} at character {place}: that can't be seen or told apart")]
    Hidden {
        /// The code point.
        code: u32,
        /// Its place, from 1.
        place: usize,
    },
    /// It is one of several spellings of the same characters, and not the usual one.
    #[error("is not in NFC: write {0}")]
    NotNormalized(Box<str>),
}

/// Checks a text that is to name a thing. What has its name already keeps it.
///
/// # Errors
/// [`IdentifierError`] where it could be taken for another text.
pub fn check_identifier(text: &str) -> Result<(), IdentifierError> {
    if text.trim() != text {
        return Err(IdentifierError::Space);
    }
    let mut numbered = (1..).zip(text.chars());
    if let Some((place, c)) = numbered.find(|(_, c)| is_hidden(*c) || is_odd_space(*c)) {
        return Err(IdentifierError::Hidden { code: u32::from(c), place });
    }
    let normal = ComposingNormalizerBorrowed::new_nfc().normalize(text);
    if normal == text { Ok(()) } else { Err(IdentifierError::NotNormalized(normal.into())) }
}

/// The text as people can see all of it: what is invisible, turns the direction of writing or is no character is
/// written as `\u{200b}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The text in one line, as messages of others are shown that have several.
pub fn one_line(text: &str) -> String {
    text.trim().replace('\n', " ")
}

/// A part of a URL without its percent-encoding: what is no escape stays as it is.
pub(crate) fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match escaped(part) {
            Some(byte) => bytes.extend(byte.iter().chain(part.as_bytes().iter().skip(2))),
            None => bytes.extend(b"%".iter().chain(part.as_bytes())),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether each % in a part of a URL begins an escape.
pub(crate) fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|part| escaped(part).is_some())
}

/// The byte that the two digits stand for which follow a %.
fn escaped(part: &str) -> Option<Vec<u8>> {
    hex::decode(part.get(..2)?).ok()
}

fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::Surrogate
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// A space that looks like U+0020, or a little wider or narrower.
fn is_odd_space(c: char) -> bool {
    c != ' ' && c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_be_taken_for_another_text_names_nothing() {
        let hidden = |code: u32, place: usize| Err(IdentifierError::Hidden { code, place });
        for (text, checked) in [
            ("TEA", Ok(())),
            ("Größe Ü, 日本 (한국)", Ok(())),
            ("naïve café ☃ 📦", Ok(())),
            ("", Ok(())),
            ("TEA\u{200b}", hidden(0x200b, 4)),
            ("\u{202e}AET", hidden(0x202e, 1)),
            ("T\u{ad}EA", hidden(0xad, 2)),
            ("T\u{feff}EA", hidden(0xfeff, 2)),
            ("T\u{7}EA", hidden(0x7, 2)),
            ("ü\u{85}A", hidden(0x85, 2)),
            ("T\u{e000}EA", hidden(0xe000, 2)),
            ("T\u{378}EA", hidden(0x378, 2)),
            ("T\u{fdd0}EA", hidden(0xfdd0, 2)),
            ("T\u{2028}EA", hidden(0x2028, 2)),
            ("T\u{2029}EA", hidden(0x2029, 2)),
            ("T\u{e0041}EA", hidden(0xe0041, 2)),
            ("T\u{3164}EA", hidden(0x3164, 2)),
            ("T\u{fe0f}EA", hidden(0xfe0f, 2)),
            ("GREEN\u{a0}TEA", hidden(0xa0, 6)),
            (" TEA", Err(IdentifierError::Space)),
            ("TEA\u{3000}", Err(IdentifierError::Space)),
            ("u\u{308}", Err(IdentifierError::NotNormalized("ü".into()))),
            ("\u{212b}", Err(IdentifierError::NotNormalized("å".to_uppercase().into()))),
        ] {
            assert_eq!(check_identifier(text), checked, "{text:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_code_point_or_the_right_spelling() {
        let said = |text: &str| check_identifier(text).err().map(|error| error.to_string());
        let hidden = "must not hold U+200B at character 4: that can't be seen or told apart";
        assert_eq!(said("TEA\u{200b}").as_deref(), Some(hidden));
        assert_eq!(said("cafe\u{301}").as_deref(), Some("is not in NFC: write café"));
    }

    #[test]
    fn what_is_hidden_is_shown() {
        assert_eq!(visible("TEA\u{200b}"), r"TEA\u{200b}");
        assert_eq!(visible("\u{202e}AET\u{2066}\n\u{1b}"), r"\u{202e}AET\u{2066}\n\u{1b}");
        assert_eq!(visible("\u{e000}\u{378}"), r"\u{e000}\u{378}");
        assert!(matches!(visible("Größe 日本 📦"), Cow::Borrowed(_)));
    }

    #[test]
    fn only_escapes_are_decoded() {
        for (text, decoded, is_encoded) in [
            ("", "", true),
            ("a b", "a b", true),
            ("%41%2f%E6%97%a5", "A/日", true),
            ("%2541", "%41", true),
            ("%4", "%4", false),
            ("%+1%%41", "%+1%A", false),
            ("%日%41", "%日A", false),
        ] {
            assert_eq!(percent_decoded(text), decoded, "{text}");
            assert_eq!(is_percent_encoded(text), is_encoded, "{text}");
        }
    }

    proptest! {
        #[test]
        fn ordinary_texts_are_shown_as_they_are(
            text in "[ -~äöüßéèñçøłžčšąęäÖÜ日本語ひらカナ한국어абвгдαβγδ€£…–“”☃]{0,40}"
        ) {
            prop_assert_eq!(visible(&text), text.as_str());
            prop_assert_eq!(check_identifier(text.trim()), Ok(()));
        }

        #[test]
        fn nothing_stays_hidden(text in any::<String>()) {
            let shown = visible(&text);
            prop_assert!(!shown.contains(is_hidden));
            prop_assert_eq!(visible(&shown), &*shown);
        }
    }
}
