//! The keys that messages are signed with, and what of messages is asked for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long a secret is, in bytes: HMAC-SHA256 puts out 32, and takes up to 64 as they are.
const BYTES: RangeInclusive<usize> = 32..=64;

/// Characters of a key's id.
const ID: RangeInclusive<usize> = 1..=32;

/// What messages are signed with, and which have to be. Without keys nothing is signed, and nothing looked at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningSettings {
    /// The id of the key that this service signs with.
    pub current: String,
    /// Which messages are refused unless they are signed with one of the keys.
    pub require: SignatureRequirement,
    /// The secrets by the ids of their keys: 32 to 64 bytes in base64. A signature with any of them is taken.
    #[serde(default, deserialize_with = "read", serialize_with = "redacted")]
    pub keys: BTreeMap<String, SecretString>,
}

/// Which messages are refused unless they are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureRequirement {
    /// None: what their signatures say is counted.
    #[default]
    None,
    /// Answers. Events are taken without, such as those that an external relay sends.
    Acks,
    /// Events and answers.
    All,
}

impl SigningSettings {
    /// The bytes of each key's secret, by the key's id; none: nothing is signed.
    ///
    /// # Errors
    /// Which setting is wrong and what to do; never a secret, nor what may be one.
    pub fn secrets(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let Self { current, require, keys } = self;
        if keys.is_empty() {
            ensure!(
                *require == SignatureRequirement::None && current.is_empty(),
                "signing.current or signing.require is set, but signing.keys has no key; add one, or leave both out"
            );
            return Ok(BTreeMap::new());
        }
        ensure!(
            keys.keys().all(|id| is_id(id)),
            "an id in signing.keys is none (it is not shown, since it may be a secret): it has 1 to 32 characters of a-z, 0-9, - and _, and its secret stands behind it"
        );
        ensure!(
            keys.contains_key(current),
            "signing.current names no key of signing.keys; set it to the id of the one to sign with: {}",
            keys.keys().cloned().collect::<Vec<_>>().join(", ")
        );
        keys.iter().map(|(id, secret)| Ok((id.clone(), bytes_of(id, secret)?))).collect()
    }
}

fn is_id(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    ID.contains(&text.len()) && text.chars().all(is_part)
}

fn bytes_of(id: &str, secret: &SecretString) -> anyhow::Result<Vec<u8>> {
    const HOW: &str = "make one with: openssl rand -base64 32";
    let bytes = STANDARD
        .decode(secret.expose_secret())
        .ok()
        .with_context(|| format!("signing.keys.{id} is not base64 as of RFC 4648; {HOW}"))?;
    ensure!(
        BYTES.contains(&bytes.len()),
        "signing.keys.{id} has {} bytes before base64, and needs 32 to 64; {HOW}",
        bytes.len()
    );
    Ok(bytes)
}

/// Says nothing of what is there instead: it may be a secret that was put in the place of its table.
fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, SecretString>, D::Error> {
    BTreeMap::deserialize(deserializer).map_err(|_| {
        D::Error::custom(
            "signing.keys can't be read: it is a table with the secret of each key behind its id, such as k1 = \"…\", or in the environment STOCKLOOP__SIGNING__KEYS__K1",
        )
    })
}

fn redacted<S: Serializer>(
    keys: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(keys.keys().map(|id| (id, "***")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn settings(keys: &[(&str, &str)], current: &str) -> SigningSettings {
        let keys = keys.iter().map(|(id, secret)| ((*id).to_owned(), (*secret).into())).collect();
        SigningSettings { current: current.to_owned(), require: SignatureRequirement::All, keys }
    }

    #[test]
    fn keys_have_ids_and_secrets_that_can_not_be_tried_out() {
        let [short, good, long, huge] =
            [31, 32, 64, 65].map(|bytes: usize| STANDARD.encode(vec![7; bytes]));
        let (short, good, huge) = (short.as_str(), good.as_str(), huge.as_str());
        let secrets = settings(&[("k1", good), ("2026-11_b", &long)], "k1").secrets().unwrap();
        assert_eq!((&secrets["k1"], &secrets["2026-11_b"]), (&vec![7; 32], &vec![7; 64]));
        assert!(SigningSettings::default().secrets().unwrap().is_empty());
        for (id, secret, current, told) in [
            ("k1", good, "k2", "names no key of signing.keys; set it to the id"),
            ("k1", good, "", "names no key"),
            ("k1", short, "k1", "signing.keys.k1 has 31 bytes"),
            ("k1", huge, "k1", "signing.keys.k1 has 65 bytes"),
            ("k1", "s3cret!", "k1", "signing.keys.k1 is not base64"),
            (good, "k1", "k1", "it may be a secret"),
            ("K,1", good, "K,1", "it may be a secret"),
        ] {
            let error = format!("{:#}", settings(&[(id, secret)], current).secrets().unwrap_err());
            assert!(error.contains(told), "{error}");
            for secret in [good, short, huge, "s3cret!"] {
                assert!(!error.contains(secret), "{error}");
            }
        }
        for current in ["", "k1"] {
            let error = settings(&[], current).secrets().unwrap_err();
            assert!(error.to_string().contains("has no key"), "{error}");
        }
    }
}
