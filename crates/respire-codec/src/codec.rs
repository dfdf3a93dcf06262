use std::io;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio_util::codec;

use crate::decode::{Decoder, DecoderConfig};
use crate::encode;
use crate::error::{DecodeError, EncodeError};
use crate::frame::Frame;
use crate::owned::OwnedValue;

/// Decoder and encoder for `tokio_util::codec::Framed`.
///
/// It yields [`Frame`]s. It accepts a command as a slice of arguments, a reply
/// as an [`OwnedValue`], and [`Bytes`] that are encoded already.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::{Codec, OwnedValue};
/// use tokio_util::codec::{Decoder as _, Encoder as _};
///
/// let mut codec = Codec::default();
/// let mut wire = BytesMut::new();
/// codec.encode(&["GET", "key"][..], &mut wire)?;
/// let request = codec.decode(&mut wire)?.ok_or("a frame")?;
/// assert_eq!(request.parse::<Vec<&str>>()?, ["GET", "key"]);
///
/// codec.encode(&OwnedValue::from("value"), &mut wire)?;
/// assert_eq!(&wire[..], b"$5\r\nvalue\r\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Codec {
    decoder: Decoder,
}

impl Codec {
    /// A codec at the start of a stream. Replies are encoded for the protocol
    /// that is decoded.
    pub fn new(config: DecoderConfig) -> Self {
        Self { decoder: Decoder::new(config) }
    }

    /// The decoder, to change the protocol for example.
    pub fn decoder_mut(&mut self) -> &mut Decoder {
        &mut self.decoder
    }
}

/// What goes wrong in a framed stream.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::{Codec, CodecError};
/// use tokio_util::codec::Decoder;
///
/// let mut codec = Codec::default();
/// let cut_off = codec.decode_eof(&mut BytesMut::from("$5\r\nhel"));
/// assert!(matches!(cut_off, Err(CodecError::Io(_))));
/// let no_resp = codec.decode(&mut BytesMut::from("HTTP/1.1 400"));
/// assert!(matches!(no_resp, Err(CodecError::Decode(_))));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The transport failed, or ended inside of a frame.
    #[error("transport failed")]
    Io(#[from] io::Error),
    /// The peer sent something that is not RESP or exceeds a limit.
    #[error("invalid data received")]
    Decode(#[from] DecodeError),
    /// A reply cannot be sent without breaking the stream.
    #[error("reply cannot be encoded")]
    Encode(#[from] EncodeError),
}

impl codec::Decoder for Codec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        let frame = self.decoder.decode(src)?;
        if frame.is_none() {
            src.reserve(self.decoder.bytes_needed());
        }
        Ok(frame)
    }
}

impl<A: AsRef<[u8]>> codec::Encoder<&[A]> for Codec {
    type Error = CodecError;

    fn encode(&mut self, command: &[A], dst: &mut BytesMut) -> Result<(), CodecError> {
        encode::command(dst, command);
        Ok(())
    }
}

impl codec::Encoder<&OwnedValue> for Codec {
    type Error = CodecError;

    fn encode(&mut self, reply: &OwnedValue, dst: &mut BytesMut) -> Result<(), CodecError> {
        Ok(encode::reply(dst, reply, self.decoder.protocol())?)
    }
}

impl codec::Encoder<OwnedValue> for Codec {
    type Error = CodecError;

    fn encode(&mut self, reply: OwnedValue, dst: &mut BytesMut) -> Result<(), CodecError> {
        codec::Encoder::<&OwnedValue>::encode(self, &reply, dst)
    }
}

impl codec::Encoder<Bytes> for Codec {
    type Error = CodecError;

    fn encode(&mut self, encoded: Bytes, dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.extend_from_slice(&encoded);
        Ok(())
    }
}
