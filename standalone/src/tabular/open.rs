//! Bytes as text: gzipped or not, in any usual encoding, as their first bytes tell.

use std::io::{self, BufRead, BufReader, Read};

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::bufread::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The text of `bytes`, unpacked on the way if they are gzipped. UTF-16 becomes UTF-8, other bytes stay.
///
/// # Errors
/// When the first bytes can't be read.
pub(crate) fn unpacked(
    bytes: impl BufRead + Send + 'static,
) -> io::Result<Box<dyn BufRead + Send>> {
    let (start, bytes) = peek(bytes)?;
    match start == GZIP_MAGIC {
        true => decoded(BufReader::new(MultiGzDecoder::new(bytes))),
        false => decoded(bytes),
    }
}

fn decoded(bytes: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let (start, bytes) = peek(bytes)?;
    let Some(encoding) = utf_16(&start) else { return Ok(Box::new(bytes)) };
    let decoder = DecodeReaderBytesBuilder::new().encoding(Some(encoding)).build(bytes);
    Ok(Box::new(BufReader::new(decoder)))
}

/// Told by the byte order mark; without one, by the zero that every letter of the header has as its other half.
fn utf_16(start: &[u8]) -> Option<&'static Encoding> {
    match start {
        [0xff, 0xfe] | [1..=0xff, 0] => Some(UTF_16LE),
        [0xfe, 0xff] | [0, 1..=0xff] => Some(UTF_16BE),
        _ => None,
    }
}

/// The first two bytes, if there are so many, and all bytes, these two included.
fn peek(mut bytes: impl BufRead) -> io::Result<(Vec<u8>, impl BufRead)> {
    let mut start = [0; 2];
    let got = fill(&mut bytes, &mut start)?;
    let start = start[..got].to_vec();
    Ok((start.clone(), io::Cursor::new(start).chain(bytes)))
}

/// Reads until `into` is full or the source ends; a pipe may hand out its first bytes one at a time.
fn fill(bytes: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = into.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match bytes.read(rest) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
