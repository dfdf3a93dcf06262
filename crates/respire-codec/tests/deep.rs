//! Nothing recurses over what a peer sent: everything that can be done with a
//! frame is done at 200,000 levels on the stack of an ordinary thread.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use bytes::BytesMut;
use respire_codec::{
    Decoder, DecoderConfig, Frame, Kind, Limits, Protocol, ValueRef, Visit, Visitor, encode,
};

const DEPTH: usize = 200_000;

/// The stack of a worker thread of the usual runtimes: ten bytes a level.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().unwrap();
}

fn decode(wire: &str) -> Frame {
    let limits = Limits { depth: DEPTH + 1, ..Limits::default() };
    let mut decoder = Decoder::new(DecoderConfig { limits, ..DecoderConfig::default() });
    let mut src = BytesMut::from(wire);
    let frame = decoder.decode(&mut src).unwrap().unwrap();
    assert!(src.is_empty());
    frame
}

#[derive(Default)]
struct Depth {
    now: usize,
    most: usize,
}

impl Visitor<'_> for Depth {
    type Error = std::convert::Infallible;

    fn begin(&mut self, _: Kind, _: usize) -> Result<Visit, Self::Error> {
        self.now += 1;
        self.most = self.most.max(self.now);
        Ok(Visit::Enter)
    }

    fn end(&mut self, _: Kind) -> Result<(), Self::Error> {
        self.now -= 1;
        Ok(())
    }

    fn begin_attributes(&mut self) -> Result<Visit, Self::Error> {
        self.begin(Kind::Map, 0)
    }

    fn end_attributes(&mut self) -> Result<(), Self::Error> {
        self.end(Kind::Map)
    }
}

/// Everything there is to do with a frame.
fn handle(frame: Frame) {
    let mut depth = Depth::default();
    let Ok(()) = frame.value().visit(&mut depth);
    assert_eq!((depth.now, depth.most), (0, DEPTH));
    assert_eq!(frame.detach(), frame);
    assert_eq!(frame.clone(), frame);
    let printed = format!("{frame:?}");
    let owned = frame.to_value();
    assert_eq!(frame.value(), owned);
    let copy = owned.clone();
    assert_eq!(copy, owned);
    assert_eq!(format!("{copy:?}"), printed);
    let mut wire = BytesMut::new();
    encode::reply(&mut wire, &owned, Protocol::Resp3).unwrap();
    encode::reply(&mut wire, &owned, Protocol::Resp2).unwrap();
    drop(owned);
    drop(copy);
    assert!(frame.parse::<Vec<ValueRef<'_>>>().is_ok_and(|items| !items.is_empty()));
    drop(frame);
}

#[test]
fn arrays() {
    on_a_small_stack(|| handle(decode(&("*1\r\n".repeat(DEPTH) + ":1\r\n"))));
}

#[test]
fn streamed_arrays() {
    on_a_small_stack(|| handle(decode(&("*?\r\n".repeat(DEPTH) + &".\r\n".repeat(DEPTH)))));
}

#[test]
fn maps_by_their_keys_and_by_their_values() {
    on_a_small_stack(|| {
        handle(decode(&("%1\r\n".repeat(DEPTH) + "_\r\n" + &":1\r\n".repeat(DEPTH))));
        handle(decode(&("%1\r\n:1\r\n".repeat(DEPTH) + "_\r\n")));
    });
}

#[test]
fn attributes_of_attributes() {
    on_a_small_stack(|| {
        let levels = DEPTH;
        let wire = "|1\r\n".repeat(levels) + ":1\r\n:2\r\n" + &":3\r\n:4\r\n".repeat(levels - 1);
        handle(decode(&(wire + "*1\r\n_\r\n")));
    });
}

#[test]
fn half_a_frame_is_dropped() {
    on_a_small_stack(|| {
        let limits = Limits { depth: DEPTH, ..Limits::default() };
        let mut decoder = Decoder::new(DecoderConfig { limits, ..DecoderConfig::default() });
        let mut src = BytesMut::from("*2\r\n".repeat(DEPTH).as_str());
        assert!(decoder.decode(&mut src).unwrap().is_none());
    });
}

#[test]
fn pushes_inside_of_pushes() {
    on_a_small_stack(|| {
        let limits = Limits { depth: DEPTH, ..Limits::default() };
        let mut decoder = Decoder::new(DecoderConfig { limits, ..DecoderConfig::default() });
        let mut src = BytesMut::from((">1\r\n".repeat(1_000) + &":1\r\n".repeat(1_000)).as_str());
        let mut frames = 0;
        while let Some(frame) = decoder.decode(&mut src).unwrap() {
            assert_eq!(frame.parse::<Vec<u8>>(), Ok(vec![1]));
            frames += 1;
        }
        assert_eq!(frames, 1_000);
    });
}
