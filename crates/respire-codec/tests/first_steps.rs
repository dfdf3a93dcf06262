//! The smallest complete uses of the crate.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::collections::HashMap;

use bytes::BytesMut;
use respire_codec::{Decoder, Frame, Value, encode};

fn decode(wire: &[u8]) -> Frame {
    let mut src = BytesMut::from(wire);
    let frame = Decoder::default().decode(&mut src).unwrap().unwrap();
    assert!(src.is_empty());
    frame
}

#[test]
fn scalars_are_read_as_rust_types() {
    assert_eq!(decode(b":-42\r\n").parse::<i8>(), Ok(-42));
    assert_eq!(decode(b"$5\r\nhello\r\n").parse::<&str>(), Ok("hello"));
    assert_eq!(decode(b",1.5\r\n").parse::<f64>(), Ok(1.5));
    assert_eq!(decode(b"#t\r\n").parse::<bool>(), Ok(true));
    assert_eq!(decode(b"_\r\n").parse::<Option<String>>(), Ok(None));
    assert_eq!(decode(b"-ERR no\r\n").value().error(), Some(&b"ERR no"[..]));
}

#[test]
fn aggregates_are_read_as_collections() {
    let frame = decode(b"*2\r\n%1\r\n+a\r\n:1\r\n*2\r\n$1\r\nx\r\n_\r\n");
    let (map, list): (HashMap<&str, u8>, Vec<Option<&str>>) = frame.parse().unwrap();
    assert_eq!(map, HashMap::from([("a", 1)]));
    assert_eq!(list, [Some("x"), None]);
    assert_eq!(format!("{frame:?}"), r#"[{+"a": 1}, ["x", null]]"#);
    assert_eq!(frame.to_value().clone(), frame.to_value());
}

#[test]
fn attributes_stay_with_their_value_and_take_no_place() {
    let frame = decode(b"*2\r\n:1\r\n|1\r\n+ttl\r\n:3600\r\n:2\r\n");
    assert_eq!(frame.parse::<Vec<u8>>(), Ok(vec![1, 2]));
    let Value::Array(mut items) = frame.value().get() else { panic!("no array") };
    let (key, value) = items.nth(1).unwrap().attributes().next().unwrap();
    assert_eq!((key.parse(), value.parse()), (Ok("ttl"), Ok(3600)));
    assert_eq!(format!("{frame:?}"), r#"[1, |{+"ttl": 3600} 2]"#);
}

#[test]
fn a_push_inside_of_a_reply_comes_first_and_leaves_no_gap() {
    let wire = b"*2\r\n+PONG\r\n>2\r\n+invalidate\r\n_\r\n:2\r\n+OK\r\n";
    let mut decoder = Decoder::default();
    let mut src = BytesMut::from(&wire[..]);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut src).unwrap() {
        frames.push(format!("{frame:?}"));
    }
    assert_eq!(frames, [r#">[+"invalidate", null]"#, r#"[+"PONG", 2]"#, r#"+"OK""#]);
    let mut src = BytesMut::from(&wire[..]);
    let batch = Decoder::default().decode_batch(&mut src).unwrap();
    assert_eq!(batch.map(|frame| format!("{frame:?}")).collect::<Vec<_>>(), frames);
}

#[test]
fn a_frame_may_arrive_byte_by_byte() {
    let wire = b"%1\r\n$3\r\nkey\r\n*?\r\n:1\r\n$?\r\n;2\r\nab\r\n;1\r\nc\r\n;0\r\n.\r\n";
    let mut decoder = Decoder::default();
    let mut src = BytesMut::new();
    for byte in wire {
        assert!(decoder.decode(&mut src).unwrap().is_none());
        src.extend_from_slice(&[*byte]);
    }
    let frame = decoder.decode(&mut src).unwrap().unwrap();
    assert_eq!(format!("{frame:?}"), r#"{"key": [1, "abc"]}"#);
}

#[test]
fn a_command_is_an_array_of_bulk_strings() {
    let mut out = BytesMut::new();
    encode::command(&mut out, &[&b"SET"[..], b"key", b""]);
    assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n");
    assert_eq!(out.len(), encode::command_len(&[&b"SET"[..], b"key", b""]));
}
