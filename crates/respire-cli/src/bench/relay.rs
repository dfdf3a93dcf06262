//! A relay on the loopback that delays what goes through it, as a longer way would.
//!
//! Each direction is delayed by itself, and nothing overtakes anything: what was read is written
//! after its delay, and not before what was read earlier. The bytes on their way are bounded;
//! beyond that the relay reads no more, as a network's buffers fill up.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use respire::Address;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, split};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::timer::Timer;

/// Bytes on their way in one direction of a connection, at the most: as much as a fast network has
/// under way in some milliseconds.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads whose bytes are on their way in one direction, at the most.
const READS_MAX: usize = 64 * 1024;

/// Bytes of one read, at the most.
const READ_BYTES: usize = 64 * 1024;

/// How long each byte is on its way, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// The shortest.
    pub min: Duration,
    /// The longest. Between the two, every time is as likely as any other.
    pub max: Duration,
}

/// A relay in a thread of its own. Dropping it ends its connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Relay {
    /// Listens on a free port of the loopback, and connects each who comes with `target`.
    ///
    /// # Errors
    ///
    /// The target is reached in another way than by TCP or a Unix socket, or the system refuses a
    /// port, a thread or the like.
    pub fn start(target: Address, delay: Delay, seed: u64) -> io::Result<Self> {
        if !matches!(target, Address::Tcp { .. } | Address::Unix(_)) {
            let reason = "only TCP and Unix sockets can be delayed";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        thread::Builder::new().name("respire-relay".to_owned()).spawn(move || {
            // Where the runtime ends, so do its tasks and with them the connections.
            runtime.block_on(stopped.run_until_cancelled(serve(listener, target, delay, seed)));
        })?;
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Tcp { host: self.address.ip().to_string(), port: self.address.port() }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    target: Address,
    delay: Delay,
    mut seed: u64,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        // That a connection could not be accepted ends that connection alone.
        let Ok((near, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let target = target.clone();
        seed = seed.wrapping_add(2);
        tokio::spawn(async move {
            let _ = near.set_nodelay(true);
            // Where there is no way to the server, the one who came finds its connection ended.
            match target {
                Address::Tcp { host, port } => {
                    let far = TcpStream::connect((host.as_str(), port)).await?;
                    let _ = far.set_nodelay(true);
                    join(near, far, delay, seed).await
                }
                Address::Unix(path) => {
                    join(near, UnixStream::connect(path).await?, delay, seed).await
                }
                _ => Err(io::ErrorKind::Unsupported.into()),
            }
        });
    }
}

/// Relays both directions until both have ended, or one has failed.
async fn join(
    near: TcpStream,
    far: impl AsyncRead + AsyncWrite,
    delay: Delay,
    seed: u64,
) -> io::Result<()> {
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = split(far);
    let there = Direction::new(near_in, far_out, delay, seed)?;
    let back = Direction::new(far_in, near_out, delay, seed.wrapping_add(1))?;
    tokio::try_join!(there.run(), back.run())?;
    Ok(())
}

/// One direction of a connection.
struct Direction<R, W> {
    from: R,
    to: W,
    way: Way,
    scratch: Vec<u8>,
    timer: Timer,
    ended: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Direction<R, W> {
    fn new(from: R, to: W, delay: Delay, seed: u64) -> io::Result<Self> {
        let scratch = vec![0; READ_BYTES];
        Ok(Self {
            from,
            to,
            way: Way::new(delay, seed),
            scratch,
            timer: Timer::new()?,
            ended: false,
        })
    }

    async fn run(mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll(cx)).await?;
        poll_fn(|cx| Pin::new(&mut self.to).poll_shutdown(cx)).await
    }

    /// Reads and writes, neither waiting for the other, until what was read has ended and all of it
    /// is written.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.ended && self.way.has_room() {
                let mut buffer = ReadBuf::new(&mut self.scratch);
                if Pin::new(&mut self.from).poll_read(cx, &mut buffer)?.is_pending() {
                    break;
                }
                self.ended = buffer.filled().is_empty();
                self.way.enter(buffer.filled(), Instant::now());
            }
            let Some(due) = self.way.next_due() else {
                return if self.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            ready!(self.timer.poll(cx, due))?;
            let piece = self.way.arrived(Instant::now());
            let written = ready!(Pin::new(&mut self.to).poll_write(cx, piece))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.way.leave(written);
        }
    }
}

/// The bytes on their way in one direction.
struct Way {
    delay: Delay,
    rng: SmallRng,
    bytes: VecDeque<u8>,
    /// When the bytes of each read are through, and how many are left of them. In order.
    reads: VecDeque<(Instant, usize)>,
}

impl Way {
    fn new(delay: Delay, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self { delay, rng, bytes: VecDeque::new(), reads: VecDeque::new() }
    }

