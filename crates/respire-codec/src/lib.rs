//! The wire format of Valkey and Redis: RESP2 and RESP3, to bytes and back.
//!
//! This crate turns received bytes into frames and commands into bytes. It has
//! no sockets, no runtime, no clock and no threads, it contains no `unsafe`, and
//! nothing in it recurses over what a peer sent. It is not a client.
//!
//! ```
//! use bytes::BytesMut;
//! use respire_codec::{Decoder, encode};
//!
//! // What goes out: an array of bulk strings.
//! let mut out = BytesMut::new();
//! encode::command(&mut out, &["HGETALL", "user:7"]);
//!
//! // What comes back, in whatever pieces it arrives.
//! let mut decoder = Decoder::default();
//! let mut received = BytesMut::from("%2\r\n$4\r\nname\r\n$3\r\nAda\r\n$3\r\n");
//! assert!(decoder.decode(&mut received)?.is_none());
//! received.extend_from_slice(b"age\r\n:36\r\n");
//!
//! let frame = decoder.decode(&mut received)?.ok_or("a frame")?;
//! let user: Vec<(&str, String)> = frame.parse()?;
//! assert_eq!(user, [("name", "Ada".to_string()), ("age", "36".to_string())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Depending on it
//!
//! It is not released yet: a program depends on it by path, and on `bytes` beside it, whose buffers
//! it reads from and writes to. Rust 1.88 or newer.
//!
//! ```toml
//! [dependencies]
//! bytes = "1"
//! respire-codec = { path = "../respire/crates/respire-codec" }
//! ```
//!
//! | feature | default | what it turns on |
//! |---|---|---|
//! | `std` | yes | `HashMap` and `HashSet` as targets of [`FromValue`]; vectored writes from [`encode::Segments`]; the search for line ends looks at run time which vector instructions the CPU has. Without it the crate needs `alloc` only. |
//! | `tokio-util` | no | `std`, and `Codec`, a decoder and encoder for `tokio_util::codec::Framed`. |
//!
//! Neither changes what is accepted or written.
//!
//! # The read loop
//!
//! A [`Decoder`] belongs to one stream. It takes a frame off the front of the buffer that the caller
//! appends to, or says `None` when there is no whole one, and goes on from where it stopped when there
//! is more. [`Decoder::bytes_needed`] is for sizing the next read: at least so many bytes are missing.
//! It is capped at 64 KiB, or at what has arrived of the frame if that is more.
//!
//! The end of the input is nothing that the decoder sees. When it comes, what is left in the buffer is
//! a frame that was cut off:
//!
//! ```
//! use std::io::{self, Read};
//!
//! use bytes::BytesMut;
//! use respire_codec::{Decoder, Frame};
//!
//! /// The next frame; `None` when the peer has closed the connection behind one.
//! fn next_frame(
//!     socket: &mut impl Read,
//!     decoder: &mut Decoder,
//!     received: &mut BytesMut,
//! ) -> io::Result<Option<Frame>> {
//!     loop {
//!         // After an error the connection is of no use any more.
//!         if let Some(frame) = decoder.decode(received).map_err(io::Error::other)? {
//!             return Ok(Some(frame));
//!         }
//!         let end = received.len();
//!         received.resize(end + decoder.bytes_needed().max(16 * 1024), 0);
//!         let read = socket.read(&mut received[end..]);
//!         received.truncate(end + read.as_ref().map_or(0, |length| *length));
//!         match read {
//!             Ok(0) if received.is_empty() => return Ok(None),
//!             Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
//!             Ok(_) => {}
//!             Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
//!             Err(error) => return Err(error),
//!         }
//!     }
//! }
//!
//! # let mut socket = &b"+OK\r\n$3\r\nab"[..];
//! let (mut decoder, mut received) = (Decoder::default(), BytesMut::new());
//! let first = next_frame(&mut socket, &mut decoder, &mut received)?.ok_or("a frame")?;
//! assert_eq!(first.parse::<&str>()?, "OK");
//! // The peer goes away in the middle of the second one.
//! let error = next_frame(&mut socket, &mut decoder, &mut received).unwrap_err();
//! assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
//! # let (mut closed, mut decoder, mut received) = (&b""[..], Decoder::default(), BytesMut::new());
//! # assert!(next_frame(&mut closed, &mut decoder, &mut received)?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With tokio, `received.reserve(...)` and `read_buf(&mut received)` take the place of the two lines
//! around the read, and feature `tokio-util` has the loop ready. Where many replies arrive at once,
//! [`Decoder::decode_batch`] takes all complete ones at the price of one.
//!
//! # Reading a frame
//!
//! A [`Frame`] is the received bytes and a flat index of the values in them.
//! There is no tree, and strings are not copied. From a frame, a value is
//!
//! - a Rust type, with [`Frame::parse`] and [`FromValue`];
//! - looked at level by level, with [`ValueRef::get`], [`Value`], [`Seq`] and
//!   [`Map`], where passing over an element takes the same time whatever is in it;
//! - shown to a [`Visitor`] from beginning to end;
//! - copied into a tree, an [`OwnedValue`], for those who want one.
//!
//! An error reply is a frame like others. [`ValueRef::error`] has its text, which is to be asked for
//! before a type is: a [`ValueError`] only [says](ValueError::is_error_reply) that there was an error,
//! in the reply or somewhere inside of it, as a transaction's may have one for each command.
//!
//! [`Frame::is_push`] tells pushes from replies before anything else is looked at. A push takes no
//! command's turn, with one exception that callers have to count by themselves: in RESP3 the only
//! answer to `SUBSCRIBE`, `UNSUBSCRIBE` and their kin are pushes, one for each channel. In RESP2 there
//! are no pushes, and messages are plain arrays.
//!
//! ```
//! # use bytes::BytesMut;
//! # use respire_codec::{Decoder, Frame};
//! let mut received = BytesMut::from("-WRONGTYPE no list\r\n>2\r\n+invalidate\r\n*1\r\n+key\r\n:7\r\n");
//! let frames: Vec<Frame> = Decoder::default().decode_batch(&mut received)?.collect();
//!
//! assert_eq!(frames[0].value().error(), Some(&b"WRONGTYPE no list"[..]));
//! assert!(frames[0].parse::<u64>().is_err_and(|error| error.is_error_reply()));
//!
//! assert!(frames[1].is_push() && !frames[2].is_push());
//! let (kind, keys): (&str, Vec<&str>) = frames[1].parse()?;
//! assert_eq!((kind, keys), ("invalidate", vec!["key"]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A frame keeps the block alive that it was received in. [`Frame::detach`] copies
//! a small one out, and [`ValueRef::detach`] a part of one.
//!
//! # What is accepted
//!
//! The grammar of both protocols as it is published, and of that a strict
//! reading: lines end in CRLF and contain neither CR nor LF, and the CRLF behind every payload is
//! checked. A length or a count is one decimal digit or more and nothing else: `$03` is read as 3, while
//! `$+3`, `$ 3` and `$` are errors, as is every negative one but `$-1` and `*-1`. An integer has one
//! digit or more behind an optional sign, and must fit in 64 bits. Where servers and the specification
//! leave a choice, it was made so that a stream is never misread:
//!
//! - Attributes belong to the value that follows them and count as nothing
//!   themselves; see [`ValueRef::attributes`]. One in front of a push is an error, in both modes.
//! - A push inside of a reply, which Redis before 7.2 sends from transactions, is
//!   delivered in front of the reply, as if it had not been in it. With
//!   [`Mode::Strict`] it is an error.
//! - Lines and errors are bytes. Servers do send some that are not UTF-8.
//! - Integers and booleans are checked when they are framed. Doubles and big
//!   numbers are checked when they are read as numbers: a script can put anything
//!   into a big number, and an odd spelling of a double costs one value and not
//!   the connection; see [`Double`] and [`BigNumber`].
//! - The two nulls of RESP2 and the one of RESP3 are the same value; see
//!   [`ValueRef::null_form`].
//! - Streamed strings and aggregates read like those with a length in front; only
//!   a string in several pieces cannot be borrowed.
//!
//! After an error a [`Decoder`] returns that error for ever: RESP has no point to
//! go on from.
//!
//! # Configuration and limits
//!
//! [`Decoder::default`] reads RESP3, of which RESP2 is a part, leniently and with the default
//! [`Limits`]; [`Decoder::new`] takes a [`DecoderConfig`] that says otherwise, and
//! [`Decoder::set_protocol`] follows a `HELLO`. With [`Protocol::Resp2`] the types of RESP3 are errors.
//!
//! ```
//! use respire_codec::{Decoder, DecoderConfig, Limits, Mode, Protocol};
//!
//! let defaults = DecoderConfig {
//!     protocol: Protocol::Resp3,
//!     mode: Mode::Lenient,
//!     limits: Limits {
//!         depth: 1024,             // aggregates that are open inside of one another
//!         bulk_bytes: 512 << 20,   // payload bytes of one string: 512 MiB
//!         line_bytes: 512 << 20,   // bytes of one simple string, error or number
//!         elements: (1 << 31) - 1, // values directly in one aggregate; of a map, two for each pair
//!         header_digits: 64,       // digits of one length, count or integer; less than 20 is 20
//!         frame_bytes: (1 << 32) - 1, // bytes on the wire of one frame: 4 GiB
//!         tape_nodes: 1 << 27,     // entries in the index of one frame, of 8 bytes: 1 GiB
//!     },
//! };
//! assert_eq!(defaults, DecoderConfig::default());
//!
//! let limits = Limits { bulk_bytes: 1 << 20, frame_bytes: 16 << 20, ..Limits::default() };
//! let mut cautious = Decoder::new(DecoderConfig { limits, mode: Mode::Strict, ..defaults });
//! assert!(cautious.decode(&mut bytes::BytesMut::from("$2000000\r\n")).is_err());
//! ```
//!
//! # Memory
//!
//! A header never reserves memory: the index grows with the bytes that have arrived, by at most
//! 4 bytes for each byte of a frame and 12 for each frame of a batch, in vectors that double. Indexes
//! are used again, so that in steady state a frame costs no allocation.
//!
//! # Writing
//!
//! [`encode::command`] writes a command, [`encode::Prefix`] one whose first arguments are always the
//! same and encoded once, and [`encode::Segments`] one with large arguments, which are handed to a
//! vectored write instead of being copied. For test servers and proxies, [`encode::reply`] writes an
//! [`OwnedValue`] as a server would, and refuses what would be read as something else.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use respire_codec::{EncodeError, OwnedValue, Protocol, encode};
//!
//! let get = encode::Prefix::new(&["HGET", "user:7"]);
//! let mut out = BytesMut::new();
//! get.command(&mut out, &["name"]);
//! assert_eq!(&out[..], b"*3\r\n$4\r\nHGET\r\n$6\r\nuser:7\r\n$4\r\nname\r\n");
//!
//! out.clear();
//! encode::reply(&mut out, &OwnedValue::from("Ada"), Protocol::Resp3)?;
//! assert_eq!(&out[..], b"$3\r\nAda\r\n");
//! let forged = OwnedValue::SimpleError(Bytes::from("ERR no such key: x\r\n+OK"));
//! assert_eq!(encode::reply(&mut out, &forged, Protocol::Resp3), Err(EncodeError::LineBreak));
//! # Ok::<(), EncodeError>(())
//! ```

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod batch;
mod build;
#[cfg(feature = "tokio-util")]
mod codec;
mod decode;
pub mod encode;
mod error;
mod frame;
mod from_value;
mod limits;
mod number;
mod owned;
mod scalar;
mod scan;
mod seq;
mod tape;
mod value;
mod walk;

pub use batch::Batch;
#[cfg(feature = "tokio-util")]
pub use codec::{Codec, CodecError};
pub use decode::{Decoder, DecoderConfig, Mode, Protocol};
pub use error::{DecodeError, EncodeError, Reason, ValueError};
pub use frame::{Frame, FrameRef};
pub use from_value::FromValue;
pub use limits::Limits;
pub use owned::{Attributed, OwnedValue, Pairs, Values};
pub use scalar::{BigNumber, Double, Verbatim};
pub use seq::{Attributes, Chunks, Map, Seq};
pub use value::{Kind, NullForm, Value, ValueRef};
pub use walk::{Visit, Visitor};
