//! What every backend can do.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

use async_trait::async_trait;

use crate::{BlockHash, IndexError, Lookup, PodEntry, Resync};

/// Which pods hold which blocks.
///
/// The index maps *request keys*, the hashes of a prompt's blocks, to the [entries](PodEntry) of the pods that hold
/// them, and *engine keys*, the hashes by which an inference engine announces and drops blocks, to request keys. All
/// backends behave alike:
///
/// - The entries of a request key are a set. Adding one again changes nothing, in whatever order calls arrive.
/// - A call that fails may have been applied in part. Each can be repeated as it stands.
/// - Calls may run at the same time. Each single key changes atomically; a lookup of many keys may see some before and
///   some after another call's change.
///
/// # Cancel safety
///
/// A dropped call may have been applied wholly, in part or not at all, as one that failed.
#[async_trait]
pub trait Index: Send + Sync {
    /// Walks the request keys in order and finds who holds them, up to the first one that no pod in `pods` holds.
    ///
    /// The answer to no keys at all is empty.
    ///
    /// # Errors
    ///
    /// When the backend cannot be asked at all, be it that its deadline passed before it said anything. Once a part has been
    /// answered, a deadline that passes and a server that is lost end the walk there, and the answer says so:
    /// [`is_complete`](Lookup::is_complete). What somebody else has stored under a request key is no error, but a key
    /// that is not held.
    async fn lookup(&self, request_keys: &[BlockHash], pods: &PodSet)
    -> Result<Lookup, IndexError>;

    /// Adds every entry to every request key, and maps the engine keys to the request keys.
    ///
    /// With n the larger of the two numbers of keys, for each i below n the engine key at `i * engine_keys / n` maps to
    /// the request key at `i * request_keys / n`: one to one, many to one, one to many, and uneven numbers as they come.
    /// A new mapping of an engine key joins the ones it has. In memory and in the bitmap layout an engine key keeps 1,024 request
    /// keys. The oldest that are too many are held by nobody from then on, as no eviction by this engine key would reach them; those
    /// that this very call names stay, be they more. Without engine keys (`None` or empty) nothing is mapped.
    ///
    /// # Errors
    ///
    /// When there are no request keys or no entries; when the backend cannot be written to; when a key is taken by
    /// something that is not the index's.
    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError>;

    /// Removes exactly the given entries from request keys, or from all the request keys that engine keys map to.
    ///
    /// A mapping goes when nothing is left at any of its request keys, and only then. A key that is not known is no
    /// error.
    ///
    /// # Errors
    ///
    /// When there are no keys or no entries; when the backend cannot be asked or written to.
    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError>;

    /// The last of the request keys that an engine key maps to.
    ///
    /// # Errors
    ///
    /// [`is_not_found`](IndexError::is_not_found) when the engine key is not mapped. Otherwise when the backend cannot
    /// be asked.
    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError>;

    /// The request key that this index itself has mapped an engine key to last, if it remembers, without asking anyone.
    ///
    /// What a block's tokens hash to does not change, so that it is the right parent for a block behind it, also when the
    /// mapping has been dropped since or another writer has added to it. [`request_key`](Self::request_key) then answers
    /// otherwise: it says what holds in the index now.
    fn remembered_request_key(&self, engine_key: BlockHash) -> Option<BlockHash> {
        let _ = engine_key;
        None
    }

    /// Removes every entry of a pod: all tiers, all groups, expected ones too.
    ///
    /// Mappings stay. On a server they stay for ever, unless their engine keys are evicted: nothing else removes them.
    ///
    /// What is added for the pod while this runs may or may not be removed.
    ///
    /// # Errors
    ///
    /// When the backend cannot be asked or written to.
    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError>;

    /// The pods of which the index has lost something behind its caller's back, and why, each told once: they have to announce their blocks again. To be
    /// asked now and then. Only an index on a server can lose anything so; whether it would notice, [`detects_loss`](Self::detects_loss) says.
    ///
    /// # Errors
    ///
    /// When the backend has to be asked for it, and cannot be.
    async fn resyncs(&self) -> Result<Vec<Resync>, IndexError> {
        Ok(Vec::new())
    }

