//! The handle that tasks share.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use respire_codec::{Frame, FromValue, Protocol};

use crate::{
    cache::Caches,
    command::{Blocking, Command, Packet, Pipeline},
    commands::{Executor, TypedCommand},
    config::{Config, WhenDown, WhenFull},
    connection::{Connection, Pending},
    deadline::check_runtime,
    error::{Error, SendState},
    pubsub::{Hub, PushHub, Pushes},
    reply::{Reply, ServerError},
    session::{Replies, push::PushSink},
    stats::{Stats, Totals},
};

mod answer;
mod dedicated;
mod keeper;
mod lane;
mod link;
mod moving;
mod pool;
mod request;
mod retry;
mod rotation;
#[cfg(feature = "request-spans")]
mod span;
mod transaction;
mod typed;

pub use answer::Answer;
use answer::Unread;
pub use dedicated::Dedicated;
use lane::{Lane, Lanes};
pub(crate) use link::Link;
use pool::Pool;
use request::{Check, Request};
use retry::Attempts;
pub use retry::RetryPolicy;
pub(crate) use retry::is_passing;
pub(crate) use rotation::Rotation;
pub use transaction::{Attempt, Transaction};
pub use typed::OwnAnswer;

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
/// That runtime must get to run. A task of it that blocks its thread, for example by `block_on` of another runtime's, holds up
/// what the thread has still to run: perhaps the task that drives the connection, or those whose replies have just
/// arrived, and a wait for a request of this client may so never end, its deadline included. What blocks belongs
/// into tokio's `spawn_blocking` or `block_in_place`, or uses a [`blocking`](crate::blocking) client;
/// [`Config::with_driver_thread`](crate::Config::with_driver_thread) keeps deadlines and replies out of the way of tasks
/// that are busy for long.
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
    pool: Arc<Pool>,
    pushes: Arc<PushHub>,
    subscriptions: Arc<Hub>,
    totals: Arc<Totals>,
    rotation: Arc<Rotation>,
    caches: Arc<Caches>,
}

