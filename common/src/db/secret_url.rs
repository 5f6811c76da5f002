//! A URL whose password is hidden wherever it is printed.

use serde::{Deserialize, Serialize, Serializer};

/// A database URL; `Debug` and serialization hide the password.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// The URL with its password: for connecting only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The URL as it may be printed.
    pub fn redacted(&self) -> String {
        redact(&self.0)
    }
}

impl From<String> for Url {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

fn redact(url: &str) -> String {
    let url = url.split_once('?').map_or(url, |(before, _options)| before);
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // The last @ ends the credentials: a password may hold one itself.
    let Some((credentials, host)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    let user = credentials.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:***@{host}")
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn hides_the_password_and_the_options() {
        assert_eq!(redact("postgres://u:p@ss@h/db?password=x"), "postgres://u:***@h/db");
        assert_eq!(redact("sqlite:a/b.db"), "sqlite:a/b.db");
    }
}
