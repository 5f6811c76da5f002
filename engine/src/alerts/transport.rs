//! The ways that mail can leave: SMTP, files, memory, or not at all.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use common::config::{MailSettings, MailTls, MailTransport};
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncFileTransport, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::ExposeSecret;

/// Mails that [`MemoryMails`] keeps; the oldest go first.
const KEPT: usize = 10_000;

/// One of the ways, ready for use.
#[derive(Clone)]
pub(super) enum Transport {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    File(AsyncFileTransport<Tokio1Executor>),
    Memory(MemoryMails),
    Off,
}

impl Transport {
    /// Makes what `settings` ask for; connects to nothing yet.
    ///
    /// # Errors
    /// Which setting is wrong and why.
    pub(super) fn open(settings: &MailSettings) -> anyhow::Result<Self> {
        ensure!(
            !settings.timeout.is_zero(),
            "mail.timeout is 0: no mail could ever be sent; write 30s, for example"
        );
        match settings.transport {
            MailTransport::Smtp => smtp(settings).map(Self::Smtp),
            MailTransport::File => file(&settings.directory).map(Self::File),
            MailTransport::Memory => Ok(Self::Memory(MemoryMails::default())),
            MailTransport::Off => Ok(Self::Off),
        }
    }

    /// Hands one mail over.
    ///
    /// # Errors
    /// Why it could not be, in words for an operator.
    pub(super) async fn send(&self, envelope: &Envelope, mail: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Smtp(smtp) => smtp.send_raw(envelope, mail).await.map(drop)?,
            Self::File(file) => file.send_raw(envelope, mail).await.map(drop)?,
            Self::Memory(memory) => memory.send(mail)?,
            Self::Off => bail!("mail.transport is off"),
        }
        Ok(())
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smtp(_) => "smtp",
            Self::File(_) => "file",
            Self::Memory(_) => "memory",
            Self::Off => "off",
        })
    }
}

fn smtp(settings: &MailSettings) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
    let host = settings.host.trim();
    ensure!(
        !host.is_empty(),
        "mail.host is empty; name the SMTP server, or set mail.transport to file or off"
    );
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(settings.port)
        .tls(tls(settings.tls, host)?)
        .timeout(Some(settings.timeout));
    if let Some(credentials) = credentials(settings)? {
        builder = builder.credentials(credentials);
    }
    Ok(builder.build())
}

fn tls(tls: MailTls, host: &str) -> anyhow::Result<Tls> {
    let parameters = || {
        TlsParameters::new(host.to_owned())
            .with_context(|| format!("mail.host {host:?} can't be used with TLS"))
    };
    Ok(match tls {
        MailTls::None => Tls::None,
        MailTls::Starttls => Tls::Required(parameters()?),
        MailTls::Tls => Tls::Wrapper(parameters()?),
    })
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

fn file(directory: &str) -> anyhow::Result<AsyncFileTransport<Tokio1Executor>> {
    ensure!(
        !directory.is_empty(),
        "mail.directory is empty; name the folder that mail.transport = \"file\" writes to"
    );
    std::fs::create_dir_all(directory)
        .with_context(|| format!("mail.directory {directory:?} can't be created"))?;
    Ok(AsyncFileTransport::new(directory))
}

/// Mails that "left" into memory, for tests; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MemoryMails(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    mails: VecDeque<Vec<u8>>,
    failures: usize,
}

impl MemoryMails {
    /// The raw mails, oldest first.
    pub fn all(&self) -> Vec<Vec<u8>> {
        self.memory().mails.iter().cloned().collect()
    }

    /// Lets the next `n` tries fail, as if the server were down.
    pub fn fail_next(&self, n: usize) {
        self.memory().failures = n;
    }

    fn send(&self, mail: &[u8]) -> anyhow::Result<()> {
        let mut memory = self.memory();
        if memory.failures > 0 {
            memory.failures -= 1;
            bail!("the mail server is down, as the test asked");
        }
        if memory.mails.len() == KEPT {
            memory.mails.pop_front();
        }
        memory.mails.push_back(mail.to_vec());
        Ok(())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
