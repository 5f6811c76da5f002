//! Signatures of messages: HMAC-SHA256 over all of a message that its reader goes by.
//!
//! That is the topic, the key, the headers that [`SIGNED`] names and the value, each with its length in front, so that no
//! byte can move from one part into the next; what is not there counts as empty. A header brings it as `v1,KEY,BASE64`.
//! Left out are `traceparent`, which tools on the way may set and nothing is decided by, and what only the broker knows:
//! partition, offset and time.
//!
//! A signature says who made a message, not that it is new: what comes again is the loop's own to bear, and it does.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::config::{SignatureRequirement, SigningSettings};
use common::telemetry::{SignatureOutcome, SignedMessage};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::{Message, Record};

/// The header that brings a message's signature.
pub(super) const SIGNATURE: &str = "stockloopsignature";

/// How what is signed is laid out; another layout is another version.
const VERSION: &str = "v1";

/// Begins what is signed, so that a key that is used elsewhere too signs nothing that counts here.
const CONTEXT: &[u8] = b"stockloop message signature v1\n";

/// The headers that are signed, in this order.
const SIGNED: [&str; 9] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "content-type",
    "stockloopattempt",
    "stockloopepoch",
];

/// Characters of a foreign key's id that are told.
const TOLD: usize = 40;

type HmacSha256 = Hmac<Sha256>;

/// The keys of a service, and what it asks of messages; cheap to clone. Without keys it signs nothing and looks at nothing.
#[derive(Clone, Default)]
pub struct Signing(Option<Arc<KeyRing>>);

struct KeyRing {
    keys: BTreeMap<String, HmacSha256>,
    current: (String, HmacSha256),
    require: SignatureRequirement,
}

/// Why a message is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadSignature {
    /// It has none.
    #[error(
        "it is not signed, and signing.require asks for that; are signing.keys and signing.current set where it comes from?"
    )]
    Missing,
    /// It is signed with a key that is not known here.
    #[error("it is signed with the key {0:?}, which is not among signing.keys here")]
    UnknownKey(String),
    /// Its signature does not fit.
    #[error(
        "its signature with the key {0:?} does not fit: it was forged or changed on its way, or that key has another secret here"
    )]
    Wrong(String),
    /// Its signature is no signature, or a header that is signed is there twice.
    #[error(
        "its header stockloopsignature is not of the form v1,KEY,BASE64, or a header is there twice"
    )]
    Unreadable,
}

/// What the signatures of a batch came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignatureChecks {
    valid: usize,
    missing: usize,
    unknown_key: usize,
    wrong: usize,
    refused: usize,
    last_refused: Option<(i32, i64, BadSignature)>,
}

impl Signing {
    /// The keys that `settings` name.
    ///
    /// # Errors
    /// Which setting is wrong.
    pub fn new(settings: &SigningSettings) -> anyhow::Result<Self> {
        let mut keys = BTreeMap::new();
        for (id, secret) in settings.secrets()? {
            let key = HmacSha256::new_from_slice(&secret)
                .with_context(|| format!("signing.keys.{id} can't be a key"))?;
            keys.insert(id, key);
        }
        let Some(key) = keys.get(&settings.current).cloned() else { return Ok(Self::default()) };
        let current = (settings.current.clone(), key);
        Ok(Self(Some(Arc::new(KeyRing { keys, current, require: settings.require }))))
    }

    /// Whether there are keys.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The signature of `message`, as its header brings it; none: nothing is signed.
    pub(crate) fn sign(&self, message: &Message) -> Option<String> {
        self.0.as_ref().map(|ring| ring.sign(&Parts::of_message(message)))
    }

    /// Whether `record` may be believed, which `checks` count.
    ///
    /// # Errors
    /// Why not. What is not required is only counted.
    pub fn check(
        &self,
        message: SignedMessage,
        record: &Record,
        checks: &mut SignatureChecks,
    ) -> Result<(), BadSignature> {
        let Some(ring) = &self.0 else { return Ok(()) };
        let verified = ring.verify(record);
        checks.count(&verified);
        match verified {
            Err(bad) if ring.requires(message) => {
                checks.refuse(record, &bad);
                Err(bad)
            }
            _ => Ok(()),
        }
    }

    /// `changed`, which this service made of `record`, with a signature that fits it, if that of `record` does.
    pub(crate) fn renew(&self, record: &Record, mut changed: Record) -> Record {
        if let Some(ring) = &self.0
            && ring.verify(record).is_ok()
            && let Some(parts) = Parts::of_record(&changed)
        {
            let signature = ring.sign(&parts);
            changed.headers.retain(|(name, _)| name != SIGNATURE);
            changed.headers.push((SIGNATURE.to_owned(), signature.into_bytes()));
        }
        changed
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Signing(…)" } else { "Signing(off)" })
    }
}

