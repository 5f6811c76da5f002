//! Which relay a service is started with.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// Which relay, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RelayChoice {
    /// The one that reads the table of what waits
    Table,
    /// The one that reads PostgreSQL's log, and the table where that does not bring it
    Log,
    /// The table and the log, in turns
    Both,
    /// Another program, Debezium in a Kafka Connect that is started; with --broker kafka, a JDK 17, and Maven to fetch it once
    External,
}

/// Where a service's relay finds events: `outbox.relay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::bench) enum Relay {
    Table,
    Log,
    External,
}

impl RelayChoice {
    /// What was chosen, each once, in the order of the choices.
    pub(super) fn all(choices: &[Self]) -> Vec<Relay> {
        let mut relays = Vec::new();
        for choice in choices {
            let chosen: &[Relay] = match choice {
                Self::Table => &[Relay::Table],
                Self::Log => &[Relay::Log],
                Self::Both => &[Relay::Table, Relay::Log],
                Self::External => &[Relay::External],
            };
            for relay in chosen {
                if !relays.contains(relay) {
                    relays.push(*relay);
                }
            }
        }
        relays
    }
}

impl Relay {
    /// As the settings have it.
    pub(in crate::bench) fn setting(self) -> (&'static str, String) {
        ("STOCKLOOP__OUTBOX__RELAY", self.to_string())
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Log => "log",
            Self::External => "external",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_relay_is_measured_once() {
        use RelayChoice::{Both, External, Log, Table};
        assert_eq!(RelayChoice::all(&[Both]), [Relay::Table, Relay::Log]);
        assert_eq!(RelayChoice::all(&[Log, Table, Log]), [Relay::Log, Relay::Table]);
        assert_eq!(RelayChoice::all(&[Table, Both]), [Relay::Table, Relay::Log]);
        assert_eq!(RelayChoice::all(&[External, Table]), [Relay::External, Relay::Table]);
    }
}
