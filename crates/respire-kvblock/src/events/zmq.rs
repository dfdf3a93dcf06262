//! Messages from an engine's ZMQ socket.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use zeromq::{
    DealerSocket, Socket, SocketOptions, SocketRecv, SocketSend, SubSocket, ZmqError, ZmqMessage,
};

use super::{
    guard::{CONNECT_TIMEOUT, Guard},
    metrics::SubscriberMetrics,
    pool::{EventPool, SubmitError},
    topic::EventMessage,
};

/// The most bytes of a message, its topic and number included, where nothing else is said.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Where a [`Subscriber`] listens, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriberConfig {
    /// The publisher's address, such as `tcp://10.0.0.1:5557` or `ipc:///run/kv`.
    pub endpoint: String,
    /// What topics have to begin with. llm-d's default, `kv@`, is ours.
    pub topic_filter: String,
    /// The pod that the publisher belongs to. `None` to believe what topics say.
    pub pod_identifier: Option<String>,
    /// Which of the pod's publishers this is; see [`EventMessage::publisher`].
    pub publisher: u32,
    /// What is done with a message for which the pool has no room.
    pub overflow: Overflow,
    /// The pause before a new connection is made after one could not be made or broke.
    pub reconnect_pause: Duration,
    /// After how long without a message the connection is made anew. A peer that has vanished without a word is not noticed
    /// otherwise.
    pub silence: Option<Duration>,
    /// Where messages can be fetched that were missed.
    pub replay: Option<Replay>,
    /// The most bytes of a message, its topic and number included. A publisher that announces a longer one is cut off, before any
    /// memory is taken for it.
    pub message_bytes: usize,
}

impl SubscriberConfig {
    /// Listens to this address: topics that begin with `kv@`, waiting for room, connecting anew after 5 seconds, and after 5
    /// minutes of silence; 16 MiB a message; no replay.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            topic_filter: "kv@".to_owned(),
            pod_identifier: None,
            publisher: 0,
            overflow: Overflow::Wait,
            reconnect_pause: Duration::from_secs(5),
            silence: Some(Duration::from_secs(300)),
            replay: None,
            message_bytes: MESSAGE_BYTES_MAX,
        }
    }
}

/// What is done with a message for which the pool has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It waits, and with it what comes after it. A publisher whose own queue fills drops messages, which shows as a gap.
    #[default]
    Wait,
    /// It is dropped, and its pod named for a resync.
    Drop,
}

impl Overflow {
    pub(super) async fn submit(
        self,
        pool: &EventPool,
        message: EventMessage,
    ) -> Result<(), Closed> {
        let submitted = match self {
            Self::Wait => pool.submit(message).await,
            Self::Drop => pool.try_submit(message),
        };
        match submitted {
            Err(SubmitError::Closed) => Err(Closed),
            // The pool has named the pod.
            _ => Ok(()),
        }
    }
}

/// Where messages can be fetched that were missed: the socket on which vLLM answers with what it has kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Replay {
    /// Its address.
    pub endpoint: String,
    /// How long one fetch may take. What has come until then is applied.
    pub timeout: Duration,
    /// How long after a fetch none is made.
    pub cooldown: Duration,
}

impl Replay {
    /// With llm-d's limits: 2 minutes, and 30 seconds between two.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            timeout: Duration::from_secs(120),
            cooldown: Duration::from_secs(30),
        }
    }
}

/// Listens to one publisher and hands its messages to a pool.
///
/// ```no_run
/// # async fn example(pool: std::sync::Arc<respire_kvblock::events::EventPool>) {
/// use respire_kvblock::events::{Subscriber, SubscriberConfig};
///
/// let mut config = SubscriberConfig::new("tcp://10.0.0.1:5557");
/// config.pod_identifier = Some("10.0.0.1:8000".to_owned());
/// let listening = tokio::spawn(async move { Subscriber::new(config).run(&pool).await });
/// // ... when the pod is gone:
/// listening.abort();
/// # }
/// ```
///
/// An address is `tcp://host:port` or `ipc://path`. Bytes go through a socket of this process on their way to the ZMQ library, which
/// takes as much memory as a frame says that it is long: in front of that a publisher is cut off whose messages are too long.
#[derive(Debug)]
pub struct Subscriber {
    config: SubscriberConfig,
    /// The number of the message that is due.
    due: Option<u64>,
    last_replay: Option<Instant>,
}

