#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::kafka::{AckBatch, envelope_for_tests, received_for_tests as received};

const EVENT: SignedMessage = SignedMessage::Event;
const ACK: SignedMessage = SignedMessage::Ack;

/// Keys of one byte each, 32 times over.
fn signing(keys: &[(&str, u8)], require: SignatureRequirement) -> Signing {
    let current = keys.first().map(|(id, _)| (*id).to_owned()).unwrap_or_default();
    let key = |(id, byte): &(&str, u8)| ((*id).to_owned(), STANDARD.encode([*byte; 32]).into());
    let keys = keys.iter().map(key).collect();
    Signing::new(&SigningSettings { current, require, keys }).unwrap()
}

/// Signs with `k1`, and asks for all signatures.
fn strict() -> Signing {
    signing(&[("k1", 7)], SignatureRequirement::All)
}

fn event() -> Message {
    envelope_for_tests().into_message("stockloop.inventory.v1", 3)
}

fn signed(signing: &Signing, message: &Message) -> Record {
    received(message, signing.sign(message))
}

fn check(signing: &Signing, record: &Record) -> Result<(), BadSignature> {
    signing.check(EVENT, record, &mut SignatureChecks::default())
}

/// What others have signed must still fit after an update, and other programs may sign, too: this is computed elsewhere.
#[test]
fn a_signature_stays_what_it_is() {
    let signing = strict();
    assert_eq!(
        signing.sign(&event()).unwrap(),
        "v1,k1,wNr8kuJVpVByadMz6HgRF5pXMKZoYlv+AeL0TbHeyM0="
    );
    let (id, now) = (
        "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        "2026-01-05T12:00:00.123456Z".parse().unwrap(),
    );
    let acks = AckBatch { acks: Vec::new() };
    let acks = acks.to_message(id, now, "order-service", "stockloop.inventory.acks.v1", 3).unwrap();
    assert_eq!(signing.sign(&acks).unwrap(), "v1,k1,UEVTrmr9gDEg4t5HQUtN1tg5YjNQAsgjq7aDGyUNsEA=");
    assert_eq!(check(&signing, &signed(&signing, &acks)), Ok(()));
}

#[test]
fn what_only_the_broker_or_a_trace_says_is_not_signed() {
    let signing = strict();
    let mut record = signed(&signing, &event());
    record.headers.retain(|(name, _)| name != "traceparent");
    record.headers.push(("added.on.the.way".to_owned(), b"x".to_vec()));
    let record = Record { partition: 2, offset: 77, ..record };
    assert_eq!(check(&signing, &record), Ok(()));
}

#[test]
fn a_key_is_changed_by_putting_in_a_second_one() {
    let require = SignatureRequirement::All;
    let old = signing(&[("old", 1)], require);
    let both = signing(&[("old", 1), ("new", 2)], require);
    let turned = signing(&[("new", 2), ("old", 1)], require);
    let new = signing(&[("new", 2)], require);
    let by = |signing: &Signing| signed(signing, &event());
    for (signer, readers) in [
        (&old, [&old, &both, &turned]),
        (&both, [&old, &both, &turned]),
        (&turned, [&both, &turned, &new]),
    ] {
        for reader in readers {
            assert_eq!(check(reader, &by(signer)), Ok(()));
        }
    }
    assert_eq!(check(&old, &by(&new)), Err(BadSignature::UnknownKey("new".to_owned())));
    assert_eq!(check(&new, &by(&old)), Err(BadSignature::UnknownKey("old".to_owned())));
    let other = signing(&[("old", 3)], require);
    assert_eq!(check(&other, &by(&old)), Err(BadSignature::Wrong("old".to_owned())));
}

#[test]
fn what_is_not_required_is_only_counted() {
    let good = signed(&strict(), &event());
    let bare = received(&event(), None);
    let changed = Record { payload: Some(b"{}".to_vec()), ..good.clone() };
    for (require, message, refused) in [
        (SignatureRequirement::None, EVENT, 0),
        (SignatureRequirement::None, ACK, 0),
        (SignatureRequirement::Acks, EVENT, 0),
        (SignatureRequirement::Acks, ACK, 2),
        (SignatureRequirement::All, EVENT, 2),
        (SignatureRequirement::All, ACK, 2),
    ] {
        let signing = signing(&[("k1", 7)], require);
        let mut checks = SignatureChecks::default();
        let taken =
            [&good, &bare, &changed].map(|one| signing.check(message, one, &mut checks).is_ok());
        assert_eq!(taken, [true, refused == 0, refused == 0], "{require:?} {message:?}");
        let counts = checks.counts().map(|(_, count)| count);
        assert_eq!((counts, checks.refused()), ([1, 1, 0, 1], refused));
    }
    let mut checks = SignatureChecks::default();
    let off = Signing::default();
    assert!(off.check(ACK, &bare, &mut checks).is_ok() && off.sign(&event()).is_none());
    assert_eq!(checks, SignatureChecks::default(), "without keys nothing is looked at");
}

