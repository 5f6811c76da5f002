//! Passwords and tokens: made at random, kept as hashes only.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::env::Env;
use sha2::{Digest, Sha256};

use super::Refused;

/// Characters of a password: enough that none can be tried out, and not so many that hashing is a burden.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 10..=200;

/// A hash that no password has, so that an unknown name takes as long to refuse as a wrong password.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash(b"nobody", &[0; 16]));

/// 32 random bytes as text: a token, a session, a one-time token. (OWASP asks for at least 16.)
pub(super) fn random(env: &Env) -> String {
    URL_SAFE_NO_PAD.encode(env.random_bytes::<32>())
}

/// What is kept of a random secret: it needs no salt, since nobody can guess 32 bytes.
pub(super) fn fingerprint(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// A password's argon2id hash, as a PHC string.
#[derive(Clone)]
pub struct Hashed(pub(super) String);

impl Hashed {
    /// Checks and hashes a password. Takes tens of milliseconds: outside of transactions, where that may block.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn of(env: &Env, password: &str) -> Result<Self, Refused> {
        if !PASSWORD_CHARS.contains(&password.chars().count()) {
            return Err(Refused::PasswordLength);
        }
        hash(password.as_bytes(), &env.random_bytes::<16>()).map(Self).ok_or(Refused::NotHashed)
    }
}

fn hash(password: &[u8], salt: &[u8]) -> Option<String> {
    let hash: PasswordHash = Argon2::default().hash_password_with_salt(password, salt).ok()?;
    Some(hash.to_string())
}

/// Whether `password` is the one of `hash`; without a hash it takes as long, and is none.
pub(super) fn verify(password: &str, hash: Option<&str>) -> bool {
    let against = hash.or(NOBODY.as_deref()).unwrap_or_default();
    let Ok(parsed) = PasswordHash::new(against) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok() && hash.is_some()
}
