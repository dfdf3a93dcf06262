//! What goes out: commands, replies, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use respire_codec::encode::{self, Prefix, Segments};
use respire_codec::{
    Attributed, BigNumber, Double, EncodeError, OwnedValue, Pairs, Protocol, Values, Verbatim,
};

fn encoded(value: &OwnedValue, protocol: Protocol) -> Result<String, EncodeError> {
    let mut out = BytesMut::from("before");
    let outcome = encode::reply(&mut out, value, protocol);
    let text = std::str::from_utf8(&out).unwrap().strip_prefix("before").unwrap();
    assert!(outcome.is_ok() || text.is_empty(), "nothing is left of what was refused");
    outcome.map(|()| text.to_string())
}

/// The value in RESP3 and in RESP2.
fn both(value: impl Into<OwnedValue>) -> (String, String) {
    let value = value.into();
    (encoded(&value, Protocol::Resp3).unwrap(), encoded(&value, Protocol::Resp2).unwrap())
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn pair(resp3: &str, resp2: &str) -> (String, String) {
    (resp3.to_string(), resp2.to_string())
}

#[test]
fn headers_have_no_padding() {
    for count in [0, 1, 9, 10, 99, 100, 12345, 4_294_967_296, usize::MAX] {
        let mut out = BytesMut::new();
        encode::array_header(&mut out, count);
        assert_eq!(out, format!("*{count}\r\n"));
    }
    for length in [0, 1, 9, 10, 99, 100, 999, 1_000, 100_000] {
        let mut out = BytesMut::new();
        let data = vec![b'x'; length];
        encode::bulk_string(&mut out, &data);
        let expected = [format!("${length}\r\n").as_bytes(), &data, b"\r\n"].concat();
        assert_eq!(out, expected);
        assert_eq!(encode::command_len(&[&data]), expected.len() + 4);
    }
}

#[test]
fn a_prefix_is_the_same_command() {
    for fixed in [&["GET"][..], &["HSET", "key", "field"], &[]] {
        for rest in [&["a"][..], &["", "xyz"], &[]] {
            let mut expected = BytesMut::new();
            encode::command(&mut expected, &[fixed, rest].concat());
            let mut out = BytesMut::new();
            Prefix::new(fixed).command(&mut out, rest);
            assert_eq!(out, expected);
        }
    }
}

#[test]
fn every_type_has_a_form_in_both_protocols() {
    assert_eq!(both(OwnedValue::SimpleString(text("OK"))), pair("+OK\r\n", "+OK\r\n"));
    assert_eq!(both(OwnedValue::SimpleError(text("ERR"))), pair("-ERR\r\n", "-ERR\r\n"));
    assert_eq!(both(-7), pair(":-7\r\n", ":-7\r\n"));
    assert_eq!(both("a\r\n"), pair("$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"));
    assert_eq!(both(OwnedValue::Null), pair("_\r\n", "$-1\r\n"));
    assert_eq!(both(true), pair("#t\r\n", ":1\r\n"));
    assert_eq!(both(false), pair("#f\r\n", ":0\r\n"));
    assert_eq!(both(1.5), pair(",1.5\r\n", "$3\r\n1.5\r\n"));
    let number = OwnedValue::BigNumber(BigNumber::new(text("12")));
    assert_eq!(both(number), pair("(12\r\n", "$2\r\n12\r\n"));
    assert_eq!(both(OwnedValue::BulkError(text("ERR"))), pair("!3\r\nERR\r\n", "-ERR\r\n"));
    let verbatim = Verbatim::new(text("txt:hi")).map(OwnedValue::VerbatimString).unwrap();
    assert_eq!(both(verbatim), pair("=6\r\ntxt:hi\r\n", "$2\r\nhi\r\n"));
    let values: Values = [1, 2].into_iter().collect();
    assert_eq!(
        both(OwnedValue::Array(values.clone())),
        pair("*2\r\n:1\r\n:2\r\n", "*2\r\n:1\r\n:2\r\n")
    );
    assert_eq!(
        both(OwnedValue::Set(values.clone())),
        pair("~2\r\n:1\r\n:2\r\n", "*2\r\n:1\r\n:2\r\n")
    );
    assert_eq!(both(OwnedValue::Push(values)), pair(">2\r\n:1\r\n:2\r\n", "*2\r\n:1\r\n:2\r\n"));
    let pairs: Pairs = [(1, true)].into_iter().collect();
    assert_eq!(
        both(OwnedValue::Map(pairs.clone())),
        pair("%1\r\n:1\r\n#t\r\n", "*2\r\n:1\r\n:1\r\n")
    );
    let attributed = OwnedValue::Attributed(Attributed::new(pairs, 5.into()));
    assert_eq!(both(attributed), pair("|1\r\n:1\r\n#t\r\n:5\r\n", ":5\r\n"));
}

#[test]
fn a_reply_that_would_split_is_refused() {
    for split in ["a\r\n+b", "a\nb", "a\rb", "\r\n", "\n"] {
        let lines = [
            OwnedValue::SimpleString(text(split)),
            OwnedValue::SimpleError(text(split)),
            OwnedValue::Double(Double::new(text(split))),
            OwnedValue::BigNumber(BigNumber::new(text(split))),
        ];
        for line in lines {
            assert_eq!(encoded(&line, Protocol::Resp3), Err(EncodeError::LineBreak));
            let inside = OwnedValue::from(vec![1.into(), line]);
            assert_eq!(encoded(&inside, Protocol::Resp3), Err(EncodeError::LineBreak));
        }
        let error = OwnedValue::BulkError(text(split));
        assert!(encoded(&error, Protocol::Resp3).is_ok());
        assert_eq!(encoded(&error, Protocol::Resp2), Err(EncodeError::LineBreak));
    }
}

#[test]
fn a_push_has_its_place() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let push = || OwnedValue::Push(Values::default());
        assert!(encoded(&push(), protocol).is_ok());
        let inside = OwnedValue::from(vec![push()]);
        assert_eq!(encoded(&inside, protocol), Err(EncodeError::NestedPush));
        let pairs = || [(1, 2)].into_iter().collect::<Pairs>();
        let described = OwnedValue::Attributed(Attributed::new(pairs(), push()));
        assert_eq!(encoded(&described, protocol), Err(EncodeError::AttributedPush));
        let key: Pairs = [(push(), OwnedValue::Null)].into_iter().collect();
        let describing = OwnedValue::Attributed(Attributed::new(key, 1.into()));
        assert_eq!(encoded(&describing, protocol), Err(EncodeError::NestedPush));
        let beside = OwnedValue::from(vec![OwnedValue::Array(Values::default()), push()]);
        assert_eq!(encoded(&beside, protocol), Err(EncodeError::NestedPush));
    }
}

