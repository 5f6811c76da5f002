//! The trace that a request belongs to, as the W3C `traceparent` header names it.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

/// A valid `traceparent`, if the request has exactly one; anything else counts as none, as W3C asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceParent(pub Option<String>);

impl FromRequest for TraceParent {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut headers = request.headers().get_all("traceparent");
        let only = match (headers.next(), headers.next()) {
            (Some(header), None) => header.to_str().ok(),
            _ => None,
        };
        ready(Ok(Self(only.filter(|text| is_valid(text)).map(str::to_owned))))
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may go on after a dash, and `ff` is none.
fn is_valid(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        let part = parts.next().unwrap_or_default();
        let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (part.len() == length && part.bytes().all(digits)).then_some(part)
    };
    let (Some(version), Some(trace), Some(span), Some(_flags)) = (hex(2), hex(32), hex(16), hex(2))
    else {
        return false;
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let ends = parts.next().is_none();
    version != "ff"
        && !is_zero(trace)
        && !is_zero(span)
        && (ends || version != "00")
        && text.len() <= 256
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn knows_a_trace_from_noise() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_valid(good));
        assert!(is_valid(&good.replace("00-0af", "cc-0af")));
        assert!(is_valid(&format!("{}-more", good.replace("00-0af", "cc-0af"))));
        for bad in [
            "",
            "00",
            &good.replace("00-0af", "ff-0af"),
            &good.to_uppercase(),
            &format!("{good}-more"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
