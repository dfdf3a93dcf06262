//! Messages from engines that connect to a socket of ours.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    time::sleep,
};
use zeromq::{Socket, SocketEvent, SocketOptions, SocketRecv, SubSocket};

use super::{
    guard::{Address, CONNECT_TIMEOUT, Private, Stream, relay_peer},
    metrics::SubscriberMetrics,
    pool::EventPool,
    topic::EventMessage,
    zmq::{Closed, MESSAGE_BYTES_MAX, Overflow},
};
use crate::EventsConfig;

/// After how long without a byte TCP asks whether the engine is still there. It sends nothing when it has nothing to say.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long it then waits for an answer, and how often it asks. Until it gives up, an engine that comes again counts as another one.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// The pause after a connection could not be accepted, for want of descriptors most likely: others have to close theirs first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the library may take to hand out what came last on a connection that has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// For how many pods a connection is given a publisher's number. Beyond that it is taken for the first one of each.
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
/// Which pod a message is of is what its topic says. Several connections that speak for one pod, as those of data-parallel ranks
/// do, are told apart as its [publishers](EventMessage::publisher), in the order in which they first spoke; one that
/// takes the place of one that has ended is taken for the same. What was missed is not fetched: for that, connect to
/// the pods with a [`Subscriber`](super::Subscriber) each.
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

    /// Listens until the pool is shut down. All connections are served by the task that this is called on.
    ///
    /// # Errors
    ///
    /// When there can be no folder, among those for temporary files, for the sockets between the engines and the ZMQ library.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes its connections. A message may be lost with it; the pool learns of that from the number of the next one,
    /// if somebody else listens then.
    pub async fn run(self, pool: &EventPool) -> io::Result<()> {
        let session = Session {
            config: &self.config,
            pool,
            metrics: SubscriberMetrics::new(&pool.shared().labelled, NAME),
            private: Private::new()?,
            publishers: Mutex::default(),
        };
        let mut connections = FuturesUnordered::new();
        let mut number = 0;
        loop {
            tokio::select! {
                outer = self.bound.accept() => {
                    if connections.len() >= self.config.connections {
                        tracing::warn!("an engine is turned away: too many are connected");
                        continue;
                    }
                    number += 1;
                    connections.push(session.serve(outer, number));
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

impl Session<'_> {
    /// Serves one engine until its connection ends. Each has a socket of the library's of its own, so that one that misbehaves
    /// takes no other with it, and that it is known who sent what.
    async fn serve(&self, outer: Stream, connection: u64) -> io::Result<()> {
        let ended = self.connect(outer, connection).await;
        self.publishers().leave(connection);
        ended
    }

    async fn connect(&self, outer: Stream, connection: u64) -> io::Result<()> {
        let path = self.private.path_of(connection);
        let mut options = SocketOptions::default();
        options.connect_timeout(CONNECT_TIMEOUT);
        let mut socket = SubSocket::with_options(options);
        let mut events = socket.monitor();
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        socket.bind_listener(listener).await.map_err(io::Error::other)?;
        socket.subscribe(&self.config.topic_filter).await.map_err(io::Error::other)?;
        let inner = UnixStream::connect(&path).await?;

        let mut receiving = pin!(self.receive(&mut socket, connection));
        let ended = tokio::select! {
            ended = relay_peer(outer, inner, self.config.message_bytes) => ended,
            received = &mut receiving => return received,
        };
        // The library says so when it has handed out all that came before the end.
        let is_over = async {
            while !matches!(events.next().await, None | Some(SocketEvent::Disconnected(_))) {}
        };
        tokio::select! {
            received = receiving => received.and(ended),
            () = is_over => ended,
            () = sleep(LAST_WORDS) => ended,
        }
    }

    /// Hands over what one engine sends.
    async fn receive(&self, socket: &mut SubSocket, connection: u64) -> io::Result<()> {
        let mut publishers: HashMap<Arc<str>, u32> = HashMap::new();
        loop {
            let frames = socket.recv().await.map_err(io::Error::other)?.into_vec();
            self.metrics.message();
            let mut message = match EventMessage::from_frames(&frames) {
                Ok(message) => message,
                Err(error) => {
                    tracing::debug!(%error, "frames that are no message of events");
                    self.pool.shared().counters.unreadable_messages.count();
                    continue;
                }
            };
            let pod = &message.pod_identifier;
            message.publisher = match publishers.get(pod) {
                Some(&publisher) => publisher,
                None if publishers.len() >= PODS_PER_CONNECTION => 0,
                None => {
                    let publisher = self.publishers().join(pod, connection);
                    publishers.insert(Arc::clone(pod), publisher);
                    publisher
                }
            };
            if let Err(Closed) = self.config.overflow.submit(self.pool, message).await {
                return Ok(());
            }
        }
    }

    fn publishers(&self) -> MutexGuard<'_, Publishers> {
        // Nothing under the lock can panic half-way through a change.
        self.publishers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which connections speak for which pods.
#[derive(Debug, Default)]
struct Publishers {
    /// For each pod its connections by their numbers as publishers; `None` where one has ended.
    of_pods: HashMap<Arc<str>, Vec<Option<u64>>>,
}

impl Publishers {
    /// The number as a publisher that a connection gets which speaks for a pod for the first time: the lowest that is free.
    fn join(&mut self, pod: &Arc<str>, connection: u64) -> u32 {
        let places = self.of_pods.entry(Arc::clone(pod)).or_default();
        let free = places.iter().position(Option::is_none).unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        });
        places[free] = Some(connection);
        u32::try_from(free).expect("fewer than 2^32 connections")
    }

    /// A connection has ended.
    fn leave(&mut self, connection: u64) {
        self.of_pods.retain(|_, places| {
            for place in places.iter_mut().filter(|place| **place == Some(connection)) {
                *place = None;
            }
            places.iter().any(Option::is_some)
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_keeps_its_number_and_another_takes_that_of_one_that_has_ended() {
        let mut publishers = Publishers::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert_eq!(
            (publishers.join(&a, 7), publishers.join(&a, 8), publishers.join(&b, 8)),
            (0, 1, 0)
        );
        publishers.leave(7);
        assert_eq!(
            (publishers.join(&b, 9), publishers.join(&a, 9), publishers.join(&a, 10)),
            (1, 0, 2)
        );
        for connection in [8, 9, 10, 11] {
            publishers.leave(connection);
        }
        assert!(publishers.of_pods.is_empty());
    }
}