    fn has_room(&self) -> bool {
        self.bytes.len() < BYTES_MAX && self.reads.len() < READS_MAX
    }

    /// Bytes set out. They arrive after their delay, and not before those that set out earlier.
    fn enter(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() {
            return;
        }
        let due = now + self.rng.random_range(self.delay.min..=self.delay.max);
        let due = self.reads.back().map_or(due, |(last, _)| due.max(*last));
        self.bytes.extend(bytes);
        self.reads.push_back((due, bytes.len()));
    }

    fn next_due(&self) -> Option<Instant> {
        self.reads.front().map(|(due, _)| *due)
    }

    /// Some of the bytes that have arrived, from the first; empty only where none has.
    fn arrived(&self, now: Instant) -> &[u8] {
        let front = self.bytes.as_slices().0;
        let mut count = 0;
        for (due, len) in &self.reads {
            if *due > now || count >= front.len() {
                break;
            }
            count += len;
        }
        &front[..count.min(front.len())]
    }

    /// So many of the bytes that have arrived were handed on.
    fn leave(&mut self, mut count: usize) {
        self.bytes.drain(..count);
        while let Some((_, left)) = self.reads.front_mut() {
            if *left > count {
                *left -= count;
                return;
            }
            count -= *left;
            self.reads.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    fn delay(min: u64, max: u64) -> Delay {
        Delay { min: Duration::from_millis(min), max: Duration::from_millis(max) }
    }

    #[test]
    fn nothing_overtakes_anything() {
        let start = Instant::now();
        let mut way = Way::new(delay(1, 50), 3);
        for n in 0..200_u8 {
            way.enter(&[n], start + Duration::from_micros(n.into()));
        }
        let mut last = start;
        let mut seen = Vec::new();
        while let Some(due) = way.next_due() {
            assert!(due >= last);
            last = due;
            assert!(way.arrived(due - Duration::from_nanos(1)).is_empty());
            seen.push(way.arrived(due)[0]);
            way.leave(1);
        }
        assert_eq!(seen, (0..200).collect::<Vec<u8>>());
        assert!(last >= start + Duration::from_millis(40));
    }

    #[test]
    fn parts_of_reads_leave_one_after_the_other() {
        let start = Instant::now();
        let mut way = Way::new(delay(1, 1), 0);
        way.enter(b"abc", start);
        way.enter(b"defg", start);
        let due = start + Duration::from_millis(1);
        assert_eq!(way.next_due(), Some(due));
        for expected in [&b"abcdefg"[..], b"cdefg", b"efg", b"g"] {
            assert_eq!(way.arrived(due), expected);
            way.leave(if expected.len() == 1 { 1 } else { 2 });
        }
        assert_eq!((way.next_due(), way.arrived(due)), (None, &b""[..]));
    }

    /// A server that sends back what it gets, until its peer has ended.
    fn echo() -> (Address, thread::JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = stream.try_clone().unwrap();
            io::copy(&mut reader, &mut stream).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (Address::Tcp { host: "127.0.0.1".to_owned(), port: address.port() }, echo)
    }

    fn connect(relay: &Relay) -> TcpStream {
        let stream = TcpStream::connect(relay.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    #[test]
    fn a_round_trip_takes_both_delays_and_the_end_goes_through() {
        let (target, echo) = echo();
        let relay = Relay::start(target, delay(20, 25), 1).unwrap();
        let mut stream = connect(&relay);
        for n in 0..3_u8 {
            let sent = Instant::now();
            stream.write_all(&[n]).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [n]);
            assert!(sent.elapsed() >= Duration::from_millis(40));
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        echo.join().unwrap();
    }

    #[test]
    fn more_bytes_than_fit_on_the_way_all_arrive_in_order() {
        let (target, echo) = echo();
        let relay = Relay::start(target, delay(0, 2), 1).unwrap();
        let mut stream = connect(&relay);
        let sent: Vec<u8> = (0..BYTES_MAX as u32 + 1_000_000).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let mut writer = stream.try_clone().unwrap();
        let writer = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        echo.join().unwrap();
        assert!(received == expected, "{} bytes of {}", received.len(), expected.len());
    }

    #[test]
    fn a_server_that_is_not_there_ends_the_connection_and_so_does_the_end_of_the_relay() {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let target = Address::Tcp { host: "127.0.0.1".to_owned(), port: nobody.port() };
        let relay = Relay::start(target, delay(1, 1), 1).unwrap();
        let ended = |stream: &mut TcpStream| !matches!(stream.read(&mut [0]), Ok(1));
        assert!(ended(&mut connect(&relay)));

        let (target, echo) = echo();
        let relay = Relay::start(target, delay(1, 1), 1).unwrap();
        let mut stream = connect(&relay);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        drop(relay);
        assert!(ended(&mut stream));
        echo.join().unwrap();
    }
}
