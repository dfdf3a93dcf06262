//! The adapter for framed transports.

#![cfg(feature = "tokio-util")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use bytes::{Bytes, BytesMut};
use respire_codec::{Codec, CodecError, DecoderConfig, EncodeError, OwnedValue, Protocol, Reason};
use tokio_util::codec::{Decoder, Encoder};

#[test]
fn frames_come_out_and_room_is_made_for_more() {
    let mut codec = Codec::default();
    let mut src = BytesMut::from("+OK\r\n$5000\r\nab");
    assert_eq!(codec.decode(&mut src).unwrap().unwrap().parse::<&str>(), Ok("OK"));
    assert!(codec.decode(&mut src).unwrap().is_none());
    assert!(src.capacity() - src.len() >= 5_000);
}

#[test]
fn the_end_inside_of_a_frame_is_an_error() {
    let mut codec = Codec::default();
    assert!(codec.decode_eof(&mut BytesMut::new()).unwrap().is_none());
    let error = codec.decode_eof(&mut BytesMut::from("$5\r\nab")).unwrap_err();
    assert!(matches!(error, CodecError::Io(_)));
}

#[test]
fn bad_input_is_a_decode_error() {
    let error = Codec::default().decode(&mut BytesMut::from("x")).unwrap_err();
    let CodecError::Decode(error) = error else { panic!("{error}") };
    assert_eq!(error.reason(), Reason::UnknownType);
}

#[test]
fn commands_replies_and_encoded_bytes_go_in() {
    let config = DecoderConfig { protocol: Protocol::Resp2, ..DecoderConfig::default() };
    let mut codec = Codec::new(config);
    let mut out = BytesMut::new();
    codec.encode(&[&b"GET"[..], b"k"][..], &mut out).unwrap();
    codec.encode(OwnedValue::Null, &mut out).unwrap();
    codec.decoder_mut().set_protocol(Protocol::Resp3);
    codec.encode(&OwnedValue::Null, &mut out).unwrap();
    codec.encode(Bytes::from_static(b":1\r\n"), &mut out).unwrap();
    assert_eq!(out, &b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n$-1\r\n_\r\n:1\r\n"[..]);
    let split = OwnedValue::SimpleString(Bytes::from_static(b"\n"));
    let error = codec.encode(split, &mut out).unwrap_err();
    assert!(matches!(error, CodecError::Encode(EncodeError::LineBreak)));
}