#[test]
fn attributes_are_joined_and_never_nested() {
    let pairs = |key: &str| [(key, 1)].into_iter().collect::<Pairs>();
    let inner = OwnedValue::Attributed(Attributed::new(pairs("b"), 5.into()));
    let outer = Attributed::new(pairs("a"), inner);
    assert_eq!(outer.value(), &OwnedValue::Integer(5));
    assert_eq!(outer.attributes().len(), 2);
    let outer = OwnedValue::Attributed(outer);
    assert_eq!(outer.value(), &OwnedValue::Integer(5));
    assert_eq!(both(outer).0, "|2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:1\r\n:5\r\n");
}

#[test]
fn doubles_are_written_as_servers_write_them() {
    for (number, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (3.0, "3"),
        (0.1, "0.1"),
        (-1.5, "-1.5"),
        (1e300, "1e300"),
        (5e-324, "5e-324"),
        (1e16, "10000000000000000"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
    ] {
        assert_eq!(Double::from(number).as_bytes(), expected.as_bytes());
    }
}

/// All that is left in `segments`, taken `step` bytes at a time.
fn drain(mut segments: Segments, step: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while segments.has_remaining() {
        let chunk = segments.chunk();
        let taken = chunk.len().min(step);
        assert!(taken > 0, "a chunk is never empty while something remains");
        out.extend_from_slice(&chunk[..taken]);
        segments.advance(taken);
    }
    out
}

#[test]
fn segments_hold_the_same_bytes_as_a_buffer() {
    let large = Bytes::from(vec![b'x'; Segments::SHARE_BYTES_MIN]);
    let small = Bytes::from(vec![b'y'; Segments::SHARE_BYTES_MIN - 1]);
    let commands = [
        vec![text("PING")],
        vec![text("SET"), text("key"), large.clone()],
        vec![large.clone(), large.clone(), small.clone()],
        vec![text("GET"), text("key")],
    ];
    let mut expected = BytesMut::new();
    commands.iter().for_each(|command| encode::command(&mut expected, command));
    expected.extend_from_slice(b"*0\r\n");
    for step in [1, 7, 1_000, 100_000] {
        let mut segments = Segments::new();
        commands.iter().for_each(|command| segments.command(command));
        segments.encoded(b"*0\r\n");
        assert_eq!(segments.remaining(), expected.len());
        assert_eq!(drain(segments, step), expected);
    }
}

#[test]
fn segments_are_written_many_at_once() {
    let large = Bytes::from(vec![b'x'; Segments::SHARE_BYTES_MIN]);
    let mut segments = Segments::new();
    segments.command(&[text("SET"), large.clone(), large.clone()]);
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(segments.chunks_vectored(&mut slices), 5);
    assert_eq!(slices[1].as_ptr(), large.as_ptr());
    assert_eq!(&*slices[4], b"\r\n");
    assert_eq!(segments.chunks_vectored(&mut slices[..2]), 2);
    let written: usize = 5 + segments.remaining() - 7;
    segments.advance(written);
    assert_eq!(segments.chunk(), b"\r\n");
    segments.advance(2);
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!((segments.chunks_vectored(&mut slices), segments.remaining()), (0, 0));
    // And it can be used again.
    segments.command(&[text("PING")]);
    assert_eq!(segments.chunk(), b"*1\r\n$4\r\nPING\r\n");
}
