//! The handle that reads through a cache.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use respire_codec::{Decoder, DecoderConfig, FromValue, Value, ValueRef, encode};

use super::{
    CacheStats, Caches,
    config::{CacheConfig, Tracking},
    keeper,
    rules::{self, Changes},
    store::{Flight, Lookup, Query, Seat, Store},
};
use crate::{
    client::{Client, Link, is_passing},
    command::{Command, Packet, Pipeline},
    config::WhenDown,
    connection::Connection,
    deadline::until,
    error::{Error, SendState},
    reply::Reply,
    session::push::PushSink,
};

/// A client that answers reads from memory while the server vouches for it. Clones share one cache.
///
/// See [the module](super) for what is cached and what can be relied on.
#[derive(Clone)]
pub struct CachedClient {
    client: Client,
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: CacheConfig,
    pub(super) store: Arc<Store>,
    /// The connection that reads go over and announcements come from.
    pub(super) link: Arc<Link>,
    caches: Arc<Caches>,
}

impl Inner {
    pub(super) fn stats(&self) -> CacheStats {
        self.store.counters.stats(self.store.size())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.caches.keep(self.stats());
    }
}

impl CachedClient {
    pub(super) async fn connect(client: &Client, config: CacheConfig) -> Result<Self, Error> {
        let settings = client.config().clone().with_tracking(config.tracking.clone());
        if settings.protocol() != respire_codec::Protocol::Resp3 {
            return Err(Error::usage("a cache needs RESP3 to hear of changes".to_owned()));
        }
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::usage("a cache needs a tokio runtime".to_owned()))?;
        let store = Arc::new(Store::new(&config));
        let sink: Arc<dyn PushSink> = store.clone();
        let link = Link::new(Arc::new(settings), sink, client.totals(), client.rotation());
        let caches = client.caches();
        let inner = Arc::new(Inner { config, store, link, caches });
        inner.caches.add(&inner);
        // What was made so far goes if this future is dropped.
        inner.link.connection(WhenDown::FailFast)?.opened().await?;
        runtime.spawn(keeper::keep(Arc::downgrade(&inner)));
        Ok(Self { client: client.clone(), inner })
    }

    /// The same cache for another handle of its client, with other options: a timeout, say.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(cached: respire::cache::CachedClient) {
    /// let hasty = cached.with(|client| client.with_command_timeout(Some(Duration::from_millis(5))));
    /// # }
    /// ```
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&Client) -> Client) -> Self {
        Self { client: change(&self.client), inner: Arc::clone(&self.inner) }
    }

    /// The client that what is not cached goes through. What is written with it directly reaches the cache only as the
    /// server announces it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the cache has done so far.
    pub fn stats(&self) -> CacheStats {
        self.inner.stats()
    }

    /// Forgets everything, so that the next read of each key goes to the server.
    pub fn clear(&self) {
        self.inner.store.forget_all();
        self.inner.store.sweep();
    }

    /// Answers a command: from the cache if it may be, else from the server.
    ///
    /// # Errors
    ///
    /// As [`Client::execute`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any point. Those who wait for the same reply get it all the same.
    pub async fn execute(&self, command: Command) -> Result<Reply, Error> {
        if let Some(key) = rules::cacheable_key(&command) {
            return match self.inner.config.tracking.covers(&key) {
                true => self.read(command, key).await,
                false => self.client.execute(command).await,
            };
        }
        match rules::keys_of_mget(&command) {
            Some(keys) if keys.iter().all(|key| self.inner.config.tracking.covers(key)) => {
                self.read_each(keys).await
            }
            _ => {
                let _forgetting = Forgetting {
                    store: &self.inner.store,
                    changes: vec![rules::changes(&command.view())],
                };
                self.client.execute(command).await
            }
        }
    }

    /// Answers a command, and reads the reply as a `T`.
    ///
    /// # Errors
    ///
    /// As [`Client::query`].
    pub async fn query<T: for<'a> FromValue<'a>>(&self, command: Command) -> Result<T, Error> {
        self.execute(command).await?.parse()
    }

    /// Sends a pipeline to the server: nothing of it is answered from the cache.
    ///
    /// # Errors
    ///
    /// As [`Client::pipeline`].
    pub async fn pipeline(&self, pipeline: impl Into<Pipeline>) -> Result<Vec<Reply>, Error> {
        let pipeline = pipeline.into();
        let changes = pipeline.commands().map(|command| rules::changes(&command)).collect();
        let _forgetting = Forgetting { store: &self.inner.store, changes };
        self.client.pipeline(pipeline).await
    }

    /// Takes no more cached reads, waits for those under way, and closes the cache's connection. The client that it was
    /// made of stays open. Applies to all clones.
    pub async fn close(&self) {
        for connection in self.inner.link.close() {
            connection.finished().await;
        }
    }

    /// A command on one key.
    async fn read(&self, command: Command, key: Bytes) -> Result<Reply, Error> {
        let deadline = self.client.request_deadline();
        let query = Query { key, identity: rules::identity(&command) };
        loop {
            let lead = |seat| {
                let read = Read {
                    inner: Arc::clone(&self.inner),
                    client: self.client.clone(),
                    command: command.clone(),
                    query: query.clone(),
                    seat,
                    deadline,
                };
                flight(read.run())
            };
            match self.inner.store.look_up(&query, Instant::now(), lead) {
                Lookup::Hit(reply) => return Ok(reply),
                Lookup::Lead(flight) => return flight.await,
                Lookup::Join(flight) => {
                    match before(flight, deadline).await? {
                        // Its deadline is that of who began it; ours may be later.
                        Err(error) if error.is_timeout() && !has_passed(deadline) => {}
                        outcome => return outcome,
                    }
                }
            }
        }
    }

    /// `MGET`, key by key.
    async fn read_each(&self, keys: Vec<Bytes>) -> Result<Reply, Error> {
        let reads = keys.into_iter().map(|key| self.read(Command::new("GET").arg(&key), key));
        let mut wire = BytesMut::new();
        let replies = join_all(reads).await;
        encode::array_header(&mut wire, replies.len());
        for reply in replies {
            match reply {
                Ok(reply) => wire.extend_from_slice(reply.frame().bytes()),
                // MGET has no value for what is no string, GET an error.
                Err(error) if is_wrong_type(&error) => wire.extend_from_slice(b"_\r\n"),
                Err(error) => return Err(error),
            }
        }
        let limits = self.client.config().codec_limits();
        let mut decoder = Decoder::new(DecoderConfig { limits, ..Default::default() });
        match decoder.decode(&mut wire) {
            Ok(Some(frame)) => Ok(Reply::new(frame)),
            // Each part is a whole frame.
            Ok(None) => Err(Error::protocol("its replies do not make up one", None)),
            Err(error) => {
                Err(Error::protocol("its replies are together beyond the limits", Some(error)))
            }
        }
    }
}

