//! The handle that a subscriber reads from.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::Stream;

use super::{
    event::{Event, EventQueue},
    hub::Hub,
    name::{ChannelKind, Name},
    queue::QueueMax,
    registry::SubscriberId,
};
use crate::{config::WhenDown, error::Error};

/// Channels and patterns that are subscribed to, and the [`Stream`] of what is published to them.
///
/// All subscriptions of a client share one connection, apart from that of its requests. It is dialled for the first of
/// them, and again whenever it is lost, for as long as there is one. The server is told of a channel once, however many
/// subscriptions want it, and told to forget it when the last of those is dropped.
///
/// Messages come in the order in which the server sent them. What waits for the reader is bounded, by
/// [`Config::with_push_queue_max`](crate::Config::with_push_queue_max) or by
/// [`set_queue_max`](Self::set_queue_max): a reader that does not keep up loses the oldest, is
/// [told how many](Event::Lagged), and holds up nobody else.
///
/// The stream ends when the client is closed. Dropping the client alone does not end it.
///
/// # Cancel safety
///
/// The future of [`next`](Self::next) may be dropped at any point: it takes an event only when it returns it.
///
/// # Example
///
/// ```no_run
/// use respire::{Client, pubsub::Event};
///
/// # async fn example() -> Result<(), respire::Error> {
/// let client = Client::connect("valkey://localhost").await?;
/// let mut news = client.subscribe(["news", "weather"]).await?;
/// while let Some(event) = news.next().await {
///     match event {
///         Event::Message(message) => println!("{:?}", message.payload()),
///         Event::Lagged { dropped } => println!("{dropped} messages were dropped"),
///         Event::Interrupted => println!("messages may be missing from here ..."),
///         Event::Resumed => println!("... to here"),
///         other => println!("{other:?}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Subscription {
    hub: Arc<Hub>,
    id: SubscriberId,
    queue: Arc<EventQueue>,
    patience: Patience,
}

/// How long the server may take for an answer, as of the handle that a subscription was made by.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
}

impl Patience {
    /// When what is asked for now must have ended.
    fn end(self) -> Option<Instant> {
        let by_timeout = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        [by_timeout, self.deadline].into_iter().flatten().min()
    }
}

impl Subscription {
    /// One without any channel.
    pub(super) fn new(hub: Arc<Hub>, patience: Patience, when_down: WhenDown) -> Self {
        let (id, queue) = hub.add(hub.config().push_queue_max(), when_down == WhenDown::Wait);
        Self { hub, id, queue, patience }
    }

    /// Adds channels, and returns when the server has confirmed them. Those that the subscription has already are passed
    /// over.
    ///
    /// Messages may arrive before the call returns. The call takes as long as a request of the client's handle may; see
    /// [`Client::with_command_timeout`](crate::Client::with_command_timeout) and
    /// [`Client::with_deadline`](crate::Client::with_deadline).
    ///
    /// # Errors
    ///
    /// The server refused one of them, could not be reached, or did not answer in time. None of those that were new is
    /// part of the subscription then.
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped, none of the new channels is part of the subscription.
    pub async fn subscribe(
        &mut self,
        channels: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), Error> {
        self.join(names(ChannelKind::Channel, channels)).await
    }

    /// Adds patterns. As [`subscribe`](Self::subscribe).
    ///
    /// A message that several patterns match, or a pattern and a channel, comes once for each.
    pub async fn psubscribe(
        &mut self,
        patterns: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), Error> {
        self.join(names(ChannelKind::Pattern, patterns)).await
    }

    /// Adds sharded channels, which `SPUBLISH` publishes to. As [`subscribe`](Self::subscribe).
    ///
    /// In a cluster they have to be served by the node that the client is connected to.
    pub async fn ssubscribe(
        &mut self,
        channels: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), Error> {
        self.join(names(ChannelKind::Shard, channels)).await
    }

    /// Takes channels out. What was received of them before can still be read; nothing is received any more.
    pub fn unsubscribe(&mut self, channels: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.hub.leave(self.id, &names(ChannelKind::Channel, channels));
    }

    /// Takes patterns out. As [`unsubscribe`](Self::unsubscribe).
    pub fn punsubscribe(&mut self, patterns: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.hub.leave(self.id, &names(ChannelKind::Pattern, patterns));
    }

    /// Takes sharded channels out. As [`unsubscribe`](Self::unsubscribe).
    pub fn sunsubscribe(&mut self, channels: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.hub.leave(self.id, &names(ChannelKind::Shard, channels));
    }

    /// What happens next; `None` when the client was closed and all has been read. While the subscription has no channel,
    /// nothing does.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.hub.poll_event(&self.queue, cx)).await
    }

    /// The channels and patterns that it has, in no order.
    pub fn channels(&self) -> Vec<(ChannelKind, Bytes)> {
        self.hub.names(self.id).into_iter().map(|name| (name.kind, name.text)).collect()
    }

    /// How many messages were dropped so far because the reader did not keep up.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Sets how many messages may wait to be read, and how many bytes they may have together: names, payload and about a
    /// hundred bytes each.
    pub fn set_queue_max(&mut self, messages: usize, bytes: usize) {
        self.queue.set_max(QueueMax { items: messages.max(1), bytes: bytes.max(1) });
    }

    fn join(
        &mut self,
        names: Vec<Name>,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'_> {
        // The deadline runs from the call.
        let deadline = self.patience.end();
        self.join_until(names, deadline)
    }

    pub(super) async fn join_until(
        &mut self,
        names: Vec<Name>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let new = self.hub.join(self.id, names)?;
        let mut joining = Joining { subscription: self, new };
        joining.subscription.hub.joined(joining.subscription.id, deadline).await?;
        joining.new.clear();
        Ok(())
    }
}

/// Takes out again what was joined, unless that succeeds.
struct Joining<'a> {
    subscription: &'a Subscription,
    new: Vec<Name>,
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if !self.new.is_empty() {
            self.subscription.hub.leave(self.subscription.id, &self.new);
        }
    }
}

pub(super) fn names(
    kind: ChannelKind,
    texts: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Vec<Name> {
    let name = |text: &[u8]| Name { kind, text: Bytes::copy_from_slice(text) };
    texts.into_iter().map(|text| name(text.as_ref())).collect()
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.hub.poll_event(&self.queue, cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("channels", &self.channels()).finish()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.remove(self.id);
    }
}
