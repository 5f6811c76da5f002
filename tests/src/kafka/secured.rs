//! Further ways into a broker, which speak TLS.

use std::fs;
use std::path::Path;

use super::settings;
use crate::ports::free_port;
use crate::tls::Identity;

/// One more port that a broker listens on, with TLS.
#[derive(Debug, Clone)]
pub struct SecureListener {
    /// What it is called, in lower case.
    pub name: &'static str,
    /// What it shows.
    pub identity: Identity,
    /// Whom it lets in.
    pub admits: Admits,
}

/// Whom a listener lets in.
#[derive(Debug, Clone)]
pub enum Admits {
    /// Everybody.
    All,
    /// Who shows a certificate of the authority with this one.
    CertifiedBy(String),
    /// This user with this password, by SCRAM-SHA-512.
    User(&'static str, &'static str),
}

/// The listeners of a broker, each on a port of its own.
#[derive(Debug, Default)]
pub(super) struct Secured {
    listeners: Vec<SecureListener>,
    ports: Vec<u16>,
}

impl Secured {
    /// Keeps what `listeners` show in the broker's `folder`.
    pub(super) fn new(listeners: Vec<SecureListener>, folder: &Path) -> anyhow::Result<Self> {
        for SecureListener { name, identity, admits } in &listeners {
            let shown = format!("{}{}", identity.key, identity.certificate);
            fs::write(folder.join(format!("{name}.pem")), shown)?;
            if let Admits::CertifiedBy(authority) = admits {
                fs::write(folder.join(format!("{name}-clients.pem")), authority)?;
            }
        }
        Ok(Self { listeners, ports: Vec::new() })
    }

    /// Listens on other ports from the next start on.
    pub(super) fn take_ports(&mut self) -> anyhow::Result<()> {
        self.ports = self.listeners.iter().map(|_| free_port()).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The port of the listener `name`; nobody listens on 0.
    pub(super) fn port_of(&self, name: &str) -> u16 {
        let mut of_all = self.listeners.iter().zip(&self.ports);
        of_all.find(|(listener, _)| listener.name == name).map_or(0, |(_, port)| *port)
    }

    /// Who is let in by a password, as storage is told of them.
    pub(super) fn users(&self) -> Vec<String> {
        let user = |listener: &SecureListener| match listener.admits {
            Admits::User(name, password) => {
                Some(format!("SCRAM-SHA-512=[name={name},password={password}]"))
            }
            Admits::All | Admits::CertifiedBy(_) => None,
        };
        self.listeners.iter().filter_map(user).collect()
    }

    /// The lines that say so, which come after those of a broker without; none: there are no such listeners.
    pub(super) fn properties(
        &self,
        folder: &Path,
        port: u16,
        controller_port: u16,
    ) -> Option<String> {
        if self.listeners.is_empty() {
            return None;
        }
        let (mut addresses, mut protocols) = (String::new(), String::new());
        let mut lines = String::new();
        for (listener, port) in self.listeners.iter().zip(&self.ports) {
            let name = listener.name.to_uppercase();
            addresses += &format!(",{name}://127.0.0.1:{port}");
            protocols += &format!(",{name}:{}", listener.admits.protocol());
            lines += &listener.properties(folder);
        }
        let ways_in =
            settings::ways_in(port, controller_port, [&addresses, &addresses, &protocols]);
        Some(ways_in + &lines)
    }
}

impl SecureListener {
    fn properties(&self, folder: &Path) -> String {
        let (name, folder) = (self.name, folder.display());
        let more = match self.admits {
            Admits::All => String::new(),
            Admits::CertifiedBy(_) => format!(
                "listener.name.{name}.ssl.truststore.type=PEM
listener.name.{name}.ssl.truststore.location={folder}/{name}-clients.pem
listener.name.{name}.ssl.client.auth=required
"
            ),
            Admits::User(..) => format!(
                "listener.name.{name}.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.{name}.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
"
            ),
        };
        format!(
            "listener.name.{name}.ssl.keystore.type=PEM
listener.name.{name}.ssl.keystore.location={folder}/{name}.pem
{more}"
        )
    }
}

impl Admits {
    fn protocol(&self) -> &'static str {
        match self {
            Self::All | Self::CertifiedBy(_) => "SSL",
            Self::User(..) => "SASL_SSL",
        }
    }
}
