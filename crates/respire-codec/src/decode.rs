use bytes::{Buf, Bytes, BytesMut};

use crate::batch::Batch;
use crate::error::DecodeError;
use crate::frame::Frame;
use crate::limits::Limits;
use crate::scan::{Fault, Scanner, Stop};
use crate::tape::{Entry, Tape, TapePool};

/// Which types the peer may send.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::{Decoder, DecoderConfig, Protocol, Reason};
///
/// let config = DecoderConfig { protocol: Protocol::Resp2, ..DecoderConfig::default() };
/// let map = Decoder::new(config).decode(&mut BytesMut::from("%0\r\n"));
/// assert_eq!(map.unwrap_err().reason(), Reason::NotInProtocol);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Simple strings, errors, integers, bulk strings, arrays and the two old
    /// nulls. Everything else is an error.
    Resp2,
    /// All of RESP2 and the types that RESP3 added.
    #[default]
    Resp3,
}

/// What to do about a push inside of a reply, where none may be.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::{Decoder, DecoderConfig, Mode, Reason};
///
/// let wire = BytesMut::from("*2\r\n:1\r\n>1\r\n+hello\r\n:2\r\n");
/// let frames: Vec<_> = Decoder::default().decode_batch(&mut wire.clone())?.collect();
/// assert!(frames[0].is_push());
/// assert_eq!(frames[1].parse::<Vec<u8>>()?, [1, 2]);
///
/// let config = DecoderConfig { mode: Mode::Strict, ..DecoderConfig::default() };
/// let refused = Decoder::new(config).decode_batch(&mut wire.clone()).unwrap_err();
/// assert_eq!(refused.reason(), Reason::NestedPush);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Deliver it as a frame of its own, in front of the reply that it was found
    /// in, which then reads as if the push had not been there. Redis before 7.2
    /// sends such pushes when a transaction publishes to its own connection.
    #[default]
    Lenient,
    /// Refuse it.
    Strict,
}

/// How a [`Decoder`] reads.
///
/// # Example
///
/// ```
/// use respire_codec::{Decoder, DecoderConfig, Mode};
///
/// let decoder = Decoder::new(DecoderConfig { mode: Mode::Strict, ..Default::default() });
/// # let _ = decoder;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecoderConfig {
    /// Which types the peer may send. RESP3, the default, is right for RESP2
    /// peers as well: they use a subset of it.
    pub protocol: Protocol,
    /// What to do about a push inside of a reply.
    pub mode: Mode,
    /// What a peer may make the decoder hold.
    pub limits: Limits,
}

/// Bytes asked for at once, at most, when fewer than that have arrived.
const HINT_BYTES: usize = 64 * 1024;