impl KeyRing {
    const fn requires(&self, message: SignedMessage) -> bool {
        match self.require {
            SignatureRequirement::None => false,
            SignatureRequirement::Acks => matches!(message, SignedMessage::Ack),
            SignatureRequirement::All => true,
        }
    }

    fn sign(&self, parts: &Parts<'_>) -> String {
        let (id, key) = &self.current;
        let code = parts.code(key).finalize().into_bytes();
        format!("{VERSION},{id},{}", STANDARD.encode(code))
    }

    fn verify(&self, record: &Record) -> Result<(), BadSignature> {
        let written = record.header(SIGNATURE).ok_or(BadSignature::Missing)?;
        let (id, code) = read(written).ok_or(BadSignature::Unreadable)?;
        let told = || id.chars().take(TOLD).collect::<String>();
        let key = self.keys.get(id).ok_or_else(|| BadSignature::UnknownKey(told()))?;
        let parts = Parts::of_record(record).ok_or(BadSignature::Unreadable)?;
        // Takes as long wherever they differ.
        parts.code(key).verify_slice(&code).map_err(|_| BadSignature::Wrong(told()))
    }
}

/// The key and the code of a signature as it is written.
fn read(written: &[u8]) -> Option<(&str, Vec<u8>)> {
    let (id, code) = std::str::from_utf8(written)
        .ok()?
        .strip_prefix(VERSION)?
        .strip_prefix(',')?
        .split_once(',')?;
    Some((id, STANDARD.decode(code).ok()?))
}

/// What is signed of a message.
struct Parts<'a> {
    topic: &'a str,
    key: &'a [u8],
    headers: [&'a [u8]; SIGNED.len()],
    value: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of_message(message: &'a Message) -> Self {
        let header = |name: &str| {
            let found = message.headers.iter().find(|(header, _)| *header == name);
            found.map(|(_, value)| value.as_bytes()).unwrap_or_default()
        };
        Self {
            topic: &message.topic,
            key: message.key.as_bytes(),
            headers: SIGNED.map(header),
            value: &message.payload,
        }
    }

    /// None, where a header is there twice: readers could differ on which one counts.
    fn of_record(record: &'a Record) -> Option<Self> {
        let count = |name: &str| record.headers.iter().filter(|(header, _)| header == name).count();
        if SIGNED.into_iter().chain([SIGNATURE]).any(|name| count(name) > 1) {
            return None;
        }
        Some(Self {
            topic: &record.topic,
            key: record.key.as_deref().unwrap_or_default(),
            headers: SIGNED.map(|name| record.header(name).unwrap_or_default()),
            value: record.payload.as_deref().unwrap_or_default(),
        })
    }

    /// The code of all of it with `secret`, before it is finished.
    fn code(&self, secret: &HmacSha256) -> HmacSha256 {
        let mut code = secret.clone();
        code.update(CONTEXT);
        let Self { topic, key, headers, value } = *self;
        for part in [topic.as_bytes(), key].into_iter().chain(headers).chain([value]) {
            code.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            code.update(part);
        }
        code
    }
}

impl SignatureChecks {
    fn count(&mut self, verified: &Result<(), BadSignature>) {
        let count = match verified {
            Ok(()) => &mut self.valid,
            Err(BadSignature::Missing) => &mut self.missing,
            Err(BadSignature::UnknownKey(_)) => &mut self.unknown_key,
            Err(BadSignature::Wrong(_) | BadSignature::Unreadable) => &mut self.wrong,
        };
        *count += 1;
    }

    fn refuse(&mut self, record: &Record, bad: &BadSignature) {
        self.refused += 1;
        self.last_refused = Some((record.partition, record.offset, bad.clone()));
    }

    /// How many messages came to each outcome.
    pub fn counts(&self) -> [(SignatureOutcome, usize); 4] {
        [
            (SignatureOutcome::Valid, self.valid),
            (SignatureOutcome::Missing, self.missing),
            (SignatureOutcome::UnknownKey, self.unknown_key),
            (SignatureOutcome::Wrong, self.wrong),
        ]
    }

    /// Messages whose signature fits.
    pub fn valid(&self) -> usize {
        self.valid
    }

    /// Messages that were refused.
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// The last one that was refused: its partition, its offset, and why.
    pub fn last_refused(&self) -> Option<&(i32, i64, BadSignature)> {
        self.last_refused.as_ref()
    }
}
