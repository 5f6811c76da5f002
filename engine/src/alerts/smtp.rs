//! One conversation with an SMTP server per mail, in which each recipient is judged by itself.
//!
//! lettre's own transport ends the conversation at the first recipient that the server refuses, so that one mailbox
//! that is gone would keep the mail from all others.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use common::config::{MailSettings, MailTls};
use common::tls::authorities;
use lettre::address::{Address, Envelope};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{
    ClientId, Extension, MailBodyParameter, MailParameter, ServerInfo,
};
use lettre::transport::smtp::response::Response;
use secrecy::ExposeSecret;

use super::recipients::Verdict;

/// How long the server may take to say goodbye; what it has taken by then is sent.
const GOODBYE: Duration = Duration::from_secs(1);

/// An SMTP server and how to talk to it.
#[derive(Clone)]
pub(super) struct Smtp {
    host: String,
    port: u16,
    tls: Encryption,
    credentials: Option<Credentials>,
    timeout: Duration,
}

/// How the connection is protected.
#[derive(Clone)]
enum Encryption {
    None,
    /// Begins in clear, and goes on encrypted or not at all.
    Starttls(TlsParameters),
    /// Encrypted from the first byte.
    Tls(TlsParameters),
}

impl Smtp {
    /// Makes what `settings` ask for; connects to nothing yet.
    ///
    /// # Errors
    /// Which setting is wrong and why.
    pub(super) fn open(settings: &MailSettings) -> anyhow::Result<Self> {
        let host = settings.host.trim();
        ensure!(
            !host.is_empty(),
            "mail.host is empty; name the SMTP server, or set mail.transport to file or off"
        );
        Ok(Self {
            host: host.to_owned(),
            port: settings.port,
            tls: encryption(settings, host)?,
            credentials: credentials(settings)?,
            timeout: settings.timeout,
        })
    }

    /// Hands one mail over; a verdict for each recipient of `envelope`, in its order.
    ///
    /// # Errors
    /// What failed for all recipients alike.
    pub(super) async fn send(
        &self,
        envelope: &Envelope,
        mail: &[u8],
    ) -> anyhow::Result<Vec<Verdict>> {
        let mut connection = self.connect().await?;
        let verdicts = hand_over(&mut connection, envelope, mail).await;
        // A server that took the mail and says nothing more must not make it look unsent.
        let _ = tokio::time::timeout(GOODBYE, connection.abort()).await;
        verdicts
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let (server, hello) = ((self.host.as_str(), self.port), ClientId::default());
        let from_the_start = match &self.tls {
            Encryption::Tls(parameters) => Some(parameters.clone()),
            Encryption::None | Encryption::Starttls(_) => None,
        };
        let timeout = Some(self.timeout);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, timeout, &hello, from_the_start, None)
                .await?;
        if let Encryption::Starttls(parameters) = &self.tls {
            connection.starttls(parameters.clone(), &hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

/// The mail's transaction; without a recipient that the server takes, it ends before the content.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    mail: &[u8],
) -> anyhow::Result<Vec<Verdict>> {
    let parameters = parameters(connection.server_info(), envelope, mail)?;
    connection.command(Mail::new(envelope.from().cloned(), parameters)).await?;
    let mut verdicts = Vec::with_capacity(envelope.to().len());
    for address in envelope.to() {
        let reply = connection.command(Rcpt::new(address.clone(), Vec::new())).await;
        verdicts.push(verdict(reply)?);
    }
    if verdicts.contains(&Verdict::Taken) {
        connection.command(Data).await?;
        connection.message(mail).await?;
    }
    Ok(verdicts)
}

/// What the server has to know of a mail that is not ASCII throughout.
fn parameters(
    server: &ServerInfo,
    envelope: &Envelope,
    mail: &[u8],
) -> anyhow::Result<Vec<MailParameter>> {
    let mut parameters = Vec::new();
    if envelope.from().into_iter().chain(envelope.to()).any(is_international) {
        ensure!(
            server.supports_feature(Extension::SmtpUtfEight),
            "an address is not ASCII, and the server does not support SMTPUTF8"
        );
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !mail.is_ascii() {
        ensure!(
            server.supports_feature(Extension::EightBitMime),
            "the mail is not ASCII, and the server does not support 8BITMIME"
        );
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(parameters)
}

fn is_international(address: &Address) -> bool {
    let text: &str = address.as_ref();
    !text.is_ascii()
}

/// What the answer to `RCPT TO` means; an error: there was none.
fn verdict(reply: Result<Response, SmtpError>) -> anyhow::Result<Verdict> {
    let Err(error) = reply else { return Ok(Verdict::Taken) };
    match error.status().map(u16::from) {
        Some(code) if Verdict::is_final(code) => Ok(Verdict::Refused(error.to_string())),
        Some(_) => Ok(Verdict::Later(error.to_string())),
        None => Err(error.into()),
    }
}

fn encryption(settings: &MailSettings, host: &str) -> anyhow::Result<Encryption> {
    let parameters = || tls_parameters(host, &settings.ca_file);
    Ok(match settings.tls {
        MailTls::None => {
            ensure!(
                settings.ca_file.is_empty(),
                "mail.ca_file is set, but mail.tls is none: nothing would be encrypted; set it to starttls or tls"
            );
            Encryption::None
        }
        MailTls::Starttls => Encryption::Starttls(parameters()?),
        MailTls::Tls => Encryption::Tls(parameters()?),
    })
}

/// Believes the authorities of `ca_file` alone, if there is one.
fn tls_parameters(host: &str, ca_file: &str) -> anyhow::Result<TlsParameters> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if !ca_file.is_empty() {
        parameters = parameters.certificate_store(CertificateStore::None);
        for authority in authorities("mail.ca_file", ca_file)? {
            let authority = Certificate::from_der(authority.to_vec())
                .with_context(|| format!("mail.ca_file {ca_file:?} can't be used"))?;
            parameters = parameters.add_root_certificate(authority);
        }
    }
    let at_fault = if ca_file.is_empty() { "" } else { ", or mail.ca_file is no authority's" };
    parameters
        .build()
        .with_context(|| format!("mail.host {host:?} can't be used with TLS{at_fault}"))
}

fn credentials(settings: &MailSettings) -> anyhow::Result<Option<Credentials>> {
    let password = settings.password.expose_secret();
    match (settings.username.is_empty(), password.is_empty()) {
        (true, true) => return Ok(None),
        (false, false) => {}
        (false, true) => bail!("mail.username is set, but mail.password is empty"),
        (true, false) => bail!("mail.password is set, but mail.username is empty"),
    }
    if settings.tls == MailTls::None {
        tracing::warn!(
            "mail.tls is none: the password of mail.username crosses the network in clear"
        );
    }
    Ok(Some(Credentials::new(settings.username.clone(), password.to_owned())))
}
