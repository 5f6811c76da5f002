//! An authority of a test's own, what it certifies, and servers that show that.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io, mem};

use anyhow::anyhow;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
pub use tokio_rustls::TlsAcceptor;

use crate::scratch;

/// An authority that certifies whatever a test likes.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate and its key, both as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// An authority of this name; nobody believes it who is not told of [`Self::file`].
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut of_itself = called(name, &[])?;
        of_itself.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        of_itself.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(of_itself, KeyPair::generate()?)?;
        let authority = Self { issuer, folder: scratch::folder("authority")? };
        fs::write(authority.file(), authority.pem())?;
        Ok(authority)
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The file with its certificate, as settings name it.
    pub fn file(&self) -> String {
        self.folder.join("ca.pem").display().to_string()
    }

    /// Certifies that whoever has the key is `name`: a host's name or address, or a client's name.
    pub fn certify(&self, name: &str) -> anyhow::Result<Identity> {
        self.sign(&called(name, &[name])?)
    }

    /// The same, but it was so until long ago.
    pub fn certify_once(&self, name: &str) -> anyhow::Result<Identity> {
        let mut params = called(name, &[name])?;
        (params.not_before, params.not_after) =
            (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        scratch::discard(mem::take(&mut self.folder));
    }
}

fn called(name: &str, addresses: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let addresses: Vec<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    let mut params = CertificateParams::new(addresses)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

impl Identity {
    /// What a server shows this by.
    pub fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let chain = chain.map_err(|error| anyhow!("the certificate is not PEM: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| anyhow!("the key is not PEM: {error}"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A front of a server on this machine that speaks no TLS, as a proxy may be; it ends when dropped.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// Shows `identity` for the server on `port`.
    pub async fn start(identity: &Identity, port: u16) -> anyhow::Result<Self> {
        let (acceptor, server) = (identity.acceptor()?, port);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(acceptor.clone(), client, server));
            }
        });
        Ok(Self { port, task })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends with either side; a client that does not believe the certificate is its own business.
async fn pass_on(acceptor: TlsAcceptor, client: TcpStream, server: u16) -> io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
