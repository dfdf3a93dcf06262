//! The transport's two directions, each behind a lock of its own, and one step of using them.

use std::{
    io::IoSlice,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use respire_codec::{Decoder, Frame};

use super::{Connection, Receiver, dial::Established};
use crate::{
    error::Error,
    session::{RequestId, outgoing::Outgoing},
    transport::{ReceiveHalf, SendHalf},
};

/// Room for one read. Larger replies get the room that the decoder asks for as they arrive.
const READ_BYTES: usize = 64 * 1024;

/// A buffer that grew beyond this is let go when it is empty.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Pieces of one vectored write. More would only lengthen the list that the kernel copies in; large values are few.
const WRITE_SLICES: usize = 32;

/// Locked by who has the role, so that nobody waits for the other's system call: a caller that loses the role while it
/// receives may hold its lock for the rest of that one call.
pub(super) struct Wire {
    sending: Mutex<Sending>,
    receiving: Mutex<Receiving>,
}

struct Sending {
    half: Box<dyn SendHalf>,
    bytes: Outgoing,
}

struct Receiving {
    half: Box<dyn ReceiveHalf>,
    decoder: Decoder,
    received: BytesMut,
    /// The most that `received` held since it was made.
    largest: usize,
    frames: Vec<Frame>,
    woken: Vec<Waker>,
}

/// What asking the transport to send came to.
pub(super) enum Sent {
    /// There was nothing to send, or another task is sending.
    Nothing,
    /// All that there was.
    All,
    /// Some of it, and the transport may take more.
    Part,
    /// The transport takes no more for now; the task is woken when it does.
    Blocked,
    Failed,
}

/// What asking the transport for what has arrived came to.
pub(super) enum Received {
    /// Receiving is another task's.
    NotOurs,
    /// Nothing; the task is woken when there is.
    Nothing,
    Some,
    End(Error),
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    pub(super) fn new(established: Established) -> Self {
        Self {
            sending: Mutex::new(Sending {
                half: established.transport.send,
                bytes: Outgoing::default(),
            }),
            receiving: Mutex::new(Receiving {
                half: established.transport.receive,
                decoder: established.decoder,
                received: established.received,
                largest: 0,
                frames: Vec::new(),
                woken: Vec::new(),
            }),
        }
    }

    /// Takes the role of the sender, if it is free, for one call.
    pub(super) fn send(&self, cx: &mut Context<'_>, connection: &Connection) -> Sent {
        {
            let mut state = connection.state();
            if state.sending || state.send_failed.is_some() {
                return Sent::Nothing;
            }
            state.sending = true;
        }
        self.send_as_sender(cx, connection)
    }

    /// Asks the transport once, and gives up the role of the sender.
    pub(super) fn send_as_sender(&self, cx: &mut Context<'_>, connection: &Connection) -> Sent {
        let mut sending = lock(&self.sending);
        let Sending { half, bytes } = &mut *sending;
        {
            let mut state = connection.state();
            if !state.session.begin_send(bytes) {
                state.sending = false;
                return Sent::Nothing;
            }
        }
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let count = bytes.slices(&mut slices);
        let sent = half.poll_send(cx, &slices[..count]);
        if let Poll::Ready(Ok(taken)) = sent {
            bytes.advance(taken);
        }
        let mut state = connection.state();
        state.sending = false;
        match sent {
            Poll::Pending => {
                state.session.end_send(0);
                Sent::Blocked
            }
            Poll::Ready(Ok(taken)) => {
                state.session.end_send(taken);
                if bytes.is_empty() && !state.session.has_outgoing() {
                    Sent::All
                } else {
                    Sent::Part
                }
            }
            Poll::Ready(Err(error)) => {
                state.session.end_send(0);
                state.send_failed = Some(error);
                state.session.lose_sending();
                let mut woken = Vec::new();
                state.session.take_woken(&mut woken);
                drop(state);
                woken.into_iter().for_each(Waker::wake);
                Sent::Failed
            }
        }
    }

    /// Receives once, for the driver.
    pub(super) fn receive(&self, cx: &mut Context<'_>, connection: &Connection) -> Received {
        lock(&self.receiving).poll(cx, connection, None)
    }

    /// Receives once, for a caller that is the receiver.
    pub(super) fn receive_as_caller(
        &self,
        cx: &mut Context<'_>,
        connection: &Connection,
        id: RequestId,
    ) -> Received {
        if connection.state().receiver != Receiver::Caller(id) {
            return Received::NotOurs;
        }
        let received = lock(&self.receiving).poll(cx, connection, Some(id));
        // If the role was lost meanwhile, the transport may have been left with our waker in place of the driver's.
        let mut state = connection.state();
        if state.receiver != Receiver::Caller(id) {
            let driver = state.rouse();
            drop(state);
            if let Some(driver) = driver {
                driver.wake();
            }
        }
        received
    }

    /// Hands on what was received with the handshake.
    pub(super) fn decode_received(&self, connection: &Connection) -> Result<(), Error> {
        lock(&self.receiving).decode_received(connection, None)
    }

    /// Says to the peer that nothing more will be sent, and lets go of the transport. What the peer makes of it does not
    /// matter any more.
    pub(super) fn close(&self, cx: &mut Context<'_>) {
        let mut sending = lock(&self.sending);
        let _ = sending.half.poll_close(cx);
        sending.half = Box::new(Gone);
        sending.bytes = Outgoing::default();
        drop(sending);
        let mut receiving = lock(&self.receiving);
        receiving.half = Box::new(Gone);
        receiving.received = BytesMut::new();
    }
}

impl Receiving {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
        caller: Option<RequestId>,
    ) -> Received {
        self.make_room();
        match self.half.poll_receive(cx, &mut self.received) {
            Poll::Pending => Received::Nothing,
            Poll::Ready(Ok(0)) => Received::End(Error::closed(match self.received.is_empty() {
                true => "the server closed it",
                false => "the server closed it in the middle of a reply",
            })),
            Poll::Ready(Ok(_)) => {
                self.largest = self.largest.max(self.received.len());
                match self.decode_received(connection, caller) {
                    Ok(()) => Received::Some,
                    Err(error) => Received::End(error),
                }
            }
            Poll::Ready(Err(error)) => Received::End(Error::closed_by("receiving failed", error)),
        }
    }

    /// The decoder's wish is bounded by what has arrived, so a header alone reserves little.
    fn make_room(&mut self) {
        if self.received.is_empty() && self.largest > KEPT_BYTES_MAX {
            // A large reply went through the buffer, whose memory is not let go by itself.
            self.received = BytesMut::new();
            self.largest = 0;
        }
        let spare = self.received.capacity() - self.received.len();
        let needed = self.decoder.bytes_needed();
        if spare < needed || spare < READ_BYTES / 4 {
            self.received.reserve(needed.max(READ_BYTES));
        }
    }

    /// Frames what was received, without the connection's lock, and then hands it to the session under one. The task of
    /// `caller` is running and need not be woken.
    fn decode_received(
        &mut self,
        connection: &Connection,
        caller: Option<RequestId>,
    ) -> Result<(), Error> {
        let broken = loop {
            match self.decoder.decode_batch(&mut self.received) {
                Ok(batch) if batch.is_empty() => break None,
                Ok(batch) => self.frames.extend(batch),
                Err(error) => break Some(error),
            }
        };
        let now = std::time::Instant::now();
        let mut state = connection.state();
        if let Some(id) = caller {
            state.session.hush(id);
        }
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

/// What is left of a transport that was closed.
struct Gone;

impl ReceiveHalf for Gone {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &mut BytesMut,
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Err(std::io::ErrorKind::NotConnected.into()))
    }
}

impl SendHalf for Gone {
    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        _: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Err(std::io::ErrorKind::NotConnected.into()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
