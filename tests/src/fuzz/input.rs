//! One input: some bytes, in parts that have a meaning of their own.

use std::fmt;

/// Bytes of one input at the most: what is larger is refused before it is read, or tried in tests of its own.
pub(super) const MOST: usize = 128 << 10;

/// Bytes that are shown of one.
const SHOWN: usize = 4_096;

/// An input in parts: lines, or messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Input(pub(super) Vec<Vec<u8>>);

impl Input {
    /// The parts.
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The parts as lines of one text.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.join(&b'\n')
    }

    /// The lines up to the first empty one, and what follows it as it is; nothing, if there is none.
    pub fn head_and_body(&self) -> (&[Vec<u8>], Option<Vec<u8>>) {
        match self.0.iter().position(Vec::is_empty) {
            Some(end) => (&self.0[..end], Some(self.0[end + 1..].join(&b'\n'))),
            None => (&self.0, None),
        }
    }

    /// Leaves out what is too much.
    pub(super) fn bounded(mut self) -> Self {
        let mut room = MOST;
        for part in &mut self.0 {
            part.truncate(room);
            room = room.saturating_sub(part.len() + 1);
        }
        self
    }
}

/// As it would be written in a test.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        let shown = &bytes[..bytes.len().min(SHOWN)];
        write!(f, "{} bytes: b\"{}\"", bytes.len(), shown.escape_ascii())?;
        if shown.len() < bytes.len() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        let input =
            |lines: &[&str]| Input(lines.iter().map(|line| line.as_bytes().to_vec()).collect());
        let whole = input(&["a: 1", "b: 2", "", "body", "", "more"]);
        let (head, body) = whole.head_and_body();
        assert_eq!((head.len(), body.as_deref()), (2, Some(&b"body\n\nmore"[..])));
        let none = input(&["a: 1"]);
        assert_eq!(none.head_and_body(), (&none.0[..], None));
        assert_eq!(whole.bytes(), b"a: 1\nb: 2\n\nbody\n\nmore");
    }

    #[test]
    fn too_much_is_left_out() {
        let much = Input(vec![vec![b'x'; MOST], vec![b'y'; 9], Vec::new()]).bounded();
        assert_eq!(much.0.iter().map(Vec::len).collect::<Vec<_>>(), [MOST, 0, 0]);
        assert!(format!("{much:?}").len() < SHOWN + 100);
    }
}
