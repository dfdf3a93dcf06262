//! Credentials that change.

use std::{error::Error as StdError, fmt, future::Future, pin::Pin, sync::Arc};

use super::{Config, Secret};

/// A user and a password, as they are at one time.
///
/// `Debug` does not show the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    user: Option<String>,
    password: Secret,
}

impl Credentials {
    /// The ACL user and the password. Without a user the password is the `default` user's.
    pub fn new(user: Option<&str>, password: impl Into<Secret>) -> Self {
        Self { user: user.map(str::to_owned), password: password.into() }
    }
}

/// A future in a box, as [`CredentialsProvider`] returns it.
pub type CredentialsFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a provider has no credentials. It must not hold any.
pub type CredentialsError = Box<dyn StdError + Send + Sync>;

/// Where credentials come from that change while a client lives.
///
/// It is asked for each connection that is made. When [`changed`](Self::changed) says so, shared connections are
/// replaced by new ones, which ask again: the new one is made first, requests go over to it, and those under way on the old
/// one are answered there. Dedicated connections that are idle are closed, and those in use when they are given back.
/// The connection of subscriptions stays, since replacing it would cost messages.
///
/// A client waits for changes in the runtime in which its first connection is made.
///
/// ```
/// use respire::{Config, Credentials, CredentialsError, CredentialsFuture, CredentialsProvider};
///
/// /// Reads the password anew for each connection.
/// struct FromFile(std::path::PathBuf);
///
/// impl CredentialsProvider for FromFile {
///     fn credentials(&self) -> CredentialsFuture<'_, Result<Credentials, CredentialsError>> {
///         Box::pin(async {
///             let password = std::fs::read_to_string(&self.0)?;
///             Ok(Credentials::new(Some("app"), password.trim()))
///         })
///     }
/// }
///
/// let config: Config = "valkey://cache.internal".parse()?;
/// let config = config.with_credentials_provider(FromFile("/run/secrets/cache".into()));
/// # Ok::<(), respire::Error>(())
/// ```
pub trait CredentialsProvider: Send + Sync + 'static {
    /// The credentials for a connection that is being made. The time that it takes is part of the connect timeout.
    ///
    /// # Errors
    ///
    /// There are none for now: the attempt to connect fails, and is repeated as if the server had not been there.
    fn credentials(&self) -> CredentialsFuture<'_, Result<Credentials, CredentialsError>>;

    /// Waits until credentials that were given out before this call are not to be used any longer. By default that never
    /// comes.
    ///
    /// A client calls it, and polls what it returns, before it asks for credentials first, and again as soon as one has
    /// come, before it asks for the new ones: no change is missed however quickly one follows the other.
    fn changed(&self) -> CredentialsFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

impl<P: CredentialsProvider + ?Sized> CredentialsProvider for Arc<P> {
    fn credentials(&self) -> CredentialsFuture<'_, Result<Credentials, CredentialsError>> {
        (**self).credentials()
    }

    fn changed(&self) -> CredentialsFuture<'_, ()> {
        (**self).changed()
    }
}

/// Shows nothing of the provider.
#[derive(Clone)]
pub(super) struct Provider(pub(super) Arc<dyn CredentialsProvider>);

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl Config {
    /// Sets where each connection gets its credentials from, in place of [`with_credentials`](Self::with_credentials).
    pub fn with_credentials_provider(mut self, provider: impl CredentialsProvider) -> Self {
        self.behaviour.provider = Some(Provider(Arc::new(provider)));
        self
    }

    pub(crate) fn credentials_provider(&self) -> Option<&Arc<dyn CredentialsProvider>> {
        self.behaviour.provider.as_ref().map(|provider| &provider.0)
    }

    /// The same settings with the credentials that the provider has now.
    pub(crate) async fn with_present_credentials(&self) -> Result<Option<Self>, CredentialsError> {
        let Some(provider) = self.credentials_provider() else { return Ok(None) };
        let Credentials { user, password } = provider.credentials().await?;
        Ok(Some(self.clone().with_credentials(user.as_deref(), password)))
    }
}
