//! Paths of URLs, spelled in one way.

use std::fmt::Write as _;

use actix_web::HttpRequest;

use crate::text::percent_decoded;

/// `text` as one segment of a URL's path, or as a value of its query: what is not unreserved (RFC 3986) is
/// percent-encoded.
pub fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

/// The path of `request`, the same for every spelling that its handler can't tell apart.
pub(super) fn plain_path(request: &HttpRequest) -> String {
    // The router has decoded all but `%`, `/` and `+`, so a slash that is left parts two segments.
    let segments = request.match_info().as_str().split('/');
    let plain = |segment| path_segment(&percent_decoded(segment));
    segments.map(plain).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn plain(path: &str) -> String {
        plain_path(&TestRequest::with_uri(path).to_http_request())
    }

    #[test]
    fn every_spelling_of_a_path_is_one() {
        for path in ["/a/I%2FJ/b", "/a/I%2fJ/b", "/a/%49%2fJ/b", "/%61/I%2F%4a/b?c=d"] {
            assert_eq!(plain(path), "/a/I%2FJ/b", "{path}");
        }
        assert_eq!(plain("/1+1"), plain("/1%2b1"));
        assert_eq!(plain("/%E6%97%A5"), plain("/%e6%97%a5"));
        assert_eq!(plain("/a~b"), plain("/a%7eb"));
    }

    #[test]
    fn different_paths_stay_different() {
        let paths = [
            "/I/J",
            "/I%2FJ",
            "/I%252FJ",
            "/I%25252FJ",
            "/i%2FJ",
            "/I%2FJ/",
            "/I%00J",
            "/%",
            "/%2",
        ];
        for (n, path) in paths.iter().enumerate() {
            for other in &paths[n + 1..] {
                assert_ne!(plain(path), plain(other), "{path} {other}");
            }
        }
    }

    #[test]
    fn what_is_spelled_plainly_stays_as_it_is() {
        for path in ["/", "/api/v1/inventory/85123A/adjustments", "/a%20b/%C3%BC", "/x/%25"] {
            assert_eq!(plain(path), path);
        }
    }
}
