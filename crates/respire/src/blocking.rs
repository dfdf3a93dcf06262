//! A client for programs without a runtime.
//!
//! ```no_run
//! use respire::{blocking::Client, commands::*};
//!
//! # fn main() -> Result<(), respire::Error> {
//! let client = Client::connect("valkey://localhost:6379")?;
//! client.set("greeting", "hello")?;
//! let greeting: Option<String> = client.get("greeting")?;
//! assert_eq!(greeting.as_deref(), Some("hello"));
//! # Ok(())
//! # }
//! ```

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt};
use respire_codec::{FromValue, Protocol};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::{
    client,
    command::{Command, Pipeline},
    commands::{Executor, TypedCommand},
    config::Config,
    error::Error,
    reply::Reply,
    stats::Stats,
};

/// A client whose methods wait for the reply. It does what [`respire::Client`](crate::Client) does, and keeps the same
/// deadlines.
///
/// Clones are cheap and share its connections, so many threads may use it at once. The connections are driven by one
/// thread, which ends when the last clone is dropped, and with it what was under way.
///
/// The methods of [`commands`](crate::commands) return the reply itself. What is not here, such as transactions with
/// watched keys, is there by [`run`](Self::run).
///
/// # Errors
///
/// In an asynchronous context, where it would hold up a runtime's thread, every method that waits is an error.
#[derive(Clone)]
pub struct Client {
    // The client goes first: its connections end while their runtime can still see to it.
    client: client::Client,
    driver: Arc<Driver>,
}

/// The thread that drives the connections.
struct Driver {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Connects to the server of a URL; [`Config`] has the forms.
    ///
    /// # Errors
    ///
    /// As [`respire::Client::connect`](crate::Client::connect); or no thread can be had.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::with_config(url.parse()?)
    }

    /// Connects with these settings. As [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn with_config(config: Config) -> Result<Self, Error> {
        let driver = Driver::start()?;
        let client = driver.run(client::Client::with_config(config))??;
        Ok(Self { client, driver: Arc::new(driver) })
    }

    /// The same client with another timeout for each request; see [`Config::with_command_timeout`].
    #[must_use]
    pub fn with_command_timeout(&self, timeout: Option<Duration>) -> Self {
        self.with_client(self.client.with_command_timeout(timeout))
    }

    /// The same client with an instant by which each request ends; see
    /// [`respire::Client::with_deadline`](crate::Client::with_deadline).
    #[must_use]
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        self.with_client(self.client.with_deadline(deadline))
    }

    /// This handle with the settings of another one, as made by a method of [`respire::Client`](crate::Client) from the client
    /// that [`run`](Self::run) hands out.
    #[must_use]
    pub fn with_client(&self, client: client::Client) -> Self {
        Self { client, driver: Arc::clone(&self.driver) }
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    ///
    /// As [`respire::Client::execute`](crate::Client::execute).
    pub fn execute(&self, command: Command) -> Result<Reply, Error> {
        self.driver.run(self.client.execute(command))?
    }

    /// Sends a command and reads its reply as a `T`.
    ///
    /// # Errors
    ///
    /// As [`respire::Client::query`](crate::Client::query).
    pub fn query<T: for<'a> FromValue<'a>>(&self, command: Command) -> Result<T, Error> {
        self.execute(command)?.parse()
    }

    /// Sends the commands of a pipeline together and waits for all replies: one a command, in order.
    ///
    /// # Errors
    ///
    /// As [`respire::Client::pipeline`](crate::Client::pipeline).
    pub fn pipeline(&self, pipeline: impl Into<Pipeline>) -> Result<Vec<Reply>, Error> {
        self.driver.run(self.client.pipeline(pipeline))?
    }

    /// Waits for what a future makes of the client.
    ///
    /// ```no_run
    /// # fn example(client: respire::blocking::Client) -> Result<(), respire::Error> {
    /// use respire::{Pipeline, commands::*};
    ///
    /// let (doubled,): (i64,) = client.run(async |client| {
    ///     client
    ///         .transaction(["n"], |mut transaction| async move {
    ///             let n: Option<i64> = transaction.get("n").await?;
    ///             let mut commands = Pipeline::new();
    ///             commands.incrby("n", n.unwrap_or_default());
    ///             transaction.commit(commands).await
    ///         })
    ///         .await
    /// })??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// In an asynchronous context. What the future makes is returned as it is.
    pub fn run<T, F: Future<Output = T>>(
        &self,
        make: impl FnOnce(client::Client) -> F,
    ) -> Result<T, Error> {
        self.driver.run(make(self.client.clone()))
    }

    /// The items of a stream, each waited for: of a [`Subscription`](crate::pubsub::Subscription) or a
    /// [`Scan`](crate::Scan), for example.
    ///
    /// ```no_run
    /// # fn example(client: respire::blocking::Client) -> Result<(), respire::Error> {
    /// use respire::{ScanOptions, pubsub::Event};
    ///
    /// let keys = client.run(async |client| client.scan::<String>(ScanOptions::new()))?;
    /// for key in client.iter(keys) {
    ///     println!("{}", key??);
    /// }
    /// let news = client.run(async |client| client.subscribe(["news"]).await)??;
    /// for event in client.iter(news) {
    ///     if let Event::Message(message) = event? {
    ///         println!("{:?}", message.payload());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// In an asynchronous context each item is one.
    pub fn iter<S: Stream>(&self, stream: S) -> Iter<S> {
        Iter { stream: Box::pin(stream), driver: Arc::clone(&self.driver) }
    }

    /// What all handles of this client have done until now; see [`respire::Client::stats`](crate::Client::stats).
    pub fn stats(&self) -> Stats {
        self.client.stats()
    }

    /// The protocol that the present connection speaks; `None` while there is none.
    pub fn protocol(&self) -> Option<Protocol> {
        self.client.protocol()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        self.client.config()
    }

    /// Takes no more requests, waits for those under way, and closes the connections. Applies to all clones.
    ///
    /// # Errors
    ///
    /// In an asynchronous context.
    pub fn close(&self) -> Result<(), Error> {
        self.driver.run(self.client.close())
    }
}

