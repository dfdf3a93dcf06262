//! From an address to a connection that is ready for requests.

use std::{
    future::poll_fn,
    io::IoSlice,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::time::{Instant, timeout_at};

use respire_codec::{Decoder, DecoderConfig, Frame, Protocol};

use crate::{
    config::{Address, Config},
    error::ConnectFailure,
    session::handshake::{Handshake, Progress},
    transport::{self, Connector, Lease, Received, SendHalf, Taken, Transport, tcp},
};

/// The replies of a handshake take a few hundred bytes.
const READ_BYTES_MIN: usize = 1024;

/// What a TLS server says first to a client that does not speak TLS begins with this byte, and nothing in RESP does.
const TLS_ALERT: u8 = 0x15;

/// A connection after its handshake, with what was received beyond it.
pub(crate) struct Established {
    pub(crate) transport: Transport,
    pub(crate) decoder: Decoder,
    pub(crate) received: BytesMut,
    pub(crate) protocol: Protocol,
}

/// Dials and shakes hands, within the time for it.
pub(crate) async fn establish(config: &Config) -> Result<Established, ConnectFailure> {
    let deadline = Instant::now().checked_add(config.connect_timeout());
    let transport = dial(config, deadline).await?;
    // The credentials come last, so that they are the latest.
    let present =
        async { config.with_present_credentials().await.map_err(ConnectFailure::Credentials) };
    let present = within(deadline, "asking for credentials", present).await?;
    let config = present.as_ref().unwrap_or(config);
    within(deadline, "the handshake", shake_hands(transport, config)).await
}

/// Gives a step the time that is left for all.
async fn within<T>(
    deadline: Option<Instant>,
    step: &'static str,
    future: impl Future<Output = Result<T, ConnectFailure>>,
) -> Result<T, ConnectFailure> {
    match deadline {
        None => future.await,
        Some(deadline) => {
            timeout_at(deadline, future).await.unwrap_or(Err(ConnectFailure::Timeout(step)))
        }
    }
}

async fn dial(config: &Config, deadline: Option<Instant>) -> Result<Transport, ConnectFailure> {
    const DIALLING: &str = "dialling";
    let connector = config.connector()?;
    if config.uses_tls() {
        check_tls(config.address(), connector.as_deref())?;
    }
    let dialled = async {
        match connector {
            Some(connector) => dial_by(&*connector, config).await,
            None => dial_plainly(config).await,
        }
    };
    #[cfg(feature = "tls")]
    if let Some(tls) = config.shared_tls() {
        // Before the connection, which would have to wait for it.
        let session = tls.session(config.address().host());
        let session = within(deadline, "reading TLS files", session).await?;
        let transport = within(deadline, DIALLING, dialled).await?;
        let handshake = transport::tls::shake_hands(transport, session);
        return within(deadline, "the TLS handshake", handshake).await;
    }
    within(deadline, DIALLING, dialled).await
}

/// Whether TLS is spoken over what is dialled there.
fn check_tls(address: &Address, connector: Option<&dyn Connector>) -> Result<(), ConnectFailure> {
    if cfg!(not(feature = "tls")) {
        return Err(ConnectFailure::NoTls);
    }
    let text = match (connector, address) {
        (Some(connector), _) if !connector.carries_tls() => {
            "the transport takes no TLS of the client's: use redis:// or valkey:// with it"
        }
        (None, Address::Unix(_)) => "TLS is spoken over TCP, and the address is a Unix socket",
        _ => return Ok(()),
    };
    Err(ConnectFailure::TlsSettings(text.to_owned()))
}

async fn dial_by(connector: &dyn Connector, config: &Config) -> Result<Transport, ConnectFailure> {
    let dialled = connector.connect_with(config.address(), config.transport_parameters());
    dialled.await.map_err(ConnectFailure::Connector)
}

async fn dial_plainly(config: &Config) -> Result<Transport, ConnectFailure> {
    match config.address() {
        Address::Tcp { host, port } => {
            tcp::dial(host, *port, config.tcp()).await.map(Transport::from)
        }
        #[cfg(unix)]
        Address::Unix(path) => transport::unix::dial(path).await.map(Transport::from),
        #[cfg(not(unix))]
        Address::Unix(_) => Err(ConnectFailure::Dial(std::io::ErrorKind::Unsupported.into())),
    }
}

pub(super) async fn shake_hands(
    mut transport: Transport,
    config: &Config,
) -> Result<Established, ConnectFailure> {
    let mut decoder =
        Decoder::new(DecoderConfig { limits: config.codec_limits(), ..Default::default() });
    let mut received = BytesMut::with_capacity(4096);
    let mut handshake = Handshake::new(config);
    let mut flight = Flight { bytes: handshake.first_flight(), held: false };
    loop {
        let progress = poll_fn(|cx| {
            poll_exchange(
                cx,
                &mut transport,
                &mut flight,
                &mut decoder,
                &mut received,
                &mut handshake,
            )
        });
        match progress.await? {
            Progress::Send(next) => flight.bytes.unsplit(next),
            Progress::Done(protocol) => {
                return Ok(Established { transport, decoder, received, protocol });
            }
            Progress::Await => {}
        }
    }
}

/// What is still to be sent of a handshake.
struct Flight {
    bytes: BytesMut,
    /// The transport has taken bytes that leave only by further calls.
    held: bool,
}

impl Flight {
    /// Sends what the transport takes.
    fn send(&mut self, cx: &mut Context<'_>, half: &mut dyn SendHalf) {
        let sent = loop {
            if !self.bytes.is_empty() {
                match half.poll_send(cx, &[IoSlice::new(&self.bytes)]) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(Taken { bytes, held })) => {
                        self.bytes.advance(bytes);
                        self.held = held;
                    }
                    Poll::Ready(Err(error)) => break Err(error),
                }
            } else if self.held {
                match half.poll_flush(cx) {
                    Poll::Pending => return,
                    Poll::Ready(flushed) => break flushed,
                }
            } else {
                break Ok(());
            }
        };
        self.held = false;
        if sent.is_err() {
            // A server that refuses a client says why and closes. So the failure to send is not the end: receiving
            // goes on to what was said, or to an end or error of its own.
            self.bytes.clear();
        }
    }
}

