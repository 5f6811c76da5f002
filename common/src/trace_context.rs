//! W3C trace context: which trace something belongs to, as the `traceparent` header writes it.
//!
//! <https://www.w3.org/TR/trace-context/#traceparent-header>

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::env::Env;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span in it; never 0.
    pub span: u64,
    /// Whether its spans are recorded.
    pub sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no traceparent")]
pub struct NoTraceContext;

impl TraceContext {
    /// The beginning of a new trace.
    pub fn root(env: &Env, sampled: bool) -> Self {
        // Zero is no id; to draw it has a chance of 1 in 2^64.
        let trace = u128::from_be_bytes(env.random_bytes()).max(1);
        Self { trace, span: span_id(env), sampled }
    }

    /// A new place below this one.
    #[must_use]
    pub fn child(self, env: &Env) -> Self {
        Self { span: span_id(env), ..self }
    }
}

fn span_id(env: &Env) -> u64 {
    u64::from_be_bytes(env.random_bytes()).max(1)
}

/// The id of the trace that a valid `traceparent` names, as logs and collectors write it.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    TraceContext::from_str(traceparent).ok().and_then(|_| traceparent.get(3..35))
}

/// Whether the trace that `traceparent` names is recorded.
pub fn is_sampled(traceparent: &str) -> bool {
    traceparent.parse().is_ok_and(|context: TraceContext| context.sampled)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may go on after a dash, and `ff` is none.
impl FromStr for TraceContext {
    type Err = NoTraceContext;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let mut hex = |length: usize| {
            let part = parts.next().unwrap_or_default();
            let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let is_hex = part.len() == length && part.bytes().all(digits);
            is_hex.then(|| u128::from_str_radix(part, 16).ok()).flatten().ok_or(NoTraceContext)
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let ends = parts.next().is_none();
        let span = u64::try_from(span).map_err(|_| NoTraceContext)?;
        let is_valid = version != 0xff && trace != 0 && span != 0 && (ends || version != 0);
        if !is_valid || text.len() > 256 {
            return Err(NoTraceContext);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn is_valid(text: &str) -> bool {
        text.parse::<TraceContext>().is_ok()
    }

    #[test]
    fn knows_a_trace_from_noise() {
        assert!(is_valid(GOOD));
        assert!(is_valid(&GOOD.replace("00-0af", "cc-0af")));
        assert!(is_valid(&format!("{}-more", GOOD.replace("00-0af", "cc-0af"))));
        for bad in [
            "",
            "00",
            &GOOD.replace("00-0af", "ff-0af"),
            &GOOD.to_uppercase(),
            &GOOD.replace("00-0af", "00-+af"),
            &format!("{GOOD}-more"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn is_written_as_it_was_read_and_a_child_stays_in_the_trace() {
        let context: TraceContext = GOOD.parse().unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(trace_id(GOOD), Some("0af7651916cd43dd8448eb211c80319c"));
        let child = context.child(&Env::system());
        assert_eq!((child.trace, child.sampled), (context.trace, true));
        assert_ne!(child.span, context.span);
        let root = TraceContext::root(&Env::system(), false);
        assert_eq!(root.to_string().parse(), Ok(root));
    }
}
