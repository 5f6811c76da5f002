//! What services say to what they stand on, as far as a fault has to know it: which bytes ask for something, and which bytes
//! are its answer.
//!
//! Between two of these moments a process only works for itself, and what it has then is gone with it. So whoever dies, dies
//! before one of them or behind it, and a process that is killed there in turn has been killed everywhere.

use std::fmt;
use std::sync::mpsc::SyncSender;

use super::fault::Part;

/// What a service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// That a transaction is committed.
    Commit,
    /// That the broker takes messages.
    Produce,
    /// That the broker notes how far its group has read.
    NoteOffsets,
}

impl Request {
    /// Who is asked.
    pub(super) const fn part(self) -> Part {
        match self {
            Self::Commit => Part::Postgres,
            Self::Produce | Self::NoteOffsets => Part::Kafka,
        }
    }

    /// What Kafka calls it.
    const fn api_key(self) -> Option<u16> {
        match self {
            Self::Commit => None,
            Self::Produce => Some(0),
            Self::NoteOffsets => Some(8),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "a transaction is committed",
            Self::Produce => "messages are taken",
            Self::NoteOffsets => "offsets are noted",
        })
    }
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) request: Request,
    /// When it is done and the service does not know that; else, before it gets there.
    pub(super) is_answered: bool,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.is_answered { "after" } else { "before" };
        write!(f, "{when} {}", self.request)
    }
}

/// What is to become of the next requests of a kind.
pub(super) struct Snare {
    moment: Moment,
    /// So many of them.
    left: u32,
    /// Who is told, and has the connection held meanwhile; with nobody, it is cut.
    tell: Option<SyncSender<()>>,
}

impl Snare {
    /// Loses so many answers, with their connections.
    pub(super) fn losing(request: Request, count: u32) -> Self {
        Self { moment: Moment { request, is_answered: true }, left: count, tell: None }
    }

    /// Tells of the next such moment, and holds the connection.
    pub(super) fn telling(moment: Moment, tell: SyncSender<()>) -> Self {
        Self { moment, left: 1, tell: Some(tell) }
    }

    fn spring(&mut self) -> Option<Fate> {
        self.left = self.left.checked_sub(1)?;
        Some(self.tell.clone().map_or(Fate::IsLost, Fate::IsHeld))
    }
}

/// What becomes of bytes.
#[derive(Debug)]
pub(super) enum Fate {
    Passes,
    /// They never arrive, and neither does anything behind them.
    IsLost,
    /// The same, but nobody notices before whoever is told has done something.
    IsHeld(SyncSender<()>),
}

/// How a client of PostgreSQL ends a transaction: this text, and the byte that ends each statement.
const COMMIT: &[u8] = b"COMMIT\0";

/// The length of a frame, what it asks for, in which version, and its number.
const ASKED: usize = 4 + 2 + 2 + NUMBER;
/// The length of a frame, and the number of what it answers.
const ANSWERED: usize = 4 + NUMBER;
const NUMBER: usize = 4;

/// What has been said on a connection so far.
#[derive(Debug, Default)]
pub(super) struct Talk {
    asked: Frames<ASKED>,
    answered: Frames<ANSWERED>,
    awaited: Option<Awaited>,
}

/// An answer that something is to become of.
#[derive(Debug)]
struct Awaited {
    /// By which it is known; without one, it is whatever comes next.
    number: Option<[u8; NUMBER]>,
    fate: Fate,
}

impl Talk {
    /// What becomes of the next bytes to the server.
    pub(super) fn ask(&mut self, bytes: &[u8], snare: Option<&mut Snare>) -> Fate {
        // Also without a snare: else it would not be known where the next frame begins.
        let heads = self.asked.take(bytes);
        // What is asked behind an answer that is awaited goes with it, and is none of its own.
        let snare = snare.filter(|_| self.awaited.is_none());
        let sprung = snare.and_then(|snare| {
            let number = asked_for(snare.moment.request, bytes, &heads)?;
            Some((number, snare.moment.is_answered, snare.spring()?))
        });
        match sprung {
            None => Fate::Passes,
            Some((_, false, fate)) => fate,
            Some((number, true, fate)) => {
                self.awaited = Some(Awaited { number, fate });
                Fate::Passes
            }
        }
    }

    /// What becomes of the next bytes to the service.
    pub(super) fn answer(&mut self, bytes: &[u8]) -> Fate {
        let heads = self.answered.take(bytes);
        let is_it = |awaited: &mut Awaited| {
            let is_among = |number: &[u8; NUMBER]| heads.iter().any(|head| head.ends_with(number));
            awaited.number.as_ref().is_none_or(is_among)
        };
        self.awaited.take_if(is_it).map_or(Fate::Passes, |awaited| awaited.fate)
    }
}

/// Whether these bytes ask for that; then, by which number the answer will be known, if by any.
fn asked_for(
    request: Request,
    bytes: &[u8],
    heads: &[[u8; ASKED]],
) -> Option<Option<[u8; NUMBER]>> {
    let Some(key) = request.api_key() else {
        return bytes.windows(COMMIT.len()).any(|part| part == COMMIT).then_some(None);
    };
    let is_it = |head: &&[u8; ASKED]| head.get(4..6).is_some_and(|said| said == key.to_be_bytes());
    let head = heads.iter().find(is_it)?;
    Some(head.last_chunk().copied())
}