#[test]
fn the_last_refusal_is_told_and_nothing_foreign_is_told_at_length() {
    let signing = strict();
    let mut checks = SignatureChecks::default();
    let named =
        |id: &str| received(&event(), Some(format!("v1,{id},{}", STANDARD.encode([0; 32]))));
    let long = "\u{1b}".repeat(1_000);
    for (offset, record) in (0..).zip([received(&event(), None), named(&long), named("k1")]) {
        let record = Record { partition: 3, offset, ..record };
        let told = signing.check(EVENT, &record, &mut checks).unwrap_err().to_string();
        assert!(told.len() < 400 && !told.contains('\u{1b}'), "{told}");
    }
    let (partition, offset, bad) = checks.last_refused().unwrap();
    assert_eq!((*partition, *offset, bad), (3, 2, &BadSignature::Wrong("k1".to_owned())));
}

#[test]
fn what_is_no_signature_is_none() {
    let signing = strict();
    let good = signing.sign(&event()).unwrap();
    for written in
        ["", "v1", "v1,k1", "v2,k1,AAAA", "v1,k1,not base64", &good[3..], &format!("{good}=")]
    {
        let record = received(&event(), Some(written.to_owned()));
        assert_eq!(check(&signing, &record), Err(BadSignature::Unreadable), "{written}");
    }
    // Cut short, it is no smaller proof.
    for code in [vec![], vec![0; 16]] {
        let written = format!("v1,k1,{}", STANDARD.encode(code));
        let record = received(&event(), Some(written));
        assert_eq!(check(&signing, &record), Err(BadSignature::Wrong("k1".to_owned())));
    }
    let mut not_text = received(&event(), None);
    not_text.headers.push((SIGNATURE.to_owned(), vec![0xff]));
    assert_eq!(check(&signing, &not_text), Err(BadSignature::Unreadable));
}

/// Readers could differ on which of two headers counts.
#[test]
fn a_header_is_there_once() {
    let signing = strict();
    for name in SIGNED.into_iter().chain([SIGNATURE]) {
        let mut record = signed(&signing, &event());
        let value = record.header(name).unwrap_or_default().to_vec();
        record.headers.push((name.to_owned(), value.clone()));
        record.headers.push((name.to_owned(), value));
        assert_eq!(check(&signing, &record), Err(BadSignature::Unreadable), "{name}");
    }
}

#[test]
fn what_a_service_makes_of_a_message_is_signed_if_that_was() {
    let signing = strict();
    let good = signed(&signing, &event());
    let part = |record: &Record| Record { payload: Some(b"{}".to_vec()), ..record.clone() };
    let renewed = signing.renew(&good, part(&good));
    assert_eq!((check(&signing, &renewed), renewed.headers.len()), (Ok(()), good.headers.len()));
    for bad in [received(&event(), None), part(&good)] {
        assert_eq!(signing.renew(&bad, part(&bad)), part(&bad), "nothing is made good");
    }
    assert_eq!(Signing::default().renew(&good, part(&good)), part(&good));
}

/// The part of a record that is signed at `place`.
fn part_at(record: &Record, place: usize) -> Vec<u8> {
    match place {
        0 => record.topic.clone().into_bytes(),
        1 => record.key.clone().unwrap_or_default(),
        11 => record.payload.clone().unwrap_or_default(),
        _ => record.header(SIGNED[place - 2]).unwrap_or_default().to_vec(),
    }
}

fn with_part(mut record: Record, place: usize, bytes: Vec<u8>) -> Record {
    match place {
        0 => record.topic = String::from_utf8(bytes).unwrap(),
        1 => record.key = Some(bytes),
        11 => record.payload = Some(bytes),
        _ => {
            let name = SIGNED[place - 2];
            record.headers.retain(|(header, _)| header != name);
            record.headers.push((name.to_owned(), bytes));
        }
    }
    record
}

prop_compose! {
    fn messages()(
        topic in "[a-z.]{1,12}",
        key in "[A-Z0-9]{0,8}",
        values in proptest::collection::vec("[a-z0-9:-]{0,8}", SIGNED.len()),
        payload in "[a-z{}]{0,40}",
    ) -> Message {
        let headers = SIGNED.into_iter().zip(values).collect();
        Message { topic, partition: None, key, headers, payload: payload.into_bytes() }
    }
}

proptest! {
    #[test]
    fn whatever_is_changed_does_not_fit(
        message in messages(),
        place in 0..12_usize,
        bytes in "[a-z0-9]{0,12}",
    ) {
        let signing = strict();
        let record = signed(&signing, &message);
        prop_assert_eq!(check(&signing, &record), Ok(()));
        prop_assume!(part_at(&record, place) != bytes.as_bytes());
        let changed = with_part(record, place, bytes.into_bytes());
        prop_assert_eq!(check(&signing, &changed), Err(BadSignature::Wrong("k1".to_owned())));
    }

    #[test]
    fn no_byte_moves_from_one_part_into_the_next(
        message in messages(),
        place in 0..11_usize,
        cut in any::<prop::sample::Index>(),
    ) {
        let signing = strict();
        let record = signed(&signing, &message);
        let (first, second) = (part_at(&record, place), part_at(&record, place + 1));
        let both = [first.clone(), second].concat();
        let cut = cut.index(both.len() + 1);
        prop_assume!(cut != first.len());
        let moved = with_part(record, place, both[..cut].to_vec());
        let moved = with_part(moved, place + 1, both[cut..].to_vec());
        prop_assert_eq!(check(&signing, &moved), Err(BadSignature::Wrong("k1".to_owned())));
    }

    #[test]
    fn no_bytes_are_taken_for_a_signature(written in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut record = received(&event(), None);
        record.headers.push((SIGNATURE.to_owned(), written));
        prop_assert!(check(&strict(), &record).is_err());
    }
}
