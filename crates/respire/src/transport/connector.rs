//! Who dials.

use std::{
    collections::BTreeMap,
    fmt, io,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use super::Transport;
use crate::{config::Address, error::Error};

/// What [`Connector::connect`] returns.
pub type ConnectFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Transport>> + Send + 'a>>;

/// Dials, in place of the client.
///
/// What it hands out are the server's bytes as they travel: where the settings ask for TLS (`rediss://`, `valkeys://`,
/// [`Config::with_tls`](crate::Config::with_tls)), the client speaks it over them, and expects the certificate of the
/// address's host, or of [`TlsConfig::with_server_name`](crate::TlsConfig::with_server_name), however the connector got
/// there.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use respire::{Address, Config, transport::{ConnectFuture, Connector, Transport}};
///
/// /// Sends through a proxy, in a way of our own.
/// #[derive(Debug)]
/// struct Tunnel {
///     proxy: String,
/// }
///
/// impl Connector for Tunnel {
///     fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a> {
///         Box::pin(async move {
///             let stream = tokio::net::TcpStream::connect(&self.proxy).await?;
///             stream.set_nodelay(true)?;
///             // Ask the proxy for `address` here.
///             let (receive, send) = stream.into_split();
///             Ok(Transport::of_streams(receive, send))
///         })
///     }
/// }
///
/// let config: Config = "valkeys://cache.internal".parse()?;
/// let config = config.with_connector(Arc::new(Tunnel { proxy: "127.0.0.1:1080".to_owned() }));
/// # let _ = config;
/// # Ok::<(), respire::Error>(())
/// ```
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Establishes a connection to `address`, for each connection and so after each loss anew. The handshake with the
    /// server is the client's.
    ///
    /// # Errors
    ///
    /// When there is none to be had; [`io::Error::other`] carries any cause.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the connect timeout passes or nobody wants the connection any more, and must leave
    /// nothing behind.
    fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a>;

    /// Whether the client may speak TLS over what this dials, where its settings ask for it: by default. A connector that
    /// encrypts by itself, or leads to where no server speaks TLS, says no, and such settings are an error.
    fn carries_tls(&self) -> bool {
        true
    }

    /// As [`connect`](Self::connect), with what the URL says beyond what the client itself knows. A connector that does not
    /// implement it has no parameters, and a URL with any is an error.
    ///
    /// # Errors
    ///
    /// As `connect`, and [`io::ErrorKind::InvalidInput`] for parameters that cannot be read.
    fn connect_with<'a>(
        &'a self,
        address: &'a Address,
        parameters: &'a Parameters,
    ) -> ConnectFuture<'a> {
        match parameters.iter().next() {
            None => self.connect(address),
            Some((name, _)) => Box::pin(std::future::ready(Err(Parameters::unknown(name)))),
        }
    }
}

/// The parameters of a URL of the form `valkey+name://…` that the client does not know and leaves to the transport. Each
/// name is there once. `Debug` does not show the values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Box<str>, Box<str>)>);

impl Parameters {
    /// Names and values, in the URL's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// What a connector says of a parameter that it does not know either.
    pub fn unknown(name: &str) -> io::Error {
        let text = format!("neither the client nor the transport knows the URL parameter {name:?}");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.into(), value.into()));
    }
}

/// For whoever tests a connector. Of a URL, each name is there once.
impl<'a> FromIterator<(&'a str, &'a str)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

static REGISTERED: RwLock<BTreeMap<String, Arc<dyn Connector>>> = RwLock::new(BTreeMap::new());

/// Has all URLs that begin with `redis+name://` or `valkey+name://`, and with TLS `rediss+name://` or `valkeys+name://`,
/// dialled by `connector`, in this process and from the next dial on. They have a host, a port and everything else as `redis://` has; parameters that the client does not know
/// are handed to [`Connector::connect_with`].
///
/// A [`Config::with_connector`](crate::Config::with_connector) goes before it.
///
/// # Errors
///
/// When the name is not made of lower-case letters and digits with a letter first, is `unix`, or was registered before.
pub fn register(name: &str, connector: Arc<dyn Connector>) -> Result<(), Error> {
    if !is_name(name) {
        return Err(Error::config(format!(
            "{name:?} is no name for a transport: it is made of lower-case letters and digits, a letter first, and not \"unix\""
        )));
    }
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    if registered.contains_key(name) {
        return Err(Error::config(format!("a transport is registered as {name:?} already")));
    }
    registered.insert(name.to_owned(), connector);
    Ok(())
}

/// Whether a transport may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && name != "unix"
}

/// The connector that was registered under a name.
pub(crate) fn registered(name: &str) -> Option<Arc<dyn Connector>> {
    REGISTERED.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Refuses;

    impl Connector for Refuses {
        fn connect<'a>(&'a self, _: &'a Address) -> ConnectFuture<'a> {
            Box::pin(async { Err(io::Error::other("not today")) })
        }
    }

    #[tokio::test]
    async fn a_registered_name_dials_and_its_failure_is_the_cause() {
        for name in ["", "unix", "Up", "9", "a-b", "a+b"] {
            assert!(register(name, Arc::new(Refuses)).unwrap_err().is_config(), "{name}");
        }
        let unknown = crate::Client::connect("valkey+refuses://h").await.unwrap_err();
        assert!(unknown.is_connect() && unknown.fault() == crate::Fault::Caller, "{unknown:?}");
        register("refuses", Arc::new(Refuses)).unwrap();
        let error = crate::Client::connect("valkey+refuses://h").await.unwrap_err();
        assert!(error.is_connect() && format!("{error:#}").ends_with("not today"), "{error:#}");
        let error = crate::Client::connect("valkey+refuses://h?today=no").await.unwrap_err();
        assert!(format!("{error:#}").contains("parameter \"today\""), "{error:#}");
        assert_eq!(error.fault(), crate::Fault::Caller);
        assert!(
            register("refuses", Arc::new(Refuses)).unwrap_err().to_string().contains("already")
        );
    }
}
