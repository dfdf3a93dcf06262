//! Random input: the properties that the fuzz targets assert, for as long as a
//! test run may take.

mod properties;

use bytes::{Bytes, BytesMut};
use properties::generate::{broken_stream, stream};
use properties::{End, whole};
use proptest::prelude::*;
use respire_codec::{
    Attributed, BigNumber, Decoder, Double, OwnedValue, Pairs, Protocol, Verbatim, encode,
};

fn entropy() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..500)
}

/// Bytes without a line break.
fn line() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>().prop_filter("line break", |b| !b"\r\n".contains(b)), 0..30)
        .prop_map(Bytes::from)
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from)
}

fn scalar() -> impl Strategy<Value = OwnedValue> {
    prop_oneof![
        line().prop_map(OwnedValue::SimpleString),
        line().prop_map(OwnedValue::SimpleError),
        any::<i64>().prop_map(OwnedValue::Integer),
        blob().prop_map(OwnedValue::BulkString),
        Just(OwnedValue::Null),
        any::<bool>().prop_map(OwnedValue::Boolean),
        any::<f64>().prop_map(OwnedValue::from),
        line().prop_map(|text| OwnedValue::Double(Double::new(text))),
        line().prop_map(|text| OwnedValue::BigNumber(BigNumber::new(text))),
        blob().prop_map(OwnedValue::BulkError),
        (any::<[u8; 3]>(), blob()).prop_filter_map("verbatim", |(format, text)| {
            let payload = [&format[..], b":", &text].concat();
            Verbatim::new(Bytes::from(payload)).map(OwnedValue::VerbatimString)
        }),
    ]
}

/// Any value that may stand inside of another one.
fn value() -> impl Strategy<Value = OwnedValue> {
    scalar().prop_recursive(5, 60, 6, |inner| {
        let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|values| OwnedValue::Array(values.into())),
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|values| OwnedValue::Set(values.into())),
            pairs.clone().prop_map(|pairs| OwnedValue::Map(pairs.into_iter().collect())),
            (pairs, inner).prop_map(|(pairs, value)| {
                OwnedValue::Attributed(Attributed::new(pairs.into_iter().collect(), value))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_was_encoded_is_decoded_again(values in prop::collection::vec(value(), 1..5)) {
        let mut wire = BytesMut::new();
        for value in &values {
            encode::reply(&mut wire, value, Protocol::Resp3).unwrap();
        }
        let mut decoder = Decoder::default();
        for value in &values {
            let frame = decoder.decode(&mut wire).unwrap().unwrap();
            prop_assert_eq!(&frame.to_value(), value);
            prop_assert_eq!(frame.value(), value.clone());
            prop_assert_eq!(format!("{frame:?}"), format!("{value:?}"));
        }
        prop_assert!(wire.is_empty());
    }

    #[test]
    fn a_push_is_decoded_again(values in prop::collection::vec(value(), 0..5)) {
        let push = OwnedValue::Push(values.into());
        let mut wire = BytesMut::new();
        encode::reply(&mut wire, &push, Protocol::Resp3).unwrap();
        let frame = Decoder::default().decode(&mut wire).unwrap().unwrap();
        prop_assert!(frame.is_push());
        prop_assert_eq!(frame.to_value(), push);
    }

    #[test]
    fn equality_sees_every_difference(left in value(), right in value()) {
        // Two values print alike only if they are equal.
        prop_assert_eq!(left == right, format!("{left:?}") == format!("{right:?}"));
    }

    #[test]
    fn doubles_survive_their_text(number in any::<f64>()) {
        let text = Double::from(number);
        let back = text.to_f64().unwrap();
        prop_assert!(back == number || (back.is_nan() && number.is_nan()));
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings(args in prop::collection::vec(blob(), 0..8)) {
        let mut wire = BytesMut::new();
        encode::command(&mut wire, &args);
        prop_assert_eq!(wire.len(), encode::command_len(&args));
        let frame = Decoder::default().decode(&mut wire).unwrap().unwrap();
        prop_assert_eq!(frame.parse::<Vec<Bytes>>().unwrap(), args);
    }

    #[test]
    fn random_bytes_hold_every_property(data in entropy()) {
        properties::decodes_whole(&data);
        properties::splits_do_not_matter(&data);
        properties::agrees_with_the_oracle(&data);
    }

    #[test]
    fn random_streams_hold_every_property(data in entropy(), selector in 0u8..8, seed: u8) {
        let wire = stream(&data);
        properties::decodes_whole(&wire);
        properties::round_trips(&wire);
        properties::extracts(&wire);
        properties::splits_do_not_matter(&[&[selector, seed], &wire[..]].concat());
        properties::agrees_with_the_oracle(&[&[selector, 0], &wire[..]].concat());
    }

    #[test]
    fn broken_streams_hold_every_property(data in entropy(), selector in 0u8..8, seed: u8) {
        let wire = broken_stream(&data);
        properties::decodes_whole(&wire);
        properties::splits_do_not_matter(&[&[selector, seed], &wire[..]].concat());
        properties::agrees_with_the_oracle(&[&[selector, 0], &wire[..]].concat());
    }
}

#[test]
fn generated_streams_are_mostly_valid() {
    let mut clean = 0;
    for seed in 0..200u32 {
        let data: Vec<u8> = (0..300)
            .map(|i| (seed.wrapping_mul(2_654_435_761) >> (i % 24)) as u8 ^ i as u8)
            .collect();
        clean += usize::from(whole(Default::default(), &stream(&data)).end == End::Clean);
    }
    assert!(clean > 50, "only {clean} of 200");
}

#[test]
fn pairs_keep_order_and_duplicates() {
    let pairs: Pairs = [("b", 1), ("a", 2), ("b", 3)].into_iter().collect();
    assert_eq!(format!("{pairs:?}"), r#"{"b": 1, "a": 2, "b": 3}"#);
    assert_eq!(pairs.len(), 3);
}
