//! The handle that tasks share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use respire_codec::{FromValue, Protocol};

use crate::{
    command::{Command, Packet, Pipeline},
    config::Config,
    connection::Connection,
    error::{Error, SendState},
    reply::Reply,
    session::Replies,
};

/// A client of one server. Clones are cheap and share one connection.
///
/// The connection is established by [`connect`](Self::connect), and again by the first request after it was lost; all
/// requests that come meanwhile wait for the same attempt, within their deadlines. For a moment after a failed attempt,
/// requests fail at once with the attempt's error.
///
/// A request that certainly never left because the connection turned out to be lost is sent once more on a new one.
/// Nothing else is repeated.
///
/// # Cancel safety
///
/// Every future of a client may be dropped at any point. A request whose future is dropped may or may not be carried
/// out; its reply is skipped, and no other request gets it.
#[derive(Clone, Debug)]
pub struct Client {
    link: Arc<Link>,
    command_timeout: Option<Duration>,
}

/// The present connection, and what it takes to have the next one.
#[derive(Debug)]
struct Link {
    config: Arc<Config>,
    state: Mutex<LinkState>,
}

#[derive(Debug)]
struct LinkState {
    connection: Arc<Connection>,
    /// When the present connection was begun; the next attempt keeps a distance from one that failed.
    begun: Instant,
    failed_attempts: u32,
    closed: bool,
}

/// The distance between attempts to connect: doubled with each failure, from the first to the second of these.
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
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::with_config(url.parse()?).await
    }

    /// Connects with these settings. As [`connect`](Self::connect).
    pub async fn with_config(config: Config) -> Result<Self, Error> {
        let command_timeout = config.command_timeout();
        let config = Arc::new(config);
        let connection = Connection::start(Arc::clone(&config));
        // The link exists before the wait, so that dropping this future ends the attempt.
        let state = LinkState {
            connection: Arc::clone(&connection),
            begun: Instant::now(),
            failed_attempts: 0,
            closed: false,
        };
        let link = Arc::new(Link { config, state: Mutex::new(state) });
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
    pub async fn pipeline(&self, pipeline: Pipeline) -> Result<Vec<Reply>, Error> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let packet = pipeline
            .into_packet()
            .map_err(|reason| Error::usage(format!("the pipeline is not sent: {reason}")))?;
        Ok(self.request(packet).await?.into_vec().into_iter().map(Reply::new).collect())
    }

    /// The protocol that the present connection speaks; `None` while there is none.
    pub fn protocol(&self) -> Option<Protocol> {
        self.link.state().connection.protocol()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.link.config
    }

    /// Takes no more requests, waits for those under way, and closes the connection. Each of them still ends by its own
    /// deadline. Applies to all clones.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the client closes even if the future is dropped.
    pub async fn close(&self) {
        let connection = {
            let mut state = self.link.state();
            state.closed = true;
            Arc::clone(&state.connection)
        };
        connection.drain();
        connection.finished().await;
    }

    async fn request(&self, packet: Packet) -> Result<Replies, Error> {
        let deadline = self.command_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let connection = self.link.connection()?;
        let outcome = match connection.submit(&packet, deadline) {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.is_closed() && error.send_state() == SendState::NotSent => {
                self.link.connection()?.submit(&packet, deadline)?.await
            }
            outcome => outcome,
        }
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
            return Err(Error::closed("the client was closed").with_send_state(SendState::NotSent));
        }
        if state.connection.accepts() {
            return Ok(Arc::clone(&state.connection));
        }
        let now = Instant::now();
        if state.connection.protocol().is_some() {
            // It had been established, so this is the first attempt after it.
            state.failed_attempts = 0;
        } else if let Some(error) = state.connection.ended() {
            let doubled = BACKOFF_MIN * 2_u32.saturating_pow(state.failed_attempts.min(16));
            if now < state.begun + doubled.min(BACKOFF_MAX) {
                return Err(error.with_send_state(SendState::NotSent));
            }
            state.failed_attempts += 1;
        }
        state.begun = now;
        state.connection = Connection::start(Arc::clone(&self.config));
        Ok(Arc::clone(&state.connection))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The last handle is gone, and with it every future that waits for a reply.
        self.state().connection.abort();
    }
}
