//! What is logged, and what is told to a collector of traces.

use serde::{Deserialize, Serialize};

/// What is logged and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// `auto` (text on a terminal, JSON elsewhere), `text` or `json`.
    pub format: LogFormat,
    /// What to log, such as `info` or `info,engine::outbox=debug`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What is told to a collector of traces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceSettings {
    /// The base of an OpenTelemetry collector that takes OTLP over HTTP; empty: spans go nowhere.
    pub otlp_url: String,
    /// The authorities whose certificates are believed, in PEM; empty: the usual public ones.
    #[serde(default)]
    pub ca_file: String,
    /// Which part of the traces that begin here is recorded, from 0 to 1.
    pub sample_ratio: f64,
}
