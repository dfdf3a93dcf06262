//! How much is cached, for how long, and how the server is to say what has changed.

use std::time::Duration;

use bytes::Bytes;

/// The settings of a [`CachedClient`](super::CachedClient).
///
/// ```
/// use std::time::Duration;
/// use respire::cache::CacheConfig;
///
/// let config = CacheConfig::new()
///     .with_bytes_max(256 << 20)
///     .with_ttl_max(Duration::from_secs(60))
///     .with_broadcast(["user:", "session:"]);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheConfig {
    pub(super) tracking: Tracking,
    pub(super) bytes_max: usize,
    pub(super) ttl_max: Duration,
    pub(super) staleness_max: Duration,
    pub(super) follows_expiry: bool,
}

impl CacheConfig {
    /// Opt-in tracking, 64 MiB, ten minutes at the most for a value, one second of staleness, expiry followed.
    pub fn new() -> Self {
        Self {
            tracking: Tracking::OptIn,
            bytes_max: 64 << 20,
            ttl_max: Duration::from_secs(600),
            staleness_max: Duration::from_secs(1),
            follows_expiry: true,
        }
    }

    /// Has the server announce every change of a key with one of these prefixes, whether it was read or not, and caches
    /// only keys with one of them. Without a prefix that is every key.
    ///
    /// The server remembers no key for this client then, and sends more: it suits few keys that are read by all clients
    /// and rarely written. By default the server is told with each read that is to be cached, and announces the next
    /// change of what was read. A server refuses prefixes of which one is the beginning of another.
    pub fn with_broadcast(mut self, prefixes: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let prefixes = prefixes.into_iter();
        let prefixes = prefixes.map(|prefix| Bytes::copy_from_slice(prefix.as_ref())).collect();
        self.tracking = Tracking::Broadcast { prefixes };
        self
    }

    /// Sets how many bytes the cache may hold: keys, commands and replies, and about two hundred bytes for each. Beyond
    /// it, the keys that were not read for longest are dropped. The cache is divided into up to 16 parts by key, so a
    /// value that is larger than a sixteenth of the bound may find no room.
    pub fn with_bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Sets how long a value is served at the most, changed or not.
    pub fn with_ttl_max(mut self, ttl: Duration) -> Self {
        self.ttl_max = ttl;
        self
    }

    /// Sets how old the last proof may be that the server's announcements arrive, for a cached value to be served: the
    /// bound on how stale a value can be when the network fails. While the cache is read, a `PING` is sent three times in
    /// this time.
    pub fn with_staleness_max(mut self, staleness: Duration) -> Self {
        self.staleness_max = staleness.max(Duration::from_millis(1));
        self
    }

    /// Sets whether a key's time to live is asked for with each value, so that the value is not served beyond it. A
    /// server announces that a key has expired when it comes across it, which may be later. It costs a `PTTL` for each
    /// read that the cache does not answer. On by default.
    pub fn with_expiry_followed(mut self, follows: bool) -> Self {
        self.follows_expiry = follows;
        self
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// How the server is to say what has changed.
#[derive(Clone, Debug)]
pub(crate) enum Tracking {
    /// Of keys that were read right after `CLIENT CACHING YES`.
    OptIn,
    /// Of all keys with one of these prefixes; of all keys, if there is none.
    Broadcast { prefixes: Vec<Bytes> },
}

impl Tracking {
    /// The command that asks for it.
    pub(crate) fn words(&self) -> Vec<&[u8]> {
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON"];
        match self {
            Self::OptIn => words.push(b"OPTIN"),
            Self::Broadcast { prefixes } => {
                words.push(b"BCAST");
                words.extend(prefixes.iter().flat_map(|prefix| [&b"PREFIX"[..], prefix]));
            }
        }
        words
    }

    /// Whether changes of a key are announced.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        match self {
            Self::OptIn => true,
            Self::Broadcast { prefixes } => {
                prefixes.is_empty() || prefixes.iter().any(|prefix| key.starts_with(prefix))
            }
        }
    }
}
