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
//! A frame keeps the block alive that it was received in. [`Frame::detach`] copies
//! a small one out, and [`ValueRef::detach`] a part of one. [`Decoder::decode_batch`] takes all complete frames of a read
//! at once, at the price of one.
//!
//! # What is accepted
//!
//! The grammar of both protocols as it is published, and of that the strict
//! reading: lengths are digits, lines end in CRLF and contain neither CR nor LF,
//! the CRLF behind every payload is checked. Where servers and the specification
//! leave a choice, it was made so that a stream is never misread:
//!
//! - Attributes belong to the value that follows them and count as nothing
//!   themselves; see [`ValueRef::attributes`].
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
//! # Memory
//!
//! A header never reserves memory: the index grows with the bytes that have
//! arrived, by at most 4 for each of them and doubling its room. [`Limits`] bounds depth, lengths, counts and
//! the frame as a whole. Indexes are used again, so that in steady state a frame
//! costs no allocation.
//!
//! # Features
//!
//! - `std` (default): the hash maps and sets of the standard library as targets of
//!   [`FromValue`], and vectored writes from [`encode::Segments`]. Without it the
//!   crate needs `alloc` only.
//! - `tokio-util`: `Codec`, a decoder and encoder for
//!   `tokio_util::codec::Framed`.

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
