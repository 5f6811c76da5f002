//! The log: lines on standard error, as text for people or as JSON for programs.
//!
//! A JSON line is one flat object: the event's own fields, and those of the spans around it, which say which service
//! (`service`) and which trace (`trace_id`) it belongs to. Payloads and secrets are never fields.

use std::fmt;
use std::io::{self, IsTerminal};

use anyhow::Context;
use serde_json::{Map, Value};
use thiserror::Error;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::config::{LogFormat, LogSettings, Settings};

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// `log.filter` can't be understood.
    #[error(
        "log.filter = {filter:?} is wrong: {reason}; write for example info, or info,engine::outbox=debug"
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

/// What says something every second, unless a filter names it.
const QUIET: &str = "pg_walstream=warn";

/// Lines that one batch may log about single events.
const FEW: usize = 20;

/// The first of `all`, so that a batch of the same trouble does not flood the log; says how many it leaves out.
pub fn few_for_the_log<T>(all: &[T]) -> &[T] {
    let few = &all[..all.len().min(FEW)];
    if few.len() < all.len() {
        tracing::warn!(left_out = all.len() - few.len(), "only the first of many are logged");
    }
    few
}

/// Sets up the process's log, once, on standard error: standard output belongs to what commands print.
///
/// `service` is named in lines that come from nowhere else.
///
/// # Errors
/// When the filter can't be understood, or the log was set up before.
pub fn init_logging(settings: &LogSettings, service: &str) -> Result<(), LogError> {
    let subscriber = subscriber(settings, service, io::stderr().is_terminal(), io::stderr)?;
    subscriber.try_init().map_err(|_| LogError::AlreadySet)
}

/// Logs the settings in force, with secrets hidden: as TOML where people read the log, as an object in JSON.
///
/// # Errors
/// When they can't be written, which would be a flaw of this program.
pub fn log_settings(settings: &Settings) -> anyhow::Result<()> {
    if is_json(&settings.log, io::stderr().is_terminal()) {
        let object = serde_json::to_string(settings).context("the settings can't be written")?;
        tracing::info!(settings = object, "starting");
    } else {
        tracing::info!("starting with these settings:\n\n{}", settings.redacted_toml()?);
    }
    Ok(())
}

fn is_json(settings: &LogSettings, terminal: bool) -> bool {
    match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

type BoxedSubscriber = Box<dyn Subscriber + Send + Sync>;

fn subscriber<W>(
    settings: &LogSettings,
    service: &str,
    terminal: bool,
    out: W,
) -> Result<BoxedSubscriber, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filtered = Registry::default().with(filter(&settings.filter)?);
    if is_json(settings, terminal) {
        let lines = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(Flat::new(service))
            .with_writer(out);
        return Ok(Box::new(filtered.with(lines)));
    }
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(out);
    Ok(Box::new(filtered.with(lines)))
}

/// One flat JSON object per line.
struct Flat {
    service: String,
    event: Format<Json>,
}

impl Flat {
    fn new(service: &str) -> Self {
        let event = Format::default()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        Self { service: service.to_owned(), event }
    }
}

impl<S> FormatEvent<S, JsonFields> for Flat
where
    S: Subscriber + for<'l> LookupSpan<'l>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut own = String::new();
        self.event.format_event(context, Writer::new(&mut own), event)?;
        let mut around = Map::new();
        around.insert("service".to_owned(), Value::from(self.service.as_str()));
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                let fields: Map<String, Value> = serde_json::from_str(fields).unwrap_or_default();
                around.extend(fields);
            }
        }
        // The event's own word comes last, and counts where both say something.
        let own: Map<String, Value> = serde_json::from_str(&own).map_err(|_| fmt::Error)?;
        around.extend(own);
        as_object(&mut around, "settings");
        let line = serde_json::to_string(&around).map_err(|_| fmt::Error)?;
        writeln!(out, "{line}")
    }
}

/// A field that holds an object as text becomes that object.
fn as_object(fields: &mut Map<String, Value>, name: &str) {
    let text = fields.get(name).and_then(Value::as_str);
    if let Some(object @ Value::Object(_)) = text.and_then(|text| serde_json::from_str(text).ok()) {
        fields.insert(name.to_owned(), object);
    }
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
    let filter = format!("{QUIET},{}", directives.join(","));
    EnvFilter::builder().parse(filter).map_err(|error| wrong(error.to_string()))
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
        let subscriber = subscriber(&settings, "stockloop", terminal, move || out.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(sku = "85123A", "applied");
            let service = tracing::error_span!("service", service = "order-service");
            let trace_id = format_args!("{:032x}", 7);
            let request = tracing::error_span!(parent: &service, "request", %trace_id);
            request.in_scope(|| tracing::warn!(event_id = "1", service = "own", "failed"));
            service.in_scope(|| tracing::warn!(event_id = "2", "failed"));
            tracing::debug!("unheard");
        });
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn elsewhere_than_on_a_terminal_lines_are_json() {
        let lines = logged(LogFormat::Auto, "info", false);
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let line = &lines[0];
        assert_eq!((&line["message"], &line["sku"]), (&"applied".into(), &"85123A".into()));
        assert_eq!((&line["level"], &line["service"]), (&"INFO".into(), &"stockloop".into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        let [own, named] = [&lines[1], &lines[2]];
        assert_eq!(own["trace_id"], "00000000000000000000000000000007");
        assert_eq!((&own["event_id"], &own["service"]), (&"1".into(), &"own".into()));
        assert_eq!(
            (&named["service"], &named["trace_id"]),
            (&"order-service".into(), &Value::Null)
        );
    }

    #[test]
    fn settings_are_an_object_in_json() {
        let mut fields = Map::new();
        fields.insert("settings".to_owned(), Value::from(r#"{"http":{"bind":"127.0.0.1:0"}}"#));
        as_object(&mut fields, "settings");
        assert_eq!(fields["settings"]["http"]["bind"], "127.0.0.1:0");
        fields.insert("settings".to_owned(), Value::from("no object"));
        as_object(&mut fields, "settings");
        assert_eq!(fields["settings"], "no object");
    }

    #[test]
    fn text_says_the_same_and_the_filter_holds() {
        let lines = logged(LogFormat::Text, "warn,common=info", false);
        assert!(lines.contains("applied sku=\"85123A\""), "{lines}");
        assert!(!lines.contains("unheard"));
        assert!(lines.contains("service{service=\"order-service\"}: "), "{lines}");
        assert_eq!(logged(LogFormat::Text, "error", false), "");
    }

    #[test]
    fn a_bad_filter_is_refused_with_an_example() {
        for bad in ["inof", "info,common=loud", "", "info,,", "info,common=[", "9"] {
            let error = filter(bad).map(drop).unwrap_err().to_string();
            assert!(error.contains("write for example info"), "{error}");
        }
        for good in ["info", "INFO, engine::outbox=debug", "off", "warn,hyper=info"] {
            assert!(filter(good).is_ok(), "{good}");
        }
    }
}