/// The same, to be waited for by many.
fn flight(read: impl Future<Output = Result<Reply, Error>> + Send + 'static) -> Flight {
    let read: BoxFuture<'static, _> = read.boxed();
    read.shared()
}

fn is_wrong_type(error: &Error) -> bool {
    error.server_error().is_some_and(|error| error.code() == "WRONGTYPE")
}

/// Whether a failed read is left to the client: without the cache's connection, or where the server says that it cannot
/// serve for now.
fn is_for_the_client(error: &Error) -> bool {
    let passes = error.server_error().is_some_and(|error| is_passing(error.code()));
    passes || error.is_connect() || error.is_lost()
}

fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// Waits for another's read, no longer than to one's own deadline.
async fn before(flight: Flight, deadline: Option<Instant>) -> Result<Result<Reply, Error>, Error> {
    let waiting = "waiting for a reply that another task asked for";
    until(deadline, flight, || Error::timeout(waiting, SendState::MaybeSent)).await
}

/// A read that goes to the server.
struct Read {
    inner: Arc<Inner>,
    client: Client,
    command: Command,
    query: Query,
    seat: Seat,
    deadline: Option<Instant>,
}

impl Read {
    async fn run(self) -> Result<Reply, Error> {
        let outcome = self.read().await;
        // A seat is left in any case; who has landed has none.
        self.inner.store.leave(&self.query, self.seat);
        match outcome {
            // A read may be sent again, and the client knows for how long: nothing is cached then, but answered all the
            // same.
            Err(error) if is_for_the_client(&error) => {
                let client = match self.deadline {
                    Some(deadline) => self.client.with_deadline(deadline),
                    None => self.client.clone(),
                };
                client.execute(self.command.clone()).await
            }
            outcome => outcome,
        }
    }

