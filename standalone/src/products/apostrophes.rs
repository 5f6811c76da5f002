//! What keeps a spreadsheet from taking a text for a formula, and takes it away again.
//!
//! As in the operators' exports, an apostrophe goes in front of what a spreadsheet could take for a formula: at the
//! start of a text, and after each separator in it, for which one holds is the spreadsheet's guess. Where apostrophes
//! stand there already, one more goes before them. So taking one away gives every text back as it was.

/// What begins a formula (OWASP, "CSV Injection"), full-width forms included.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Where a spreadsheet may begin a new cell.
const SEPARATORS: [char; 5] = [',', ';', '\t', '\r', '\n'];

/// The text with an apostrophe more before each formula.
pub(super) fn without_formulas(text: &str) -> String {
    changed(text, |safe, rest| {
        if begins_formula(rest) {
            safe.push('\'');
        }
        0
    })
}

/// The text that [`without_formulas`] was given.
pub(super) fn with_formulas(text: &str) -> String {
    changed(text, |_, rest| usize::from(rest.starts_with('\'') && begins_formula(rest)))
}

/// Copies `text`; where a cell may begin, `at_start` sees what follows, may add something, and says how many bytes of
/// it to leave out.
fn changed(text: &str, at_start: impl Fn(&mut String, &str) -> usize) -> String {
    let mut copy = String::with_capacity(text.len() + 1);
    let mut start = true;
    let mut rest = text;
    loop {
        let passed_over = rest.starts_with(|c: char| c == '"' || c.is_whitespace());
        if start && !passed_over {
            rest = &rest[at_start(&mut copy, rest)..];
        }
        let Some(c) = rest.chars().next() else { return copy };
        copy.push(c);
        rest = &rest[c.len_utf8()..];
        start = SEPARATORS.contains(&c) || (start && passed_over);
    }
}

fn begins_formula(text: &str) -> bool {
    text.trim_start_matches('\'').starts_with(FORMULA)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_be_a_formula_has_an_apostrophe_in_front() {
        for (text, safe) in [
            ("=1+1", "'=1+1"),
            ("'=1+1", "''=1+1"),
            ("A;=1+1", "A;'=1+1"),
            ("A;\"=1", "A;\"'=1"),
            (" \u{a0}＝1", " \u{a0}'＝1"),
            ("-5", "'-5"),
        ] {
            assert_eq!(without_formulas(text), safe);
            assert_eq!(with_formulas(safe), text);
        }
        for text in ["", "A-1", "a=b", "'tis", "5' plate", "1 - 2; 3 + 4"] {
            assert_eq!(without_formulas(text), text);
            assert_eq!(with_formulas(text), text);
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[-=+@'\", ;a＝]{0,12}") {
            let safe = without_formulas(&text);
            prop_assert_eq!(with_formulas(&safe), text);
            let mut cells = safe.split([',', ';']).map(|cell| {
                cell.trim_start_matches(|c: char| c == '"' || c.is_whitespace())
            });
            prop_assert!(!cells.any(|cell| cell.starts_with(FORMULA)));
        }
    }
}
