//! Whom to trust, and as whom to be known.

use std::{fmt, path::PathBuf, sync::Arc};

/// How a connection is encrypted.
///
/// Without anything set: TLS 1.2 or 1.3, the server's certificate is checked against the system's trusted roots and for
/// the host name or IP address that is connected to, and the client shows none of its own.
///
/// ```
/// use respire::{Config, TlsConfig};
///
/// let tls = TlsConfig::new()
///     .with_ca_file("/etc/valkey/ca.pem")
///     .with_client_files("/etc/valkey/client.pem", "/etc/valkey/client.key");
/// let config: Config = "valkeys://cache.internal:6380".parse()?;
/// let config = config.with_tls(tls);
/// assert!(config.uses_tls());
/// # Ok::<(), respire::Error>(())
/// ```
///
/// Files are read when the first connection is dialled, and again when one is dialled after they have changed: renewed
/// certificates need no restart. Where they cannot be used then, what was read before stays in use. All connections of a
/// [`Config`](crate::Config) and its clones share one session cache, so that a connection after the first one needs
/// a shorter handshake where the server allows it.
///
/// The server's certificate is always checked. One that was signed by nobody known is trusted by naming it, or whoever
/// signed it, as the CA. A certificate that says of itself that it is a CA, as `openssl req -x509` makes them, may sign others but is
/// not accepted as a server's own.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TlsConfig {
    pub(crate) roots: Vec<Pem>,
    pub(crate) identity: Option<Identity>,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) version_min: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2, the oldest that is spoken.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// A client's certificates and the key to the first of them.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "without TLS it is only kept"))]
pub(crate) struct Identity {
    pub(crate) certificates: Pem,
    pub(crate) key: Pem,
}

/// Where something in PEM comes from.
#[derive(Clone)]
pub(crate) enum Pem {
    File(PathBuf),
    /// `what` names it in messages.
    Bytes {
        what: &'static str,
        bytes: Arc<[u8]>,
    },
}

impl TlsConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in this PEM file, in place of the system's roots. May be called several times.
    pub fn with_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(Pem::File(path.into()));
        self
    }

    /// Trusts these certificates in PEM, in place of the system's roots. May be called several times.
    pub fn with_ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(Pem::bytes("the CA's PEM", pem));
        self
    }

    /// Shows the server the certificate in this PEM file, followed by those between it and the server's CA if there are any, and proves
    /// to have its private key, which is in another file or the same one.
    pub fn with_client_files(
        mut self,
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let (certificates, key) = (Pem::File(certificates.into()), Pem::File(key.into()));
        self.identity = Some(Identity { certificates, key });
        self
    }

    /// As [`with_client_files`](Self::with_client_files), with what the files hold.
    pub fn with_client_pem(
        mut self,
        certificates: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Self {
        let certificates = Pem::bytes("the client certificate's PEM", certificates);
        let key = Pem::bytes("the client key's PEM", key);
        self.identity = Some(Identity { certificates, key });
        self
    }

    /// Asks for, and expects, the certificate of this host name or IP address, whatever the address that is connected to.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into().into());
        self
    }

    /// The name that the certificate must be for, where it is not that of the address.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Sets the oldest version of TLS that is spoken.
    pub fn with_version_min(mut self, version: TlsVersion) -> Self {
        self.version_min = version;
        self
    }
}

impl Pem {
    fn bytes(what: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes { what, bytes: bytes.as_ref().into() }
    }
}

/// Never shows what may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => fmt::Debug::fmt(path, f),
            Self::Bytes { bytes, .. } => write!(f, "({} bytes)", bytes.len()),
        }
    }
}

/// Names it in messages.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes { what, .. } => f.write_str(what),
        }
    }
}
