//! A proxy that does to a connection what a bad network does: between a client and a real server it delays, throttles,
//! truncates, corrupts, swallows, stalls, half-closes and resets, accepts without answering, and refuses.
//!
//! A [`Script`] says what happens to one connection: to each of its two ways from the first byte on, and after a number
//! of bytes. Scripts are written by hand, or drawn at random from a seed.
//!
//! What is on its way is bounded: a way that does not write does not read, so that whoever sends into it is held up
//! as by a slow network.
//!
//! # What can be noticed of corruption
//!
//! RESP has no checksum: a bit that turns within a value makes another value, and one in the count of an array moves
//! every later reply by one. So [`Fault::Garble`] does what a client can be held to notice: from some byte on every byte is
//! replaced by one that is not RESP. Whatever reply that byte falls into has a wrong end at least.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rand::{RngExt, rngs::Xoshiro256PlusPlus};
use socket2::{SockRef, Socket};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// The most that a way holds back, in bytes.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// The most that is read at a time, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// How long the ends of a connection that has ended in order have to close it.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// What takes the place of a byte that is garbled. No frame begins or ends with it.
const GARBAGE: u8 = 0x01;

/// What happens to the bytes of one connection.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Script {
    is_frozen: bool,
    to_server: Way,
    to_client: Way,
}

impl Script {
    /// Everything passes.
    pub fn clean() -> Self {
        Self::default()
    }

    /// The connection is accepted and nothing is read from it or written to it.
    pub fn frozen() -> Self {
        Self { is_frozen: true, ..Self::default() }
    }

    /// Sets what happens to what the client sends.
    pub fn to_server(mut self, way: Way) -> Self {
        self.to_server = way;
        self
    }

    /// Sets what happens to what the server sends.
    pub fn to_client(mut self, way: Way) -> Self {
        self.to_client = way;
        self
    }

    /// A script at random. Its connection works for a while, up to `bytes_max` bytes each way, and in half of all cases
    /// fails then.
    pub fn random(random: &mut Xoshiro256PlusPlus, bytes_max: u64) -> Self {
        if random.random_ratio(1, 20) {
            return Self::frozen();
        }
        Self::clean()
            .to_server(Way::random(random, bytes_max, true))
            .to_client(Way::random(random, bytes_max, false))
    }
}

/// What happens to the bytes that go one way.
#[derive(Clone, Debug)]
#[must_use]
pub struct Way {
    delay: Duration,
    piece_bytes_max: usize,
    bytes_per_second: Option<u64>,
    fault: Option<(u64, Fault)>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            piece_bytes_max: READ_BYTES,
            bytes_per_second: None,
            fault: None,
        }
    }
}

impl Way {
    /// Everything passes.
    pub fn clean() -> Self {
        Self::default()
    }

    /// Every byte arrives this much later.
    pub fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Reads and writes at most so many bytes at a time, at least 1.
    pub fn in_pieces(mut self, bytes_max: usize) -> Self {
        self.piece_bytes_max = bytes_max.clamp(1, READ_BYTES);
        self
    }

    /// Passes on so many bytes a second and no more, at least 1.
    pub fn throttled(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = Some(bytes_per_second.max(1));
        self
    }

    /// After so many bytes, this happens.
    pub fn then(mut self, after_bytes: u64, fault: Fault) -> Self {
        self.fault = Some((after_bytes, fault));
        self
    }

    fn random(random: &mut Xoshiro256PlusPlus, bytes_max: u64, to_server: bool) -> Self {
        let mut way = Self::clean();
        match random.random_range(0..6) {
            0 => way = way.delayed(Duration::from_micros(random.random_range(0..20_000))),
            1 => way = way.in_pieces(random.random_range(1..16)),
            2 => way = way.throttled(random.random_range(50_000..1_000_000)),
            _ => {}
        }
        if random.random_ratio(1, 4) {
            let pause = Duration::from_millis(random.random_range(1..400));
            let fault = match random.random_range(0..7) {
                0 => Fault::Cut,
                1 => Fault::HalfClose,
                2 => Fault::Reset,
                3 => Fault::Stall,
                4 => Fault::Swallow,
                // A garbled command might still be one, to a server.
                5 if !to_server => Fault::Garble,
                _ => Fault::Pause(pause),
            };
            way = way.then(random.random_range(0..bytes_max), fault);
        }
        way
    }
}

