//! From settings to what rustls needs for a session.

use std::{
    fmt, fs,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use crate::{
    config::{Identity, Pem, TlsConfig, TlsVersion},
    error::ConnectFailure,
};

/// Settings, and what was made of them: one for all connections, because it holds the sessions that a later one resumes.
pub(crate) struct Tls {
    settings: TlsConfig,
    built: Mutex<Option<Built>>,
}

struct Built {
    client: Arc<ClientConfig>,
    stamps: Vec<Stamp>,
}

/// When a file was changed last, and its size.
type Stamp = Option<(SystemTime, u64)>;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl Tls {
    pub(crate) fn new(settings: TlsConfig) -> Self {
        Self { settings, built: Mutex::new(None) }
    }

    pub(crate) fn settings(&self) -> &TlsConfig {
        &self.settings
    }

    /// A new session with the server at `host`, if that is what the address says. Reads files where it has to, on a
    /// thread for such work.
    pub(crate) async fn session(
        self: &Arc<Self>,
        host: Option<&str>,
    ) -> Result<ClientConnection, ConnectFailure> {
        let Some(name) = self.settings.server_name.as_deref().or(host) else {
            return Err(ConnectFailure::TlsSettings(
                "the address has no host that a certificate could be for: name one in TlsConfig::with_server_name"
                    .to_owned(),
            ));
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            ConnectFailure::TlsSettings(format!(
                "{name:?} is neither a host name nor an IP address that a certificate could be for"
            ))
        })?;
        let this = Arc::clone(self);
        let client = tokio::task::spawn_blocking(move || this.client())
            .await
            .map_err(|cause| ConnectFailure::TlsSettings(cause.to_string()))?
            .map_err(ConnectFailure::TlsSettings)?;
        ClientConnection::new(client, name)
            .map_err(|cause| ConnectFailure::TlsSettings(cause.to_string()))
    }

    fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: one that changes meanwhile is read again at the next dial.
        let stamps: Vec<Stamp> = self.sources().map(stamp).collect();
        if let Some(old) = &*built
            && old.stamps == stamps
        {
            return Ok(Arc::clone(&old.client));
        }
        match (build(&self.settings), &*built) {
            (Ok(client), _) => {
                let client = Arc::new(client);
                *built = Some(Built { client: Arc::clone(&client), stamps });
                Ok(client)
            }
            (Err(reason), Some(old)) => {
                // Perhaps they are just being replaced.
                tracing::warn!(
                    reason,
                    "changed TLS files cannot be used: the old ones stay in use"
                );
                Ok(Arc::clone(&old.client))
            }
            (Err(reason), None) => Err(reason),
        }
    }

    fn sources(&self) -> impl Iterator<Item = &Pem> {
        let TlsConfig { roots, identity, .. } = &self.settings;
        let identity =
            identity.iter().flat_map(|Identity { certificates, key }| [certificates, key]);
        roots.iter().chain(identity)
    }
}

fn stamp(pem: &Pem) -> Stamp {
    let Pem::File(path) = pem else { return None };
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Every provider of cryptography is named here, so that none has to be installed for the process.
fn build(settings: &TlsConfig) -> Result<ClientConfig, String> {
    let versions: &[&'static SupportedProtocolVersion] = match settings.version_min {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .map_err(|cause| cause.to_string())?
        .with_root_certificates(roots(&settings.roots)?);
    let Some(Identity { certificates, key: key_source }) = &settings.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = read_certificates(certificates)?;
    builder.with_client_auth_cert(chain, read_key(key_source)?).map_err(|cause| {
        format!("{certificates} and {key_source} cannot be used together: {cause}")
    })
}

fn roots(sources: &[Pem]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for source in sources {
        for certificate in read_certificates(source)? {
            roots.add(certificate).map_err(|cause| {
                format!("{source} has a certificate that cannot be trusted in: {cause}")
            })?;
        }
    }
    if sources.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        // A system has many, and an odd one among them is no reason to trust none.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let cause = found.errors.first().map_or(String::new(), |cause| format!(": {cause}"));
            return Err(format!(
                "the system has no trusted root certificates, and no CA is named{cause}"
            ));
        }
    }
    Ok(roots)
}

fn read_certificates(source: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(&read(source)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| format!("{source} is not PEM: {}", Cause(cause)))?;
    if certificates.is_empty() {
        return Err(format!("{source} has no certificate in PEM"));
    }
    Ok(certificates)
}

fn read_key(source: &Pem) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(source)?).map_err(|cause| match cause {
        pem::Error::NoItemsFound => {
            format!("{source} has no private key in PEM, or only one that is encrypted")
        }
        cause => format!("{source} is not PEM: {}", Cause(cause)),
    })
}

fn read(source: &Pem) -> Result<Arc<[u8]>, String> {
    match source {
        Pem::Bytes { bytes, .. } => Ok(Arc::clone(bytes)),
        Pem::File(path) => match fs::read(path) {
            Ok(bytes) => Ok(bytes.into()),
            Err(cause) => Err(format!("{source} cannot be read: {cause}")),
        },
    }
}

/// What is wrong with PEM, without quoting it: it may be a key.
struct Cause(pem::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            pem::Error::MissingSectionEnd { .. } => "a section has no end",
            pem::Error::IllegalSectionStart { .. } => "a section's first line is malformed",
            pem::Error::Base64Decode(_) => "a section is not base64",
            pem::Error::SectionTooLarge => "a section is too large",
            _ => "it cannot be decoded",
        })
    }
}