    async fn read(&self) -> Result<Reply, Error> {
        let Inner { config, store, link, .. } = &*self.inner;
        let connection: Arc<Connection> = link.connection(WhenDown::FailFast)?;
        let submitted = Instant::now();
        let epoch = store.epoch(connection.id(), submitted);
        let passage = store.board(&self.query, self.seat, &epoch);
        let (packet, when_full) = (self.packet(), self.client.when_full());
        let pending = connection.submit_when(&packet, submitted, self.deadline, when_full, None)?;
        let replies = pending.await?;
        epoch.confirm(submitted);
        let mut replies = replies.into_vec().into_iter().map(Reply::new);
        let is_announced = match config.tracking {
            Tracking::Broadcast { .. } => true,
            Tracking::OptIn => replies.next().is_some_and(|reply| reply.server_error().is_none()),
        };
        let reply = replies.next().ok_or_else(|| Error::protocol("it left out a reply", None))?;
        let reply = reply.into_result()?;
        if is_announced && let Some(ttl) = time_to_live(replies.next(), &reply) {
            // Counted from when it was asked for: it cannot have been read earlier.
            store.land(&self.query, self.seat, passage, &reply, ttl, submitted);
        }
        Ok(reply)
    }

    fn packet(&self) -> Packet {
        let mut pipeline = Pipeline::new();
        if let Tracking::OptIn = self.inner.config.tracking {
            pipeline.command(&["CLIENT", "CACHING", "YES"]);
        }
        pipeline.push(self.command.clone());
        if self.inner.config.follows_expiry {
            pipeline.command(&[&b"PTTL"[..], &self.query.key]);
        }
        pipeline.into_unchecked_packet()
    }
}

/// For how long a value may be kept, by the reply to `PTTL`, if that was asked. `None` where it is not known.
fn time_to_live(pttl: Option<Reply>, value: &Reply) -> Option<Duration> {
    let Some(pttl) = pttl else { return Some(Duration::MAX) };
    match pttl.parse::<i64>().ok()? {
        -1 => Some(Duration::MAX),
        // The key is not there. Where there was a value all the same, it has expired since, and a replica will announce that
        // only when its primary has removed the key.
        -2 => is_absence(value).then_some(Duration::MAX),
        milliseconds => u64::try_from(milliseconds).ok().map(Duration::from_millis),
    }
}

/// Whether a reply may be that to a read of a key that is not there.
fn is_absence(reply: &Reply) -> bool {
    match reply.value().get() {
        Value::Null | Value::Integer(-2..=0) => true,
        Value::Array(elements) | Value::Set(elements) => {
            elements.map(ValueRef::get).all(|it| matches!(it, Value::Null | Value::Integer(0)))
        }
        Value::Map(mut entries) => entries.next().is_none(),
        Value::BulkString(text) | Value::SimpleString(text) => text.is_empty() || text == b"none",
        _ => false,
    }
}

/// Forgets what a command may have changed when its reply is there, or nobody waits for that any more. Who has the reply
/// never reads from the cache what was there before.
struct Forgetting<'a> {
    store: &'a Store,
    changes: Vec<Changes>,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        for changes in &self.changes {
            match changes {
                Changes::Nothing => {}
                Changes::Keys(keys) => keys.iter().for_each(|key| self.store.forget(key)),
                Changes::Everything => self.store.forget_all(),
            }
        }
    }
}

impl fmt::Debug for CachedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedClient")
            .field("client", &self.client)
            .field("store", &self.inner.store)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(wire: &str) -> Reply {
        let frame = Decoder::default().decode(&mut BytesMut::from(wire));
        Reply::new(frame.expect("it is RESP").expect("it is whole"))
    }

    #[test]
    fn a_value_whose_key_has_just_expired_is_not_kept() {
        let gone = || Some(reply(":-2\r\n"));
        for absent in
            ["_\r\n", ":0\r\n", "*0\r\n", "%0\r\n", "*2\r\n_\r\n_\r\n", "+none\r\n", "$0\r\n\r\n"]
        {
            assert_eq!(time_to_live(gone(), &reply(absent)), Some(Duration::MAX), "{absent:?}");
        }
        for there in
            ["$1\r\nv\r\n", ":7\r\n", "*1\r\n$1\r\nv\r\n", "%1\r\n+f\r\n+v\r\n", ",1.5\r\n"]
        {
            assert_eq!(time_to_live(gone(), &reply(there)), None, "{there:?}");
            assert_eq!(time_to_live(Some(reply(":-1\r\n")), &reply(there)), Some(Duration::MAX));
            let ttl = time_to_live(Some(reply(":1500\r\n")), &reply(there));
            assert_eq!(ttl, Some(Duration::from_millis(1500)));
        }
    }
}
