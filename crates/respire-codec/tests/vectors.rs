//! The table of vectors, fed whole, byte by byte, and cut at every place.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod properties;

use std::collections::HashSet;

use bytes::BytesMut;
use properties::vectors::{self, Vector};
use properties::{oracle, outcome, take_batches, take_each, whole};
use respire_codec::{Decoder, Value, ValueRef, Visit, Visitor};

fn each(check: impl Fn(&Vector)) {
    vectors::all().iter().for_each(check);
}

/// Every place of a vector; of a long one, which repeats itself, some.
fn places(vector: &Vector) -> impl Iterator<Item = usize> {
    let step = match vector.wire.len() {
        0..1_000 => 1,
        length @ 1_000..50_000 => length / 61,
        length => length / 5,
    };
    (0..vector.wire.len()).step_by(step)
}

#[test]
fn every_vector_has_a_name_of_its_own() {
    let names: HashSet<&str> = vectors::all().iter().map(|vector| vector.name).collect();
    assert_eq!(names.len(), vectors::all().len());
    assert!(names.len() > 200);
}

#[test]
fn vectors_fed_whole() {
    each(|vector| {
        assert_eq!(whole(vector.config, &vector.wire), vector.outcome(), "{}", vector.name);
        let batches = outcome(vector.config, [&vector.wire[..]], take_batches);
        assert_eq!(batches, vector.outcome(), "{}", vector.name);
    });
}

#[test]
fn vectors_fed_byte_by_byte() {
    each(|vector| {
        let single = outcome(vector.config, vector.wire.chunks(1), take_each);
        assert_eq!(single, vector.outcome(), "{}", vector.name);
        let batches = outcome(vector.config, vector.wire.chunks(1), take_batches);
        assert_eq!(batches, vector.outcome(), "{}", vector.name);
    });
}

#[test]
fn vectors_cut_at_every_place() {
    each(|vector| {
        for cut in places(vector) {
            let (left, right) = vector.wire.split_at(cut);
            let single = outcome(vector.config, [left, right], take_each);
            assert_eq!(single, vector.outcome(), "{}, cut at {cut}", vector.name);
            let batches = outcome(vector.config, [left, right], take_batches);
            assert_eq!(batches, vector.outcome(), "{}, cut at {cut}", vector.name);
        }
    });
}

#[test]
fn vectors_as_the_oracle_sees_them() {
    std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(|| {
            each(|vector| {
                let seen = oracle::outcome(vector.config, &vector.wire);
                assert_eq!(seen, vector.outcome(), "{}", vector.name);
            });
            for (name, wire) in vectors::truncated() {
                let config = Default::default();
                assert_eq!(whole(config, &wire), oracle::outcome(config, &wire), "{name}");
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

/// Counts the numbers whose text has no value.
#[derive(Default)]
struct Unreadable(usize);

impl Visitor<'_> for Unreadable {
    type Error = std::convert::Infallible;

    fn scalar(&mut self, value: ValueRef<'_>) -> Result<(), Self::Error> {
        let readable = match value.get() {
            Value::Double(number) => number.to_f64().is_ok(),
            Value::BigNumber(number) => number.is_valid(),
            _ => true,
        };
        self.0 += usize::from(!readable);
        Ok(())
    }

    fn begin_attributes(&mut self) -> Result<Visit, Self::Error> {
        Ok(Visit::Enter)
    }
}

#[test]
fn doubles_and_big_numbers_are_checked_when_they_are_read() {
    each(|vector| {
        let mut frames = Vec::new();
        let mut src = BytesMut::from(&vector.wire[..]);
        let _ = take_each(&mut Decoder::new(vector.config), &mut src, &mut frames);
        let mut unreadable = Unreadable::default();
        for frame in &frames {
            let Ok(()) = frame.value().visit(&mut unreadable);
        }
        assert_eq!(unreadable.0, vector.unreadable, "{}", vector.name);
    });
}

#[test]
fn a_beginning_of_a_frame_is_not_an_error() {
    each(|vector| {
        if !matches!(vector.end, properties::End::Clean) {
            return;
        }
        for length in places(vector) {
            let prefix = whole(vector.config, &vector.wire[..length]);
            assert!(!matches!(prefix.end, properties::End::Error(..)), "{}", vector.name);
            assert!(vector.frames.starts_with(&prefix.frames), "{}", vector.name);
        }
    });
}

#[test]
fn vectors_hold_every_property() {
    each(|vector| {
        properties::decodes_whole(&vector.wire);
        properties::round_trips(&vector.wire);
        properties::extracts(&vector.wire);
        let seeds = if vector.wire.len() < 1_000 { 4 } else { 1 };
        for selector in 0..8 {
            for seed in 0..seeds {
                let data = [&[selector, seed], &vector.wire[..]].concat();
                properties::splits_do_not_matter(&data);
            }
            let data = [&[selector, 0], &vector.wire[..]].concat();
            properties::agrees_with_the_oracle(&data);
        }
    });
}
