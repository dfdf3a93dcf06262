//! TLS over any transport, by rustls.
//!
//! The halves share the session, which does no I/O of its own, and the transport's half that sends, under a lock. It is
//! held while records are made or read, or offered to the transport, which does not block, and never while anything is
//! waited for: neither half waits for the other's peer. What one call is given to send, pieces and all, leaves in as few
//! records and system calls as the session allows; one read takes as much as a socket has, where the session itself would
//! ask for 4 KiB at a time.

use std::{
    future::poll_fn,
    io::{self, BufRead as _, IoSlice, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use rustls::{ClientConnection, Error, HandshakeKind, InvalidMessage};

use super::{Lease, ReceiveHalf, Received, SendHalf, Taken, Transport};
use crate::error::ConnectFailure;

mod client;

pub(crate) use client::Tls;

/// Room for one read from a socket: four records of the largest size.
const RECORDS_BYTES: usize = 64 * 1024;

/// Shakes hands over a connected transport.
pub(crate) async fn shake_hands(
    transport: Transport,
    session: ClientConnection,
) -> Result<Transport, ConnectFailure> {
    let mut outward = Outward { session, half: transport.send, held: false };
    let mut inward = Inward { half: transport.receive, records: BytesMut::new() };
    poll_fn(|cx| poll_handshake(cx, &mut outward, &mut inward)).await?;
    let session = &outward.session;
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    tracing::debug!(version = ?session.protocol_version(), resumed, "TLS is established");
    // What is left of the last flight goes out with the first request.
    let outward = Arc::new(Mutex::new(outward));
    let receive = TlsReceive { outward: Arc::clone(&outward), inward, failed: None };
    Ok(Transport::new(receive, TlsSend { outward, held: false, closing: false }))
}

/// Sends what the session has to say and gives it what arrives, neither waiting for the other.
fn poll_handshake(
    cx: &mut Context<'_>,
    outward: &mut Outward,
    inward: &mut Inward,
) -> Poll<Result<(), ConnectFailure>> {
    while outward.session.is_handshaking() {
        if let Poll::Ready(Err(error)) = outward.poll_flush(cx) {
            return Poll::Ready(Err(ConnectFailure::TlsHandshake(error)));
        }
        if inward.records.is_empty() {
            match ready!(inward.poll_read(cx)).map_err(ConnectFailure::TlsHandshake)? {
                true => {}
                false => return Poll::Ready(Err(closed())),
            }
        }
        if let Err(error) = inward.feed(&mut outward.session) {
            outward.say_why(cx);
            let understood = outward.session.protocol_version().is_some();
            return Poll::Ready(Err(refused(error, understood)));
        }
    }
    Poll::Ready(Ok(()))
}

fn closed() -> ConnectFailure {
    ConnectFailure::TlsHandshake(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the server closed the connection",
    ))
}

/// Why the handshake failed. What was never understood at all is likely to be no TLS.
fn refused(error: Error, understood: bool) -> ConnectFailure {
    match error {
        Error::InvalidCertificate(_) => ConnectFailure::Untrusted(error),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) if !understood => ConnectFailure::NotTls,
        error => ConnectFailure::TlsHandshake(invalid(error)),
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The session, and the way out of it.
struct Outward {
    session: ClientConnection,
    half: Box<dyn SendHalf>,
    /// The transport has taken bytes that leave only by further calls.
    held: bool,
}

impl Outward {
    /// Gives the transport the records that the session has made.
    fn poll_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let Self { session, half, held } = self;
            let mut way = Way { half: &mut **half, held, cx, is_blocked: false };
            let written = session.write_tls(&mut way);
            match written {
                _ if way.is_blocked => return Poll::Pending,
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As [`poll_records`](Self::poll_records), and has the transport move on what it holds.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_records(cx))?;
        if self.held {
            ready!(self.half.poll_flush(cx))?;
            self.held = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the alert that goes with the session's failure, if the transport takes it at once. The peer's log is the
    /// better for it, and nothing else.
    fn say_why(&mut self, cx: &mut Context<'_>) {
        let _ = self.poll_flush(cx);
    }
}

/// The transport, for a session to write to without waiting.
struct Way<'a, 'b> {
    half: &'a mut dyn SendHalf,
    held: &'a mut bool,
    cx: &'a mut Context<'b>,
    /// It took nothing, and wakes the task when it may.
    is_blocked: bool,
}

impl io::Write for Way<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.half.poll_send(self.cx, slices) {
            Poll::Pending => {
                self.is_blocked = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
            Poll::Ready(Ok(Taken { bytes, held })) => {
                *self.held = held;
                Ok(bytes)
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock(outward: &Mutex<Outward>) -> MutexGuard<'_, Outward> {
    outward.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What comes from the transport, on its way to the session.
struct Inward {
    half: Box<dyn ReceiveHalf>,
    /// Still to be given to the session.
    records: BytesMut,
}

impl Inward {
    /// Receives once, when the session has been given all that was there. Whether more may come.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Self { half, records } = self;
        records.reserve(RECORDS_BYTES);
        let lent = match ready!(half.poll_receive(cx, records))? {
            Received::Filled(_) => return Poll::Ready(Ok(true)),
            Received::End => return Poll::Ready(Ok(false)),
            Received::Lent(Lease { bytes, .. }) => {
                // Decryption copies it once more. Few transports that lend lead to a server with TLS.
                records.extend_from_slice(bytes);
                bytes.len()
            }
        };
        half.release(lent);
        Poll::Ready(Ok(true))
    }

    /// Gives the session as much as it takes at once. There must be some, and the session's plaintext must have been
    /// taken.
    fn feed(&mut self, session: &mut ClientConnection) -> Result<(), Error> {
        let taken = session.read_tls(&mut &self.records[..]);
        self.records.advance(taken.map_err(|error| Error::General(error.to_string()))?);
        session.process_new_packets()?;
        Ok(())
    }
}

struct TlsReceive {
    outward: Arc<Mutex<Outward>>,
    inward: Inward,
    failed: Option<Error>,
}

impl TlsReceive {
    /// Decrypts what there is of records, as far as the buffer has room. Returns whether more may come.
    fn decrypt(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> bool {
        let mut outward = lock(&self.outward);
        loop {
            if !take_plaintext(&mut outward.session, buffer) {
                return false;
            }
            let full = buffer.len() == buffer.capacity();
            if full || self.failed.is_some() || self.inward.records.is_empty() {
                return true;
            }
            if let Err(error) = self.inward.feed(&mut outward.session) {
                // The sender's task may lose its waker by that. The end is its to notice soon: it comes from this call.
                outward.say_why(cx);
                // What was decrypted before it is handed out first.
                self.failed = Some(error);
            }
        }
    }
}

/// Moves plaintext to the buffer, as far as there is room. Returns whether more may come: the peer has not said that it
/// sends no more.
fn take_plaintext(session: &mut ClientConnection, buffer: &mut BytesMut) -> bool {
    let mut reader = session.reader();
    loop {
        let room = buffer.capacity() - buffer.len();
        if room == 0 {
            return true;
        }
        match reader.fill_buf() {
            Ok([]) => return false,
            Ok(plaintext) => {
                let count = plaintext.len().min(room);
                buffer.extend_from_slice(&plaintext[..count]);
                reader.consume(count);
            }
            // There is none for now.
            Err(_) => return true,
        }
    }
}

impl ReceiveHalf for TlsReceive {
    fn poll_receive<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<Received<'a>>> {
        let before = buffer.len();
        loop {
            let open = self.decrypt(cx, buffer);
            if buffer.len() > before {
                return Poll::Ready(Ok(Received::Filled(buffer.len() - before)));
            }
            if let Some(error) = &self.failed {
                return Poll::Ready(Err(invalid(error.clone())));
            }
            // An end that TLS was not told of counts as one all the same: a reply says itself where it ends.
            if !open || !ready!(self.inward.poll_read(cx))? {
                return Poll::Ready(Ok(Received::End));
            }
        }
    }
}

struct TlsSend {
    outward: Arc<Mutex<Outward>>,
    /// Records were made that the transport has not taken.
    held: bool,
    /// The session was told that nothing more will be sent.
    closing: bool,
}

impl SendHalf for TlsSend {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<Taken>> {
        let mut outward = lock(&self.outward);
        if self.held {
            ready!(outward.poll_records(cx))?;
            self.held = false;
        }
        // At most 64 KiB, the session's own limit for records that were not sent.
        let count = outward.session.writer().write_vectored(slices)?;
        // From here on the bytes are taken. A failure to send them is there again at the next call.
        self.held = !matches!(outward.poll_records(cx), Poll::Ready(Ok(())));
        let held = self.held || outward.held;
        Poll::Ready(Ok(if held { Taken::held(count) } else { Taken::sent(count) }))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(lock(&self.outward).poll_flush(cx))?;
        self.held = false;
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outward = lock(&self.outward);
        if !self.closing {
            self.closing = true;
            outward.session.send_close_notify();
        }
        ready!(outward.poll_flush(cx))?;
        outward.half.poll_close(cx)
    }
}
