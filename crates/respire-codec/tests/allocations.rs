//! What is allocated, and above all what is not. Every claim of the
//! documentation about memory is counted here.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use allocation_counter::{AllocationInfo, measure};
use bytes::{Bytes, BytesMut};
use respire_codec::encode::{self, Prefix};
use respire_codec::{Decoder, DecoderConfig, Frame, Limits};

/// One of everything that servers send.
const REPLIES: [&str; 8] = [
    "+OK\r\n",
    ":1000\r\n",
    "$32\r\n01234567890123456789012345678901\r\n",
    "_\r\n",
    "*5\r\n$3\r\nabc\r\n$3\r\nabc\r\n$3\r\nabc\r\n$3\r\nabc\r\n$3\r\nabc\r\n",
    "%2\r\n+a\r\n*2\r\n:1\r\n:2\r\n+b\r\n~1\r\n#t\r\n",
    "|1\r\n+ttl\r\n:3600\r\n$1\r\nx\r\n",
    ">3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$2\r\nhi\r\n",
];

fn allocations(work: impl FnOnce()) -> AllocationInfo {
    measure(work)
}

fn replies(rounds: usize) -> BytesMut {
    BytesMut::from(REPLIES.concat().repeat(rounds).as_str())
}

/// Decodes `count` frames of `src`, keeping the last ones alive.
fn decode(decoder: &mut Decoder, src: &mut BytesMut, window: &mut [Option<Frame>], count: usize) {
    for number in 0..count {
        window[number % window.len()] = decoder.decode(src).unwrap();
    }
    assert!(window.iter().all(Option::is_some));
}

#[test]
fn a_frame_costs_no_allocation_in_steady_state() {
    for window in [1, 2, 40] {
        let mut window = vec![None; window];
        let mut decoder = Decoder::default();
        let mut src = replies(1_100);
        decode(&mut decoder, &mut src, &mut window, 100 * REPLIES.len());
        let rest = 1_000 * REPLIES.len();
        let info = allocations(|| decode(&mut decoder, &mut src, &mut window, rest));
        assert!(src.is_empty());
        assert_eq!(info.count_total, 0, "{} frames kept", window.len());
    }
}

#[test]
fn a_batch_costs_no_allocation_in_steady_state() {
    let wire = REPLIES.concat().repeat(30);
    let mut decoder = Decoder::default();
    let mut src = BytesMut::with_capacity(4 * wire.len());
    let mut round = |decoder: &mut Decoder, cut: usize| {
        src.extend_from_slice(&wire.as_bytes()[..cut]);
        let mut sum = 0;
        for frame in decoder.decode_batch(&mut src).unwrap().iter() {
            sum += frame.bytes().len();
        }
        src.extend_from_slice(&wire.as_bytes()[cut..]);
        for frame in decoder.decode_batch(&mut src).unwrap() {
            sum += frame.bytes().len();
        }
        assert_eq!(sum, wire.len());
    };
    for cut in 0..wire.len() {
        round(&mut decoder, cut);
    }
    let info = allocations(|| (0..wire.len()).step_by(7).for_each(|cut| round(&mut decoder, cut)));
    assert_eq!(info.count_total, 0);
}