/// The pool was shut down.
pub(super) struct Closed;

impl Subscriber {
    /// A subscriber that does nothing yet.
    pub fn new(config: SubscriberConfig) -> Self {
        Self { config, due: None, last_replay: None }
    }

    /// Listens until the pool is shut down. A connection that breaks is made anew.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it listens no more. A message may be lost with it; the pool learns of that from the number of the next one, if
    /// somebody else listens then.
    pub async fn run(mut self, pool: &EventPool) {
        let name = self.config.pod_identifier.as_ref().unwrap_or(&self.config.endpoint);
        let metrics = SubscriberMetrics::new(&pool.shared().labelled, name);
        loop {
            let ended = tokio::select! {
                ended = self.listen(pool, &metrics) => ended,
                () = pool.closed() => return,
            };
            match ended {
                Ok(Closed) => return,
                Err(error) => {
                    let endpoint = &self.config.endpoint;
                    tracing::debug!(endpoint, %error, "the publisher's connection broke");
                }
            }
            pool.shared().counters.reconnections.count();
            metrics.reconnection();
            tokio::select! {
                () = sleep(self.config.reconnect_pause) => {}
                () = pool.closed() => return,
            }
        }
    }

    /// Listens until the connection breaks.
    async fn listen(
        &mut self,
        pool: &EventPool,
        metrics: &SubscriberMetrics,
    ) -> Result<Closed, ZmqError> {
        let (guard, mut socket) = self.connect().await.inspect_err(|_| metrics.error("connect"))?;
        let received = self.receive(&mut socket, pool, metrics).await;
        drop(guard);
        received
    }

    /// A socket that is connected and has subscribed, and the relay that it is connected to.
    async fn connect(&self) -> Result<(Guard, SubSocket), ZmqError> {
        let mut options = SocketOptions::default();
        options.connect_timeout(CONNECT_TIMEOUT);
        let guard = Guard::to(&self.config.endpoint, self.config.message_bytes)?;
        let mut socket = SubSocket::with_options(options);
        socket.connect(&guard.endpoint()).await?;
        socket.subscribe(&self.config.topic_filter).await?;
        Ok((guard, socket))
    }

    async fn receive(
        &mut self,
        socket: &mut SubSocket,
        pool: &EventPool,
        metrics: &SubscriberMetrics,
    ) -> Result<Closed, ZmqError> {
        loop {
            let message = match self.config.silence {
                None => socket.recv().await,
                // Silence is no error of the publisher's.
                Some(silence) => match timeout(silence, socket.recv()).await {
                    Ok(message) => message,
                    Err(_) => return Err(ZmqError::NoMessage),
                },
            };
            let message = message.inspect_err(|_| metrics.error("recv"))?;
            metrics.message();
            let message = match EventMessage::from_frames(&message.into_vec()) {
                Ok(message) => self.sign(message),
                Err(error) => {
                    let endpoint = &self.config.endpoint;
                    tracing::debug!(endpoint, %error, "frames that are no message of events");
                    pool.shared().counters.unreadable_messages.count();
                    continue;
                }
            };
            if let Err(closed) = self.deliver(pool, message, metrics).await {
                return Ok(closed);
            }
        }
    }

    fn sign(&self, mut message: EventMessage) -> EventMessage {
        if let Some(pod) = &self.config.pod_identifier {
            message.pod_identifier = pod.as_str().into();
        }
        message.publisher = self.config.publisher;
        message
    }

