//! Texts of others, and moments, as messages and pages show them.

use chrono::DateTime;
use common::clock::Timestamp;

/// `text` on one line of at most `chars` characters, without what could end, hide or reverse a line.
pub(super) fn one_line(text: &str, chars: usize) -> String {
    let mut line = String::new();
    for c in text.chars().map(|c| if is_harmful(c) { ' ' } else { c }) {
        if c != ' ' || !line.ends_with(' ') {
            line.push(c);
        }
    }
    let line = line.trim();
    match line.char_indices().nth(chars) {
        None => line.to_owned(),
        Some(_) => line.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Controls, line separators, and what changes the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A moment as people read it, to the second: `2010-12-01 08:26:00 UTC`.
pub(crate) fn utc(moment: Timestamp) -> String {
    match DateTime::from_timestamp_micros(moment.micros()) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => moment.to_string(),
    }
}
