//! The log: lines on standard error, as text for people or as JSON for programs.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::config::{LogFormat, LogSettings};

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// `log.filter` can't be understood.
    #[error(
        "log.filter = {filter:?} is wrong: {reason}; write for example info, or info,common::outbox=debug"
    )]
    Filter {
        /// What was configured.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a log already.
    #[error("the log was set up before")]
    AlreadySet,
}

/// Levels that a filter may begin with, as a word by itself.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Sets up the process's log, once, on standard error: standard output belongs to what commands print.
///
/// # Errors
/// When the filter can't be understood, or the log was set up before.
pub fn init_logging(settings: &LogSettings) -> Result<(), LogError> {
    let subscriber = subscriber(settings, io::stderr().is_terminal(), io::stderr)?;
    subscriber.try_init().map_err(|_| LogError::AlreadySet)
}

type BoxedSubscriber = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(
    settings: &LogSettings,
    terminal: bool,
    out: W,
) -> Result<BoxedSubscriber, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filtered = Registry::default().with(filter(&settings.filter)?);
    let is_json = match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if is_json {
        let lines = fmt::layer().json().flatten_event(true).with_writer(out);
        return Ok(Box::new(filtered.with(lines)));
    }
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().with_ansi(colours).with_writer(out);
    Ok(Box::new(filtered.with(lines)))
}

fn filter(text: &str) -> Result<EnvFilter, LogError> {
    let wrong = |reason: String| LogError::Filter { filter: text.to_owned(), reason };
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    // A misspelt level would be taken for the name of a crate, and silence all others.
    let is_odd = |word: &&&str| {
        let is_word = word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_word && !LEVELS.contains(&word.to_ascii_lowercase().as_str())
    };
    if let Some(word) = directives.iter().find(is_odd) {
        return Err(wrong(format!("{word:?} is no level")));
    }
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, terminal: bool) -> String {
        let memory = Memory::default();
        let out = memory.clone();
        let settings = LogSettings { format, filter: filter.to_owned() };
        let subscriber = subscriber(&settings, terminal, move || out.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(sku = "85123A", "applied");
            tracing::debug!("unheard");
        });
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn elsewhere_than_on_a_terminal_lines_are_json() {
        let lines = logged(LogFormat::Auto, "info", false);
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!((&line["message"], &line["sku"]), (&"applied".into(), &"85123A".into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn text_says_the_same_and_the_filter_holds() {
        let lines = logged(LogFormat::Text, "warn,common=info", false);
        assert!(lines.contains("applied sku=\"85123A\""), "{lines}");
        assert!(!lines.contains("unheard"));
        assert_eq!(logged(LogFormat::Text, "warn", false), "");
    }

    #[test]
    fn a_bad_filter_is_refused_with_an_example() {
        for bad in ["inof", "info,common=loud", "", "info,,", "info,common=[", "9"] {
            let error = filter(bad).map(drop).unwrap_err().to_string();
            assert!(error.contains("write for example info"), "{error}");
        }
        for good in ["info", "INFO, common::outbox=debug", "off", "warn,hyper=info"] {
            assert!(filter(good).is_ok(), "{good}");
        }
    }
}
