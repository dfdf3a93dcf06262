//! What servers send unasked: published messages, and pushes on the connection that tasks share.
//!
//! [`Client::subscribe`] and its kin open a [`Subscription`]. To publish is a command like any other:
//!
//! ```no_run
//! use respire::{Client, Command, pubsub::Event};
//!
//! # async fn example() -> Result<(), respire::Error> {
//! let client = Client::connect("valkey://localhost").await?;
//! let mut subscription = client.subscribe(["greetings"]).await?;
//! client.execute(Command::new("PUBLISH").arg("greetings").arg("hello")).await?;
//! let Some(Event::Message(message)) = subscription.next().await else { return Ok(()) };
//! assert_eq!(&message.payload()[..], b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! A server keeps no message for who is not there: pub/sub delivers at most once. What this client adds is that a loss
//! is noticed as far as it can be. In the stream of a subscription there is, at the place where it happened,
//! [`Event::Lagged`] for what its reader was too slow for, and [`Event::Interrupted`] where the connection was lost.
//! A connection on which nothing happens is tested every five seconds, so that the loss of one is noticed within ten,
//! or within five and the command timeout where that is longer.
//!
//! Subscriptions work over RESP3 and RESP2 alike.

use crate::{client::Client, error::Error};

mod driver;
mod event;
mod hub;
mod name;
mod pushes;
mod queue;
mod registry;
mod stats;
mod subscription;

pub use event::{Event, Message};
pub use name::ChannelKind;
pub use pushes::{Push, PushEvent, Pushes};
pub use stats::SubscriptionStats;
pub use subscription::Subscription;

use name::Name;
use subscription::{Patience, names};

pub(crate) use hub::Hub;
pub(crate) use pushes::PushHub;
pub(crate) use queue::QueueMax;

impl Client {
    /// Subscribes to channels, and returns when the server has confirmed it. As [`Subscription::subscribe`].
    ///
    /// # Errors
    ///
    /// The server refused one of them, could not be reached, or did not answer in time. While the server is down it fails
    /// at once or waits, as requests do; see [`Config::with_when_down`](crate::Config::with_when_down).
    pub async fn subscribe(
        &self,
        channels: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Subscription, Error> {
        self.subscribe_to(names(ChannelKind::Channel, channels)).await
    }

    /// Subscribes to patterns. As [`subscribe`](Self::subscribe).
    pub async fn psubscribe(
        &self,
        patterns: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Subscription, Error> {
        self.subscribe_to(names(ChannelKind::Pattern, patterns)).await
    }

    /// Subscribes to sharded channels. As [`subscribe`](Self::subscribe).
    pub async fn ssubscribe(
        &self,
        channels: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Subscription, Error> {
        self.subscribe_to(names(ChannelKind::Shard, channels)).await
    }

    /// A subscription to nothing yet, which channels and patterns can be added to.
    pub fn subscription(&self) -> Subscription {
        let patience =
            Patience { timeout: self.command_timeout(), deadline: self.fixed_deadline() };
        Subscription::new(self.subscriptions(), patience, self.when_down())
    }

    async fn subscribe_to(&self, names: Vec<Name>) -> Result<Subscription, Error> {
        let mut subscription = self.subscription();
        subscription.join_until(names, self.request_deadline()).await?;
        Ok(subscription)
    }
}
