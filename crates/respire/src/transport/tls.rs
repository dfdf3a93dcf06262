//! TLS over TCP, by rustls.
//!
//! The halves share the session, which does no I/O of its own, under a lock. It is held while records are made or
//! read, or offered to a socket that does not block, and never while anything is waited for: neither half waits for the
//! other's socket. What one call is given to send, pieces and all, leaves in as few records and system calls as the session
//! allows; one read takes as much as the socket has, where the session itself would ask for 4 KiB at a time.

use std::{
    io::{self, BufRead as _, IoSlice, Write as _},
    net::Shutdown,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use rustls::{ClientConnection, Error, HandshakeKind, InvalidMessage};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{ReceiveHalf, Received, SendHalf, Taken, Transport};
use crate::error::ConnectFailure;

mod client;

pub(crate) use client::Tls;

/// Room for one read from the socket: four records of the largest size.
const RECORDS_BYTES: usize = 64 * 1024;

/// Shakes hands over a connected stream.
pub(crate) async fn shake_hands(
    stream: TcpStream,
    mut session: ClientConnection,
) -> Result<Transport, ConnectFailure> {
    let mut records = Records::new();
    while session.is_handshaking() {
        if session.wants_write() {
            match session.write_tls(&mut Socket(&stream)) {
                Ok(_) => {}
                Err(error) if would_block(&error) => {
                    stream.writable().await.map_err(ConnectFailure::TlsHandshake)?;
                }
                Err(error) => return Err(ConnectFailure::TlsHandshake(error)),
            }
        } else if records.is_empty() {
            match records.read(&stream) {
                Ok(0) => return Err(closed()),
                Ok(_) => {}
                Err(error) if would_block(&error) => {
                    stream.readable().await.map_err(ConnectFailure::TlsHandshake)?;
                }
                Err(error) => return Err(ConnectFailure::TlsHandshake(error)),
            }
        } else if let Err(error) = records.feed(&mut session) {
            say_why(&mut session, &stream);
            return Err(refused(error, session.protocol_version().is_some()));
        }
    }
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    tracing::debug!(version = ?session.protocol_version(), resumed, "TLS is established");
    // What is left of the last flight goes out with the first request.
    let shared = Arc::new(Shared { stream, session: Mutex::new(session) });
    let receive = TlsReceive { shared: Arc::clone(&shared), records, failed: None };
    Ok(Transport::new(receive, TlsSend { shared, held: false, closing: false }))
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

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Sends the alert that goes with the session's failure, if the socket takes it at once. The peer's log is the better for
/// it, and nothing else.
fn say_why(session: &mut ClientConnection, stream: &TcpStream) {
    let _ = session.write_tls(&mut Socket(stream));
}

/// What both halves use.
struct Shared {
    stream: TcpStream,
    session: Mutex<ClientConnection>,
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, ClientConnection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the records that the session has made.
    fn poll_flush(
        &self,
        session: &mut ClientConnection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while session.wants_write() {
            match session.write_tls(&mut Socket(&self.stream)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if would_block(&error) => ready!(self.stream.poll_write_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The socket, for a session to write to without waiting.
struct Socket<'a>(&'a TcpStream);

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [slice] => self.0.try_write(slice),
            slices => self.0.try_write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes as they came from the socket: `bytes[start..end]` are still to be given to the session.
struct Records {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Records {
    fn new() -> Self {
        Self { bytes: vec![0; RECORDS_BYTES].into(), start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads from the socket, without waiting, in place of what was there. Returns how much.
    fn read(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let count = stream.try_read(&mut self.bytes)?;
        (self.start, self.end) = (0, count);
        Ok(count)
    }

    /// Gives the session as much as it takes at once. There must be some, and the session's plaintext must have been
    /// taken.
    fn feed(&mut self, session: &mut ClientConnection) -> Result<(), Error> {
        let taken = session.read_tls(&mut &self.bytes[self.start..self.end]);
        self.start += taken.map_err(|error| Error::General(error.to_string()))?;
        session.process_new_packets()?;
        Ok(())
    }
}

struct TlsReceive {
    shared: Arc<Shared>,
    records: Records,
    failed: Option<Error>,
}

impl TlsReceive {
    /// Decrypts what there is of records, as far as the buffer has room. Returns whether more may come.
    fn decrypt(&mut self, buffer: &mut BytesMut) -> bool {
        let mut session = self.shared.session();
        loop {
            if !take_plaintext(&mut session, buffer) {
                return false;
            }
            let full = buffer.len() == buffer.capacity();
            if full || self.failed.is_some() || self.records.is_empty() {
                return true;
            }
            if let Err(error) = self.records.feed(&mut session) {
                say_why(&mut session, &self.shared.stream);
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
            let open = self.decrypt(buffer);
            if buffer.len() > before {
                return Poll::Ready(Ok(Received::Filled(buffer.len() - before)));
            }
            if let Some(error) = &self.failed {
                return Poll::Ready(Err(invalid(error.clone())));
            }
            if !open {
                return Poll::Ready(Ok(Received::End));
            }
            match self.records.read(&self.shared.stream) {
                // An end that TLS was not told of counts as one all the same: a reply says itself where it ends.
                Ok(0) => return Poll::Ready(Ok(Received::End)),
                Ok(_) => {}
                Err(error) if would_block(&error) => {
                    ready!(self.shared.stream.poll_read_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

struct TlsSend {
    shared: Arc<Shared>,
    /// Records were made that the socket has not taken.
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
        let mut session = self.shared.session();
        if self.held {
            ready!(self.shared.poll_flush(&mut session, cx))?;
            self.held = false;
        }
        // At most 64 KiB, the session's own limit for records that were not sent.
        let count = session.writer().write_vectored(slices)?;
        // From here on the bytes are taken. A failure to send them is there again at the next call.
        self.held = !matches!(self.shared.poll_flush(&mut session, cx), Poll::Ready(Ok(())));
        Poll::Ready(Ok(if self.held { Taken::held(count) } else { Taken::sent(count) }))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.shared.poll_flush(&mut self.shared.session(), cx))?;
        self.held = false;
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut session = self.shared.session();
        if !self.closing {
            self.closing = true;
            session.send_close_notify();
        }
        ready!(self.shared.poll_flush(&mut session, cx))?;
        Poll::Ready(SockRef::from(&self.shared.stream).shutdown(Shutdown::Write))
    }
}
