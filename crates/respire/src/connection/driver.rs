//! The task that joins a session and a transport.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use respire_codec::{Decoder, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Connection,
    dial::{Established, establish},
};
use crate::{
    config::Config,
    error::{ConnectFailure, Error},
    session::outgoing::Outgoing,
    transport::{AnyTransport, Transport},
};

/// Room for one read. Larger replies get the room that the decoder asks for as they arrive.
const READ_BYTES: usize = 64 * 1024;

/// Pieces of one vectored write. More would only lengthen the list that the kernel copies in; large values are few.
const WRITE_SLICES: usize = 32;

/// Reads and writes in one turn, before other tasks of the runtime get theirs.
const ROUNDS_A_TURN: usize = 16;

/// Ends the connection when the driver goes, even if its runtime does.
pub(super) struct Guard(pub(super) Arc<Connection>);

impl Drop for Guard {
    fn drop(&mut self) {
        // Where the driver ended in order there is an error already, and it stands.
        self.0.fail(&Error::closed("its runtime was shut down"));
    }
}

/// Connects, then drives the connection to its end.
pub(super) async fn run(guard: Guard, config: Arc<Config>) {
    let connection = &*guard.0;
    let address = config.address().clone();
    match connect(connection, &config).await {
        Ok(Some(established)) => {
            tracing::debug!(%address, protocol = ?established.protocol, "connected");
            let error = Driver::new(connection, established).drive().await;
            tracing::debug!(%address, %error, "the connection ended");
            connection.fail(&error);
        }
        Ok(None) => connection.fail(&Error::closed("it is closed by the client")),
        Err(failure) => {
            tracing::debug!(%address, %failure, "cannot connect");
            connection.fail(&Error::connect(address, failure));
        }
    }
}

/// Establishes the connection within the time for it, while the deadlines of the requests that wait for it are kept.
/// `None` where nobody wants it any more.
async fn connect(
    connection: &Connection,
    config: &Config,
) -> Result<Option<Established<AnyTransport>>, ConnectFailure> {
    let attempt = tokio::time::timeout(config.connect_timeout(), establish(config));
    let mut attempt = pin!(attempt);
    let mut clock = Clock::new();
    poll_fn(|cx| {
        if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
            return Poll::Ready(match result {
                Ok(established) => established.map(Some),
                Err(_) => Err(ConnectFailure::Timeout),
            });
        }
        loop {
            clock.keep_deadlines(cx, connection);
            let mut state = connection.state();
            if state.session.is_finished() {
                return Poll::Ready(Ok(None));
            }
            if clock.covers(state.session.next_check()) {
                state.driver = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    })
    .await
}

/// One timer for all requests of a connection, set to the earliest deadline.
struct Clock {
    sleep: Pin<Box<Sleep>>,
    armed: bool,
    woken: Vec<Waker>,
}

impl Clock {
    fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())), armed: false, woken: Vec::new() }
    }

    /// Whether the task will be woken in time for `next`. Asked under the lock under which the task's waker is left
    /// behind: a request that came after the last look, and woke nobody, may have an earlier deadline.
    fn covers(&self, next: Option<std::time::Instant>) -> bool {
        next.is_none_or(|next| self.armed && self.sleep.deadline() <= Instant::from_std(next))
    }

    /// Ends what is overdue, and sees to it that the task is woken at the next deadline.
    fn keep_deadlines(&mut self, cx: &mut Context<'_>, connection: &Connection) {
        loop {
            let next = {
                let mut state = connection.state();
                let next = state.session.handle_deadlines(Instant::now().into_std());
                state.session.take_woken(&mut self.woken);
                next
            };
            self.woken.drain(..).for_each(Waker::wake);
            let Some(next) = next else {
                self.armed = false;
                return;
            };
            let next = Instant::from_std(next);
            // An armed timer that fires early costs one more look; setting it anew for each request would cost more.
            if !self.armed || self.sleep.deadline() > next {
                self.sleep.as_mut().reset(next);
                self.armed = true;
            }
            match self.sleep.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(()) => self.armed = false,
            }
        }
    }
}

pub(super) struct Driver<'a, T> {
    connection: &'a Connection,
    transport: T,
    decoder: Decoder,
    received: BytesMut,
    sending: Outgoing,
    /// Sending has failed for good; what the peer sent before may still be on its way.
    send_failed: Option<io::Error>,
    clock: Clock,
    frames: Vec<Frame>,
    woken: Vec<Waker>,
}

/// What a direction of the transport came to in this turn.
#[derive(PartialEq)]
enum Turn {
    /// It has nothing to do until the task is woken.
    Idle,
    /// It may have more to do.
    Busy,
}