/// What happens to one way of a connection, or to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Both ends see the end of the stream, after what has passed already.
    Cut,
    /// The receiver of this way sees the end of the stream. The other way goes on, and what still comes is swallowed.
    HalfClose,
    /// Both ends see a reset, where the sockets know one; else the end of the stream.
    Reset,
    /// Nothing is read or written any more.
    Stall,
    /// As a stall, but the way goes on after this time.
    Pause(Duration),
    /// What comes is read and goes nowhere.
    Swallow,
    /// Every byte from here on is replaced by one that is not RESP; see [the module](self).
    Garble,
}

/// Where a proxy listens, and where the server is that it stands before.
#[derive(Clone, Debug)]
pub enum Place {
    /// A TCP port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A running proxy. Stops when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    place: Place,
    server: Place,
    script: Mutex<Box<dyn FnMut(usize) -> Script + Send>>,
    accepted: AtomicUsize,
    /// Ends every connection when it is cancelled.
    cut: Mutex<CancellationToken>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("place", &self.place).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultProxy {
    /// Starts a proxy on a free loopback port; `script` is asked for each connection, which it is given the number of,
    /// from 0.
    ///
    /// # Errors
    ///
    /// No port can be had.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn tcp(
        server: Place,
        script: impl FnMut(usize) -> Script + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let place = Place::Tcp(listener.local_addr()?);
        Ok(Self::over(Listener::Tcp(listener), place, server, script))
    }

    /// As [`tcp`](Self::tcp), on a Unix socket that is made at `path`.
    ///
    /// # Errors
    ///
    /// The socket cannot be made.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn unix(
        path: PathBuf,
        server: Place,
        script: impl FnMut(usize) -> Script + Send + 'static,
    ) -> io::Result<Self> {
        let listener = UnixListener::bind(&path)?;
        Ok(Self::over(Listener::Unix(listener), Place::Unix(path), server, script))
    }

    fn over(
        listener: Listener,
        place: Place,
        server: Place,
        script: impl FnMut(usize) -> Script + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            place,
            server,
            script: Mutex::new(Box::new(script)),
            accepted: AtomicUsize::new(0),
            cut: Mutex::default(),
        });
        let listening = Some(tokio::spawn(listen(listener, Arc::clone(&shared))));
        Self { shared, listening }
    }

    /// The URL to connect to.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.shared.place {
            Place::Tcp(address) => format!("redis://{address}"),
            Place::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Resets every connection there is. New ones are accepted.
    pub fn reset_all(&self) {
        std::mem::take(&mut *lock(&self.shared.cut)).cancel();
    }

    /// Refuses new connections from now on. Those that there are go on.
    pub fn refuse(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }

    /// Accepts connections again, at the same place.
    ///
    /// # Errors
    ///
    /// The port is somebody else's now, or the socket cannot be made again.
    pub fn accept(&mut self) -> io::Result<()> {
        if self.listening.is_none() {
            let listener = Listener::again(&self.shared.place)?;
            self.listening = Some(tokio::spawn(listen(listener, Arc::clone(&self.shared))));
        }
        Ok(())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.refuse();
        self.reset_all();
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn again(place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp(address) => {
                let socket = TcpSocket::new_v4()?;
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                Ok(Self::Tcp(socket.listen(1024)?))
            }
            Place::Unix(path) => {
                std::fs::remove_file(path)?;
                Ok(Self::Unix(UnixListener::bind(path)?))
            }
        }
    }

    async fn accept(&self) -> io::Result<End> {
        match self {
            Self::Tcp(listener) => End::tcp(listener.accept().await?.0),
            Self::Unix(listener) => End::unix(listener.accept().await?.0),
        }
    }
}

async fn listen(listener: Listener, shared: Arc<Shared>) {
    loop {
        let Ok(client) = listener.accept().await else { continue };
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let script = (*lock(&shared.script))(number);
        let cut = lock(&shared.cut).clone();
        let server = shared.server.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = serve(client, server, script) => {}
            }
        });
    }
}

/// One end of a connection. Unless it is taken apart for good, dropping it resets it.
struct End {
    read: Box<dyn AsyncRead + Send + Unpin>,
    write: Box<dyn AsyncWrite + Send + Unpin>,
    /// For the option that makes its end a reset, or not.
    socket: Socket,
}

impl End {
    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream).try_clone()?;
        socket.set_linger(Some(Duration::ZERO))?;
        Ok(Self::of(stream, socket))
    }

    fn unix(stream: UnixStream) -> io::Result<Self> {
        let socket = SockRef::from(&stream).try_clone()?;
        Ok(Self::of(stream, socket))
    }

    fn of(stream: impl AsyncRead + AsyncWrite + Send + 'static, socket: Socket) -> Self {
        // The halves of tokio's own that belong to a socket end it in order when they go.
        let (read, write) = tokio::io::split(stream);
        Self { read: Box::new(read), write: Box::new(write), socket }
    }

    async fn connect(place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp(address) => Self::tcp(TcpStream::connect(address).await?),
            Place::Unix(path) => Self::unix(UnixStream::connect(path).await?),
        }
    }

    fn end_in_order(&self) {
        // A socket that has no such option ends in order anyway.
        let _ = self.socket.set_linger(None);
    }
}

