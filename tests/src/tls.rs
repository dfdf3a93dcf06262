//! Certificates of our own, made anew for each process, and servers that use them.

use std::{
    fs,
    net::TcpListener,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use respire::TlsConfig;
use respire_cli::local_server::{Flavour, LocalServer};

/// An authority, and the directory where what it has signed lies.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    ///
    /// # Panics
    ///
    /// When it cannot be made or written.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Self { issuer, directory };
        fs::write(authority.file(), authority.issuer.pem()).expect("a file");
        authority
    }

    /// Its own certificate, in PEM.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these host names and IP addresses, named after the first.
    ///
    /// # Panics
    ///
    /// When it cannot be made or written.
    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| {})
    }

    /// As [`sign`](Self::sign), with something about it changed.
    ///
    /// # Panics
    ///
    /// When it cannot be made or written.
    pub fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(owned).expect("names that can be certified");
        params.distinguished_name = named(names[0]);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let number = fs::read_dir(self.directory.path()).expect("our directory").count();
        let file = |kind: &str| self.directory.path().join(format!("{number}.{kind}"));
        let signed = Signed { certificate: file("pem"), key: file("key") };
        fs::write(&signed.certificate, certificate.pem()).expect("a file");
        fs::write(&signed.key, key.serialize_pem()).expect("a file");
        signed
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

/// What the servers of this process show and trust, and a client's certificate that they take.
static OURS: LazyLock<(Authority, Signed, Signed)> = LazyLock::new(|| {
    let authority = Authority::new("respire test authority");
    let server = authority.sign(&["localhost", "127.0.0.1", "cache.test"]);
    let client = authority.sign(&["client.test"]);
    (authority, server, client)
});

/// The authority that the servers of this process trust, and that has signed their certificates.
pub fn authority() -> &'static Authority {
    &OURS.0
}

/// A certificate for localhost, 127.0.0.1 and cache.test, signed by [`authority`].
pub fn server_files() -> &'static Signed {
    &OURS.1
}

/// A client's certificate that is signed by [`authority`].
pub fn client_files() -> &'static Signed {
    &OURS.2
}

/// What a client needs for a [`TlsServer`]: the authority, and a certificate of its own.
pub fn client_tls() -> TlsConfig {
    let Signed { certificate, key } = client_files();
    TlsConfig::new().with_ca_file(authority().file()).with_client_files(certificate, key)
}

/// A server that also listens for TLS, and takes clients with a certificate only.
#[derive(Debug)]
pub struct TlsServer {
    server: LocalServer,
    port: u16,
}

impl TlsServer {
    /// Starts one with these arguments in addition, on a Unix socket and on a TCP port as well.
    ///
    /// # Panics
    ///
    /// When it cannot be started, with the reason.
    pub fn start(flavour: Flavour, args: &[&str]) -> Self {
        let mut failure = None;
        // Another process may take the port between our look and the server's.
        for _ in 0..8 {
            let probe = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
            let port = probe.local_addr().expect("a bound socket has an address").port();
            drop(probe);
            let path = |path: &Path| path.to_str().expect("a path of ours").to_owned();
            let Signed { certificate, key } = server_files();
            let started = LocalServer::builder(flavour)
                .tcp()
                .args(["--tls-port", &port.to_string()])
                .args(["--tls-cert-file", &path(certificate), "--tls-key-file", &path(key)])
                .args(["--tls-ca-cert-file", &path(&authority().file())])
                .args(["--tls-auth-clients", "yes"])
                .args(args)
                .start();
            match started {
                Ok(server) => return Self { server, port },
                Err(error) => failure = Some(error),
            }
        }
        panic!("the test needs a {}: {failure:?}", flavour.program());
    }

    /// The URL of the TLS port, `rediss://127.0.0.1:…`; what [`client_tls`] has is needed as well.
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    /// The TLS port.
    pub fn tls_port(&self) -> u16 {
        self.port
    }
}

impl Deref for TlsServer {
    type Target = LocalServer;

    fn deref(&self) -> &LocalServer {
        &self.server
    }
}

impl DerefMut for TlsServer {
    fn deref_mut(&mut self) -> &mut LocalServer {
        &mut self.server
    }
}
