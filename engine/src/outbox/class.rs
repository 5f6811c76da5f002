//! What kind of error a text tells of: the text without what differs from event to event.

/// The longest class, in characters.
const MAX: usize = 120;

/// The class of an event that the consumer passed by.
pub const NO_ANSWER: &str = "no answer in time";

/// The class of what failed without a word.
pub const NO_ERROR_NOTED: &str = "no error noted";

/// The class of `error`: what is quoted becomes `'…'`, and ids, hexadecimal and other numbers become `#`.
///
/// Two errors of one cause have one class, whatever they happened to: so the events of one fault are found together.
pub fn error_class(error: &str) -> String {
    let mut class = String::new();
    let mut rest = error.trim();
    while let Some(first) = rest.chars().next() {
        let (length, shown) = match first {
            '"' | '\'' | '`' => quoted(rest, first),
            _ if first.is_ascii_alphanumeric() => word(rest),
            _ if first.is_whitespace() || first.is_control() => (blanks(rest), " "),
            _ => (first.len_utf8(), &rest[..first.len_utf8()]),
        };
        class.push_str(shown);
        rest = &rest[length..];
    }
    match cut(&class) {
        "" => NO_ERROR_NOTED.to_owned(),
        class => class.to_owned(),
    }
}

/// A text in quotation marks; a mark that opens nothing, such as the one in "can't", is only itself.
fn quoted(rest: &str, mark: char) -> (usize, &str) {
    let inside = &rest[1..];
    match inside.find(mark) {
        Some(end) if !inside[..end].contains('\n') => (end + 2, "'…'"),
        _ => (1, &rest[..1]),
    }
}

/// A word, with hyphens if it is an id; one that has digits and nothing but hexadecimal is a number of some kind.
fn word(rest: &str) -> (usize, &str) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
    let whole = &rest[..end];
    if is_number(whole) {
        return (end, "#");
    }
    // The mark after a word's apostrophe belongs to the word, so that "can't" opens no quotation.
    let after = &rest[end..];
    let apostrophe =
        after.starts_with('\'') && after[1..].starts_with(|c: char| c.is_ascii_alphabetic());
    let end = end + usize::from(apostrophe);
    (end, &rest[..end])
}

/// A number, a UUID or other hexadecimal, with a unit such as `ms` or none.
fn is_number(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hexadecimal =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
    digits > 0
        && (hexadecimal(word)
            || word.strip_prefix("0x").is_some_and(hexadecimal)
            || (unit.len() <= 3 && unit.len() < word.len()))
}

fn blanks(rest: &str) -> usize {
    let is_blank = |c: char| c.is_whitespace() || c.is_control();
    rest.find(|c: char| !is_blank(c)).unwrap_or(rest.len())
}

fn cut(class: &str) -> &str {
    let end = class.char_indices().nth(MAX).map_or(class.len(), |(end, _)| end);
    class[..end].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_event_to_event_is_left_out() {
        for (error, class) in [
            ("", NO_ERROR_NOTED),
            (" \n", NO_ERROR_NOTED),
            ("it broke", "it broke"),
            ("it can't be read, since it isn't JSON", "it can't be read, since it isn't JSON"),
            ("key \"85123A\" is in quarantine: 'x'", "key '…' is in quarantine: '…'"),
            ("event 01890a5d-ac96-774b-bcce-b302099a8057 is 3rd of 12", "event # is # of #"),
            ("timed out after 300ms at 0xdeadBEEF1", "timed out after # at #"),
            ("host 10.0.0.7:9092 refused", "host #.#.#.#:# refused"),
            ("a decade in the facade", "a decade in the facade"),
            ("line 1\n\tcolumn 2", "line # column #"),
            ("unbalanced \" mark 'quoted'", "unbalanced \" mark '…'"),
            ("<script>alert('1')</script>", "<script>alert('…')</script>"),
        ] {
            assert_eq!(error_class(error), class, "{error}");
        }
    }

    #[test]
    fn a_class_is_short_and_is_its_own_class() {
        let class = error_class(&"é words and \u{1F600} more 'x' ".repeat(40));
        assert!(class.chars().count() <= MAX, "{class}");
        for error in ["key \"A\" failed 3 times", "it can't be 'so'"] {
            let class = error_class(error);
            assert_eq!(error_class(&class), class);
        }
    }
}
