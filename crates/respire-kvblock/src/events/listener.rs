//! Messages from engines that connect to a socket of ours.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{BoxStream, FuturesUnordered},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    time::{Instant, sleep},
};
use zeromq::{Endpoint, Socket, SocketEvent, SocketOptions, SocketRecv, SubSocket};

use super::{
    guard::{Address, CONNECT_TIMEOUT, Private, Stream, relay_peer},
    metrics::SubscriberMetrics,
    pool::EventPool,
    publishers::{LISTENER_MAX, Publishers, Spoken},
    topic::EventMessage,
    zmq::{Closed, MESSAGE_BYTES_MAX, Overflow},
};
use crate::EventsConfig;

/// After how long without a byte TCP asks whether the engine is still there. It sends nothing when it has nothing to say.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long it then waits for an answer, and how often it asks. Until it gives up, an engine that has gone keeps its place.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// The pause after a connection could not be accepted, for want of descriptors most likely: others have to close theirs first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the library may hand out nothing of what came last on a connection that has ended. It does so at once, unless the engine
/// had not even introduced itself.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// For how many pods a connection can be told apart from others. Beyond that it is taken for the first publisher of each.
const PODS_PER_CONNECTION: usize = 64;

/// What its metrics call a listener.
const NAME: &str = "local-subscriber";

/// How a [`Listener`] listens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// The address to bind, such as `tcp://*:5557`, where `*` stands for all of IPv4, or `ipc:///run/kv`.
    pub endpoint: String,
    /// What topics have to begin with. llm-d's default, `kv@`, is ours.
    pub topic_filter: String,
    /// What is done with a message for which the pool has no room.
    pub overflow: Overflow,
    /// The most bytes of a message, its topic and number included. An engine that announces a longer one is cut off, before any
    /// memory is taken for it.
    pub message_bytes: usize,
    /// How many engines can be connected at once. One more is turned away until another has gone. Each takes three file
    /// descriptors, four while it connects, 64 KiB of memory for what is read at once, and for a moment up to `message_bytes`, which a
    /// peer need only announce.
    pub connections: usize,
    /// Which of a pod's publishers connect here; see [`EventMessage::publisher`]. vLLM and SGLang add the data-parallel rank to the
    /// port: each rank has an address of its own, and its listener needs a number of its own in the same pool, at most 67,108,862.
    /// A pod's publishers at one address are told apart by the 64 numbers from 64 times this on; a
    /// [`Subscriber`](super::Subscriber) in the same pool has the very number that it is given.
    pub publisher: u32,
    /// How many publishers of one pod connect here, at most 64. Beyond that, a connection that speaks for a pod is taken for one
    /// whose engine has come again: where its numbers do not go on, the pod is cleared or named for a resync.
    pub publishers_per_pod: usize,
}

impl ListenerConfig {
    /// Listens at this address: topics that begin with `kv@`, waiting for room, 16 MiB a message, 1,024 engines, one publisher a
    /// pod, which has number 0.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            topic_filter: "kv@".to_owned(),
            overflow: Overflow::default(),
            message_bytes: MESSAGE_BYTES_MAX,
            connections: 1024,
            publisher: 0,
            publishers_per_pod: 1,
        }
    }

    /// What llm-d's settings ask for: `None` where there is no `zmqEndpoint`.
    pub fn from_events(config: &EventsConfig) -> Option<Self> {
        let endpoint = config.zmq_endpoint.as_ref().filter(|endpoint| !endpoint.is_empty())?;
        let topic_filter = config.topic_filter.clone();
        Some(Self { topic_filter, ..Self::new(endpoint) })
    }
}

/// Binds an address to which engines connect, llm-d's `zmqEndpoint`, and hands their messages to a pool.
///
/// Which pod a message is of is what its topic says. A connection is one of its pod's [publishers](EventMessage::publisher), and
/// takes the place of the one before, whether or not that has ended: by the numbers it is seen whether messages are missing, or
/// the engine has started anew, as with a [`Subscriber`](super::Subscriber). Where several connections speak for one pod at
/// once, say [how many](ListenerConfig::publishers_per_pod); else they are told apart once each has spoken again, and until then the
/// pod may be cleared, once for each. What was missed is not fetched: for that, connect to the pods with a `Subscriber` each.
///
/// ```no_run
/// # async fn example(pool: std::sync::Arc<respire_kvblock::events::EventPool>) -> Result<(), Box<dyn std::error::Error>> {
/// use respire_kvblock::{EventsConfig, events::{Listener, ListenerConfig}};
///
/// let config: EventsConfig = r#"{ "zmqEndpoint": "tcp://*:5557" }"#.parse()?;
/// let config = ListenerConfig::from_events(&config).expect("it has an endpoint");
/// let listener = Listener::bind(config).await?;
/// let listening = tokio::spawn(async move { listener.run(&pool).await });
/// # Ok(()) }
/// ```
///
/// Whoever can reach the address can announce blocks for any pod.
#[derive(Debug)]
pub struct Listener {
    config: ListenerConfig,
    bound: Bound,
}

