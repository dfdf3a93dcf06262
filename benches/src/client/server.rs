//! The server that all sides talk to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use redis::{Client, Connection};
use respire_cli::local_server::{Flavour, LocalServer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::data::{Data, FIELDS};
use super::workload::Transport;

/// Where the server listens.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The TCP port.
    pub tcp: SocketAddr,
    /// The Unix socket.
    pub unix: PathBuf,
    /// The TCP port for TLS.
    pub tls: SocketAddr,
    /// Who signed the certificate that is shown there.
    pub authority: Authority,
}

/// Who signed the server's certificate.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its certificate, in PEM.
    pub pem: String,
    /// What a client is set up with that trusts nobody else.
    pub config: Arc<ClientConfig>,
}

impl Endpoints {
    /// A URL that every client understands.
    pub fn url(&self, transport: Transport) -> String {
        match transport {
            Transport::Tcp => format!("redis://{}", self.tcp),
            Transport::Unix => format!("redis+unix://{}", self.unix.display()),
            Transport::Tls => format!("rediss://{}", self.tls),
        }
    }
}

/// A private server with the data on it.
#[derive(Debug)]
pub struct Server {
    server: LocalServer,
    /// Its certificate.
    _directory: TempDir,
    /// Where it listens.
    pub endpoints: Endpoints,
    /// Its name and version.
    pub version: String,
}

impl Server {
    /// Starts it and fills it.
    ///
    /// # Errors
    ///
    /// When there is no such server on PATH, or it does not start.
    pub fn start(flavour: Flavour, data: &Data) -> Result<Self> {
        let (directory, authority) = certificates()?;
        let tls = free_port()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let server = LocalServer::builder(flavour)
            .tcp()
            .args(["--tls-port".to_owned(), tls.port().to_string()])
            .args(["--tls-cert-file".to_owned(), path("server.pem")])
            .args(["--tls-key-file".to_owned(), path("server.key")])
            .args(["--tls-ca-cert-file".to_owned(), path("authority.pem")])
            .args(["--tls-auth-clients", "no"])
            .start()?;
        let tcp = server.tcp_address().context("the server has no TCP port")?;
        let unix = server.socket_path().to_owned();
        let endpoints = Endpoints { tcp, unix, tls, authority };
        let client = Client::open(endpoints.url(Transport::Unix))?;
        let mut connection = client.get_connection()?;
        fill(&mut connection, data)?;
        let version = version(&mut connection, flavour)?;
        Ok(Self { server, _directory: directory, endpoints, version })
    }

    /// Its process.
    pub fn process(&self) -> Option<u32> {
        self.server.process_id()
    }
}

/// Makes an authority and a certificate for the loopback address, the latter as files.
fn certificates() -> Result<(TempDir, Authority)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = [Ipv4Addr::LOCALHOST.to_string(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let directory = tempfile::Builder::new().prefix("respire-benches-").tempdir()?;
    let pem = authority.pem();
    std::fs::write(directory.path().join("authority.pem"), &pem)?;
    std::fs::write(directory.path().join("server.pem"), certificate.pem())?;
    std::fs::write(directory.path().join("server.key"), key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der().to_vec()))?;
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok((directory, Authority { pem, config: Arc::new(config) }))
}

/// A port that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn fill(connection: &mut Connection, data: &Data) -> Result<()> {
    let mut pipeline = redis::pipe();
    for (index, key) in data.keys.iter().enumerate() {
        pipeline.cmd("SET").arg(key).arg(Data::value(index).as_slice()).ignore();
    }
    for (index, key) in data.hashes.iter().enumerate() {
        let command = pipeline.cmd("HSET").arg(key);
        for field in 0..FIELDS {
            command.arg(Data::field(index, field)).arg("1");
        }
        command.ignore();
    }
    pipeline.cmd("SET").arg(&data.large_key).arg(&data.large[..]).ignore();
    Ok(pipeline.query(connection)?)
}

fn version(connection: &mut Connection, flavour: Flavour) -> Result<String> {
    let info: String = redis::cmd("INFO").arg("server").query(connection)?;
    // Valkey calls itself Redis 7.2.4 there, too, for the sake of old clients.
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    let version = field("valkey_version:").or_else(|| field("redis_version:"));
    Ok(format!("{} {}", flavour.program(), version.unwrap_or("unknown").trim()))
}
