//! Changes of an input that keep most of it right, so that readers come further with it than with noise.

use std::ops::Range;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::Index;

use super::Input;
use super::input::MOST;

/// What nobody wants to read: in the place of something, or in between.
const HOSTILE: &[&[u8]] = &[
    b"",
    b"0",
    b"-1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999",
    b"1e999",
    b"-0.0",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"\"\\u0000\"",
    b"\"\\ud800\"",
    b"\"\\udc00\\ud800\"",
    b"\0",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    "\u{202e}".as_bytes(),
    "\u{200b}".as_bytes(),
    "e\u{301}".as_bytes(),
    b"\r\n",
    b"\n",
    b"\"",
    b"\\",
    b"'",
    b";",
    b",",
    b"%00",
    b"%",
    b"%ff",
    b"+",
    b"../",
    b"=cmd|' /C calc'!A0",
    b"' OR 1=1 --",
    b"ffffffff-ffff-ffff-ffff-ffffffffffff",
    b"00000000-0000-0000-0000-000000000000",
    b"9999-12-31T23:59:60Z",
    b"0000-01-01T00:00:00+23:59",
    b"\x1f\x8b",
    b"\xff\xfe",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
];

/// How often something is repeated: a field that is there twice, a long text, a deep nesting.
const TIMES: [usize; 4] = [1, 2, 200, 5_000];

/// Where in which part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    part: Index,
    at: Index,
}

/// One change.
#[derive(Debug, Clone)]
pub(super) enum Mutation {
    /// Bits of a byte are turned over.
    Flip(Place, u8),
    /// What follows in that part is gone.
    Truncate(Place),
    /// What lies between is gone.
    Remove(Place, Index),
    /// Something hostile is put in.
    Insert(Place, Index),
    /// A word, a number, a text or a sign becomes something hostile.
    Replace(Place, Index),
    /// Some words and signs in a row come again, so many times.
    Repeat(Place, usize, usize),
    /// A part is gone.
    DropPart(Index),
    /// A part is there again.
    DoublePart(Index),
    /// Two parts change places.
    SwapParts(Index, Index),
    /// A part of another kept input is put in.
    Splice(Index, Index, Index),
}

/// Any of them.
pub(super) fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation as M;
    let place = || (any::<Index>(), any::<Index>()).prop_map(|(part, at)| Place { part, at });
    let index = any::<Index>;
    let times = prop_oneof![8 => Just(TIMES[0]), 4 => Just(TIMES[1]), 2 => Just(TIMES[2]), 1 => Just(TIMES[3])];
    prop_oneof![
        3 => (place(), any::<u8>()).prop_map(|(place, bits)| M::Flip(place, bits)),
        2 => place().prop_map(M::Truncate),
        2 => (place(), index()).prop_map(|(place, end)| M::Remove(place, end)),
        3 => (place(), index()).prop_map(|(place, what)| M::Insert(place, what)),
        6 => (place(), index()).prop_map(|(place, what)| M::Replace(place, what)),
        3 => (place(), 1..8_usize, times)
            .prop_map(|(place, length, times)| M::Repeat(place, length, times)),
        2 => index().prop_map(M::DropPart),
        2 => index().prop_map(M::DoublePart),
        1 => (index(), index()).prop_map(|(one, other)| M::SwapParts(one, other)),
        2 => (index(), index(), index())
            .prop_map(|(at, seed, part)| M::Splice(at, seed, part)),
    ]
}

