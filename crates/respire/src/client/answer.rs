//! The future of a typed reply.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use respire_codec::{ValueError, ValueRef};

use super::{Client, answered, lane::Lane};
use crate::{
    command::{Command, Packet, Placement},
    commands::{Executor, TypedCommand},
    connection::Pending,
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
    client: &'a Client,
    state: State<'a>,
    decode: for<'r> fn(ValueRef<'r>) -> Result<T, ValueError>,
}

enum State<'a> {
    Unsent(Command),
    Sent { packet: Packet, deadline: Option<Instant>, lane: Lane, pending: Pending },
    Other(Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>),
    Done,
}

impl<'a> Executor for &'a Client {
    type Answer<T> = Answer<'a, T>;

    fn run<T>(self, command: TypedCommand<T>) -> Answer<'a, T> {
        let (command, decode) = command.into_parts();
        Answer { client: self, state: State::Unsent(command), decode }
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
        loop {
            let outcome = match &mut self.state {
                State::Sent { pending, .. } => {
                    ready!(Pin::new(pending).poll(cx)).and_then(answered).map(reply)
                }
                State::Other(future) => {
                    let outcome = ready!(future.as_mut().poll(cx));
                    self.state = State::Done;
                    return Poll::Ready(outcome.and_then(|reply| reply.read(self.decode)));
                }
                State::Unsent(_) => {
                    self.send(cx);
                    continue;
                }
                State::Done => panic!("a future that is ready is not polled again"),
            };
            match (outcome, mem::replace(&mut self.state, State::Done)) {
                (Err(error), State::Sent { packet, deadline, lane, .. }) => {
                    self.send_again(packet, deadline, lane, error);
                }
                (outcome, _) => {
                    return Poll::Ready(outcome.and_then(|reply| reply.read(self.decode)));
                }
            }
        }
    }
}

impl<T> Answer<'_, T> {
    fn send(&mut self, cx: &Context<'_>) {
        let State::Unsent(command) = mem::replace(&mut self.state, State::Done) else { return };
        let client = self.client;
        if command.placement() != Placement::Shared {
            self.state = State::Other(Box::pin(client.execute(command)));
            return;
        }
        let now = Instant::now();
        let (packet, deadline) =
            (command.into_unchecked_packet(), client.options.deadline_from(now));
        let lane = client.shared.lanes.lane(packet.len(), client.options.bulk);
        match client.submit(&packet, now, deadline, lane, cx.waker()) {
            Ok(pending) => self.state = State::Sent { packet, deadline, lane, pending },
            Err(error) => self.send_again(packet, deadline, lane, error),
        }
    }

    fn send_again(&mut self, packet: Packet, deadline: Option<Instant>, lane: Lane, error: Error) {
        let client = self.client;
        self.state = State::Other(Box::pin(async move {
            client.again(&packet, deadline, lane, answered, error).await.map(reply)
        }));
    }
}

fn reply(replies: Replies) -> Reply {
    Reply::new(replies.into_one().expect("a request is done when its reply is there"))
}

impl<T> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field(
                "state",
                match self.state {
                    State::Unsent(_) => &"unsent",
                    State::Sent { .. } => &"sent",
                    State::Other(_) => &"under way",
                    State::Done => &"done",
                },
            )
            .finish()
    }
}
