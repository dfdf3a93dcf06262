//! Where to connect, as whom, and how long to wait.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use respire_codec::Protocol;

use crate::{
    cache::Tracking,
    error::{ConnectFailure, Error},
    transport::{self, Connector},
};

mod behaviour;
mod credentials;
mod tcp;
mod tls;
mod url;

use behaviour::Behaviour;
pub use behaviour::{WhenDown, WhenFull};
pub use credentials::{Credentials, CredentialsError, CredentialsFuture, CredentialsProvider};
pub use tcp::{Keepalive, TcpConfig};
pub use tls::{TlsConfig, TlsVersion};
#[cfg(feature = "tls")]
pub(crate) use {
    crate::transport::tls::Tls,
    tls::{Identity, Pem},
};

/// What is known of TLS where it is not built in.
#[cfg(not(feature = "tls"))]
#[derive(Debug)]
pub(crate) struct Tls(TlsConfig);

#[cfg(not(feature = "tls"))]
impl Tls {
    fn new(settings: TlsConfig) -> Self {
        Self(settings)
    }

    fn settings(&self) -> &TlsConfig {
        &self.0
    }
}

/// A connection's settings. Starts from a URL, or from an [`Address`] with defaults.
///
/// ```
/// use std::time::Duration;
/// use respire::Config;
///
/// let config: Config = "valkey://app:secret@cache.internal:6380/2?command_timeout=50ms".parse()?;
/// assert_eq!(config.database(), 2);
/// assert_eq!(config.command_timeout(), Some(Duration::from_millis(50)));
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), respire::Error>(())
/// ```
///
/// # URLs
///
/// | form | meaning |
/// |---|---|
/// | `redis://[user][:password@]host[:port][/database]` | TCP; `valkey://` is the same |
/// | `rediss://…`, `valkeys://…` | the same over TLS; see [`TlsConfig`] |
/// | `unix://[user:password@]/path/to.sock` | a Unix socket; `redis+unix://` and `valkey+unix://` are the same; `user` and `pass` may be parameters |
/// | `redis+name://…`, `valkey+name://…` | as `redis://`, but dialled by what was [registered](crate::transport::register) under that name |
/// | `rediss+name://…`, `valkeys+name://…` | the same with TLS over it |
/// | `host`, `host:port` | as with `redis://` before it |
///
/// The host is `localhost` where none is given, the port 6379. `:password@` is the default user's password, `user:@` a user
/// without one. User, password, host and path may be percent-encoded; an IPv6 address stands in brackets. Parameters, each at most once: `db`, `protocol` (`2`, `3`, `resp2`, `resp3`),
/// `client_name`, `connect_timeout`, `command_timeout` (`250ms`, `5s`; a command timeout of `0` means none).
/// Over TLS also `tls_ca`, `tls_cert` and `tls_key`, which are paths of PEM files, `tls_server_name`, and `tls_version_min` (`1.2`,
/// `1.3`). Any other one is an error, but where the URL names a transport, which may know it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    address: Address,
    tls: Option<Arc<Tls>>,
    tcp: TcpConfig,
    /// The name in the URL's scheme of who dials.
    transport: Option<Box<str>>,
    /// What the URL says to it.
    parameters: transport::Parameters,
    connector: Option<Arc<dyn Connector>>,
    user: Option<String>,
    password: Option<Secret>,
    database: u32,
    client_name: Option<String>,
    protocol: Protocol,
    connect_timeout: Duration,
    command_timeout: Option<Duration>,
    in_flight_commands_max: usize,
    in_flight_bytes_max: usize,
    push_queue_items_max: usize,
    push_queue_bytes_max: usize,
    codec_limits: respire_codec::Limits,
    tracking: Option<Arc<Tracking>>,
    behaviour: Behaviour,
}

impl Config {
    /// The port where none is given.
    pub const DEFAULT_PORT: u16 = 6379;

    /// Five seconds: longer than a server's pause for a fork or a slow script, short enough for a person to wait.
    const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