async fn serve(mut client: End, server: Place, script: Script) {
    if script.is_frozen {
        return std::future::pending().await;
    }
    // A server that is down is as good as one that resets.
    let Ok(mut server) = End::connect(&server).await else { return };
    let ended = {
        let to_server = forward(&mut client.read, &mut server.write, &script.to_server);
        let to_client = forward(&mut server.read, &mut client.write, &script.to_client);
        tokio::pin!(to_server, to_client);
        tokio::select! {
            ended = &mut to_server => match ended { Ended::Way => to_client.await, both => both },
            ended = &mut to_client => match ended { Ended::Way => to_server.await, both => both },
        }
    };
    if ended != Ended::ByReset {
        let _ = tokio::time::timeout(LAST_BYTES, end_in_order(client, server)).await;
    }
}

/// What still comes is read, because a socket that is closed with bytes unread is reset.
async fn end_in_order(mut client: End, mut server: End) {
    client.end_in_order();
    server.end_in_order();
    let _ = tokio::join!(client.write.shutdown(), server.write.shutdown());
    let (mut nowhere, mut and_nowhere) = (tokio::io::sink(), tokio::io::sink());
    let _ = tokio::join!(
        tokio::io::copy(&mut client.read, &mut nowhere),
        tokio::io::copy(&mut server.read, &mut and_nowhere),
    );
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ended {
    /// This way has come to its end, and the other goes on.
    Way,
    Both,
    ByReset,
}

/// What was read and is to be written at a certain time.
#[derive(Default)]
struct Held {
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
}

async fn forward(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    way: &Way,
) -> Ended {
    let mut held = Held::default();
    let mut passed = 0;
    let mut fault = way.fault;
    let mut has_more = true;
    let mut is_garbled = false;
    loop {
        let due = held.pieces.front().map(|(due, _)| *due);
        let Some(mut piece) = (tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                held.pieces.pop_front().map(|(_, piece)| piece)
            }
            more = read(from, way, &mut held), if has_more && held.bytes < HELD_BYTES_MAX => {
                match more {
                    Ok(more) => has_more = more,
                    Err(_) => return Ended::ByReset,
                }
                None
            }
            else => {
                let _ = to.shutdown().await;
                return Ended::Way;
            }
        }) else {
            continue;
        };
        held.bytes -= piece.len();
        if let Some((after, what)) = fault.filter(|(after, _)| passed + piece.len() as u64 > *after)
        {
            // At most the piece's length.
            let before = piece.split_to((after - passed) as usize);
            if write(to, &before, way).await.is_err() {
                return Ended::ByReset;
            }
            passed = after;
            fault = None;
            match what {
                Fault::Cut => return Ended::Both,
                Fault::Reset => return Ended::ByReset,
                Fault::Stall => return std::future::pending().await,
                Fault::Pause(time) => sleep(time).await,
                Fault::Garble => is_garbled = true,
                Fault::HalfClose | Fault::Swallow => {
                    if what == Fault::HalfClose {
                        let _ = to.shutdown().await;
                    }
                    let _ = tokio::io::copy(from, &mut tokio::io::sink()).await;
                    return Ended::Way;
                }
            }
        }
        passed += piece.len() as u64;
        if is_garbled {
            piece = Bytes::from(vec![GARBAGE; piece.len()]);
        }
        if write(to, &piece, way).await.is_err() {
            return Ended::ByReset;
        }
    }
}

/// Reads once; `false` at the end of the stream. What was read is held, even if this future is dropped.
async fn read(from: &mut (impl AsyncRead + Unpin), way: &Way, held: &mut Held) -> io::Result<bool> {
    let mut piece = BytesMut::with_capacity(way.piece_bytes_max);
    let count = (&mut *from).take(way.piece_bytes_max as u64).read_buf(&mut piece).await?;
    if count > 0 {
        held.bytes += count;
        held.pieces.push_back((Instant::now() + way.delay, piece.freeze()));
    }
    Ok(count > 0)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8], way: &Way) -> io::Result<()> {
    for piece in bytes.chunks(way.piece_bytes_max) {
        to.write_all(piece).await?;
        if let Some(rate) = way.bytes_per_second {
            sleep(Duration::from_secs_f64(piece.len() as f64 / rate as f64)).await;
        }
    }
    Ok(())
}
