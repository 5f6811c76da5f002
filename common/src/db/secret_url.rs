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

    /// With an option at its end, unless it is there.
    #[must_use]
    pub fn with_option(self, name: &str, value: &str) -> Self {
        let (_, options) = self.0.split_once('?').unwrap_or_default();
        if options.split('&').any(|option| option.split('=').next() == Some(name)) {
            return self;
        }
        let sign = if self.0.contains('?') { '&' } else { '?' };
        Self(format!("{}{sign}{name}={value}", self.0))
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

/// What comes before the last @ may be credentials, also where the URL is mistyped: little of it is shown.
fn redact(url: &str) -> String {
    let before_options = |text: &str| text.split('?').next().unwrap_or_default().to_owned();
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let Some((credentials, host)) = rest.rsplit_once('@').filter(|_| scheme != "sqlite") else {
        return before_options(url);
    };
    let host = before_options(host);
    match credentials.strip_prefix("//") {
        Some(credentials) => {
            let user = credentials.split([':', '/', '?']).next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        None => format!("{scheme}:***@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Url, redact};

    #[test]
    fn an_option_is_added_once() {
        let with = |url: &str| Url::from(url.to_owned()).with_option("a", "1").expose().to_owned();
        assert_eq!(with("postgres://h/db"), "postgres://h/db?a=1");
        assert_eq!(with("postgres://h/db?b=2"), "postgres://h/db?b=2&a=1");
        assert_eq!(with("postgres://h/db?b=2&a=3"), "postgres://h/db?b=2&a=3");
    }

    #[test]
    fn hides_what_may_be_a_password_in_a_mistyped_url() {
        assert_eq!(redact("postgres:u:secret@h/db"), "postgres:***@h/db");
        assert_eq!(redact("postgres:/u:secret@h/db"), "postgres:***@h/db");
        assert_eq!(redact("u:secret@h/db"), "u:***@h/db");
        assert_eq!(redact("postgres://u:sec?ret@h/db"), "postgres://u:***@h/db");
        assert_eq!(redact("postgres://h/db?password=sec@ret"), "postgres://h:***@ret");
        assert_eq!(redact("nope"), "nope");
    }

    #[test]
    fn hides_the_password_and_the_options() {
        assert_eq!(redact("postgres://u:p@ss@h/db?password=x"), "postgres://u:***@h/db");
        assert_eq!(redact("sqlite:a/b.db"), "sqlite:a/b.db");
    }
}
