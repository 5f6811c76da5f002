//! Where a database is: the backend is chosen by the URL's scheme and by nothing else.
//!
//! (A driver that is tried when another fails would quietly turn a mistyped URL into an empty file.)

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::{DbError, Pooler, Url};
use crate::text::one_line;

/// The kind of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// A database's address, understood.
#[derive(Clone)]
pub enum Location {
    /// A PostgreSQL server.
    Postgres {
        /// The whole URL.
        url: Url,
        /// What hands out its sessions.
        pooler: Pooler,
    },
    /// A file of this machine.
    Sqlite {
        /// Its path.
        path: PathBuf,
    },
}

/// Why a URL is not a database's.
#[derive(Debug, Error)]
#[error(
    "the database URL {url:?} is not understood: {reason}; write postgres://user:password@host:5432/database or sqlite:path/to/file.db"
)]
pub struct LocationError {
    url: String,
    reason: &'static str,
}

impl From<LocationError> for DbError {
    fn from(error: LocationError) -> Self {
        Self::Unusable { location: error.url.clone(), reason: error.to_string() }
    }
}

/// How libpq finds out within half a minute that the other end vanished without a word: an answer that does not come
/// is asked after, and what was sent has to be confirmed (the last one in milliseconds).
const VANISHED: [(&str, &str); 4] = [
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

impl Location {
    /// Reads a URL.
    pub fn parse(url: &Url) -> Result<Self, LocationError> {
        let text = url.expose();
        let wrong = |reason| Err(LocationError { url: url.redacted(), reason });
        let Some((scheme, rest)) = text.split_once(':') else {
            return wrong("it has no scheme");
        };
        match scheme {
            "postgres" | "postgresql" if rest.starts_with("//") && rest.len() > 2 => {
                if !cfg!(feature = "tls") && !may_be_plain(rest) {
                    return wrong(
                        "this program is built without TLS, so everything would be sent in plain text; build it with --features tls, or add sslmode=disable if that is meant",
                    );
                }
                Ok(Self::Postgres { url: url.clone(), pooler: Pooler::None })
            }
            "postgres" | "postgresql" => wrong("a host has to follow postgres://"),
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() || path == ":memory:" {
                    return wrong("SQLite needs a file, since several connections share it");
                }
                Ok(Self::Sqlite { path: Path::new(path).to_owned() })
            }
            _ => wrong("only postgres: and sqlite: are known"),
        }
    }

    /// The same, with connecting to a server given up after `timeout`, and a server that vanished noticed: by itself
    /// libpq waits without end for one that says nothing. What the URL says itself stays.
    #[must_use]
    pub fn patient_for(self, timeout: Duration) -> Self {
        match self {
            // libpq takes whole seconds, and at least two of them.
            Self::Postgres { url, pooler } => {
                let seconds = timeout.as_secs().max(2).to_string();
                let url = url.with_option("connect_timeout", &seconds);
                let add = |url: Url, (name, value): &(&str, &str)| url.with_option(name, value);
                Self::Postgres { url: VANISHED.iter().fold(url, add), pooler }
            }
            file @ Self::Sqlite { .. } => file,
        }
    }

    /// The same, with a server's sessions handed out by `pooler`; a file has none.
    #[must_use]
    pub fn behind(self, pooler: Pooler) -> Self {
        match self {
            Self::Postgres { url, .. } => Self::Postgres { url, pooler },
            file @ Self::Sqlite { .. } => file,
        }
    }

    /// What hands out its sessions.
    pub fn pooler(&self) -> Pooler {
        match self {
            Self::Postgres { pooler, .. } => *pooler,
            Self::Sqlite { .. } => Pooler::None,
        }
    }

    /// What a driver says of connecting to it, in one line and as it may be printed.
    pub fn printable(&self, words: &str) -> String {
        match self {
            Self::Postgres { url, .. } => url.printable(words),
            Self::Sqlite { .. } => one_line(words),
        }
    }

    /// Which database this is.
    pub fn backend(&self) -> Backend {
        match self {
            Self::Postgres { .. } => Backend::Postgres,
            Self::Sqlite { .. } => Backend::Sqlite,
        }
    }
}

/// Whether a connection without TLS is harmless or asked for: to this machine, or with an `sslmode` in the URL (libpq
/// itself refuses those that it can't keep).
fn may_be_plain(rest: &str) -> bool {
    let (address, options) = rest.split_once('?').unwrap_or((rest, ""));
    let value = |wanted: &str| {
        let mut pairs = options.split('&').filter_map(|option| option.split_once('='));
        pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
    };
    if value("sslmode").is_some() {
        return true;
    }
    let authority =
        address.strip_prefix("//").unwrap_or(address).split('/').next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let named = [Some(hosts), value("host"), value("hostaddr")].into_iter().flatten();
    named.flat_map(|hosts| hosts.split(',')).all(is_this_machine)
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let loopback = |address: IpAddr| address.is_loopback();
    // No name or a path is a socket of this machine.
    name.is_empty()
        || name == "localhost"
        || name.to_ascii_lowercase().starts_with("%2f")
        || name.parse().is_ok_and(loopback)
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres { url, .. } => f.write_str(&url.redacted()),
            Self::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Location, LocationError> {
        Location::parse(&Url::from(url.to_owned()))
    }

    #[test]
    fn plain_text_leaves_this_machine_only_if_that_is_asked_for() {
        let here = [
            "//localhost/d",
            "//u:p@127.0.0.1:5432/d",
            "//u@[::1]:1/d",
            "///d",
            "//u@/d",
            "//%2Ftmp/d",
        ];
        for url in here {
            assert!(may_be_plain(url), "{url}");
        }
        assert!(may_be_plain("//u:p@db.example/d?sslmode=disable&a=b"));
        for url in [
            "//db.example/d",
            "//u:p@10.0.0.1/d?a=b",
            "//localhost@db/d",
            "///d?host=db",
            "//localhost,db/d",
        ] {
            assert!(!may_be_plain(url), "{url}");
        }
    }

    #[test]
    fn the_scheme_alone_decides() {
        assert!(matches!(parse("postgres://localhost/db"), Ok(Location::Postgres { .. })));
        assert!(matches!(parse("sqlite:a.db"), Ok(Location::Sqlite { .. })));
        assert!(
            matches!(parse("sqlite:///tmp/a.db"), Ok(Location::Sqlite { path }) if path == Path::new("/tmp/a.db"))
        );
        for wrong in ["postgresql:nope", "nope", "mysql://h/db", "sqlite:", "sqlite::memory:"] {
            assert!(parse(wrong).is_err(), "{wrong} must be refused");
        }
    }
}