    /// Whether [`resyncs`](Self::resyncs) names pods when something is lost. `false` where it is always empty because nobody looks: in llm-d's
    /// layout unless that was [asked for](crate::ServerIndex::with_loss_detection), as it adds a key.
    fn detects_loss(&self) -> bool {
        true
    }

    /// Renews the leases of pods, where the index gives any: see [`BitmapOptions::with_lease`](crate::BitmapOptions::with_lease). How many were
    /// renewed.
    ///
    /// # Errors
    ///
    /// When the backend cannot be written to.
    async fn renew(&self, pods: &[&str]) -> Result<usize, IndexError> {
        let _ = pods;
        Ok(0)
    }

    /// For a program that ends: others need not reckon with this writer any more. See
    /// [`BitmapIndex::leave`](crate::BitmapIndex::leave); to all other backends it is the same who has written.
    ///
    /// # Errors
    ///
    /// When the backend cannot be written to.
    async fn leave(&self) -> Result<(), IndexError> {
        Ok(())
    }

    /// What kind of index this is and where it is kept, for logs; without credentials. It is what `Debug` of a
    /// `dyn Index` shows.
    fn describe(&self) -> Cow<'_, str> {
        Cow::Borrowed(std::any::type_name::<Self>())
    }
}

impl fmt::Debug for dyn Index + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({})", self.describe())
    }
}

#[async_trait]
impl<T: Index + ?Sized> Index for Arc<T> {
    async fn lookup(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        (**self).lookup(request_keys, pods).await
    }

    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        (**self).add(engine_keys, request_keys, entries).await
    }

    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        (**self).evict(keys, key_type, entries).await
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        (**self).request_key(engine_key).await
    }

    fn remembered_request_key(&self, engine_key: BlockHash) -> Option<BlockHash> {
        (**self).remembered_request_key(engine_key)
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        (**self).clear(pod_identifier).await
    }

    async fn resyncs(&self) -> Result<Vec<Resync>, IndexError> {
        (**self).resyncs().await
    }

    fn detects_loss(&self) -> bool {
        (**self).detects_loss()
    }

    async fn renew(&self, pods: &[&str]) -> Result<usize, IndexError> {
        (**self).renew(pods).await
    }

    async fn leave(&self) -> Result<(), IndexError> {
        (**self).leave().await
    }

    fn describe(&self) -> Cow<'_, str> {
        (**self).describe()
    }
}

/// Which kind of key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// A hash that an inference engine announces.
    Engine,
    /// A hash of a prompt's block.
    Request,
}

/// The pods that a lookup is about. The empty set is not "none" but "all".
///
/// ```
/// use respire_kvblock::PodSet;
///
/// assert!(PodSet::all().contains("10.0.0.1:8000"));
/// let some: PodSet = ["10.0.0.1:8000"].into_iter().collect();
/// assert!(some.contains("10.0.0.1:8000") && !some.contains("10.0.0.2:8000"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSet {
    names: HashSet<Box<str>>,
}

impl PodSet {
    /// Every pod.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether every pod is in the set.
    pub fn is_all(&self) -> bool {
        self.names.is_empty()
    }

    /// How many pods are named: 0 for [`all`](Self::all).
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether the pod is in the set.
    pub fn contains(&self, pod_identifier: &str) -> bool {
        self.is_all() || self.names.contains(pod_identifier)
    }
}

impl<P: Into<Box<str>>> FromIterator<P> for PodSet {
    fn from_iter<I: IntoIterator<Item = P>>(pods: I) -> Self {
        Self { names: pods.into_iter().map(Into::into).collect() }
    }
}

impl<P: Into<Box<str>>> Extend<P> for PodSet {
    fn extend<I: IntoIterator<Item = P>>(&mut self, pods: I) {
        self.names.extend(pods.into_iter().map(Into::into));
    }
}
