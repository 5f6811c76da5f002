//! What to do where a client's certificate is what keeps libpq from its server.

/// What libpq, or the server by an alert or an error, says of the client's certificate or its key; and what to do about it.
const ADVICE: [(&str, &str); 8] = [
    (
        "requires a valid client certificate",
        "name a certificate and its key in the URL: sslcert=…&sslkey=…; a file that is not there counts as none",
    ),
    (
        "certificate authentication failed",
        "the common name of the certificate of sslcert has to be the user of the URL, or what pg_ident.conf maps to that",
    ),
    (
        "alert unknown ca",
        "the certificate of sslcert has to be of an authority that the server believes, by its ssl_ca_file",
    ),
    ("alert certificate expired", "the certificate of sslcert is over: put a new one in its place"),
    ("group or world access", "have nobody but its owner read the file of sslkey: chmod 600"),
    ("private key file", "sslkey in the URL has to name the key of the certificate of sslcert"),
    ("could not open certificate file", UNREADABLE),
    ("could not read certificate file", UNREADABLE),
];

const UNREADABLE: &str =
    "sslcert in the URL has to name a certificate as PEM that this program may read";

/// The words, and what to do where they are of a client's certificate.
pub(super) fn explained(words: String) -> String {
    match ADVICE.iter().find(|(sign, _)| words.contains(sign)) {
        Some((_, advice)) => format!("{words} ({advice})"),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::explained;

    #[test]
    fn what_to_do_is_told_behind_what_is_wrong() {
        for (words, advice) in [
            ("FATAL:  connection requires a valid client certificate", "sslcert=…&sslkey=…"),
            ("FATAL:  certificate authentication failed for user \"u\"", "common name"),
            ("SSL error: tlsv1 alert unknown ca", "ssl_ca_file"),
            ("SSL error: sslv3 alert certificate expired", "is over"),
            ("SSL error: ssl/tls alert certificate expired", "is over"),
            ("private key file \"k\" has group or world access; file must have", "chmod 600"),
            ("certificate present, but not private key file \"k\"", "the key of the certificate"),
            ("could not open certificate file \"c\": Permission denied", "may read"),
        ] {
            let told = explained(words.to_owned());
            assert!(told.starts_with(&format!("{words} (")) && told.contains(advice), "{told}");
        }
        for words in ["could not read root certificate file \"r\": no", "FATAL:  no user \"u\""] {
            assert_eq!(explained(words.to_owned()), words, "it is of no client's certificate");
        }
    }
}
