//! What stands between a publisher and the ZMQ library: a relay that cuts a connection whose messages are too long.
//!
//! The library reserves the length that a frame announces before it has come, without a bound. Nine bytes that announce 2^40 would
//! end the process. So it is connected to this relay, by a socket that nobody else can open, and gets no head of a frame that
//! may not follow.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixListener, UnixStream},
    time::{Instant, timeout, timeout_at},
};

/// How long a connection may take to be made, and a peer to introduce itself: with its greeting, and what kind of socket it is.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is read at once, in bytes. A message of a usual step fits.
const CHUNK_BYTES: usize = 64 * 1024;

/// The greeting of version 3 of ZMTP, in bytes.
const GREETING_BYTES: u64 = 64;

/// The most bytes of a frame that is no message: `READY` with its properties, or a subscription.
const COMMAND_BYTES_MAX: u64 = 64 * 1024;

/// The most frames of a message. Engines send three, and four when they repeat it.
const FRAMES_MAX: u32 = 16;

/// Where a publisher is, or where publishers come to: what ZMQ calls an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A host, without brackets, and a port.
    Tcp(String, u16),
    Ipc(PathBuf),
}

impl Address {
    /// Reads `tcp://host:port` or `ipc://path`.
    pub(super) fn parse(endpoint: &str) -> io::Result<Self> {
        let wrong = || {
            let problem = format!("{endpoint:?} is neither tcp://host:port nor ipc://path");
            io::Error::new(io::ErrorKind::InvalidInput, problem)
        };
        if let Some(path) = endpoint.strip_prefix("ipc://").filter(|path| !path.is_empty()) {
            return Ok(Self::Ipc(path.into()));
        }
        let address = endpoint.strip_prefix("tcp://").ok_or_else(wrong)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self::Tcp(host.to_owned(), port.parse().map_err(|_| wrong())?))
    }

    /// Connects to it.
    pub(super) async fn dial(&self) -> io::Result<Stream> {
        let dial = async {
            Ok(match self {
                Self::Tcp(host, port) => {
                    Stream::Tcp(TcpStream::connect((host.as_str(), *port)).await?)
                }
                Self::Ipc(path) => Stream::Unix(UnixStream::connect(path).await?),
            })
        };
        timeout(CONNECT_TIMEOUT, dial).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

/// A connection to a peer.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A place in the file system for the sockets between the relay and the library. Nobody else can open them.
#[derive(Debug)]
pub(super) struct Private {
    folder: tempfile::TempDir,
}

impl Private {
    pub(super) fn new() -> io::Result<Self> {
        // Its mode is 0700.
        Ok(Self { folder: tempfile::Builder::new().prefix("respire-").tempdir()? })
    }

    /// The path of one of the sockets.
    pub(super) fn path_of(&self, number: u64) -> PathBuf {
        self.folder.path().join(number.to_string())
    }
}

/// A relay to a peer, made for the library to connect to.
#[derive(Debug)]
pub(super) struct Guard {
    private: Private,
    relaying: tokio::task::JoinHandle<()>,
}

impl Guard {
    /// A relay to this address, which is dialled whenever the library connects.
    pub(super) fn to(endpoint: &str, message_bytes: usize) -> io::Result<Self> {
        let address = Address::parse(endpoint)?;
        let private = Private::new()?;
        let listener = UnixListener::bind(private.path_of(0))?;
        let relaying = tokio::spawn(async move {
            // One connection at a time: the library makes the next when this one has ended.
            while let Ok((inner, _)) = listener.accept().await {
                let relayed = match address.dial().await {
                    Ok(outer) => relay_peer(outer, inner, message_bytes).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = relayed {
                    tracing::debug!(?address, %error, "a publisher's connection ended");
                }
            }
        });
        Ok(Self { private, relaying })
    }

    /// What the library is to connect to.
    pub(super) fn endpoint(&self) -> String {
        ipc(&self.private.path_of(0))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

/// A path as the library takes it.
pub(super) fn ipc(path: &Path) -> String {
    format!("ipc://{}", path.display())
}

/// Carries bytes between a peer and the library until one of them ends the connection, or the peer sends what it may not.
pub(super) async fn relay_peer(
    outer: Stream,
    inner: UnixStream,
    message_bytes: usize,
) -> io::Result<()> {
    match outer {
        Stream::Tcp(outer) => {
            outer.set_nodelay(true)?;
            relay(outer, inner, message_bytes).await
        }
        Stream::Unix(outer) => relay(outer, inner, message_bytes).await,
    }
}

async fn relay<O>(outer: O, inner: UnixStream, message_bytes: usize) -> io::Result<()>
where
    O: AsyncRead + AsyncWrite,
{
    let (from_peer, mut to_peer) = tokio::io::split(outer);
    let (mut from_library, to_library) = inner.into_split();
    // Whichever ends first takes the other with it: neither side of ZMTP goes on when the other has closed.
    tokio::select! {
        ended = guarded(from_peer, to_library, Frames::new(message_bytes)) => ended,
        ended = tokio::io::copy(&mut from_library, &mut to_peer) => ended.map(drop),
    }
}

async fn guarded(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut frames: Frames,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let introduced_by = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let read = match frames.is_introduced {
            true => from.read(&mut chunk).await?,
            false => {
                let read = timeout_at(introduced_by, from.read(&mut chunk)).await;
                read.map_err(|_| io::ErrorKind::TimedOut)??
            }
        };
        if read == 0 {
            return Ok(());
        }
        frames.check(&chunk[..read])?;
        to.write_all(&chunk[..read]).await?;
    }
}

/// Follows the frames of ZMTP (version 3) through a stream, whatever pieces it comes in.
#[derive(Debug)]
struct Frames {
    message_bytes: u64,
    state: State,
    /// Whether the greeting has come and the first frame behind it, which says what kind of socket the peer has.
    is_introduced: bool,
    /// Of the message whose frames are coming: how many there were, and their bytes.
    frames: u32,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the greeting are still to come.
    Greeting(u64),
    Flags,
    /// Of the length, `left` bytes are still to come.
    Length {
        flags: u8,
        left: u8,
        length: u64,
    },
    /// So many bytes of a frame are still to come.
    Body {
        left: u64,
    },
}

impl Frames {
    const MORE: u8 = 1;
    const LONG: u8 = 2;
    const COMMAND: u8 = 4;

    fn new(message_bytes: usize) -> Self {
        let message_bytes = message_bytes as u64;
        let state = State::Greeting(GREETING_BYTES);
        Self { message_bytes, state, is_introduced: false, frames: 0, bytes: 0 }
    }

    /// Takes note of what the peer has sent next.
    fn check(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while let Some((&byte, rest)) = piece.split_first() {
            let was_greeting = matches!(self.state, State::Greeting(_));
            self.state = match self.state {
                State::Greeting(left) | State::Body { left } => {
                    let passed = (piece.len() as u64).min(left);
                    piece = &piece[passed as usize..];
                    match (self.state, left - passed) {
                        (_, 0) => State::Flags,
                        (State::Greeting(_), left) => State::Greeting(left),
                        (_, left) => State::Body { left },
                    }
                }
                State::Flags => {
                    piece = rest;
                    let left = if byte & Self::LONG == 0 { 1 } else { 8 };
                    State::Length { flags: byte, left, length: 0 }
                }
                State::Length { flags, left, length } => {
                    piece = rest;
                    let length = length << 8 | u64::from(byte);
                    match left - 1 {
                        0 => self.body(flags, length)?,
                        left => State::Length { flags, left, length },
                    }
                }
            };
            self.is_introduced |= !was_greeting && matches!(self.state, State::Flags);
        }
        Ok(())
    }

    /// What follows the head of a frame, if it may.
    fn body(&mut self, flags: u8, length: u64) -> io::Result<State> {
        let refused = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if flags & Self::COMMAND != 0 {
            if length > COMMAND_BYTES_MAX {
                return refused(format!("a command of {length} bytes is announced"));
            }
        } else {
            self.frames += 1;
            self.bytes = self.bytes.saturating_add(length);
            if self.frames > FRAMES_MAX {
                return refused(format!("a message of more than {FRAMES_MAX} frames"));
            }
            if self.bytes > self.message_bytes {
                let (bytes, most) = (self.bytes, self.message_bytes);
                return refused(format!("a message of {bytes} bytes or more, with {most} allowed"));
            }
            if flags & Self::MORE == 0 {
                (self.frames, self.bytes) = (0, 0);
            }
        }
        Ok(if length == 0 { State::Flags } else { State::Body { left: length } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: [u8; 64] = [0; 64];

    /// A frame with these flags, and a length of so many bytes.
    fn frame(flags: u8, length: u64) -> Vec<u8> {
        let mut frame = head(flags, length);
        frame.resize(frame.len() + length as usize, 0xff);
        frame
    }

    fn head(flags: u8, length: u64) -> Vec<u8> {
        match u8::try_from(length) {
            Ok(short) if flags & Frames::LONG == 0 => vec![flags, short],
            _ => [vec![flags | Frames::LONG], length.to_be_bytes().to_vec()].concat(),
        }
    }

    /// At which byte a stream is refused that comes in pieces of this size.
    fn refused_at(stream: &[u8], piece: usize) -> Option<usize> {
        let mut frames = Frames::new(1000);
        let mut passed = 0;
        for piece in stream.chunks(piece) {
            if frames.check(piece).is_err() {
                return Some(passed);
            }
            passed += piece.len();
        }
        None
    }

    #[test]
    fn what_may_come_passes_in_whatever_pieces() {
        let ready = frame(Frames::COMMAND, 40);
        let long_command = frame(Frames::COMMAND, COMMAND_BYTES_MAX);
        let message = [frame(1, 24), frame(1, 8), frame(0, 968)].concat();
        let empty = [frame(1, 0), frame(Frames::LONG, 0)].concat();
        let many = [frame(1, 1).repeat(15), frame(0, 1)].concat();
        let stream = [
            &GREETING[..],
            &ready,
            &message,
            &empty,
            &message,
            &long_command,
            &many,
            &frame(Frames::LONG, 1000),
            &message,
        ]
        .concat();
        for piece in [1, 2, 3, 7, 64, 65, 1000, stream.len()] {
            assert_eq!(refused_at(&stream, piece), None, "{piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_has_to_introduce_itself_in_time_however_it_does_so() {
        let ready = frame(Frames::COMMAND, 40);
        let introduction = [&GREETING[..], &ready].concat();
        for (name, bytes, pause, is_refused) in [
            ("in silence", &b""[..], 0, true),
            ("with a greeting and no more", &GREETING, 0, true),
            ("with a part of what is due", &introduction[..103], 0, true),
            ("a byte at a time", &introduction, 9, true),
            ("in time, and nothing after it", &introduction, 0, false),
        ] {
            let (mut peer, relay) = tokio::io::duplex(1024);
            let (to, _library) = tokio::io::duplex(1024);
            let sending = async {
                for byte in bytes {
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                    // It may have been cut off.
                    let _ = peer.write_all(&[*byte]).await;
                }
                tokio::time::sleep(Duration::from_secs(3600)).await;
            };
            let ended = tokio::select! {
                ended = guarded(relay, to, Frames::new(1000)) => Some(ended),
                () = sending => None,
            };
            let refused = ended.map(|ended| ended.unwrap_err().kind());
            assert_eq!(refused, is_refused.then_some(io::ErrorKind::TimedOut), "{name}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_head() {
        let announced = |length: u64| [&GREETING[..], &head(0, length)].concat();
        for (name, stream) in [
            ("2^40 bytes", announced(1 << 40)),
            ("as many as there are numbers", announced(u64::MAX)),
            ("one too many", announced(1001)),
            ("a command", [&GREETING[..], &head(Frames::COMMAND, COMMAND_BYTES_MAX + 1)].concat()),
            ("all frames together", [&GREETING[..], &frame(1, 600), &head(1, 401)].concat()),
            ("numbers that overflow", [&GREETING[..], &frame(1, 1), &head(1, u64::MAX)].concat()),
            ("many frames", [&GREETING[..], &frame(1, 0).repeat(16), &head(0, 0)].concat()),
        ] {
            assert_eq!(refused_at(&stream, 1), Some(stream.len() - 1), "{name}");
            assert_eq!(refused_at(&stream, stream.len()), Some(0), "{name}");
        }
    }

    #[test]
    fn addresses_are_hosts_with_ports_and_paths() {
        let tcp = |host: &str, port| Some(Address::Tcp(host.to_owned(), port));
        for (endpoint, expected) in [
            ("tcp://10.0.0.1:5557", tcp("10.0.0.1", 5557)),
            ("tcp://[::1]:80", tcp("::1", 80)),
            ("tcp://*:5557", tcp("*", 5557)),
            ("tcp://pod-0.pods.svc:1", tcp("pod-0.pods.svc", 1)),
            ("ipc:///run/kv", Some(Address::Ipc("/run/kv".into()))),
            ("tcp://10.0.0.1", None),
            ("tcp://::1:80", None),
            ("tcp://[::1:80", None),
            ("tcp://:80", None),
            ("tcp://host:65536", None),
            ("tcp://host:", None),
            ("ipc://", None),
            ("inproc://x", None),
            ("10.0.0.1:5557", None),
            ("", None),
        ] {
            assert_eq!(Address::parse(endpoint).ok(), expected, "{endpoint}");
        }
        let error = Address::parse("udp://x").unwrap_err().to_string();
        assert_eq!(error, r#""udp://x" is neither tcp://host:port nor ipc://path"#);
    }
}