impl Shared {
    /// The server is no primary any more; its name may lead to another one.
    fn suspect(&self) {
        self.lanes.suspect();
        self.pool.drop_idle();
    }
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
        self.deadline_from(Instant::now())
    }

    fn deadline_from(&self, start: Instant) -> Option<Instant> {
        self.earlier_of(self.command_timeout.and_then(|timeout| start.checked_add(timeout)))
    }

    /// The time that the server is asked to wait comes on top of the time that a request may take.
    fn deadline_of_blocking(&self, start: Instant, blocking: Blocking) -> Option<Instant> {
        let Blocking::AtMost(wait) = blocking else { return self.deadline };
        let timeout = self.command_timeout.and_then(|timeout| timeout.checked_add(wait));
        self.earlier_of(timeout.and_then(|timeout| start.checked_add(timeout)))
    }

    fn earlier_of(&self, by_timeout: Option<Instant>) -> Option<Instant> {
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
        let rotation = Rotation::new(&config);
        let lanes = Lanes::new(&config, &sink, &totals, &rotation);
        let pool = Pool::new(Arc::clone(&config), Arc::clone(&totals), Arc::clone(&rotation));
        let subscriptions = Hub::new(Arc::clone(&config));
        let caches = Arc::default();
        let shared =
            Shared { config, lanes, pool, pushes, subscriptions, totals, rotation, caches };
        Self { shared: Arc::new(shared), options }
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
    pub fn execute(&self, command: Command) -> impl Future<Output = Result<Reply, Error>> + Send {
        Unread(self.request(command))
    }

    /// Sends a command and reads its reply as a `T`.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), or the reply is not a `T`.
    pub fn query<T: for<'a> FromValue<'a>>(&self, command: Command) -> Answer<'_, T> {
        self.run(TypedCommand::new(command, |value| T::from_value(value)))
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
        let is_atomic = pipeline.is_atomic();
        let placement = pipeline.placement();
        let packet = pipeline.into_unchecked_packet();
        let replies = Request::new(self, packet, placement, Ok).await?;
        if replies.iter().any(is_readonly) {
            self.shared.suspect();
        }
        transaction::replies(replies.into_vec(), is_atomic)
    }

    /// A connection of one's own, for commands that would change a shared one; see [`Dedicated`]. It is bounded how many
    /// there are at a time: [`Config::with_dedicated_max`].
    ///
    /// # Errors
    ///
    /// All were taken until the deadline, or the last attempt to connect has just failed. That this one cannot be
    /// established is told by the first request.
    pub async fn dedicated(&self) -> Result<Dedicated, Error> {
        let Options { when_full, when_down, .. } = self.options;
        let lease = self.shared.pool.lease(self.options.deadline(), when_full, when_down).await?;
        Ok(Dedicated::new(lease, self.options))
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
        self.shared.pool.add_stats(&mut stats);
        self.shared.caches.add_stats(&mut stats);
        stats.subscriptions = self.shared.subscriptions.stats();
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

    /// Takes no more requests, waits for those under way, and closes the connections. Each of them still ends by its own
    /// deadline; a blocking command that has none and waits for ever ends now. Applies to all clones.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the client closes even if the future is dropped.
    pub async fn close(&self) {
        let _pushes_end = PushesEnd(&self.shared.pushes);
        self.shared.subscriptions.close();
        let mut connections = self.shared.lanes.close();
        connections.append(&mut self.shared.pool.close());
        for connection in connections {
            connection.finished().await;
        }
    }

    /// By when a request that is made now must have ended.
    pub(crate) fn request_deadline(&self) -> Option<Instant> {
        self.options.deadline()
    }

    /// The instant by which requests of this handle end, whenever they are made.
    pub(crate) fn fixed_deadline(&self) -> Option<Instant> {
        self.options.deadline
    }

    pub(crate) fn when_down(&self) -> WhenDown {
        self.options.when_down
    }

    pub(crate) fn when_full(&self) -> WhenFull {
        self.options.when_full
    }

    pub(crate) fn rotation(&self) -> Arc<Rotation> {
        Arc::clone(&self.shared.rotation)
    }

    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.shared.totals)
    }

    pub(crate) fn caches(&self) -> Arc<Caches> {
        Arc::clone(&self.shared.caches)
    }

    pub(crate) fn subscriptions(&self) -> Arc<Hub> {
        Arc::clone(&self.shared.subscriptions)
    }

    /// Sends a request that may block over a connection that nobody else waits for.
    async fn block(
        &self,
        packet: &Packet,
        blocking: Blocking,
        check: Check,
    ) -> Result<Replies, Error> {
        let Options { when_full, when_down, retry, .. } = self.options;
        let mut attempts = Attempts::new(retry, when_down);
        // A request that may wait for ever on the server is not to wait for ever for a connection.
        let mut patience = self.options.deadline();
        // From when the first connection was had, for all attempts.
        let mut deadline = None;
        loop {
            let outcome = async {
                let mut lease = self.shared.pool.lease(patience, when_full, when_down).await?;
                let deadline = *deadline.get_or_insert_with(|| {
                    self.options.deadline_of_blocking(Instant::now(), blocking)
                });
                match (blocking, deadline) {
                    (Blocking::Unlimited, None) => lease.run_endless(packet).await,
                    _ => lease.run(packet, deadline).await,
                }
            };
            let error = match outcome.await.and_then(check) {
                Ok(replies) => return Ok(replies),
                Err(error) => error,
            };
            let now = Instant::now();
            if error.is_lost() {
                // There was a connection, and there may be another as soon as it was.
                let deadline = deadline.flatten();
                patience = [self.options.deadline_from(now), deadline].into_iter().flatten().min();
            }
            let repeats = |policy: RetryPolicy| policy.repeats(packet);
            let wait = attempts.after(error, repeats, now, patience);
            let why = |error| explained(error, || self.shared.pool.why_down());
            pause(wait.map_err(why)?).await?;
            self.shared.totals.count_retry();
        }
    }

    /// Goes on after the first attempt has failed, for as many attempts as the policy and the deadline allow.
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
            if error.server_error().is_some_and(|error| error.code() == "READONLY") {
                self.shared.suspect();
            }
            if lane == Lane::Bulk && error.is_connect() {
                // A server with no room for another connection may still have one with us.
                lane = Lane::Main;
            } else {
                let repeats = |policy: RetryPolicy| policy.repeats(packet);
                let wait = attempts.after(error, repeats, Instant::now(), deadline);
                let why = |error| explained(error, || self.shared.lanes.why_down(lane));
                pause(wait.map_err(why)?).await?;
            }
            self.shared.totals.count_retry();
            match self.attempt(packet, Instant::now(), deadline, lane).await.and_then(check) {
                Ok(replies) => return Ok(replies),
                Err(next) => error = next,
            }
        }
    }

    async fn attempt(
        &self,
        packet: &Packet,
        now: Instant,
        deadline: Option<Instant>,
        lane: Lane,
    ) -> Result<Replies, Error> {
        let pending =
            poll_fn(|cx| Poll::Ready(self.submit(packet, now, deadline, lane, cx.waker())));
        pending.await?.await
    }

    fn submit(
        &self,
        packet: &Packet,
        now: Instant,
        deadline: Option<Instant>,
        lane: Lane,
        waker: &Waker,
    ) -> Result<Pending, Error> {
        let Options { when_full, when_down, .. } = self.options;
        let link = self.shared.lanes.link(lane);
        let submit = |connection: Arc<Connection>| {
            connection.submit_when(packet, now, deadline, when_full, Some(waker))
        };
        if let Some(connection) = link.present() {
            match submit(connection) {
                // It takes no requests any more.
                Err(error) if !error.is_full() => {}
                submitted => return submitted,
            }
        }
        submit(link.connection(when_down)?)
    }
}

/// A request that waited in vain for a connection also says why there was none.
fn explained(error: Error, why_down: impl FnOnce() -> Option<Error>) -> Error {
    if !error.is_timeout() || error.is_connect() || error.send_state() != SendState::NotSent {
        return error;
    }
    match why_down() {
        Some(cause) => error.because(cause),
        None => error,
    }
}

/// Ends the streams of pushes, after the connections or when nobody waits for their ends any more.
struct PushesEnd<'a>(&'a PushHub);

impl Drop for PushesEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

async fn pause(duration: Duration) -> Result<(), Error> {
    if duration.is_zero() {
        return Ok(());
    }
    check_runtime()?;
    tokio::time::sleep(duration).await;
    Ok(())
}

/// Whether a server answers that it is no primary, or none any more.
fn is_readonly(frame: &Frame) -> bool {
    // Most replies are no errors by their first byte.
    matches!(frame.bytes().first(), Some(b'-' | b'!' | b'|'))
        && frame.value().error().is_some_and(|text| ServerError::new(text).code() == "READONLY")
}

/// The reply to a request of one command, if it is no error.
fn answered(replies: Replies) -> Result<Replies, Error> {
    match &replies {
        // Most are none by their first byte.
        Replies::One(frame) if !matches!(frame.bytes().first(), Some(b'-' | b'!' | b'|')) => {
            Ok(replies)
        }
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