/// The items of a stream, each waited for; see [`Client::iter`].
pub struct Iter<S> {
    // The stream goes first: what it has under way ends while its runtime can still see to it.
    stream: Pin<Box<S>>,
    driver: Arc<Driver>,
}

impl<S: Stream> Iterator for Iter<S> {
    type Item = Result<S::Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.driver.run(self.stream.next()).transpose()
    }
}

impl<S> fmt::Debug for Iter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iter")
    }
}

impl Executor for &Client {
    type Answer<T> = Result<T, Error>;

    fn run<T>(self, command: TypedCommand<T>) -> Result<T, Error> {
        self.driver.run((&self.client).run(command))?
    }
}

/// Shows nothing that was sent or is to be.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("blocking::Client").field(&self.client).finish()
    }
}

impl Driver {
    fn start() -> Result<Self, Error> {
        refuse_in_runtime()?;
        let failed =
            |error| Error::usage(format!("a thread for the client cannot be had: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("respire".to_owned())
            // Whether it is told or the sender is gone, it is the end.
            .spawn(move || drop(runtime.block_on(stopped)))
            .map_err(failed)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits for a future on the calling thread; its connections are driven by the other one.
    fn run<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        refuse_in_runtime()?;
        Ok(self.handle.block_on(future))
    }
}

fn refuse_in_runtime() -> Result<(), Error> {
    match Handle::try_current() {
        Ok(_) => Err(Error::usage("a blocking client is not for asynchronous code".to_owned())),
        Err(_) => Ok(()),
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        // A future that held the last clone may be dropped on the very thread.
        if thread.thread().id() != std::thread::current().id() {
            // It has panicked only if a task of it has, and that was reported there.
            let _ = thread.join();
        }
    }
}
