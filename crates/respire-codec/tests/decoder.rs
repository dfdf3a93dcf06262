//! What a decoder does besides reading one frame after the other.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::error::Error;

use bytes::BytesMut;
use respire_codec::{
    Batch, DecodeError, Decoder, DecoderConfig, Frame, FrameRef, Kind, Limits, Mode, NullForm,
    OwnedValue, Protocol, Reason, Value, ValueRef,
};

fn decode(wire: &str) -> Frame {
    Decoder::default().decode(&mut BytesMut::from(wire)).unwrap().unwrap()
}

#[test]
fn frames_can_be_sent_to_other_threads() {
    fn sendable<T: Send + Sync>() {}
    fn owned<T: 'static>() {}
    sendable::<(Frame, Batch, OwnedValue, DecodeError, Decoder)>();
    sendable::<(FrameRef<'_>, ValueRef<'_>, Value<'_>)>();
    owned::<(Frame, Batch, OwnedValue)>();
    assert!(size_of::<Frame>() <= 48 && size_of::<DecodeError>() <= 16);
}

#[test]
fn nulls_keep_the_form_they_had() {
    let form = |wire| decode(wire).value().null_form();
    assert_eq!(form("_\r\n"), Some(NullForm::Null));
    assert_eq!(form("$-1\r\n"), Some(NullForm::BulkString));
    assert_eq!(form("*-1\r\n"), Some(NullForm::Array));
    assert_eq!(form("$0\r\n\r\n"), None);
    assert_eq!(decode("_\r\n"), decode("*-1\r\n"));
}

#[test]
fn streamed_values_equal_the_ones_in_one_piece() {
    let pairs = [
        ("$?\r\n;1\r\na\r\n;2\r\nbc\r\n;0\r\n", "$3\r\nabc\r\n"),
        ("*?\r\n:1\r\n.\r\n", "*1\r\n:1\r\n"),
        ("%?\r\n:1\r\n:2\r\n.\r\n", "%1\r\n:1\r\n:2\r\n"),
        ("|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n_\r\n", "|2\r\n+a\r\n:1\r\n+b\r\n:2\r\n_\r\n"),
        (":+05\r\n", ":5\r\n"),
    ];
    for (streamed, whole) in pairs {
        assert_eq!(decode(streamed), decode(whole));
        assert_eq!(decode(streamed).value(), decode(whole).to_value());
    }
    assert!(decode("*?\r\n.\r\n").value().is_streamed());
    assert!(!decode("*0\r\n").value().is_streamed());
    assert_eq!(decode("$?\r\n;0\r\n").value().kind(), Kind::BulkString);
}

#[test]
fn unlike_values_are_unequal() {
    let values = [
        "+a\r\n",
        "-a\r\n",
        "$1\r\na\r\n",
        "!1\r\na\r\n",
        "=5\r\ntxt:a\r\n",
        "=5\r\nmkd:a\r\n",
        ":1\r\n",
        ",1\r\n",
        "(1\r\n",
        ",1.0\r\n",
        "#t\r\n",
        "#f\r\n",
        "_\r\n",
        "*0\r\n",
        "~0\r\n",
        "%0\r\n",
        ">0\r\n",
        "*1\r\n*0\r\n",
        "*1\r\n:1\r\n",
        "*2\r\n:1\r\n:1\r\n",
        "%1\r\n:1\r\n:1\r\n",
        "|1\r\n+a\r\n:1\r\n:1\r\n",
        "|1\r\n+a\r\n:2\r\n:1\r\n",
        "*1\r\n|1\r\n+a\r\n:1\r\n:1\r\n",
    ];
    for (i, left) in values.iter().enumerate() {
        for (j, right) in values.iter().enumerate() {
            assert_eq!(decode(left) == decode(right), i == j, "{left:?} {right:?}");
            let owned = decode(right).to_value();
            assert_eq!(decode(left).to_value() == owned, i == j, "{left:?} {right:?}");
        }
    }
}

#[test]
fn a_batch_may_follow_single_frames_and_the_other_way_round() {
    let wire = "*1\r\n:1\r\n*2\r\n+a\r\n>1\r\n+p\r\n:2\r\n+OK\r\n*1\r\n:3\r\n*2\r\n:4\r\n";
    let expected =
        ["[1]", r#">[+"p"]"#, r#"[+"a", 2]"#, r#"+"OK""#, "[3]", "[4, 5]"].map(String::from);
    for pattern in 0..64u32 {
        let mut decoder = Decoder::default();
        let mut src = BytesMut::from(wire);
        let mut seen: Vec<String> = Vec::new();
        for turn in 0..12 {
            if turn == 6 {
                src.extend_from_slice(b":5\r\n");
            }
            if pattern >> (turn % 6) & 1 == 0 {
                let frame = decoder.decode(&mut src).unwrap();
                seen.extend(frame.map(|frame| format!("{frame:?}")));
            } else {
                let batch = decoder.decode_batch(&mut src).unwrap();
                assert_eq!(batch.iter().len(), batch.len());
                seen.extend(batch.map(|frame| format!("{frame:?}")));
            }
        }
        assert_eq!(seen, expected, "pattern {pattern:06b}");
        assert!(src.is_empty());
    }
}

#[test]
fn the_frames_of_a_batch_outlive_it() {
    let mut src = BytesMut::from("*1\r\n:1\r\n+OK\r\n>1\r\n:2\r\n");
    let batch = Decoder::default().decode_batch(&mut src).unwrap();
    let copy = batch.clone();
    let frames: Vec<Frame> = batch.collect();
    assert_eq!(format!("{copy:?}"), r#"[[1], +"OK", >[2]]"#);
    let pushes: Vec<bool> = copy.iter().map(FrameRef::is_push).collect();
    drop(copy);
    assert_eq!(pushes, [false, false, true]);
    assert_eq!(frames[2].bytes(), &b">1\r\n:2\r\n"[..]);
    assert_eq!(frames[0].detach(), frames[0]);
}

#[test]
fn a_batch_ends_before_an_error() {
    let mut decoder = Decoder::default();
    let mut src = BytesMut::from(":1\r\n:2\r\n:x\r\n:3\r\n");
    assert_eq!(decoder.decode_batch(&mut src).unwrap().len(), 2);
    let error = decoder.decode_batch(&mut src).unwrap_err();
    assert_eq!((error.offset(), error.reason()), (9, Reason::MalformedInteger));
    assert_eq!(decoder.decode(&mut src), Err(error));
}

#[test]
fn an_error_is_for_ever_and_says_where_and_what() {
    let mut decoder = Decoder::default();
    let mut src = BytesMut::from("+OK\r\n*2\r\n:1\r\n$3\r\nabcdef");
    assert!(decoder.decode(&mut src).unwrap().is_some());
    let error = decoder.decode(&mut src).unwrap_err();
    assert_eq!(
        (error.offset(), error.type_byte(), error.reason()),
        (20, b'$', Reason::MissingCrlf)
    );
    assert_eq!(
        error.to_string(),
        "invalid RESP at byte 20, in a value that starts with '$': CRLF expected"
    );
    assert!(error.source().is_none());
    for input in ["", "+OK\r\n", ":1\r\n"] {
        assert_eq!(decoder.decode(&mut BytesMut::from(input)), Err(error));
        assert_eq!(decoder.decode_batch(&mut BytesMut::from(input)).unwrap_err(), error);
    }
}

#[test]
fn an_unprintable_type_byte_is_shown_in_hexadecimal() {
    let error = Decoder::default().decode(&mut BytesMut::from("\0")).unwrap_err();
    assert!(error.to_string().contains("starts with 0x00: unknown type byte"), "{error}");
}

#[test]
fn the_protocol_can_change_between_frames() {
    let config = DecoderConfig { protocol: Protocol::Resp2, ..DecoderConfig::default() };
    let mut decoder = Decoder::new(config);
    let mut src = BytesMut::from("+OK\r\n%0\r\n");
    assert!(decoder.decode(&mut src).unwrap().is_some());
    decoder.set_protocol(Protocol::Resp3);
    assert_eq!(decoder.protocol(), Protocol::Resp3);
    assert_eq!(decoder.decode(&mut src).unwrap().unwrap().value().kind(), Kind::Map);
}

#[test]
fn the_hint_is_exact_for_a_string_and_bounded_for_a_large_one() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.bytes_needed(), 1);
    let mut src = BytesMut::from("$1000\r\nabc");
    assert!(decoder.decode(&mut src).unwrap().is_none());
    assert_eq!(decoder.bytes_needed(), 999);
    let mut src = BytesMut::from("$500000000\r\n");
    let mut decoder = Decoder::default();
    assert!(decoder.decode(&mut src).unwrap().is_none());
    assert_eq!(decoder.bytes_needed(), 64 * 1024);
    src.extend_from_slice(&[0; 100_000]);
    assert!(decoder.decode(&mut src).unwrap().is_none());
    assert_eq!(decoder.bytes_needed(), src.len());
}

#[test]
fn a_buffer_that_was_exchanged_does_no_harm() {
    // The contract was broken: what comes out is undefined, but it is something.
    for other in ["", "*", "+OK\r\n+OK\r\n+OK\r\n", "$100\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"] {
        for wire in
            ["*2\r\n:1\r\n$5\r\nhe", "+hello wor", "|1\r\n+a\r\n:1\r\n", "$?\r\n;2\r\nab\r\n"]
        {
            let mut decoder = Decoder::default();
            assert!(decoder.decode(&mut BytesMut::from(wire)).unwrap().is_none());
            let mut src = BytesMut::from(other);
            src.extend_from_slice(b"llo\r\n:1\r\n;0\r\nld\r\n");
            while let Ok(Some(frame)) = decoder.decode(&mut src) {
                let _ = (format!("{frame:?}"), frame.to_value(), frame.detach());
            }
        }
    }
}

#[test]
fn strict_mode_still_takes_pushes_between_replies() {
    let config = DecoderConfig { mode: Mode::Strict, ..DecoderConfig::default() };
    let mut src = BytesMut::from(">1\r\n+p\r\n*1\r\n>0\r\n");
    let mut decoder = Decoder::new(config);
    assert!(decoder.decode(&mut src).unwrap().unwrap().is_push());
    assert_eq!(decoder.decode(&mut src).unwrap_err().reason(), Reason::NestedPush);
}

#[test]
fn limits_out_of_range_are_brought_into_it() {
    let limits = Limits {
        elements: u32::MAX,
        frame_bytes: usize::MAX,
        tape_nodes: usize::MAX,
        bulk_bytes: usize::MAX,
        line_bytes: usize::MAX,
        depth: usize::MAX,
        header_digits: 0,
    };
    let mut decoder = Decoder::new(DecoderConfig { limits, ..DecoderConfig::default() });
    let mut src = BytesMut::from("*?\r\n$4294967000\r\n");
    assert!(decoder.decode(&mut src).unwrap().is_none());
    let mut decoder = Decoder::new(DecoderConfig { limits, ..DecoderConfig::default() });
    let mut src = BytesMut::from("$4294967296\r\n");
    assert_eq!(decoder.decode(&mut src).unwrap_err().reason(), Reason::FrameTooLong);
}

#[test]
fn values_know_where_they_are() {
    let frame = decode("|1\r\n+a\r\n:1\r\n*2\r\n:1\r\n|1\r\n+b\r\n_\r\n$1\r\nx\r\n");
    assert_eq!(frame.value().offset(), 12);
    let Value::Array(items) = frame.value().get() else { panic!("no array") };
    let offsets: Vec<usize> = items.map(ValueRef::offset).collect();
    assert_eq!(offsets, [16, 31]);
}

#[test]
fn constant_replies_hold_on_to_nothing() {
    for wire in ["+OK\r\n", "+QUEUED\r\n", ":0\r\n", ":1\r\n", "_\r\n", "$-1\r\n"] {
        let mut src = BytesMut::from(wire.repeat(3).as_str());
        let block = src.as_ptr_range();
        let mut decoder = Decoder::default();
        let single = decoder.decode(&mut src).unwrap().unwrap();
        assert!(!block.contains(&single.bytes().as_ptr()));
        assert_eq!(single.bytes(), wire);
        let batch: Vec<Frame> = decoder.decode_batch(&mut src).unwrap().collect();
        assert_eq!(batch, [single.clone(), single.clone()]);
        assert!(batch.iter().all(|frame| !block.contains(&frame.bytes().as_ptr())));
        let error = decoder.decode(&mut BytesMut::from("x")).unwrap_err();
        assert_eq!(error.offset(), 3 * wire.len() as u64, "what was taken is counted");
    }
}
