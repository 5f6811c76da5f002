//! The signature of a call: HMAC-SHA256 of id, timestamp and body.

use std::fmt;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// How long a key is, in bytes, as the specification has it.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The key that both sides know, ready to sign.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// Reads `whsec_` and base64.
    ///
    /// # Errors
    /// What is wrong with it; never the secret itself.
    pub(super) fn parse(secret: &str) -> anyhow::Result<Self> {
        let encoded = secret.strip_prefix(PREFIX).context(
            "a secret begins with whsec_; make one with: echo whsec_$(openssl rand -base64 32)",
        )?;
        let bytes = STANDARD
            .decode(encoded)
            .ok()
            .context("what follows whsec_ is not base64 as of RFC 4648")?;
        ensure!(
            BYTES.contains(&bytes.len()),
            "a secret has 24 to 64 bytes before base64, this one {}",
            bytes.len()
        );
        Ok(Self(Hmac::new_from_slice(&bytes).context("the secret can't be a key")?))
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: &str, body: &str) -> String {
        let mut mac = self.0.clone();
        for part in [id, ".", timestamp, ".", body] {
            mac.update(part.as_bytes());
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn signs_as_the_specification_does() {
        let key = Key::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_wrong_secret_is_refused_without_being_shown() {
        let shorts = STANDARD.encode([7; 23]);
        for wrong in ["s3cret", "whsec_", "whsec_s3cret!", &format!("whsec_{shorts}")] {
            let error = format!("{:#}", Key::parse(wrong).unwrap_err());
            assert!(!error.contains("s3cret") && !error.contains(&shorts), "{error}");
        }
    }
}