    /// The defaults for an address: no credentials, database 0, RESP3, both timeouts at five seconds.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            tls: None,
            tcp: TcpConfig::new(),
            transport: None,
            parameters: transport::Parameters::default(),
            connector: None,
            user: None,
            password: None,
            database: 0,
            client_name: None,
            protocol: Protocol::Resp3,
            connect_timeout: Self::DEFAULT_TIMEOUT,
            command_timeout: Some(Self::DEFAULT_TIMEOUT),
            in_flight_commands_max: 65_536,
            in_flight_bytes_max: 64 * 1024 * 1024,
            push_queue_items_max: 65_536,
            push_queue_bytes_max: 16 * 1024 * 1024,
            codec_limits: respire_codec::Limits::default(),
            tracking: None,
            behaviour: Behaviour::default(),
        }
    }

    /// Sets another address, and keeps all other settings: for what stands between a client and its server.
    pub fn with_address(mut self, address: Address) -> Self {
        self.address = address;
        self
    }

    /// Sets the ACL user and the password. Without a user the password is the `default` user's.
    pub fn with_credentials(mut self, user: Option<&str>, password: impl Into<Secret>) -> Self {
        self.user = user.map(str::to_owned);
        self.password = Some(password.into());
        self
    }

    /// Sets the database that is selected on every connection.
    pub fn with_database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// Sets the name that `CLIENT LIST` shows for the connection. The server refuses spaces and line breaks in it.
    pub fn with_client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// Sets the protocol to ask for. With [`Protocol::Resp3`], the default, a server that does not know it is spoken to
    /// in RESP2; with [`Protocol::Resp2`], RESP3 is not asked for.
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets how long a connection may take to be established: name resolution, connect and handshake together.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a request may take from the call to its reply: waiting for a connection and for its turn included.
    /// `None` waits as long as the connection lives.
    ///
    /// A connection on which nothing has been answered for this long is replaced.
    pub fn with_command_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// Sets how many commands may be under way on the connection, and how many bytes they may have together; each counts
    /// until its reply is there. More wait for their turn. A request larger than either bound is sent when it is alone.
    pub fn with_in_flight_max(mut self, commands: usize, bytes: usize) -> Self {
        self.in_flight_commands_max = commands.max(1);
        self.in_flight_bytes_max = bytes.max(1);
        self
    }

    /// Sets how many pushes may wait for one reader, and how many bytes they may have together; 65,536 and 16 MiB where
    /// nothing is set. Beyond either, the oldest are dropped, and the reader is told how many.
    pub fn with_push_queue_max(mut self, items: usize, bytes: usize) -> Self {
        self.push_queue_items_max = items.max(1);
        self.push_queue_bytes_max = bytes.max(1);
        self
    }

    /// Encrypts connections, in this way: over TCP, or over what a [connector](Self::with_connector) dials.
    ///
    /// Without the crate's feature `tls`, connecting is an error.
    pub fn with_tls(mut self, tls: TlsConfig) -> Self {
        self.tls = Some(Arc::new(Tls::new(tls)));
        self
    }

    /// Sets how TCP connections are dialled and kept.
    pub fn with_tcp(mut self, tcp: TcpConfig) -> Self {
        self.tcp = tcp;
        self
    }

    /// Has another one dial, for each connection anew. It goes before what the URL's scheme says of the transport. Where
    /// connections are to be encrypted, the client does that over what it dials.
    pub fn with_connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Sets the limits that replies are held to.
    pub fn with_codec_limits(mut self, limits: respire_codec::Limits) -> Self {
        self.codec_limits = limits;
        self
    }

    /// Where to connect.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the connection is to be encrypted.
    pub fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// How connections are encrypted, if they are.
    pub fn tls(&self) -> Option<&TlsConfig> {
        self.tls.as_deref().map(Tls::settings)
    }

    /// The ACL user, if one is named.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The database that is selected.
    pub fn database(&self) -> u32 {
        self.database
    }

    /// The connection's name on the server, if one is set.
    pub fn client_name(&self) -> Option<&str> {
        self.client_name.as_deref()
    }

    /// The protocol to ask for.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How long a connection may take to be established.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// How long a request may take.
    pub fn command_timeout(&self) -> Option<Duration> {
        self.command_timeout
    }

    #[cfg(feature = "tls")]
    pub(crate) fn shared_tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    pub(crate) fn tcp(&self) -> &TcpConfig {
        &self.tcp
    }

    /// Who dials, where it is not us.
    pub(crate) fn connector(&self) -> Result<Option<Arc<dyn Connector>>, ConnectFailure> {
        match (&self.connector, &self.transport) {
            (Some(connector), _) => Ok(Some(Arc::clone(connector))),
            (None, None) => Ok(None),
            (None, Some(name)) => match transport::registered(name) {
                Some(connector) => Ok(Some(connector)),
                None => Err(ConnectFailure::Unregistered(name.clone())),
            },
        }
    }

    /// What the URL says to who dials.
    pub(crate) fn transport_parameters(&self) -> &transport::Parameters {
        &self.parameters
    }

    pub(crate) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    pub(crate) fn in_flight_max(&self) -> (usize, usize) {
        (self.in_flight_commands_max, self.in_flight_bytes_max)
    }

    pub(crate) fn push_queue_max(&self) -> crate::pubsub::QueueMax {
        crate::pubsub::QueueMax {
            items: self.push_queue_items_max,
            bytes: self.push_queue_bytes_max,
        }
    }

    /// Asks the server to say what changes.
    pub(crate) fn with_tracking(mut self, tracking: Tracking) -> Self {
        self.tracking = Some(Arc::new(tracking));
        self
    }

    pub(crate) fn tracking(&self) -> Option<&Tracking> {
        self.tracking.as_deref()
    }

    pub(crate) fn codec_limits(&self) -> respire_codec::Limits {
        self.codec_limits
    }
}

impl FromStr for Config {
    type Err = Error;

    /// Reads a URL. The error names the part that is wrong and never quotes credentials.
    fn from_str(text: &str) -> Result<Self, Error> {
        url::parse(text)
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A host name or an IP address, resolved anew at each dial.
    Tcp {
        /// The name, or the address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// What a certificate could be for.
    #[cfg(feature = "tls")]
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A password. `Debug` does not show it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The password itself. What holds the result must not be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Box<str>>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