/// A socket that engines connect to.
#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf },
}

impl Listener {
    /// Binds the address. Engines can connect from then on, and are served once [`run`](Self::run) is.
    ///
    /// # Errors
    ///
    /// When the address is none, or cannot be bound; when the number of the publisher is too large.
    pub async fn bind(config: ListenerConfig) -> io::Result<Self> {
        if config.publisher > LISTENER_MAX {
            let problem = format!("a listener's publisher is at most {LISTENER_MAX}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let bound = match Address::parse(&config.endpoint)? {
            Address::Tcp(host, port) => {
                let host = if host == "*" { "0.0.0.0".to_owned() } else { host };
                Bound::Tcp(TcpListener::bind((host, port)).await?)
            }
            Address::Ipc(path) => Bound::Unix { listener: UnixListener::bind(&path)?, path },
        };
        Ok(Self { config, bound })
    }

    /// The address that engines connect to, with the port that was chosen where 0 was asked for.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn endpoint(&self) -> io::Result<String> {
        Ok(match &self.bound {
            Bound::Tcp(listener) => format!("tcp://{}", listener.local_addr()?),
            Bound::Unix { path, .. } => format!("ipc://{}", path.display()),
        })
    }

    /// Listens until the pool is shut down. Messages of all connections are taken by the task that this is called on; the ZMQ library
    /// has two tasks more for each.
    ///
    /// # Errors
    ///
    /// When there can be no folder, among those for temporary files, for the sockets between the engines and the ZMQ library, or no
    /// socket in it: its path must not be longer than the 108 bytes that a socket's can have.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes its connections. A message may be lost with it; the pool learns of that from the number of the next one,
    /// if somebody else listens then.
    pub async fn run(self, pool: &EventPool) -> io::Result<()> {
        let (number, per_pod) = (self.config.publisher, self.config.publishers_per_pod);
        let session = Session {
            config: &self.config,
            pool,
            metrics: SubscriberMetrics::new(&pool.shared().labelled, NAME),
            private: Private::new()?,
            publishers: Mutex::new(Publishers::new(number, per_pod)),
        };
        // Whether sockets can be had there: else no engine would ever be heard, and nothing said of it here.
        drop(UnixListener::bind(session.private.path_of(u64::MAX))?);
        let mut connections = FuturesUnordered::new();
        let mut last = 0;
        loop {
            tokio::select! {
                outer = self.bound.accept() => {
                    if connections.len() >= self.config.connections {
                        tracing::warn!("an engine is turned away: too many are connected");
                        continue;
                    }
                    last += 1;
                    connections.push(session.serve(outer, last));
                }
                Some(ended) = connections.next() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "an engine's connection ended");
                        session.metrics.error("recv");
                    }
                }
                () = pool.closed() => return Ok(()),
            }
        }
    }
}

/// What all connections of a listener have in common.
struct Session<'a> {
    config: &'a ListenerConfig,
    pool: &'a EventPool,
    metrics: SubscriberMetrics,
    private: Private,
    publishers: Mutex<Publishers>,
}

/// A socket of the library's, and our end of the one connection that it is to get.
struct Inner {
    socket: SubSocket,
    events: BoxStream<'static, SocketEvent>,
    endpoint: Endpoint,
    stream: UnixStream,
}

