use alloc::{sync::Arc, vec::Vec};
use core::fmt;

use bytes::Bytes;

use crate::error::ValueError;
use crate::from_value::FromValue;
use crate::owned::OwnedValue;
use crate::tape::{self, Entry, Node, Tape};
use crate::value::{Value, ValueRef};

/// One complete reply or push: its bytes on the wire and an index into them.
///
/// A frame is owned and cheap to clone. Its values are read where they lie, in
/// the memory of the receive buffer; nothing is parsed before it is asked for.
/// Two frames are equal when their values are; see [`ValueRef`].
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::Decoder;
///
/// let mut received = BytesMut::from("*2\r\n$1\r\na\r\n:1\r\n");
/// let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let (name, count): (&str, u64) = frame.parse()?;
/// assert_eq!((name, count), ("a", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Frame {
    bytes: Bytes,
    /// Absent when the frame is a single scalar.
    tape: Option<Arc<Tape>>,
    /// The scalar; or, with a tape, `off` is the index of the frame's first node.
    node: Node,
}

impl Frame {
    #[inline]
    pub(crate) fn scalar(bytes: Bytes, node: Node) -> Self {
        Self { bytes, tape: None, node }
    }

    #[inline]
    pub(crate) fn aggregate(bytes: Bytes, tape: Arc<Tape>, first: u32) -> Self {
        Self { bytes, tape: Some(tape), node: Node { off: first, aux: 0 } }
    }

    /// The frame that these bytes are, if they are one of the few constant
    /// replies that most replies are. It shares nothing with anybody, which
    /// costs less than counting references.
    #[inline]
    pub(crate) fn constant(wire: &[u8]) -> Option<Self> {
        let wire: &'static [u8] = match wire {
            b"+OK\r\n" => b"+OK\r\n",
            b":0\r\n" => b":0\r\n",
            b":1\r\n" => b":1\r\n",
            b"_\r\n" => b"_\r\n",
            b"$-1\r\n" => b"$-1\r\n",
            b"+QUEUED\r\n" => b"+QUEUED\r\n",
            _ => return None,
        };
        let node = Node { off: 0, aux: wire.len() as u32 };
        Some(Self::scalar(Bytes::from_static(wire), node))
    }

    /// The frame whose first node is `tape.nodes[first]`, without a share in the
    /// tape when it is a scalar.
    #[inline]
    pub(crate) fn of_tape(bytes: Bytes, tape: &Arc<Tape>, first: u32) -> Self {
        match tape.nodes.get(first as usize) {
            Some(node) if tape::width(&bytes, 0) == 1 => Self::scalar(bytes, *node),
            _ => Self::aggregate(bytes, Arc::clone(tape), first),
        }
    }

    fn nodes(&self) -> &[Node] {
        match &self.tape {
            None => core::slice::from_ref(&self.node),
            Some(tape) => tape.nodes.get(self.node.off as usize..).unwrap_or_default(),
        }
    }

    /// Whether this is a push: unasked, or in RESP3 what a command such as `SUBSCRIBE` is answered with.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from(">2\r\n+invalidate\r\n_\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// assert!(frame.is_push());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_push(&self) -> bool {
        self.bytes.first() == Some(&b'>')
    }

    /// The value, to be looked into.
    #[inline]
    pub fn value(&self) -> ValueRef<'_> {
        ValueRef::new(&self.bytes, self.nodes(), 0)
    }

    /// The value as a type of the caller's choice.
    ///
    /// # Errors
    ///
    /// When the value is of another type, out of range, or an error reply.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("*2\r\n$1\r\na\r\n_\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// assert_eq!(frame.parse::<Vec<Option<&str>>>()?, [Some("a"), None]);
    /// assert!(frame.parse::<i64>().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse<'a, T: FromValue<'a>>(&'a self) -> Result<T, ValueError> {
        T::from_value(self.value())
    }

    /// The elements of an array or a set, or of a push, each as a frame of its own; `None` for any other value.
    ///
    /// They share this frame's memory. Each aggregate among them has an index of its own, which is an allocation.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("*2\r\n+OK\r\n*1\r\n:7\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// let elements: Vec<_> = frame.elements().ok_or("an array")?.collect();
    /// drop(frame);
    /// assert_eq!(elements[1].parse::<Vec<u8>>()?, [7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn elements(&self) -> Option<impl ExactSizeIterator<Item = Frame>> {
        match self.value().get() {
            Value::Array(elements) | Value::Set(elements) | Value::Push(elements) => {
                Some(elements.map(ValueRef::to_frame))
            }
            _ => None,
        }
    }

    /// The bytes on the wire, attributes and headers included. A push that was
    /// found inside of the reply is still in its place here.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from(":007\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// assert_eq!(&frame.bytes()[..], b":007\r\n");
    /// assert_eq!(frame.parse::<u8>()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A copy that holds on to nothing but itself.
    ///
    /// Every frame, and every `Bytes` taken out of one, keeps alive the whole
    /// block of memory that it was received in. For a small value that is kept
    /// for long, a copy is cheaper.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("$2\r\nhi\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// let kept = frame.detach();
    /// assert_eq!(kept, frame);
    /// assert_ne!(kept.bytes().as_ptr(), frame.bytes().as_ptr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(&self) -> Frame {
        let bytes = Bytes::copy_from_slice(&self.bytes);
        if self.tape.is_none() {
            return Self::scalar(bytes, self.node);
        }
        let nodes = self.nodes();
        let nodes: Vec<Node> = nodes.get(..self.value().span()).unwrap_or(nodes).to_vec();
        Self::aggregate(bytes, Arc::new(Tape { nodes, entries: Vec::new() }), 0)
    }

    /// The value as a tree of its own, whose strings still share this frame's
    /// memory.
    pub fn to_value(&self) -> OwnedValue {
        self.value().to_value()
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for Frame {}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.value(), f)
    }
}

/// One frame of a [`Batch`](crate::Batch), borrowed.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::Decoder;
///
/// let mut received = BytesMut::from("+OK\r\n>1\r\n+bye\r\n");
/// let batch = Decoder::default().decode_batch(&mut received)?;
/// let pushes = batch.iter().filter(|frame| frame.is_push()).count();
/// assert_eq!(pushes, 1);
/// # Ok::<(), respire_codec::DecodeError>(())
/// ```
#[derive(Clone, Copy)]
pub struct FrameRef<'a> {
    /// The whole batch.
    batch: &'a Bytes,
    entry: Entry,
    /// The batch's nodes from this frame's first one on.
    nodes: &'a [Node],
}

impl<'a> FrameRef<'a> {
    #[inline]
    pub(crate) fn new(batch: &'a Bytes, nodes: &'a [Node], entry: Entry) -> Self {
        let nodes = nodes.get(entry.node as usize..).unwrap_or_default();
        Self { batch, entry, nodes }
    }

    /// Whether this is a push: unasked, or in RESP3 what a command such as `SUBSCRIBE` is answered with.
    pub fn is_push(self) -> bool {
        self.bytes().first() == Some(&b'>')
    }

    /// The value, to be looked into.
    #[inline]
    pub fn value(self) -> ValueRef<'a> {
        ValueRef::new(self.batch, self.nodes, self.entry.start)
    }

    /// The value as a type of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Frame::parse`].
    pub fn parse<T: FromValue<'a>>(self) -> Result<T, ValueError> {
        T::from_value(self.value())
    }

    /// The bytes on the wire.
    pub fn bytes(self) -> &'a [u8] {
        self.batch.get(self.entry.start as usize..self.entry.end as usize).unwrap_or_default()
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.value(), f)
    }
}