    /// Hands a message over, and before it what is missing and can be fetched.
    async fn deliver(
        &mut self,
        pool: &EventPool,
        message: EventMessage,
        metrics: &SubscriberMetrics,
    ) -> Result<(), Closed> {
        if let Some(found) = message.sequence {
            let missing = match self.due {
                Some(due) if due < found => Some(due),
                // Nothing was heard before, or the engine has started anew.
                None => Some(0),
                Some(due) if due > found => Some(0),
                Some(_) => None,
            };
            if let Some(from) = missing.filter(|&from| from < found) {
                self.replay(pool, &message, from..found, metrics).await?;
            }
            self.due = Some(found.saturating_add(1));
        }
        self.submit(pool, message).await
    }

    async fn submit(&self, pool: &EventPool, message: EventMessage) -> Result<(), Closed> {
        self.config.overflow.submit(pool, message).await
    }

    /// Fetches messages and hands them over, if there is somebody to ask and it was not asked a moment ago.
    ///
    /// The pool learns from the numbers what is missing in the end.
    async fn replay(
        &mut self,
        pool: &EventPool,
        like: &EventMessage,
        missing: std::ops::Range<u64>,
        metrics: &SubscriberMetrics,
    ) -> Result<(), Closed> {
        let Some(replay) = &self.config.replay else { return Ok(()) };
        let cooled = |last: Instant| last.elapsed() >= replay.cooldown;
        if !self.last_replay.is_none_or(cooled) {
            return Ok(());
        }
        self.last_replay = Some(Instant::now());
        let fetched = timeout(replay.timeout, self.fetch(pool, replay, like, missing)).await;
        match fetched {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => {}
            Err(_) => metrics.error("replay-recv"),
            Ok(Err(Fetch::Closed(closed))) => return Err(closed),
            Ok(Err(Fetch::Zmq(operation, error))) => {
                metrics.error(operation);
                let endpoint = &replay.endpoint;
                tracing::debug!(endpoint, %error, "messages could not be fetched");
            }
        }
        pool.shared().counters.replay_failures.count();
        Ok(())
    }

    /// Whether all that was missing came.
    async fn fetch(
        &self,
        pool: &EventPool,
        replay: &Replay,
        like: &EventMessage,
        missing: std::ops::Range<u64>,
    ) -> Result<bool, Fetch> {
        let mut options = SocketOptions::default();
        options.connect_timeout(CONNECT_TIMEOUT);
        let unconnected = |error| Fetch::Zmq("replay-connect", error);
        let guard = Guard::to(&replay.endpoint, self.config.message_bytes);
        let guard = guard.map_err(|error| unconnected(error.into()))?;
        let mut socket = DealerSocket::with_options(options);
        socket.connect(&guard.endpoint()).await.map_err(unconnected)?;
        let from = Bytes::copy_from_slice(&missing.start.to_be_bytes());
        let request = ZmqMessage::try_from(vec![Bytes::new(), from])
            .map_err(|_| ZmqError::Other("a request has two frames"))?;
        socket.send(request).await?;
        let (mut due, mut is_whole) = (missing.start, true);
        while due < missing.end {
            let frames = socket.recv().await?.into_vec();
            let [_, number, payload] = frames.as_slice() else {
                return Ok(false);
            };
            let Some((number, _)) = number.split_first_chunk() else { return Ok(false) };
            let number = u64::from_be_bytes(*number);
            if payload.is_empty() || number >= missing.end {
                return Ok(false);
            }
            if number < due {
                continue;
            }
            is_whole &= number == due;
            due = number + 1;
            let message = EventMessage {
                pod_identifier: Arc::clone(&like.pod_identifier),
                model: Arc::clone(&like.model),
                publisher: like.publisher,
                sequence: Some(number),
                payload: payload.clone(),
            };
            self.submit(pool, message).await?;
            pool.shared().counters.replayed.count();
        }
        Ok(is_whole)
    }
}

/// Why a fetch came to an end.
enum Fetch {
    Closed(Closed),
    /// What was being done, as it is counted, and why it failed.
    Zmq(&'static str, ZmqError),
}

impl From<ZmqError> for Fetch {
    fn from(error: ZmqError) -> Self {
        Self::Zmq("replay-recv", error)
    }
}

impl From<Closed> for Fetch {
    fn from(closed: Closed) -> Self {
        Self::Closed(closed)
    }
}
