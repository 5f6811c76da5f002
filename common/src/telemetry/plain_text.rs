//! The older text format of Prometheus, for whoever asks for `text/plain` only.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::collections::BTreeMap;

use actix_web::http::header::{ACCEPT, HeaderMap};

/// Its media type.
pub(super) const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a client asks for this format and does not know OpenMetrics.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accepts.contains("text/plain") && !accepts.contains("application/openmetrics-text")
}

/// What `open_metrics` says, in this format: a family of counters is named with its `_total`, one of infos is a gauge
/// named with its `_info`, and there are no units and no end.
pub(super) fn of(open_metrics: &str) -> String {
    let suffixes: BTreeMap<&str, &str> = open_metrics.lines().filter_map(suffix).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| !is_foreign(line)) {
        match described(line)
            .and_then(|(what, name, rest)| Some((what, name, suffixes.get(name)?, rest)))
        {
            Some(("TYPE", name, suffix, "info")) => {
                text.extend(["# TYPE ", name, suffix, " gauge"]);
            }
            Some((what, name, suffix, rest)) => {
                text.extend(["# ", what, " ", name, suffix, " ", rest]);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// The family that a `# TYPE` line names, and what its samples are called besides.
fn suffix(line: &str) -> Option<(&str, &str)> {
    match line.strip_prefix("# TYPE ")?.split_once(' ')? {
        (name, "counter") => Some((name, "_total")),
        (name, "info") => Some((name, "_info")),
        _ => None,
    }
}

fn is_foreign(line: &str) -> bool {
    line == "# EOF" || line.starts_with("# UNIT ")
}

/// `# HELP name rest` or `# TYPE name rest`.
fn described(line: &str) -> Option<(&str, &str, &str)> {
    let (what, named) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = named.split_once(' ')?;
    matches!(what, "HELP" | "TYPE").then_some((what, name, rest))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn counters_keep_their_names_and_all_else_its_lines() {
        let open = "# HELP a_sent What was sent.\n# TYPE a_sent counter\na_sent_total{to=\"b\"} 2\n\
                    # HELP a_age_seconds How old.\n# TYPE a_age_seconds gauge\n# UNIT a_age_seconds seconds\n\
                    a_age_seconds 1.5\n# HELP a_build What runs.\n# TYPE a_build info\na_build_info{v=\"1\"} 1\n# EOF\n";
        let plain = "# HELP a_sent_total What was sent.\n# TYPE a_sent_total counter\na_sent_total{to=\"b\"} 2\n\
                     # HELP a_age_seconds How old.\n# TYPE a_age_seconds gauge\na_age_seconds 1.5\n# HELP a_build_info What runs.\n# TYPE a_build_info gauge\na_build_info{v=\"1\"} 1\n";
        assert_eq!(of(open), plain);
    }
}