#[test]
fn reading_scalars_and_borrowing_cost_no_allocation() {
    let mut decoder = Decoder::default();
    let mut src = BytesMut::from("*4\r\n:1\r\n$2\r\nab\r\n,1.5\r\n*2\r\n+x\r\n_\r\n");
    let frame = decoder.decode(&mut src).unwrap().unwrap();
    let info = allocations(|| {
        type Nested<'a> = (&'a [u8], Option<i64>);
        let (number, text, double, nested): (u64, &str, f64, Nested<'_>) = frame.parse().unwrap();
        assert_eq!((number, text, double, nested), (1, "ab", 1.5, (&b"x"[..], None)));
        assert_eq!(frame.value().parse::<Option<()>>(), Ok(Some(())));
        drop(frame.clone());
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_header_reserves_next_to_nothing() {
    let headers = [
        "*2147483647\r\n",
        "%1073741823\r\n",
        "~2147483647\r\n",
        ">2147483647\r\n",
        "|1073741823\r\n",
        "$536870912\r\n",
        "!536870912\r\n",
        "=536870912\r\n",
        "*?\r\n",
        "$?\r\n;536870912\r\n",
        "*4294967296\r\n",
        "$4294967296\r\n",
        "*100000000\r\n*100000000\r\n*100000000\r\n*100000000\r\n",
    ];
    for header in headers {
        let mut decoder = Decoder::default();
        let mut src = BytesMut::from(header);
        let info = allocations(|| {
            let _ = decoder.decode(&mut src);
            let _ = decoder.decode_batch(&mut src);
        });
        assert!(info.bytes_max < 1_024, "{header:?}: {} bytes", info.bytes_max);
        assert!(decoder.bytes_needed() <= 64 * 1024);
    }
}

#[test]
fn memory_follows_what_has_arrived() {
    // The densest frames there are.
    for (head, part) in [
        ("*2000000000\r\n", "_\r\n"),
        ("*?\r\n", "*0\r\n"),
        ("*?\r\n", "|0\r\n"),
        ("*?\r\n", ">0\r\n"),
    ] {
        let mut decoder = Decoder::default();
        let mut src = BytesMut::from(head);
        for doubling in 0..10 {
            src.extend_from_slice(part.repeat(1_000 << doubling).as_bytes());
            let arrived = src.len() as u64;
            let info = allocations(|| assert!(decoder.decode(&mut src).unwrap().is_none()));
            // Growing the index by doubling holds the old half for a moment.
            assert!(info.bytes_max <= 16 * arrived, "{} of {arrived}", info.bytes_max);
        }
    }
}

#[test]
fn a_spike_does_not_stay() {
    let large = format!("*100000\r\n{}", ":1\r\n".repeat(100_000));
    let mut decoder = Decoder::default();
    let info = allocations(|| {
        let mut frames = Vec::new();
        for _ in 0..10 {
            let mut src = BytesMut::from(large.as_str());
            frames.push(decoder.decode(&mut src).unwrap().unwrap());
        }
        drop(frames);
        let mut src = replies(1_000);
        decode(&mut decoder, &mut src, &mut [None], 1_000 * REPLIES.len());
    });
    assert!(info.bytes_current < 128 * 1024, "{} bytes are kept", info.bytes_current);
}

#[test]
fn a_single_spike_does_not_stay_either() {
    let large = format!("*100000\r\n{}", ":1\r\n".repeat(100_000));
    let mut decoder = Decoder::default();
    let info = allocations(|| {
        let mut src = BytesMut::from(large.as_str());
        drop(decoder.decode(&mut src).unwrap());
        let mut src = replies(100);
        decode(&mut decoder, &mut src, &mut [None], 100 * REPLIES.len());
    });
    assert!(info.bytes_current < 32 * 1024, "{} bytes are kept", info.bytes_current);
}

#[test]
fn tapes_that_are_remembered_are_bounded() {
    let mut decoder = Decoder::default();
    let mut src = replies(1_000);
    let frames: Vec<Frame> = std::iter::from_fn(|| decoder.decode(&mut src).unwrap()).collect();
    let kept = allocations(|| drop(frames));
    assert!(kept.bytes_current < 0, "the frames' own tapes are released");
    drop(src);
    let info = allocations(|| drop(decoder));
    assert!(info.bytes_current > -64 * 1024, "{} bytes were remembered", -info.bytes_current);
}

#[test]
fn a_command_costs_one_reservation() {
    let args = [&b"SET"[..], b"key", &[b'x'; 5_000]];
    let info = allocations(|| {
        let mut out = BytesMut::new();
        encode::command(&mut out, &args);
    });
    assert_eq!(info.count_total, 1);
    let prefix = Prefix::new(&["SET", "key"]);
    let mut out = BytesMut::with_capacity(20_000);
    let info = allocations(|| {
        encode::command(&mut out, &args);
        prefix.command(&mut out, &[&args[2]]);
        encode::array_header(&mut out, 1);
        encode::bulk_string(&mut out, b"PING");
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_detached_frame_lets_go_of_its_block() {
    let mut decoder = Decoder::default();
    let mut src = BytesMut::with_capacity(1 << 20);
    src.extend_from_slice(b"*1\r\n$2\r\nab\r\n");
    let frame = decoder.decode(&mut src).unwrap().unwrap();
    let copy = frame.detach();
    drop(src);
    let info = allocations(|| drop(frame));
    assert!(info.bytes_current <= -(1 << 20), "the block was held by the frame alone");
    assert_eq!(copy.parse::<Vec<Bytes>>().unwrap(), ["ab"]);
}

#[test]
fn a_tight_decoder_is_small() {
    let limits = Limits { depth: 4, ..Limits::default() };
    let config = DecoderConfig { limits, ..DecoderConfig::default() };
    let info = allocations(|| drop(Decoder::new(config)));
    assert_eq!(info.count_total, 0, "nothing is reserved before anything arrives");
}
