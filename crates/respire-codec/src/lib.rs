//! A resumable RESP2 and RESP3 codec that copies nothing.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod batch;
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
pub use value::{Attributes, Chunks, Kind, Map, NullForm, Seq, Value, ValueRef};
pub use walk::{Visit, Visitor};