/// One way of a connection to Kafka: frames of four bytes that say how many follow, and those.
///
/// What other servers and clients say can be looked at, too; then what is found there means nothing.
#[derive(Debug, Default)]
struct Frames<const HEAD: usize> {
    /// The first bytes of a frame, as long as there are fewer than that.
    head: Vec<u8>,
    /// Bytes of the frame before that are still to come.
    left: usize,
}

impl<const HEAD: usize> Frames<HEAD> {
    /// Takes the next bytes; returns the heads that are whole with them.
    fn take(&mut self, mut bytes: &[u8]) -> Vec<[u8; HEAD]> {
        let mut heads = Vec::new();
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { HEAD - self.head.len() };
            let (taken, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            bytes = rest;
            if self.left > 0 {
                self.left -= taken.len();
                continue;
            }
            self.head.extend_from_slice(taken);
            if let Ok(head) = <[u8; HEAD]>::try_from(self.head.as_slice()) {
                self.head.clear();
                self.left = length(&head).saturating_sub(HEAD);
                heads.push(head);
            }
        }
        heads
    }
}

/// How long a frame is, with the bytes that say so.
fn length(head: &[u8]) -> usize {
    let said = head.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    usize::try_from(said).unwrap_or(usize::MAX).saturating_add(4)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A request as it is on the wire: `rest` behind its head.
    fn frame(key: u16, number: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + rest.len()).unwrap().to_be_bytes();
        let (key, number) = (key.to_be_bytes(), number.to_be_bytes());
        [&length[..], &key, &[0, 9], &number, rest].concat()
    }

    fn answer(number: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(4 + rest.len()).unwrap().to_be_bytes();
        [&length[..], &number.to_be_bytes(), rest].concat()
    }

    fn passes(fate: &Fate) -> bool {
        matches!(fate, Fate::Passes)
    }

    #[test]
    fn frames_are_found_wherever_the_bytes_are_cut() {
        let all = [frame(0, 7, b"some"), frame(8, 8, b""), frame(1, 9, &[0; 300])].concat();
        for size in 1..all.len() {
            let mut frames = Frames::<ASKED>::default();
            let heads: Vec<_> = all.chunks(size).flat_map(|bytes| frames.take(bytes)).collect();
            let numbers: Vec<u8> = heads.iter().map(|head| head[ASKED - 1]).collect();
            assert_eq!(numbers, [7, 8, 9], "in pieces of {size}");
            assert_eq!((frames.left, frames.head.len()), (0, 0), "in pieces of {size}");
        }
    }

    #[test]
    fn the_answer_to_a_request_is_known_among_others() {
        let (mut talk, mut snare) = (Talk::default(), Snare::losing(Request::Produce, 1));
        assert!(passes(&talk.ask(&frame(3, 1, b"metadata"), Some(&mut snare))));
        assert!(passes(&talk.ask(&frame(0, 2, b"messages"), Some(&mut snare))));
        assert!(passes(&talk.ask(&frame(0, 3, b"messages"), Some(&mut snare))), "only one is lost");
        assert!(passes(&talk.answer(&answer(1, b"metadata"))));
        let both = [answer(2, b"taken"), answer(3, b"taken")].concat();
        assert!(matches!(talk.answer(&both), Fate::IsLost));
        assert!(passes(&talk.answer(&answer(4, b""))));
    }

    #[test]
    fn each_connection_loses_one_answer_and_what_is_asked_behind_it_goes_with_it() {
        let mut snare = Snare::losing(Request::Produce, 2);
        for _ in 0..2 {
            let mut talk = Talk::default();
            for number in 1..=3 {
                assert!(passes(&talk.ask(&frame(0, number, b"messages"), Some(&mut snare))));
            }
            assert!(matches!(talk.answer(&answer(1, b"taken")), Fate::IsLost));
        }
        let mut talk = Talk::default();
        assert!(passes(&talk.ask(&frame(0, 1, b"messages"), Some(&mut snare))));
        assert!(passes(&talk.answer(&answer(1, b"taken"))), "as many as were asked for");
    }

    #[test]
    fn who_waits_for_a_moment_is_told_before_the_request_passes() {
        let (tell, _told) = sync_channel(1);
        let moment = Moment { request: Request::NoteOffsets, is_answered: false };
        let (mut talk, mut snare) = (Talk::default(), Snare::telling(moment, tell));
        assert!(passes(&talk.ask(&frame(0, 1, b""), Some(&mut snare))));
        assert!(matches!(talk.ask(&frame(8, 2, b""), Some(&mut snare)), Fate::IsHeld(_)));
        assert!(passes(&talk.ask(&frame(8, 3, b""), Some(&mut snare))), "once");
    }

    #[test]
    fn a_commit_is_known_by_its_text_and_its_answer_is_what_comes_next() {
        let (mut talk, mut snare) = (Talk::default(), Snare::losing(Request::Commit, 2));
        let mut say = |text: &[u8]| {
            let asked = passes(&talk.ask(text, Some(&mut snare)));
            (asked, passes(&talk.answer(b"C\0\0\0\x0bCOMMIT\0Z")))
        };
        assert_eq!(say(b"Q\0\0\0\x0aBEGIN\0"), (true, true));
        assert_eq!(say(b"Q\0\0\0\x0bCOMMIT\0"), (true, false));
        assert_eq!(say(b"Q\0\0\0\x0bCOMMIT\0"), (true, false));
        assert_eq!(say(b"Q\0\0\0\x0bCOMMIT\0"), (true, true), "as many as were asked for");
    }
}