impl Session<'_> {
    /// Serves one engine until its connection ends. Each has a socket of the library's of its own, so that one that misbehaves
    /// takes no other with it, and that it is known who sent what.
    async fn serve(&self, outer: Stream, connection: u64) -> io::Result<()> {
        let inner = match self.open(connection).await {
            Ok(inner) => inner,
            Err(error) => {
                // It is ours and not the engine's: want of descriptors, most likely.
                tracing::warn!(%error, "an engine has connected and cannot be served");
                self.metrics.error("connect");
                return Ok(());
            }
        };
        let ended = self.relay(outer, inner, connection).await;
        self.publishers().leave(connection);
        ended
    }

    async fn open(&self, connection: u64) -> io::Result<Inner> {
        let path = self.private.path_of(connection);
        let mut options = SocketOptions::default();
        options.connect_timeout(CONNECT_TIMEOUT);
        let mut socket = SubSocket::with_options(options);
        let events = socket.monitor().boxed();
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        let endpoint = socket.bind_listener(listener).await.map_err(io::Error::other)?;
        socket.subscribe(&self.config.topic_filter).await.map_err(io::Error::other)?;
        let stream = UnixStream::connect(&path).await?;
        Ok(Inner { socket, events, endpoint, stream })
    }

    /// Hands over what one engine sends, to the last message that came before its connection ended.
    async fn relay(&self, outer: Stream, inner: Inner, connection: u64) -> io::Result<()> {
        let Inner { mut socket, mut events, endpoint, stream } = inner;
        let mut spoken = HashMap::new();
        let mut relayed = pin!(relay_peer(outer, stream, self.config.message_bytes));
        // How the engine's side has ended, and whether the library has handed out all that came before.
        let (mut ended, mut is_over) = (None, false);
        let mut silence = pin!(sleep(LAST_WORDS));
        loop {
            let frames = tokio::select! {
                biased;
                frames = socket.recv() => frames.map_err(io::Error::other)?,
                result = &mut relayed, if ended.is_none() => {
                    if is_over {
                        return result;
                    }
                    ended = Some(result);
                    silence.as_mut().reset(Instant::now() + LAST_WORDS);
                    continue;
                }
                Some(event) = events.next(), if !is_over => {
                    match event {
                        // No other will come, and what it would come by takes a descriptor.
                        SocketEvent::Accepted(..) => {
                            socket.unbind(endpoint.clone()).await.map_err(io::Error::other)?;
                        }
                        SocketEvent::AcceptFailed(error) => return Err(io::Error::other(error)),
                        SocketEvent::Disconnected(_) => match ended {
                            Some(ended) => return ended,
                            None => is_over = true,
                        },
                        _ => {}
                    }
                    continue;
                }
                () = &mut silence, if ended.is_some() => return ended.unwrap_or(Ok(())),
            };
            if let Err(Closed) = self.message(frames.into_vec(), connection, &mut spoken).await {
                return Ok(());
            }
            // However long it has waited for room.
            silence.as_mut().reset(Instant::now() + LAST_WORDS);
        }
    }

    /// Hands a message over.
    async fn message(
        &self,
        frames: Vec<Bytes>,
        connection: u64,
        spoken: &mut HashMap<Arc<str>, Spoken>,
    ) -> Result<(), Closed> {
        self.metrics.message();
        let mut message = match EventMessage::from_frames(&frames) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "frames that are no message of events");
                self.pool.shared().counters.unreadable_messages.count();
                return Ok(());
            }
        };
        message.publisher = self.publisher(&message, connection, spoken);
        self.config.overflow.submit(self.pool, message).await
    }

    /// The number of the publisher that sent a message.
    fn publisher(
        &self,
        message: &EventMessage,
        connection: u64,
        spoken: &mut HashMap<Arc<str>, Spoken>,
    ) -> u32 {
        let pod = &message.pod_identifier;
        let before = spoken.get(pod).copied();
        if before.is_none() && spoken.len() >= PODS_PER_CONNECTION {
            return self.publishers().first();
        }
        let found = message.sequence.unwrap_or_default();
        let heard = self.publishers().hear(pod, connection, found, before);
        spoken.insert(Arc::clone(pod), heard.spoken);
        if let Some(reason) = heard.amends {
            tracing::warn!(
                pod = &**pod,
                "several connections speak for a pod, and one was taken for another"
            );
            self.pool.shared().resync(pod, reason);
        }
        heard.publisher
    }

    fn publishers(&self) -> MutexGuard<'_, Publishers> {
        // Nothing under the lock can panic half-way through a change.
        self.publishers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bound {
    /// The next connection. What goes wrong is waited out.
    async fn accept(&self) -> Stream {
        loop {
            match self.try_accept().await {
                Ok(stream) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "an engine's connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Else a pod that has vanished without a word keeps its place for ever.
                let keepalive = TcpKeepalive::new()
                    .with_time(KEEPALIVE)
                    .with_interval(KEEPALIVE_INTERVAL)
                    .with_retries(KEEPALIVE_PROBES);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // As ZMQ does; somebody else may have taken it away.
            let _ = std::fs::remove_file(path);
        }
    }
}