/// Sends what is left of the flight and receives, neither waiting for the other, until the handshake wants something
/// other than more replies.
fn poll_exchange(
    cx: &mut Context<'_>,
    transport: &mut Transport,
    flight: &mut Flight,
    decoder: &mut Decoder,
    received: &mut BytesMut,
    handshake: &mut Handshake<'_>,
) -> Poll<Result<Progress, ConnectFailure>> {
    loop {
        flight.send(cx, &mut *transport.send);
        while let Some(frame) = next_frame(decoder, received)? {
            match handshake.handle_frame(&frame)? {
                Progress::Await => {}
                progress => return Poll::Ready(Ok(progress)),
            }
        }
        received.reserve(READ_BYTES_MIN);
        match transport.receive.poll_receive(cx, received) {
            Poll::Ready(Ok(Received::End)) => return Poll::Ready(Err(ConnectFailure::Closed)),
            Poll::Ready(Ok(Received::Filled(_))) => {}
            Poll::Ready(Ok(Received::Lent(Lease { bytes, .. }))) => {
                // There is so little of it that it may as well be copied.
                received.extend_from_slice(bytes);
                let count = bytes.len();
                transport.receive.release(count);
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(ConnectFailure::Io(error))),
            Poll::Pending => return Poll::Pending,
        }
    }
}

fn next_frame(
    decoder: &mut Decoder,
    received: &mut BytesMut,
) -> Result<Option<Frame>, ConnectFailure> {
    decoder.decode(received).map_err(|error| match (error.offset(), error.type_byte()) {
        (0, TLS_ALERT) => ConnectFailure::NotPlain,
        _ => ConnectFailure::Protocol(Some(error)),
    })
}
