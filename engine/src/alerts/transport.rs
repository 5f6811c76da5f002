//! The ways that mail can leave: SMTP, files, memory, or not at all.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use common::config::{MailSettings, MailTransport};
use lettre::address::Envelope;
use lettre::{AsyncFileTransport, AsyncTransport, Tokio1Executor};

use super::recipients::Verdict;
use super::smtp::Smtp;

/// Mails that [`MemoryMails`] keeps; the oldest go first.
const KEPT: usize = 10_000;

/// One of the ways, ready for use.
#[derive(Clone)]
pub(super) enum Transport {
    Smtp(Smtp),
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
            MailTransport::Smtp => Smtp::open(settings).map(Self::Smtp),
            MailTransport::File => file(&settings.directory).map(Self::File),
            MailTransport::Memory => Ok(Self::Memory(MemoryMails::default())),
            MailTransport::Off => Ok(Self::Off),
        }
    }

    /// Hands one mail over; a verdict for each recipient of `envelope`, in its order.
    ///
    /// # Errors
    /// Why it could not be, in words for an operator.
    pub(super) async fn send(
        &self,
        envelope: &Envelope,
        mail: &[u8],
    ) -> anyhow::Result<Vec<Verdict>> {
        match self {
            Self::Smtp(smtp) => smtp.send(envelope, mail).await,
            Self::File(file) => {
                file.send_raw(envelope, mail).await?;
                Ok(vec![Verdict::Taken; envelope.to().len()])
            }
            Self::Memory(memory) => memory.send(envelope, mail),
            Self::Off => bail!("mail.transport is off"),
        }
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
    /// Recipients that are refused, with the code of the reply.
    refused: Vec<(String, u16)>,
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

    /// Refuses the recipient `address` with the reply `code` from now on.
    pub fn refuse(&self, address: &str, code: u16) {
        self.memory().refused.push((address.to_owned(), code));
    }

    /// Refuses nobody any more.
    pub fn refuse_nobody(&self) {
        self.memory().refused.clear();
    }

    fn send(&self, envelope: &Envelope, mail: &[u8]) -> anyhow::Result<Vec<Verdict>> {
        let mut memory = self.memory();
        if memory.failures > 0 {
            memory.failures -= 1;
            bail!("the mail server is down, as the test asked");
        }
        let verdicts: Vec<Verdict> =
            envelope.to().iter().map(|to| memory.verdict(to.as_ref())).collect();
        if verdicts.contains(&Verdict::Taken) {
            memory.keep(mail);
        }
        Ok(verdicts)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn verdict(&self, address: &str) -> Verdict {
        let refused = self.refused.iter().find(|(refused, _)| refused == address);
        match refused.map(|(_, code)| *code) {
            None => Verdict::Taken,
            Some(code) if Verdict::is_final(code) => {
                Verdict::Refused(format!("{code}, as the test asked"))
            }
            Some(code) => Verdict::Later(format!("{code}, as the test asked")),
        }
    }

    fn keep(&mut self, mail: &[u8]) {
        if self.mails.len() == KEPT {
            self.mails.pop_front();
        }
        self.mails.push_back(mail.to_vec());
    }
}
