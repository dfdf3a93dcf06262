//! The transport's two directions, each behind a lock of its own, and one step of using them.

use std::{
    io::IoSlice,
    sync::{Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::BytesMut;
use respire_codec::{Batch, DecodeError, Decoder};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Connection, Receiver, State, dial::Established, wake_late};
use crate::{
    error::Error,
    lock::lock,
    session::{RequestId, outgoing::Outgoing},
    transport::{self, Lease, ReceiveHalf, SendHalf, Taken},
};

/// Room for one read. Larger replies get the room that the decoder asks for as they arrive.
const READ_BYTES: usize = 64 * 1024;

/// A buffer that grew beyond this is let go when it is empty.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Pieces of one vectored write. More would only lengthen the list that the kernel copies in; large values are few.
const WRITE_SLICES: usize = 32;

/// At least so much is copied at a time out of memory that a transport lends, where a frame does not fit that. With
/// less, a frame of many small values would be looked at as many times.
const GATHERED_BYTES: usize = 512;

/// Locked by who has the role, so that nobody waits for the other's system call: a caller that loses the role while it
/// receives may hold its lock for the rest of that one call.
pub(super) struct Wire {
    /// Several threads run the tasks of the driver's runtime.
    among_threads: bool,
    sending: Mutex<Sending>,
    receiving: Mutex<Receiving>,
}

struct Sending {
    half: Box<dyn SendHalf>,
    bytes: Outgoing,
    /// The transport has taken bytes that leave only by further calls.
    held: bool,
}

struct Receiving {
    half: Box<dyn ReceiveHalf>,
    decoder: Decoder,
    received: BytesMut,
    /// The most that `received` held since it was made.
    largest: usize,
    /// How much of a frame was left with the transport that lent it. `received` is empty then.
    lent: usize,
    frames: Vec<Batch>,
    woken: Vec<Waker>,
}

/// From so many tasks on that are woken at once, it pays to wait until they have come back.
const WAVE_MIN: usize = 4;

/// What asking the transport to send came to.
pub(super) enum Sent {
    /// There was nothing to send, or another task is sending.
    Nothing,
    /// All that there was.
    All,
    /// Some of it, and the transport may take more.
    Part,
    /// The transport takes no more for now, or has not yet moved on what it took; the task is woken when it can.
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

impl Wire {
    pub(super) fn new(established: Established) -> Self {
        let among_threads = Handle::try_current()
            .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
        Self {
            among_threads,
            sending: Mutex::new(Sending {
                half: established.transport.send,
                bytes: Outgoing::default(),
                held: false,
            }),
            receiving: Mutex::new(Receiving {
                half: established.transport.receive,
                decoder: established.decoder,
                received: established.received,
                largest: 0,
                lent: 0,
                frames: Vec::new(),
                woken: Vec::new(),
            }),
        }
    }

    pub(super) fn is_among_threads(&self) -> bool {
        self.among_threads
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
        let Sending { half, bytes, held } = &mut *sending;
        let timed = {
            let mut state = connection.state();
            if !state.session.begin_send(bytes) {
                state.sending = false;
                drop(state);
                return if *held { sending.flush(cx, connection) } else { Sent::Nothing };
            }
            state.session.times_sends()
        };
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let count = bytes.slices(&mut slices);
        let sent = half.poll_send(cx, &slices[..count]);
        if let Poll::Ready(Ok(taken)) = sent {
            bytes.advance(taken.bytes);
            *held = taken.held;
        }
        let now = timed.then(Instant::now);
        let mut state = connection.state();
        state.sending = false;
        match sent {
            Poll::Pending => {
                state.session.end_send(0);
                Sent::Blocked
            }
            Poll::Ready(Ok(Taken { bytes: taken, held })) => {
                state.session.end_send(taken);
                if let Some(now) = now {
                    state.session.note_sent(now);
                }
                if !bytes.is_empty() || state.session.has_outgoing() {
                    Sent::Part
                } else if held {
                    Sent::Blocked
                } else {
                    Sent::All
                }
            }
            Poll::Ready(Err(error)) => {
                state.session.end_send(0);
                lose_sending(state, error)
            }
        }
    }

    /// Receives once, for the driver if it is the receiver.
    pub(super) fn receive(&self, cx: &mut Context<'_>, connection: &Connection) -> Received {
        self.receive_as(Receiver::Driver, cx, connection)
    }

    /// Receives once, for a caller if it is the receiver.
    pub(super) fn receive_as_caller(
        &self,
        cx: &mut Context<'_>,
        connection: &Connection,
        id: RequestId,
    ) -> Received {
        self.receive_as(Receiver::Caller(id), cx, connection)
    }

    /// The transport wakes who asked it last. So the role is looked at under the lock that the transport is asked under:
    /// one who has lost the role meanwhile does not ask after one who has it now.
    fn receive_as(
        &self,
        receiver: Receiver,
        cx: &mut Context<'_>,
        connection: &Connection,
    ) -> Received {
        let mut receiving = lock(&self.receiving);
        if connection.state().receiver != receiver {
            return Received::NotOurs;
        }
        let caller = match receiver {
            Receiver::Caller(id) => Some(id),
            Receiver::Driver | Receiver::Nobody => None,
        };
        receiving.poll(cx, connection, caller)
    }

    /// Hands on what was received with the handshake.
    pub(super) fn decode_received(&self, connection: &Connection) -> Result<(), Error> {
        let mut receiving = lock(&self.receiving);
        let Receiving { decoder, received, frames, .. } = &mut *receiving;
        let broken = frame(decoder, received, frames);
        receiving.deliver(connection, None, 0, broken)
    }

    /// Says to the peer that nothing more will be sent, and lets go of the transport. What the peer makes of it does not
    /// matter any more.
    pub(super) fn close(&self, cx: &mut Context<'_>) {
        let mut sending = lock(&self.sending);
        let _ = sending.half.poll_close(cx);
        sending.half = Box::new(Gone);
        sending.bytes = Outgoing::default();
        sending.held = false;
        drop(sending);
        let mut receiving = lock(&self.receiving);
        receiving.half = Box::new(Gone);
        receiving.received = BytesMut::new();
        receiving.lent = 0;
    }
}

impl Sending {
    /// Asks the transport to move on what it holds.
    fn flush(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Sent {
        match self.half.poll_flush(cx) {
            Poll::Pending => Sent::Blocked,
            Poll::Ready(Ok(())) => {
                self.held = false;
                Sent::All
            }
            Poll::Ready(Err(error)) => {
                self.held = false;
                lose_sending(connection.state(), error)
            }
        }
    }
}

/// Nothing more can be sent.
fn lose_sending(mut state: MutexGuard<'_, State>, error: std::io::Error) -> Sent {
    state.send_failed = Some(error);
    state.session.lose_sending();
    let mut woken = Vec::new();
    state.session.take_woken(&mut woken);
    drop(state);
    woken.into_iter().for_each(Waker::wake);
    Sent::Failed
}

impl Receiving {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
        caller: Option<RequestId>,
    ) -> Received {
        self.make_room();
        let (bytes, broken) = match self.half.poll_receive(cx, &mut self.received) {
            Poll::Pending => return Received::Nothing,
            Poll::Ready(Ok(transport::Received::Filled(bytes))) => {
                self.largest = self.largest.max(self.received.len());
                (bytes, frame(&mut self.decoder, &mut self.received, &mut self.frames))
            }
            Poll::Ready(Ok(transport::Received::Lent(lease))) => {
                let Self { decoder, received, largest, frames, .. } = self;
                let gathers = !received.is_empty();
                *largest =
                    (*largest).max(received.len() + if gathers { lease.bytes.len() } else { 0 });
                let (taken, broken) = frame_lent(decoder, received, frames, lease);
                *largest = (*largest).max(received.len());
                self.lent = lease.bytes.len() - taken;
                self.half.release(taken);
                (taken, broken)
            }
            Poll::Ready(Ok(transport::Received::End)) => {
                return Received::End(Error::closed(
                    match self.received.is_empty() && self.lent == 0 {
                        true => "the server closed it",
                        false => "the server closed it in the middle of a reply",
                    },
                ));
            }
            Poll::Ready(Err(error)) => {
                return Received::End(Error::closed_by("receiving failed", error));
            }
        };
        match self.deliver(connection, caller, bytes, broken) {
            Ok(()) => Received::Some,
            Err(error) => Received::End(error),
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
        // What is needed of a frame that was left with the transport does not come here.
        let needed = if self.lent == 0 { self.decoder.bytes_needed() } else { 1 };
        if spare < needed || spare < READ_BYTES / 4 {
            self.received.reserve(needed.max(READ_BYTES));
        }
    }

    /// Hands the frames to the session under one lock. The task of `caller` is running and need not be woken.
    fn deliver(
        &mut self,
        connection: &Connection,
        caller: Option<RequestId>,
        bytes: usize,
        broken: Option<DecodeError>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        let mut state = connection.state();
        state.session.recorder().received_bytes(bytes);
        if let Some(id) = caller {
            state.session.hush(id);
        }
        let mut delivered = Ok(());
        for frames in self.frames.drain(..) {
            delivered = state.session.handle_frames(frames, now);
            if delivered.is_err() {
                break;
            }
        }
        // Who listens to pushes submits nothing for having heard one.
        let callers = state.session.take_woken(&mut self.woken);
        let is_wave = caller.is_none() && callers >= WAVE_MIN;
        let is_late = is_wave && state.begin_wave(callers, now);
        drop(state);
        if is_late {
            self.woken.drain(..callers).for_each(|waker| wake_late(&waker));
        }
        self.woken.drain(..).for_each(Waker::wake);
        delivered?;
        match broken {
            None => Ok(()),
            Some(error) => Err(Error::protocol("what it sent is not RESP", Some(error))),
        }
    }
}

/// Frames what a transport lends, in its memory, and copies out what is whole: tasks may keep it. Returns how much is to
/// be released, and what is wrong behind the last frame.
///
/// The beginning of a frame stays with the transport as long as its end may come to stand behind it, so that a large
/// one is copied once, to where it fits exactly. One that does not fit the lent memory is gathered in `received`.
fn frame_lent(
    decoder: &mut Decoder,
    received: &mut BytesMut,
    frames: &mut Vec<Batch>,
    lease: Lease<'_>,
) -> (usize, Option<DecodeError>) {
    let Lease { bytes, room } = lease;
    let mut at = 0;
    while !received.is_empty() && at < bytes.len() {
        // Not far beyond the end of the frame that is gathered, so that the next one can be read in place.
        let part = decoder.bytes_needed().max(GATHERED_BYTES).min(bytes.len() - at);
        received.extend_from_slice(&bytes[at..at + part]);
        at += part;
        let broken = frame(decoder, received, frames);
        if broken.is_some() {
            return (at, broken);
        }
    }
    if !received.is_empty() {
        return (at, None);
    }
    loop {
        match decoder.decode_lent(&bytes[at..]) {
            Ok((batch, _)) if batch.is_empty() => break,
            Ok((batch, taken)) => {
                frames.push(batch);
                at += taken;
            }
            Err(error) => return (at, Some(error)),
        }
    }
    if room < decoder.bytes_needed() {
        received.extend_from_slice(&bytes[at..]);
        at = bytes.len();
    }
    (at, None)
}

/// Takes all complete frames off the buffer. Returns what is wrong behind the last one.
fn frame(
    decoder: &mut Decoder,
    received: &mut BytesMut,
    frames: &mut Vec<Batch>,
) -> Option<DecodeError> {
    loop {
        match decoder.decode_batch(received) {
            Ok(batch) if batch.is_empty() => return None,
            Ok(batch) => frames.push(batch),
            Err(error) => return Some(error),
        }
        // What cannot be a frame would still be there.
        if received.is_empty() {
            return None;
        }
    }
}

/// What is left of a transport that was closed.
struct Gone;

impl ReceiveHalf for Gone {
    fn poll_receive<'a>(
        &'a mut self,
        _: &mut Context<'_>,
        _: &mut BytesMut,
    ) -> Poll<std::io::Result<transport::Received<'a>>> {
        Poll::Ready(Err(std::io::ErrorKind::NotConnected.into()))
    }
}

impl SendHalf for Gone {
    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        _: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<Taken>> {
        Poll::Ready(Err(std::io::ErrorKind::NotConnected.into()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
