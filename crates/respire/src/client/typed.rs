//! Typed commands over a connection of one's own.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use respire_codec::{ValueError, ValueRef};

use super::{Dedicated, Transaction};
use crate::{
    cache::CachedClient,
    commands::{Executor, TypedCommand},
    error::Error,
    reply::Reply,
};

/// The reply to a command that was given to a [`Dedicated`] connection, to a [`Transaction`] or to a [`CachedClient`].
/// Nothing is sent before it is polled.
#[must_use = "nothing is sent before it is awaited"]
pub struct OwnAnswer<'a, T> {
    reply: Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>,
    decode: for<'r> fn(ValueRef<'r>) -> Result<T, ValueError>,
}

impl<'a> Executor for &'a mut Dedicated {
    type Answer<T> = OwnAnswer<'a, T>;

    fn run<T>(self, command: TypedCommand<T>) -> OwnAnswer<'a, T> {
        let (command, decode) = command.into_parts();
        OwnAnswer { reply: Box::pin(self.execute(command)), decode }
    }
}

/// Before the transaction: to read what it depends on.
impl<'a> Executor for &'a mut Transaction {
    type Answer<T> = OwnAnswer<'a, T>;

    fn run<T>(self, command: TypedCommand<T>) -> OwnAnswer<'a, T> {
        let (command, decode) = command.into_parts();
        OwnAnswer { reply: Box::pin(self.execute(command)), decode }
    }
}

/// Reads are answered from the cache where they may be.
impl<'a> Executor for &'a CachedClient {
    type Answer<T> = OwnAnswer<'a, T>;

    fn run<T>(self, command: TypedCommand<T>) -> OwnAnswer<'a, T> {
        let (command, decode) = command.into_parts();
        OwnAnswer { reply: Box::pin(self.execute(command)), decode }
    }
}

impl<T> Future for OwnAnswer<'_, T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(self.reply.as_mut().poll(cx))?;
        Poll::Ready(reply.read(self.decode))
    }
}

impl<T> fmt::Debug for OwnAnswer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnAnswer")
    }
}
