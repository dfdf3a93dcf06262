//! The handle that tasks share.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use respire_codec::{FromValue, Protocol};

use crate::{
    command::{Command, Packet, Pipeline},
    config::{Config, WhenDown, WhenFull},
    connection::Pending,
    error::Error,
    pubsub::{Hub, PushHub, Pushes},
    reply::{Reply, ServerError},
    session::{Replies, push::PushSink},
    stats::{Stats, Totals},
};

mod lane;
mod link;
mod retry;

use lane::{Lane, Lanes};
use retry::Attempts;
pub use retry::RetryPolicy;

/// A client of one server. Clones are cheap and share one connection.
///
/// The connection is established by [`connect`](Self::connect), and again by the first request after it was lost; all
/// requests that come meanwhile wait for the same attempt, within their deadlines. For a moment after a failed attempt,
/// requests fail at once with the attempt's error, or wait for the next one: see [`WhenDown`].
///
/// Deadlines are kept, and replies received, by the runtime that the connection was established in: it must keep running
/// as long as the client is used. When it ends, requests under way end with it, and the next one connects anew in its
/// own. Outside of a tokio runtime a request that has to connect is an error.
///
/// A request that certainly never left because the connection turned out to be lost is sent again on a new one;
/// [`RetryPolicy`] says what else may be.
///
/// # Cancel safety
///
/// Every future of a client may be dropped at any point. A request whose future is dropped may or may not be carried
/// out; its reply is skipped, and no other request gets it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    options: Options,
}

/// What all clones of a client have in common.
struct Shared {
    config: Arc<Config>,
    lanes: Lanes,
    pushes: Arc<PushHub>,
    subscriptions: Arc<Hub>,
    totals: Arc<Totals>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pushes.close();
    }
}

/// What may differ from one handle of a client to the next.
#[derive(Clone, Copy, Debug)]
struct Options {
    command_timeout: Option<Duration>,
    deadline: Option<Instant>,
    when_down: WhenDown,
    when_full: WhenFull,
    retry: RetryPolicy,
    bulk: bool,
}

impl Options {
    fn new(config: &Config) -> Self {
        Self {
            command_timeout: config.command_timeout(),
            deadline: None,
            when_down: config.when_down(),
            when_full: config.when_full(),
            retry: config.retry(),
            bulk: false,
        }
    }

