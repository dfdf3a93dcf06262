//! Messages from engines that connect to a socket of ours.

use std::{io, path::PathBuf, sync::Arc};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};
use zeromq::{Socket, SocketOptions, SocketRecv, SubSocket, ZmqError};

use super::{
    guard::{Address, CONNECT_TIMEOUT, Private, Stream, relay_peer},
    metrics::SubscriberMetrics,
    pool::EventPool,
    topic::EventMessage,
    zmq::{Closed, MESSAGE_BYTES_MAX, Overflow},
};
use crate::EventsConfig;

/// After how long without a byte TCP asks whether the engine is still there. It sends nothing when it has nothing to say.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(60);

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
    /// How many engines can be connected at once. One more is turned away until another has gone.
    pub connections: usize,
}

impl ListenerConfig {
    /// Listens at this address: topics that begin with `kv@`, waiting for room, 16 MiB a message, 1,024 engines.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            topic_filter: "kv@".to_owned(),
            overflow: Overflow::default(),
            message_bytes: MESSAGE_BYTES_MAX,
            connections: 1024,
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
/// Which pod a message is of is what its topic says; so every engine has to have a topic of its own, and its sequence numbers are
/// taken to be those of one publisher a pod. Where pods have several, or where what was missed is to be fetched, connect to
/// them with a [`Subscriber`](super::Subscriber) each.
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
    /// When the address is none, or cannot be bound.
    pub async fn bind(config: ListenerConfig) -> io::Result<Self> {
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

    /// Listens until the pool is shut down.
    ///
    /// # Errors
    ///
    /// When no socket can be made between the engines and the ZMQ library, in the folder for temporary files.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes its connections. A message may be lost with it; the pool learns of that from the number of the next one,
    /// if somebody else listens then.
    pub async fn run(self, pool: &EventPool) -> io::Result<()> {
        let private = Private::new()?;
        let mut options = SocketOptions::default();
        options.connect_timeout(CONNECT_TIMEOUT);
        let mut socket = SubSocket::with_options(options);
        let inner = std::os::unix::net::UnixListener::bind(private.path())?;
        let failed = |error: ZmqError| io::Error::other(error);
        socket.bind_listener(inner).await.map_err(failed)?;
        socket.subscribe(&self.config.topic_filter).await.map_err(failed)?;
        tokio::select! {
            never = self.accept(private.path()) => never,
            Closed = self.receive(&mut socket, pool) => Ok(()),
            () = pool.closed() => Ok(()),
        }
    }

    /// Connects engines to the library.
    async fn accept(&self, inner: PathBuf) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(self.config.connections.min(Semaphore::MAX_PERMITS)));
        let mut relays = JoinSet::new();
        loop {
            let accepted = self.bound.accept().await;
            while relays.try_join_next().is_some() {}
            let outer = match accepted {
                Ok(outer) => outer,
                Err(error) => {
                    // Most likely there are no descriptors left: others have to close theirs first.
                    tracing::warn!(%error, "an engine's connection cannot be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                tracing::warn!("an engine is turned away: too many are connected");
                continue;
            };
            let (inner, message_bytes) = (inner.clone(), self.config.message_bytes);
            relays.spawn(async move {
                let _permit = permit;
                let relayed = match UnixStream::connect(inner).await {
                    Ok(inner) => relay_peer(outer, inner, message_bytes).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = relayed {
                    tracing::debug!(%error, "an engine's connection ended");
                }
            });
        }
    }

    async fn receive(&self, socket: &mut SubSocket, pool: &EventPool) -> Closed {
        let metrics = SubscriberMetrics::new(&pool.shared().labelled, NAME);
        loop {
            let frames = match socket.recv().await {
                Ok(message) => message.into_vec(),
                Err(error) => {
                    // The library has closed that connection; the others go on.
                    tracing::debug!(%error, "an engine sent what is no message");
                    metrics.error("recv");
                    continue;
                }
            };
            metrics.message();
            let message = match EventMessage::from_frames(&frames) {
                Ok(message) => message,
                Err(error) => {
                    tracing::debug!(%error, "frames that are no message of events");
                    pool.shared().counters.unreadable_messages.count();
                    continue;
                }
            };
            if let Err(closed) = self.config.overflow.submit(pool, message).await {
                return closed;
            }
        }
    }
}

impl Bound {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Else a pod that has vanished without a word keeps its place for ever.
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
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
