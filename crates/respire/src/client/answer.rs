//! The future of a typed reply.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use respire_codec::{ValueError, ValueRef};

use super::{Client, answered, request::Request};
use crate::{
    command::Command,
    commands::{Executor, TypedCommand},
    error::Error,
    reply::Reply,
    session::Replies,
};

/// The reply to a command that was given to a [`Client`]. Nothing is sent before it is polled.
///
/// It has a name, and is no `async fn`, so that the methods of [`commands`](crate::commands) need no allocation for it: only
/// a command that has to be sent again, or over a connection of its own, is boxed.
///
/// # Cancel safety
///
/// As all futures of a [`Client`].
#[must_use = "nothing is sent before it is awaited"]
pub struct Answer<'a, T> {
    request: Request<'a>,
    decode: for<'r> fn(ValueRef<'r>) -> Result<T, ValueError>,
}

impl<'a> Executor for &'a Client {
    type Answer<T> = Answer<'a, T>;

    fn run<T>(self, command: TypedCommand<T>) -> Answer<'a, T> {
        let (command, decode) = command.into_parts();
        Answer { request: self.request(command), decode }
    }
}

impl Client {
    /// A handle whose requests all end when one that is made now would: for what takes several.
    pub(crate) fn until_deadline(&self) -> Self {
        let deadline = self.options.deadline();
        self.with_options(|options| options.deadline = deadline)
    }
}

impl<T> Future for Answer<'_, T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let replies = ready!(Pin::new(&mut self.request).poll(cx))?;
        // It is no error of the server's: that was looked at.
        Poll::Ready((self.decode)(reply(replies).value()).map_err(Error::value))
    }
}

/// The future of a reply that is read later.
pub(super) struct Unread<'a>(pub(super) Request<'a>);

impl Future for Unread<'_> {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(reply)
    }
}

impl Client {
    /// A request of one command, whose reply is no error when it is ready.
    pub(super) fn request(&self, command: Command) -> Request<'_> {
        let placement = command.placement();
        Request::new(self, command.into_unchecked_packet(), placement, answered)
    }
}

fn reply(replies: Replies) -> Reply {
    Reply::new(replies.into_one().expect("a request is done when its reply is there"))
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("state", &self.request.state_name()).finish()
    }
}