impl<'a, T: Transport> Driver<'a, T> {
    pub(super) fn new(connection: &'a Connection, established: Established<T>) -> Self {
        connection.opened_with(established.protocol);
        Self {
            connection,
            transport: established.transport,
            decoder: established.decoder,
            received: established.received,
            sending: Outgoing::default(),
            send_failed: None,
            clock: Clock::new(),
            frames: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// Drives the connection, and returns why it ended.
    pub(super) async fn drive(mut self) -> Error {
        // The handshake may have received more than its own replies.
        let error = match self.decode_received() {
            Err(error) => error,
            Ok(()) => poll_fn(|cx| self.poll(cx)).await,
        };
        // What the peer makes of it does not matter any more, and it must not hold anybody up.
        poll_fn(|cx| {
            let _ = self.transport.poll_close(cx);
            Poll::Ready(())
        })
        .await;
        error
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        for _ in 0..ROUNDS_A_TURN {
            // Both directions have their turn, whatever the other one came to. Receiving comes first: a request that
            // is not sent because the end was noticed in time may be sent again elsewhere.
            let received = match self.receive(cx) {
                Ok(received) => received,
                Err(error) => return Poll::Ready(self.end(error)),
            };
            let sent = self.send(cx);
            self.clock.keep_deadlines(cx, self.connection);
            if sent == Turn::Busy || received == Turn::Busy {
                continue;
            }
            let mut state = self.connection.state();
            if state.session.is_finished() {
                return Poll::Ready(Error::closed("it is closed by the client"));
            }
            let can_send = self.sending.is_empty() && self.send_failed.is_none();
            if can_send && state.session.has_outgoing() {
                continue;
            }
            if !self.clock.covers(state.session.next_check()) {
                continue;
            }
            state.driver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.send_failed.is_some() {
            // Receiving goes on to the end, which is near.
            return Turn::Idle;
        }
        if self.sending.is_empty() {
            self.connection.state().session.take_outgoing(&mut self.sending);
            if self.sending.is_empty() {
                return Turn::Idle;
            }
        }
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let count = self.sending.slices(&mut slices);
        match self.transport.poll_send(cx, &slices[..count]) {
            Poll::Pending => Turn::Idle,
            Poll::Ready(Ok(bytes)) => {
                self.sending.advance(bytes);
                self.connection.state().session.handle_sent(bytes);
                Turn::Busy
            }
            Poll::Ready(Err(error)) => {
                self.send_failed = Some(error);
                self.connection.state().session.lose_sending();
                Turn::Busy
            }
        }
    }

    /// Why the connection ended, where receiving ended with `error`. A server that refuses a client says so and closes;
    /// a failure to send to it is only the echo of that, and tells less.
    fn end(&mut self, error: Error) -> Error {
        match self.send_failed.take() {
            Some(failure) if error.server_error().is_none() => {
                Error::closed_by("sending failed", failure)
            }
            _ => error,
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Turn, Error> {
        self.make_room();
        match self.transport.poll_receive(cx, &mut self.received) {
            Poll::Pending => Ok(Turn::Idle),
            Poll::Ready(Ok(0)) => Err(Error::closed(match self.received.is_empty() {
                true => "the server closed it",
                false => "the server closed it in the middle of a reply",
            })),
            Poll::Ready(Ok(_)) => {
                self.decode_received()?;
                Ok(Turn::Busy)
            }
            Poll::Ready(Err(error)) => Err(Error::closed_by("receiving failed", error)),
        }
    }

    /// The decoder's wish is bounded by what has arrived, so a header alone reserves little.
    fn make_room(&mut self) {
        let spare = self.received.capacity() - self.received.len();
        let needed = self.decoder.bytes_needed();
        if spare < needed || spare < READ_BYTES / 4 {
            self.received.reserve(needed.max(READ_BYTES));
        }
    }

    /// Frames what was received, without the lock, and then hands it to the session under one.
    fn decode_received(&mut self) -> Result<(), Error> {
        let broken = loop {
            match self.decoder.decode(&mut self.received) {
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let now = std::time::Instant::now();
        let mut state = self.connection.state();
        let mut delivered = Ok(());
        for frame in self.frames.drain(..) {
            delivered = state.session.handle_frame(frame, now);
            if delivered.is_err() {
                break;
            }
        }
        state.session.take_woken(&mut self.woken);
        drop(state);
        self.woken.drain(..).for_each(Waker::wake);
        delivered?;
        match broken {
            None => Ok(()),
            Some(error) => Err(Error::protocol("what it sent is not RESP", Some(error))),
        }
    }
}
