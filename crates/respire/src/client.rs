//! The handle that tasks share.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use respire_codec::{FromValue, Protocol};

use crate::{
    command::{Command, Packet, Pipeline},
    config::Config,
    connection::Connection,
    error::{Error, SendState},
    pubsub::{PushHub, Pushes},
    reply::Reply,
    session::Replies,
};

/// A client of one server. Clones are cheap and share one connection.
///
/// The connection is established by [`connect`](Self::connect), and again by the first request after it was lost; all
/// requests that come meanwhile wait for the same attempt, within their deadlines. For a moment after a failed attempt,
/// requests fail at once with the attempt's error.
///
/// Deadlines are kept, and replies received, by the runtime that the connection was established in: it must keep running
/// as long as the client is used. When it ends, requests under way end with it, and the next one connects anew in its
/// own. Outside of a tokio runtime a request that has to connect is an error.
///
/// A request that certainly never left because the connection turned out to be lost is sent once more on a new one.
/// Nothing else is repeated.
///
/// # Cancel safety
///
/// Every future of a client may be dropped at any point. A request whose future is dropped may or may not be carried
/// out; its reply is skipped, and no other request gets it.
#[derive(Clone)]
pub struct Client {
    link: Arc<Link>,
    command_timeout: Option<Duration>,
}

/// The present connection, and what it takes to have the next one.
#[derive(Debug)]
struct Link {
    config: Arc<Config>,
    pushes: Arc<PushHub>,
    state: Mutex<LinkState>,
}

#[derive(Debug)]
struct LinkState {
    connection: Arc<Connection>,
    /// Connections that take no new requests and may still have some under way.
    given_up: Vec<Weak<Connection>>,
    /// Attempts in a row that came to nothing, and when the next one may be made after the last of them.
    failures: u32,
    next_attempt: Option<Instant>,
    closed: bool,
}

/// The distance between attempts to connect: doubled with each that came to nothing, from the first to the second of
/// these, and then shortened at random by up to a half, so that many clients of one server do not dial in step.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

