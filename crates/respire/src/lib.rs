//! A pipelined async client for Valkey and Redis.
//!
//! Every clone of a [`Client`] shares one connection. Requests of many tasks are sent together, replies are matched to
//! them in order, and each task decodes its own reply straight from the received bytes.
//!
//! ```no_run
//! use respire::{Client, Command, commands::*};
//!
//! # async fn example() -> Result<(), respire::Error> {
//! let client = Client::connect("valkey://localhost:6379").await?;
//! client.set("greeting", "hello").await?;
//! let greeting: Option<String> = client.get("greeting").await?;
//! assert_eq!(greeting.as_deref(), Some("hello"));
//!
//! // Any command there is, a reply that borrows from what was received.
//! let reply = client.execute(Command::new("HKEYS").arg("user:7")).await?;
//! let fields: Vec<&str> = reply.parse()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Commands
//!
//! [`commands`] has the commands of the common families as methods, on clients, pipelines, dedicated connections and
//! transactions alike. [`Command`] builds any other, [`Pipeline`] sends several at once, [`Script`] calls scripts by their
//! digest, and [`Client::scan`] and its kin are streams. [`CommandInfo`] tells what is known of a command: whether it only
//! reads, may be repeated, may block, and where its keys are.
//!
//! # What it promises
//!
//! * Each future ends within its deadline, whatever the server or the network does, as long as the runtime runs that it
//!   connected in. See [`Config::with_command_timeout`].
//! * Dropping a future never shifts a reply to another one.
//! * An error reply is a reply: the connection lives on. See [`Error::server_error`].
//! * An [`Error`] says whether the command certainly never left ([`SendState`]), so that a retry can be judged.
//! * Credentials appear in no error, no log and no `Debug` output.
//!
//! # Messages and a cache
//!
//! [`Client::subscribe`] and its kin read what is published to channels; see [`pubsub`]. [`Client::cached`] answers reads
//! from memory until the server announces a change; see [`cache`].
//!
//! # Where the time goes
//!
//! [`Client::stats`] counts what a client does and has distributions of how long its requests took, by phase: [`Stats`].
//! Events of connections are told to `tracing` at its debug level. With the feature `request-spans`, each request has a
//! span, at the trace level under the target `respire::request`.
//!
//! # TLS and other transports
//!
//! `rediss://` and `valkeys://` are encrypted; see [`TlsConfig`]. It is rustls that does it, with the system's trusted roots
//! unless others are named, behind the crate's feature `tls`, which is on by default. [`transport`] says how to bring a
//! transport of one's own, a proxy's for example, over which TLS is spoken as well where it is asked for.
//!
//! # What it is not, yet
//!
//! Cluster routing is not here. What would change the shared connection for everybody (`SELECT`,
//! `WATCH`, ...) is refused with an error that says so, before anything is sent: it takes a connection of one's own, see
//! [`Client::dedicated`] and [`Client::transaction`]. Blocking commands get one by themselves. Scripts and functions are
//! carried out by the server as they are.
//!
//! A [`Client`] needs a tokio runtime with its I/O and time drivers enabled, unless its connections are driven by threads of
//! their own ([`Config::with_driver_thread`]); programs without a runtime have [`blocking::Client`].

pub mod blocking;
pub mod cache;
mod client;
mod command;
pub mod commands;
mod config;
mod connection;
mod deadline;
mod error;
mod lock;
pub mod pubsub;
mod reply;
mod scan;
mod script;
mod session;
#[cfg(test)]
mod simulation;
mod stats;
pub mod transport;

pub use client::{Answer, Attempt, Client, Dedicated, OwnAnswer, RetryPolicy, Transaction};
pub use command::{Args, Blocking, Command, CommandInfo, Pipeline, ToArg};
pub use config::{
    Address, Config, Credentials, CredentialsError, CredentialsFuture, CredentialsProvider,
    Keepalive, Secret, TcpConfig, TlsConfig, TlsVersion, WhenDown, WhenFull,
};
pub use error::{Error, Fault, SendState};
pub use reply::{Reply, ServerError};
pub use scan::{Scan, ScanOptions};
pub use script::{Script, ScriptCall};
pub use stats::{Latencies, Phases, Stats};

pub use bytes::Bytes;
pub use respire_codec as codec;
pub use respire_codec::{FromValue, Protocol, Value, ValueRef};