impl Mutation {
    /// Changes `input`; of one that has nothing to be changed nothing is.
    pub(super) fn apply(&self, input: &mut Input, seeds: &[Input]) {
        let parts = &mut input.0;
        if parts.is_empty() {
            return;
        }
        match self {
            Self::Flip(place, bits) => {
                let (part, at) = place.within(parts);
                if let Some(byte) = part.get_mut(at) {
                    *byte ^= (*bits).max(1);
                }
            }
            Self::Truncate(place) => {
                let (part, at) = place.within(parts);
                part.truncate(at);
            }
            Self::Remove(place, end) => {
                let (part, at) = place.within(parts);
                let end = at + end.index(part.len() - at + 1);
                part.drain(at..end);
            }
            Self::Insert(place, what) => {
                let (part, at) = place.within(parts);
                drop(part.splice(at..at, what.get(HOSTILE).iter().copied()));
            }
            Self::Replace(place, what) => {
                let part = place.part.get_mut(parts);
                if let Some(token) = place.token(part) {
                    drop(part.splice(token, what.get(HOSTILE).iter().copied()));
                }
            }
            Self::Repeat(place, length, times) => {
                let part = place.part.get_mut(parts);
                if let Some(run) = place.run(part, *length) {
                    // What was repeated may be repeated again: that is not to take all memory by itself.
                    let again = part[run.clone()].repeat(MOST.min(run.len() * times) / run.len());
                    drop(part.splice(run.end..run.end, again));
                }
            }
            Self::DropPart(part) => drop(parts.remove(part.index(parts.len()))),
            Self::DoublePart(part) => {
                let at = part.index(parts.len());
                parts.insert(at, parts[at].clone());
            }
            Self::SwapParts(one, other) => {
                let count = parts.len();
                parts.swap(one.index(count), other.index(count));
            }
            Self::Splice(at, seed, part) => {
                let other = seed.get(seeds);
                if !other.0.is_empty() {
                    let at = at.index(parts.len() + 1);
                    parts.insert(at, part.get(&other.0).clone());
                }
            }
        }
    }
}

impl Place {
    /// The part, and a place in it or at its end.
    fn within(self, parts: &mut [Vec<u8>]) -> (&mut Vec<u8>, usize) {
        let part = self.part.get_mut(parts);
        let at = self.at.index(part.len() + 1);
        (part, at)
    }

    /// A word, a number, a text or a sign.
    fn token(self, part: &[u8]) -> Option<Range<usize>> {
        self.run(part, 1)
    }

    /// So many of those in a row.
    fn run(self, part: &[u8], length: usize) -> Option<Range<usize>> {
        let tokens = tokens(part);
        if tokens.is_empty() {
            return None;
        }
        let first = self.at.index(tokens.len());
        let last = (first + length).min(tokens.len()) - 1;
        Some(tokens[first].start..tokens[last].end)
    }
}

/// The words and numbers, the texts in quotes, and all other bytes.
fn tokens(part: &[u8]) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = part.get(at) {
        let rest = &part[at + 1..];
        let more = match first {
            b'"' => rest.iter().position(|byte| *byte == b'"').map_or(0, |end| end + 1),
            _ if is_word(first) => rest.iter().take_while(|byte| is_word(**byte)).count(),
            _ => 0,
        };
        tokens.push(at..at + 1 + more);
        at += 1 + more;
    }
    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;

    #[test]
    fn words_texts_and_signs_are_told_apart() {
        let of = |text: &'static str| -> Vec<&str> {
            tokens(text.as_bytes()).into_iter().map(|token| &text[token]).collect()
        };
        assert_eq!(of(r#"{"a b":-1.5,"c"#), ["{", "\"a b\"", ":", "-1.5", ",", "\"", "c"]);
        assert_eq!(of("ce_id: x"), ["ce_id", ":", " ", "x"]);
        assert!(of("").is_empty());
    }

    #[test]
    fn repeating_what_was_repeated_stays_bounded() {
        let runner = &mut TestRunner::deterministic();
        let place = (any::<Index>(), any::<Index>()).new_tree(runner).unwrap().current();
        let repeat = Mutation::Repeat(Place { part: place.0, at: place.1 }, 1, 5_000);
        let mut input = Input(vec![b"0123456789".to_vec()]);
        for _ in 0..4 {
            repeat.apply(&mut input, &[]);
        }
        let length = input.bytes().len();
        assert!((50_000..=10 + 4 * MOST).contains(&length), "{length}");
    }

    /// Whatever is drawn, from whatever it begins; and most changes do change something.
    #[test]
    fn anything_can_be_changed() {
        let input =
            |parts: &[&str]| Input(parts.iter().map(|part| part.as_bytes().to_vec()).collect());
        let seeds = [input(&[]), input(&[""]), input(&["{\"a\":1}", "b: 2", ""])];
        let mut runner = TestRunner::deterministic();
        let mut changed = 0;
        for _ in 0..2_000 {
            let mutation = mutation().new_tree(&mut runner).unwrap().current();
            for seed in &seeds {
                let mut input = seed.clone();
                mutation.apply(&mut input, &seeds);
                changed += usize::from(input != *seed);
            }
        }
        assert!(changed > 1_000, "{changed}");
    }
}