    /// When a request that is made now must have ended.
    fn deadline(&self) -> Option<Instant> {
        let by_timeout =
            self.command_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        match (by_timeout, self.deadline) {
            (Some(by_timeout), Some(deadline)) => Some(by_timeout.min(deadline)),
            (by_timeout, deadline) => by_timeout.or(deadline),
        }
    }
}

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
        // The client exists before the wait, so that dropping this future ends the attempt.
        let client = Self::unconnected(config);
        client.shared.lanes.first().connection(WhenDown::FailFast)?.opened().await?;
        Ok(client)
    }

    /// A client with these settings that connects when it is first used.
    pub fn unconnected(config: Config) -> Self {
        let options = Options::new(&config);
        let config = Arc::new(config);
        let pushes = Arc::new(PushHub::new(config.push_queue_max()));
        let sink: Arc<dyn PushSink> = pushes.clone();
        let totals = Arc::default();
        let lanes = Lanes::new(&config, &sink, &totals);
        let subscriptions = Hub::new(Arc::clone(&config));
        Self { shared: Arc::new(Shared { config, lanes, pushes, subscriptions, totals }), options }
    }

    /// The same client with another timeout for each request; see [`Config::with_command_timeout`].
    #[must_use]
    pub fn with_command_timeout(&self, timeout: Option<Duration>) -> Self {
        self.with_options(|options| options.command_timeout = timeout)
    }

    /// The same client with an instant by which each request ends, whatever it has to wait for. Where there is a timeout
    /// as well, what comes first holds.
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        self.with_options(|options| options.deadline = Some(deadline))
    }

    /// The same client with another answer to a server that cannot be reached; see [`Config::with_when_down`].
    #[must_use]
    pub fn with_when_down(&self, when_down: WhenDown) -> Self {
        self.with_options(|options| options.when_down = when_down)
    }

    /// The same client with another answer to a connection that is full; see [`Config::with_when_full`].
    #[must_use]
    pub fn with_when_full(&self, when_full: WhenFull) -> Self {
        self.with_options(|options| options.when_full = when_full)
    }

    /// The same client with another policy on what is sent again; see [`Config::with_retry`].
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        self.with_options(|options| options.retry = retry)
    }

    /// The same client for requests whose replies are large: they take the bulk lane whatever their own size; see
    /// [`Config::with_bulk_lane`].
    #[must_use]
    pub fn bulk(&self) -> Self {
        self.with_options(|options| options.bulk = true)
    }

    fn with_options(&self, change: impl FnOnce(&mut Options)) -> Self {
        let mut client = self.clone();
        change(&mut client.options);
        client
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
        let replies = self.request(&packet, answered).await?;
        let frame = replies.into_one().expect("a request is done when its reply is there");
        Ok(Reply::new(frame))
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
        let replies = self.request(&packet, Ok).await?;
        Ok(replies.into_vec().into_iter().map(Reply::new).collect())
    }

    /// How long a request of this handle may take; see [`Config::with_command_timeout`].
    pub fn command_timeout(&self) -> Option<Duration> {
        self.options.command_timeout
    }

    /// The protocol that the present connection speaks; `None` while there is none.
    pub fn protocol(&self) -> Option<Protocol> {
        self.shared.lanes.first().protocol()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// What all handles of this client have done until now: counts, what is under way, and where the time went.
    ///
    /// Takes the lock of each connection for as long as it takes to copy some 35 KiB: once a second is often, and after
    /// each request too often. The numbers of a connection that is being let go of at this moment may be missing, and are
    /// in the next snapshot.
    ///
    /// ```no_run
    /// # async fn example(client: respire::Client) {
    /// let before = client.stats();
    /// tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// let second = client.stats().since(&before);
    /// println!("{} answered, {:?} of them in 99 of 100", second.answered, second.phases.total.quantile(0.99));
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.totals.stats();
        self.shared.lanes.add_stats(&mut stats);
        stats
    }

    /// What the server sends over the shared connection without having been asked, from now on. See [`Pushes`].
    pub fn pushes(&self) -> Pushes {
        self.shared.pushes.listen()
    }

    /// How many pushes were dropped because nobody listened to [`pushes`](Self::pushes).
    pub fn pushes_unheard(&self) -> u64 {
        self.shared.pushes.unheard()
    }

    /// Takes no more requests, waits for those under way, and closes the connection. Each of them still ends by its own
    /// deadline. Applies to all clones.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the client closes even if the future is dropped.
    pub async fn close(&self) {
        self.shared.subscriptions.close();
        for connection in self.shared.lanes.close() {
            connection.finished().await;
        }
        self.shared.pushes.close();
    }

    pub(crate) fn subscriptions(&self) -> Arc<Hub> {
        Arc::clone(&self.shared.subscriptions)
    }

    /// The replies to a request, where `check` finds nothing wrong with them, after as many attempts as its policy and its
    /// deadline allow.
    async fn request(&self, packet: &Packet, check: Check) -> Result<Replies, Error> {
        let deadline = self.options.deadline();
        let lane = self.shared.lanes.lane(packet.len(), self.options.bulk);
        match self.attempt(packet, deadline, lane).await.and_then(check) {
            Ok(replies) => Ok(replies),
            Err(error) => Box::pin(self.again(packet, deadline, lane, check, error)).await,
        }
    }

    async fn again(
        &self,
        packet: &Packet,
        deadline: Option<Instant>,
        mut lane: Lane,
        check: Check,
        mut error: Error,
    ) -> Result<Replies, Error> {
        let mut attempts = Attempts::new(self.options.retry, self.options.when_down);
        loop {
            if lane == Lane::Bulk && error.is_connect() {
                // A server with no room for another connection may still have one with us.
                lane = Lane::Main;
            } else {
                pause(attempts.after(error, Instant::now(), deadline)?).await?;
            }
            self.shared.totals.count_retry();
            match self.attempt(packet, deadline, lane).await.and_then(check) {
                Ok(replies) => return Ok(replies),
                Err(next) => error = next,
            }
        }
    }

    async fn attempt(
        &self,
        packet: &Packet,
        deadline: Option<Instant>,
        lane: Lane,
    ) -> Result<Replies, Error> {
        self.submit(packet, deadline, lane)?.await
    }

    fn submit(
        &self,
        packet: &Packet,
        deadline: Option<Instant>,
        lane: Lane,
    ) -> Result<Pending, Error> {
        let Options { when_full, when_down, .. } = self.options;
        let link = self.shared.lanes.link(lane);
        if let Some(connection) = link.present() {
            match connection.submit_when(packet, deadline, when_full) {
                // It takes no requests any more.
                Err(error) if !error.is_full() => {}
                submitted => return submitted,
            }
        }
        link.connection(when_down)?.submit_when(packet, deadline, when_full)
    }
}

async fn pause(duration: Duration) -> Result<(), Error> {
    if duration.is_zero() {
        return Ok(());
    }
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(Error::usage("to wait for the server takes a tokio runtime".to_owned()));
    }
    tokio::time::sleep(duration).await;
    Ok(())
}

type Check = fn(Replies) -> Result<Replies, Error>;

/// The reply to a request of one command, if it is no error.
fn answered(replies: Replies) -> Result<Replies, Error> {
    match &replies {
        Replies::One(frame) => match frame.value().error() {
            Some(text) => Err(Error::server(ServerError::new(text))),
            None => Ok(replies),
        },
        Replies::None | Replies::Many(_) => Ok(replies),
    }
}

/// Shows nothing that was sent or is to be.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", self.config().address())
            .field("protocol", &self.protocol())
            .field("command_timeout", &self.options.command_timeout)
            .finish()
    }
}
