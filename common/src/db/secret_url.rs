//! A URL whose password is hidden wherever it is printed.

use serde::{Deserialize, Serialize, Serializer};

use super::certificate::explained;
use crate::text::{is_percent_encoded, one_line, percent_decoded};

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

    /// What libpq says of connecting to this URL, in one line and as it may be printed: of a URL that it can't read, or
    /// reads in another way than it was meant, it repeats parts, and a password may be among them. Where it is of a client's
    /// certificate, with what to do.
    pub fn printable(&self, words: &str) -> String {
        if MISREAD.iter().any(|sign| words.contains(sign)) {
            return HOW_TO_WRITE.to_owned();
        }
        if !self.is_read_as_meant() {
            return NOT_SHOWN.to_owned();
        }
        let shown = self.redacted();
        let tells = |secret: &String| words.contains(secret.as_str()) && !shown.contains(secret);
        match self.passwords().iter().any(tells) {
            true => "what libpq says has the password in it, so it is not shown".to_owned(),
            false => explained(one_line(words)),
        }
    }

    /// Whether all that comes before the last @ is a user and a password for libpq, too: it looks for the first @ before
    /// the first /. With a ? in it, options may be meant.
    fn is_read_as_meant(&self) -> bool {
        self.credentials().is_none_or(|credentials| {
            !credentials.contains(['@', '/', '?']) && is_percent_encoded(credentials)
        })
    }

    fn credentials(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once("//")?;
        rest.rsplit_once('@').map(|(credentials, _)| credentials)
    }

    /// The passwords in it, as they are written and as they are meant.
    fn passwords(&self) -> Vec<String> {
        let of_user = self.credentials().and_then(|credentials| credentials.split_once(':'));
        let (_, options) = self.0.split_once('?').unwrap_or_default();
        let of_options = options.split('&').filter_map(|option| option.split_once('='));
        let of_options = of_options.filter(|(name, _)| name.ends_with("password"));
        let written = of_user.into_iter().chain(of_options).map(|(_, password)| password);
        let both = |written: &str| [written.to_owned(), percent_decoded(written)];
        written.flat_map(both).filter(|password| !password.is_empty()).collect()
    }
}

/// What libpq says where it can't read a URL, before it repeats a part of it.
const MISREAD: [&str; 2] = ["percent-encoded", " in URI"];

const HOW_TO_WRITE: &str = "the URL can't be read: in a user or password write % as %25, @ as %40, : as %3A, / as %2F, ? as %3F";

const NOT_SHOWN: &str = "what libpq says is not shown, since a %, @, / or ? in the URL may be part of a password: write % as %25, @ as %40, / as %2F, ? as %3F where it is part of a value";

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
    use super::{HOW_TO_WRITE, NOT_SHOWN, Url, redact};

    #[test]
    fn nothing_of_a_password_is_repeated_after_libpq() {
        let printable = |url: &str, words: &str| Url::from(url.to_owned()).printable(words);
        for (url, words) in [
            ("postgres://u:se%cret@h/d", "invalid percent-encoded token: \"se%cret\""),
            ("postgres://[secret", "end of string reached … in URI: \"postgres://[secret\""),
        ] {
            assert_eq!(printable(url, words), HOW_TO_WRITE, "{url}");
        }
        for (url, words) in [
            (
                "postgres://u:se/cret@h/d",
                "invalid integer value \"se\" for connection option \"port\"",
            ),
            ("postgres://u:se@cret@h/d", "could not translate host name \"cret@h\" to address"),
            ("postgres://h?password=se@cret", "role \"h?password=se\" does not exist"),
            ("postgres://u:se%cret@h/d", "in another language: \"se%cret\""),
            ("postgres://h/d?application_name=a@b", "connection refused"),
        ] {
            assert_eq!(printable(url, words), NOT_SHOWN, "{url}");
        }
        for url in ["postgres://u:s%20cret@h/d", "postgres://h/d?password=s%20cret"] {
            for secret in ["s%20cret", "s cret"] {
                let words = printable(url, &format!("it was {secret}"));
                assert!(words.contains("not shown") && !words.contains(secret), "{words}");
            }
        }
    }

    #[test]
    fn what_libpq_says_is_told_where_it_tells_no_password() {
        let words = "connection to server at \"h\", port 1 failed:\n\tFATAL: no user \"u\"\n";
        let told = "connection to server at \"h\", port 1 failed: \tFATAL: no user \"u\"";
        // Such a password is the user's name, and that is shown anyway.
        for url in ["postgres://u:s%20cret@h:1/d", "postgres://u:u@h:1/d", "postgres://h:1/d"] {
            assert_eq!(Url::from(url.to_owned()).printable(words), told, "{url}");
        }
    }

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
