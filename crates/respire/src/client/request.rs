//! The future of a request.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use super::{Client, lane::Lane};
use crate::{
    command::{Packet, Placement},
    connection::Pending,
    error::Error,
    session::Replies,
};

/// Finds fault with the replies to a request, or nothing.
pub(super) type Check = fn(Replies) -> Result<Replies, Error>;

/// A request of a [`Client`] and, when it is ready, its replies. Nothing is sent before it is polled.
///
/// It is no `async fn`, since each of those would move the packet and the replies once more, and all requests go through
/// this. Only one that has to be sent again, or over a connection of its own, is boxed.
pub(super) struct Request<'a> {
    client: &'a Client,
    /// Kept, in case that it has to be sent again.
    packet: Packet,
    check: Check,
    state: State<'a>,
    #[cfg(feature = "request-spans")]
    span: tracing::Span,
}

enum State<'a> {
    Unsent(Placement),
    /// The first attempt over a connection that tasks share.
    Sent {
        deadline: Option<Instant>,
        lane: Lane,
        pending: Pending,
    },
    /// Anything else; it has the packet.
    Other(Pin<Box<dyn Future<Output = Result<Replies, Error>> + Send + 'a>>),
    Done,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        client: &'a Client,
        packet: Packet,
        placement: Placement,
        check: Check,
    ) -> Self {
        Self {
            client,
            packet,
            check,
            state: State::Unsent(placement),
            #[cfg(feature = "request-spans")]
            span: tracing::Span::none(),
        }
    }

    fn poll_replies(&mut self, cx: &mut Context<'_>) -> Poll<Result<Replies, Error>> {
        if let State::Unsent(placement) = self.state {
            match placement {
                Placement::Shared => self.send(cx),
                Placement::Waiting(blocking) => {
                    let (client, packet, check) = (self.client, self.take_packet(), self.check);
                    let replies = async move { client.block(&packet, blocking, check).await };
                    self.state = State::Other(Box::pin(replies));
                }
                Placement::Own(reason) | Placement::Nowhere(reason) => {
                    self.state = State::Done;
                    return Poll::Ready(Err(Error::usage(format!("it is not sent: {reason}"))));
                }
            }
        }
        if let State::Sent { deadline, lane, pending } = &mut self.state {
            match ready!(Pin::new(pending).poll(cx)).and_then(self.check) {
                Ok(replies) => {
                    self.state = State::Done;
                    return Poll::Ready(Ok(replies));
                }
                Err(error) => {
                    let (deadline, lane) = (*deadline, *lane);
                    self.send_again(deadline, lane, error);
                }
            }
        }
        let State::Other(replies) = &mut self.state else {
            panic!("a future that is ready is not polled again");
        };
        let replies = ready!(replies.as_mut().poll(cx));
        self.state = State::Done;
        Poll::Ready(replies)
    }

    fn send(&mut self, cx: &Context<'_>) {
        let client = self.client;
        let now = Instant::now();
        let deadline = client.options.deadline_from(now);
        let lane = client.shared.lanes.lane(self.packet.len(), client.options.bulk);
        match client.submit(&self.packet, now, deadline, lane, cx.waker()) {
            Ok(pending) => self.state = State::Sent { deadline, lane, pending },
            Err(error) => self.send_again(deadline, lane, error),
        }
    }

    #[cold]
    fn send_again(&mut self, deadline: Option<Instant>, lane: Lane, error: Error) {
        let (client, packet, check) = (self.client, self.take_packet(), self.check);
        self.state = State::Other(Box::pin(async move {
            client.again(&packet, deadline, lane, check, error).await
        }));
    }

    fn take_packet(&mut self) -> Packet {
        mem::take(&mut self.packet)
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Unsent(_) => "unsent",
            State::Sent { .. } => "sent",
            State::Other(_) => "under way",
            State::Done => "done",
        }
    }
}

impl Future for Request<'_> {
    type Output = Result<Replies, Error>;

    #[cfg(not(feature = "request-spans"))]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_replies(cx)
    }

    /// In a span.
    #[cfg(feature = "request-spans")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Unsent(_) = self.state {
            self.span = super::span::of(&self.packet);
        }
        let span = self.span.clone();
        let outcome = span.in_scope(|| self.poll_replies(cx));
        if let Poll::Ready(Err(error)) = &outcome {
            super::span::record(&span, error);
        }
        outcome
    }
}
