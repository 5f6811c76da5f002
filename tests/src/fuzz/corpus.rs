//! The inputs that are kept, and what is made of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::Index;

use super::mutation::mutation;
use super::{Input, Target};

/// Changes of one input at the most.
const MUTATIONS: usize = 6;

/// The kept inputs of a target, by the names of their files.
pub(super) struct Corpus {
    names: Vec<String>,
    seeds: Arc<[Input]>,
}

impl Corpus {
    /// What `fuzz/corpus` has for `target`.
    pub(super) fn of(target: Target) -> Self {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let folder = fs::read_dir(corpus.join(target.corpus())).expect("there is a corpus");
        let mut files: Vec<_> = folder.map(|entry| entry.expect("a file").path()).collect();
        files.sort();
        let name = |file: &std::path::PathBuf| file.display().to_string();
        let read = |file: &std::path::PathBuf| {
            let bytes = fs::read(file).expect("a file of the corpus can be read");
            Input(parts(target, &bytes))
        };
        Self { names: files.iter().map(name).collect(), seeds: files.iter().map(read).collect() }
    }

    /// Each as it is, with the name of its file.
    pub(super) fn seeds(&self) -> impl Iterator<Item = (&str, &Input)> {
        self.names.iter().map(String::as_str).zip(self.seeds.iter())
    }

    /// Changed ones, and some that are of nothing.
    pub(super) fn inputs(&self) -> impl Strategy<Value = Input> + use<> {
        let seeds = Arc::clone(&self.seeds);
        let changed = (any::<Index>(), vec(mutation(), 1..=MUTATIONS));
        let changed = changed.prop_map(move |(seed, mutations)| {
            let mut input = seed.get(&seeds).clone();
            for mutation in mutations {
                mutation.apply(&mut input, &seeds);
            }
            input.bounded()
        });
        let random = vec(vec(any::<u8>(), 0..64), 0..4).prop_map(Input);
        prop_oneof![9 => changed, 1 => random]
    }
}

/// The parts of a file: its lines; of a log, the bytes of each line that is no remark.
fn parts(target: Target, file: &[u8]) -> Vec<Vec<u8>> {
    let file = file.strip_suffix(b"\n").unwrap_or(file);
    let lines = file.split(|byte| *byte == b'\n');
    match target {
        Target::Log => lines.filter(|line| !line.starts_with(b"#")).map(of_hex).collect(),
        _ => lines.map(<[u8]>::to_vec).collect(),
    }
}

/// Bytes in hexadecimal, and texts in quotes, with spaces between.
fn of_hex(line: &[u8]) -> Vec<u8> {
    let line = std::str::from_utf8(line).expect("a text");
    let mut bytes = Vec::new();
    for (place, piece) in line.split('"').enumerate() {
        if place % 2 == 1 {
            bytes.extend(piece.as_bytes());
        } else {
            bytes.extend(hex::decode(piece.replace(' ', "")).expect("hexadecimal"));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_written_in_hexadecimal_and_texts() {
        let file = b"# a remark\n52 00 \"outbox\" ff\n\"\"\n";
        assert_eq!(parts(Target::Log, file), [b"R\0outbox\xff".to_vec(), Vec::new()]);
        assert_eq!(parts(Target::Acks, b"a\n\nb\n"), [b"a".to_vec(), Vec::new(), b"b".to_vec()]);
    }
}