impl Client {
    /// Connects to the server of a URL; [`Config`] has the forms.
    ///
    /// # Errors
    ///
    /// The URL cannot be used, no connection can be established within the connect timeout, or the server refuses the
    /// handshake.
    ///
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::with_config(url.parse()?).await
    }

    /// Connects with these settings. As [`connect`](Self::connect).
    pub async fn with_config(config: Config) -> Result<Self, Error> {
        let command_timeout = config.command_timeout();
        let config = Arc::new(config);
        let pushes = Arc::new(PushHub::new(config.push_queue_max()));
        let connection = Connection::start(Arc::clone(&config), pushes.clone())?;
        // The link exists before the wait, so that dropping this future ends the attempt.
        let state = LinkState {
            connection: Arc::clone(&connection),
            given_up: Vec::new(),
            failures: 0,
            next_attempt: None,
            closed: false,
        };
        let link = Arc::new(Link { config, pushes, state: Mutex::new(state) });
        let client = Self { link, command_timeout };
        connection.opened().await?;
        Ok(client)
    }

    /// The same client with another timeout for each request; see [`Config::with_command_timeout`].
    #[must_use]
    pub fn with_command_timeout(&self, timeout: Option<Duration>) -> Self {
        Self { link: Arc::clone(&self.link), command_timeout: timeout }
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    ///
    /// The server answered with an error, the deadline passed, the connection was lost, or the command is one that a
    /// shared connection must not carry. [`Error`] tells them apart.
    pub async fn execute(&self, command: Command) -> Result<Reply, Error> {
        let packet = command
            .into_packet()
            .map_err(|reason| Error::usage(format!("the command is not sent: {reason}")))?;
        let replies = self.request(packet).await?;
        let frame = replies.into_one().expect("a request is done when its reply is there");
        Reply::new(frame).into_result()
    }

    /// Sends a command and reads its reply as a `T`.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), or the reply is not a `T`.
    pub async fn query<T: for<'a> FromValue<'a>>(&self, command: Command) -> Result<T, Error> {
        self.execute(command).await?.parse()
    }

    /// Sends the commands of a pipeline together and waits for all replies: one a command, in order.
    ///
    /// A command that the server answers with an error does not fail the others: its reply says so, see
    /// [`Reply::server_error`]. An empty pipeline is answered at once.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), but for errors of the server. Some of the commands may have been carried out.
    pub async fn pipeline(&self, pipeline: impl Into<Pipeline>) -> Result<Vec<Reply>, Error> {
        let pipeline = pipeline.into();
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let packet = pipeline
            .into_packet()
            .map_err(|reason| Error::usage(format!("the pipeline is not sent: {reason}")))?;
        Ok(self.request(packet).await?.into_vec().into_iter().map(Reply::new).collect())
    }

    /// How long a request of this handle may take; see [`Config::with_command_timeout`].
    pub fn command_timeout(&self) -> Option<Duration> {
        self.command_timeout
    }

    /// The protocol that the present connection speaks; `None` while there is none.
    pub fn protocol(&self) -> Option<Protocol> {
        self.link.state().connection.protocol()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.link.config
    }

    /// What the server sends over the shared connection without having been asked, from now on. See [`Pushes`].
    pub fn pushes(&self) -> Pushes {
        self.link.pushes.listen()
    }

    /// How many pushes were dropped because nobody listened to [`pushes`](Self::pushes).
    pub fn pushes_unheard(&self) -> u64 {
        self.link.pushes.unheard()
    }

    /// Takes no more requests, waits for those under way, and closes the connection. Each of them still ends by its own
    /// deadline. Applies to all clones.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the client closes even if the future is dropped.
    pub async fn close(&self) {
        let connections = {
            let mut state = self.link.state();
            state.closed = true;
            let mut connections: Vec<_> = state.given_up.iter().filter_map(Weak::upgrade).collect();
            connections.push(Arc::clone(&state.connection));
            connections
        };
        connections.iter().for_each(|connection| connection.drain());
        for connection in connections {
            connection.finished().await;
        }
        self.link.pushes.close();
    }

    async fn request(&self, packet: Packet) -> Result<Replies, Error> {
        let deadline = self.command_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let connection = self.link.connection()?;
        let outcome = match connection.submit(&packet, deadline) {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.send_state() == SendState::NotSent && error.is_lost() => {
                self.link.connection()?.submit(&packet, deadline)?.await
            }
            outcome => outcome,
        }
    }
}

/// Shows nothing that was sent or is to be.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", self.link.config.address())
            .field("protocol", &self.protocol())
            .field("command_timeout", &self.command_timeout)
            .finish()
    }
}

impl Link {
    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present connection, or a new attempt at one.
    fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut state = self.state();
        if state.closed {
            return Err(Error::closed_by_us().with_send_state(SendState::NotSent));
        }
        if state.connection.accepts() {
            return Ok(Arc::clone(&state.connection));
        }
        match state.connection.ended_early() {
            None => state.failures = 0,
            Some((ended, error)) => {
                if state.next_attempt.is_none() {
                    state.next_attempt = Some(ended + backoff(state.failures));
                    state.failures = state.failures.saturating_add(1);
                }
                if state.next_attempt.is_some_and(|next| Instant::now() < next) {
                    return Err(error.with_send_state(SendState::NotSent));
                }
            }
        }
        let next = Connection::start(Arc::clone(&self.config), self.pushes.clone())?;
        let last = std::mem::replace(&mut state.connection, Arc::clone(&next));
        state.next_attempt = None;
        state.given_up.retain(|connection| connection.strong_count() > 0);
        state.given_up.push(Arc::downgrade(&last));
        Ok(next)
    }
}

fn backoff(failures: u32) -> Duration {
    let doubled = BACKOFF_MIN * 2_u32.saturating_pow(failures.min(16));
    doubled.min(BACKOFF_MAX).mul_f64(rand::random_range(0.5..=1.0))
}

impl Drop for Link {
    fn drop(&mut self) {
        // The last handle is gone, and with it every future that waits for a reply.
        self.state().connection.abort();
        self.pushes.close();
    }
}
