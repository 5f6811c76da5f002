//! TLS of clients: whose certificates are believed.

use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// What a client believes: the authorities in `ca_file` and no others, or the usual public ones where it names none.
/// `setting` is where the file is named.
///
/// # Errors
/// What is wrong with the file.
pub fn client_config(setting: &str, ca_file: &str) -> anyhow::Result<ClientConfig> {
    let roots = match ca_file {
        "" => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        file => roots_of(setting, file)?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS can't be set up")?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn roots_of(setting: &str, ca_file: &str) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities(setting, ca_file)? {
        roots.add(certificate).with_context(|| {
            format!("{setting} {ca_file:?} has a certificate that is no authority's")
        })?;
    }
    Ok(roots)
}

/// The certificates in `ca_file`, which is PEM; `setting` is where the file is named.
///
/// # Errors
/// What is wrong with the file.
pub fn authorities(setting: &str, ca_file: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem =
        std::fs::read(ca_file).with_context(|| format!("{setting} {ca_file:?} can't be read"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| anyhow!("{setting} {ca_file:?} is not PEM: {error}"))?;
    ensure!(
        !found.is_empty(),
        "{setting} {ca_file:?} has no certificate in it; it has to be PEM, with BEGIN CERTIFICATE"
    );
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn public_authorities_are_believed_where_no_other_is_named() {
        assert!(client_config("mail.ca_file", "").is_ok());
    }

    #[test]
    fn a_file_that_names_no_authority_is_refused_by_its_setting() {
        let refused = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let path = file.path().to_string_lossy().into_owned();
            format!("{:#}", client_config("mail.ca_file", &path).unwrap_err())
        };
        for (text, told) in [
            ("", "has no certificate in it"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "has no certificate",
            ),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "is not PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no authority's"),
        ] {
            let error = refused(text);
            assert!(error.starts_with("mail.ca_file ") && error.contains(told), "{error}");
        }
        let error = format!("{:#}", client_config("mail.ca_file", "no/such.pem").unwrap_err());
        assert!(error.contains("\"no/such.pem\" can't be read"), "{error}");
    }
}