/// Takes frames off the front of a receive buffer.
///
/// One decoder belongs to one stream of replies. It may be called whenever bytes
/// were added to the buffer; between two calls the caller may append to the
/// buffer and must not change it otherwise.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::Decoder;
///
/// let mut decoder = Decoder::default();
/// let mut received = BytesMut::from("$5\r\nhel");
/// assert!(decoder.decode(&mut received)?.is_none());
///
/// received.extend_from_slice(b"lo\r\n:1");
/// let frame = decoder.decode(&mut received)?.ok_or("a frame")?;
/// assert_eq!(frame.parse::<&str>()?, "hello");
/// assert_eq!(&received[..], b":1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    scanner: Scanner,
    /// Nodes of the frame that is being read.
    tape: Tape,
    pool: TapePool,
    /// Frames that are complete and were not handed out yet.
    ready: Batch,
    /// Bytes of all frames before the current one.
    consumed: u64,
    /// Bytes of the current frame that were there at the last call, and at
    /// least how many were missing.
    arrived: usize,
    needed: usize,
    failed: Option<DecodeError>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DecoderConfig::default())
    }
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(config: DecoderConfig) -> Self {
        Self {
            scanner: Scanner::new(config.limits, config.protocol, config.mode),
            tape: Tape::default(),
            pool: TapePool::default(),
            ready: Batch::default(),
            consumed: 0,
            arrived: 0,
            needed: 1,
            failed: None,
        }
    }

    /// Which types are accepted now.
    pub fn protocol(&self) -> Protocol {
        self.scanner.protocol()
    }

    /// Accepts the types of another protocol from the next value on.
    ///
    /// # Example
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use respire_codec::{Decoder, DecoderConfig, Protocol};
    ///
    /// let config = DecoderConfig { protocol: Protocol::Resp2, ..DecoderConfig::default() };
    /// let mut decoder = Decoder::new(config);
    /// // The reply to `HELLO 3` is a map already.
    /// decoder.set_protocol(Protocol::Resp3);
    /// let hello = decoder.decode(&mut BytesMut::from("%1\r\n+proto\r\n:3\r\n"))?;
    /// assert!(hello.is_some());
    /// # Ok::<(), respire_codec::DecodeError>(())
    /// ```
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.scanner.set_protocol(protocol);
    }

    /// Takes the next frame off `src`, or returns `None` when more bytes are
    /// needed for it.
    ///
    /// A reply is kept in one piece with its attributes. The frame shares the
    /// memory of `src`; [`Frame::detach`] copies it out.
    ///
    /// # Errors
    ///
    /// When the bytes are not RESP or exceed a limit, and from then on always.
    pub fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        if !self.ready.is_empty() {
            return Ok(self.ready.next());
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.scanner.scan(src, &mut self.tape.nodes, 0) {
            Ok(length) => Ok(self.complete(src, length)),
            Err(Stop::More(missing)) => {
                self.starve(src.len(), missing);
                Ok(None)
            }
            Err(Stop::Fault(fault)) => Err(self.fail(0, fault)),
        }
    }

    /// Takes all complete frames off `src` at once.
    ///
    /// This costs one reference to the memory of `src` for all of them, where
    /// [`decode`](Self::decode) costs one each. The batch is empty when more
    /// bytes are needed.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode). Frames in front of the error are returned
    /// first, and the error by the next call.
    ///
    /// # Example
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use respire_codec::Decoder;
    ///
    /// let mut received = BytesMut::from(":1\r\n:2\r\n:3\r\n:4");
    /// let batch = Decoder::default().decode_batch(&mut received)?;
    /// let numbers: Result<Vec<u8>, _> = batch.iter().map(|frame| frame.parse()).collect();
    /// assert_eq!(numbers?, [1, 2, 3]);
    /// assert_eq!(&received[..], b":4");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn decode_batch(&mut self, src: &mut BytesMut) -> Result<Batch, DecodeError> {
        if !self.ready.is_empty() {
            return Ok(core::mem::take(&mut self.ready));
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (end, stop) = self.scan_frames(src);
        self.finish_batch(end, src.len(), stop, || src.split_to(end).freeze())
    }

    /// Takes all complete frames off the front of memory that cannot be kept, and returns them
    /// with the number of bytes that they took there.
    ///
    /// As [`decode_batch`](Self::decode_batch), but the frames are copied out, into memory that
    /// is exactly as large as they are together. What stays must be at the front of what the
    /// next call is given, of this function or of another.
    ///
    /// # Errors
    ///
    /// As [`decode_batch`](Self::decode_batch).
    ///
    /// # Example
    ///
    /// ```
    /// use respire_codec::Decoder;
    ///
    /// let mut decoder = Decoder::default();
    /// let (batch, taken) = decoder.decode_lent(b"+a\r\n:1\r\n$5\r\nhel")?;
    /// assert_eq!((batch.len(), taken), (2, 8));
    /// let (batch, taken) = decoder.decode_lent(b"$5\r\nhello\r\n")?;
    /// assert_eq!((batch.len(), taken), (1, 11));
    /// # Ok::<(), respire_codec::DecodeError>(())
    /// ```
    pub fn decode_lent(&mut self, src: &[u8]) -> Result<(Batch, usize), DecodeError> {
        if !self.ready.is_empty() {
            return Ok((core::mem::take(&mut self.ready), 0));
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (end, stop) = self.scan_frames(src);
        let copied = || Bytes::copy_from_slice(src.get(..end).unwrap_or_default());
        let batch = self.finish_batch(end, src.len(), stop, copied)?;
        Ok((batch, end))
    }

    /// Enters all complete frames at the front of `src` on the tape, and returns where they end
    /// and what came then: the reason to stop, and the first node of the frame that it was in.
    fn scan_frames(&mut self, src: &[u8]) -> (usize, (Stop, usize)) {
        let mut start = 0;
        loop {
            // Positions in a batch have 32 bits. What lies further back is left
            // for the next call.
            let rest = src.get(start..src.len().min(Batch::BYTES_MAX)).unwrap_or_default();
            // The frame at the front may have left nodes in earlier calls.
            let first = if start == 0 { 0 } else { self.tape.nodes.len() };
            match self.scanner.scan(rest, &mut self.tape.nodes, first) {
                Ok(length) => {
                    self.enter(start, length, first);
                    start += length;
                }
                Err(stop) => return (start, (stop, first)),
            }
        }
    }

    /// At least how many more bytes the current frame needs, for sizing a read.
    ///
    /// Never more than 64 KiB or what has arrived of the frame, whichever is
    /// larger, so that a header cannot make the caller reserve what it announces.
    ///
    /// # Example
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use respire_codec::Decoder;
    ///
    /// let mut decoder = Decoder::default();
    /// assert!(decoder.decode(&mut BytesMut::from("$100\r\nabc"))?.is_none());
    /// assert_eq!(decoder.bytes_needed(), 97 + "\r\n".len());
    /// # Ok::<(), respire_codec::DecodeError>(())
    /// ```
    pub fn bytes_needed(&self) -> usize {
        self.needed.clamp(1, self.arrived.max(HINT_BYTES))
    }

    fn starve(&mut self, arrived: usize, missing: usize) {
        self.arrived = arrived;
        self.needed = missing;
    }

    fn fail(&mut self, start: usize, fault: Fault) -> DecodeError {
        let Fault { offset, type_byte, reason } = fault;
        let offset = self.consumed + (start + offset) as u64;
        let error = DecodeError { offset, type_byte, reason };
        self.failed = Some(error);
        error
    }

    #[inline]
    fn split(&mut self, src: &mut BytesMut, length: usize) -> Bytes {
        self.consumed += length as u64;
        src.split_to(length).freeze()
    }

    /// Makes a frame of the first `length` bytes, whose nodes are on the tape.
    #[inline]
    fn complete(&mut self, src: &mut BytesMut, length: usize) -> Option<Frame> {
        if self.scanner.has_hoisted() {
            self.enter(0, length, 0);
            let bytes = self.split(src, length);
            self.ready = Batch::new(bytes, self.pool.seal(&mut self.tape));
            return self.ready.next();
        }
        if let [node] = self.tape.nodes[..] {
            self.tape.nodes.clear();
            if let Some(frame) = src.get(..length).and_then(Frame::constant) {
                self.consumed += length as u64;
                src.advance(length);
                return Some(frame);
            }
            return Some(Frame::scalar(self.split(src, length), node));
        }
        let bytes = self.split(src, length);
        Some(Frame::aggregate(bytes, self.pool.seal(&mut self.tape), 0))
    }

    /// Notes a complete frame of the batch, after the pushes found inside of it.
    fn enter(&mut self, start: usize, length: usize, first: usize) {
        if self.scanner.has_hoisted() {
            self.enter_hoisted(start);
        }
        self.tape.entries.push(Entry::new(start, start + length, first as u32));
    }

    #[cold]
    fn enter_hoisted(&mut self, start: usize) {
        let pushes = self.scanner.take_hoisted();
        let node = self.tape.nodes.len() as u32;
        self.tape.nodes.extend_from_slice(&pushes.nodes);
        self.tape.entries.extend(pushes.entries.iter().map(|push| push.moved(start as u32, node)));
    }

    /// Seals the frames that end before `end` of `arrived` bytes, which `take` takes. The nodes
    /// from `first` on belong to a frame that is not complete and stay.
    fn finish_batch(
        &mut self,
        end: usize,
        arrived: usize,
        (stop, first): (Stop, usize),
        take: impl FnOnce() -> Bytes,
    ) -> Result<Batch, DecodeError> {
        let outcome = match stop {
            Stop::More(missing) => {
                self.starve(arrived - end, missing);
                Ok(Batch::default())
            }
            Stop::Fault(fault) => Err(self.fail(end, fault)),
        };
        if self.tape.entries.is_empty() {
            return outcome;
        }
        self.consumed += end as u64;
        let bytes = take();
        let tape = self.pool.seal(&mut self.tape);
        // The sealed tape keeps them as well, where no frame refers to them.
        let unfinished = tape.nodes.get(first..).unwrap_or_default();
        self.tape.nodes.extend_from_slice(unfinished);
        Ok(Batch::new(bytes, tape))
    }
}
