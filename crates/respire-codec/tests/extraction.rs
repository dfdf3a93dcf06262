//! Reading values as Rust types: which forms each type takes, and what is said
//! about the others.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::{Bytes, BytesMut};
use respire_codec::{Decoder, Frame, FromValue, OwnedValue, ValueError, ValueRef};

fn frame(wire: &str) -> Frame {
    let mut src = BytesMut::from(wire);
    let frame = Decoder::default().decode(&mut src).unwrap().unwrap();
    assert!(src.is_empty());
    frame
}

/// The value of `wire` as a `T`, or the message of the error.
fn read<T: for<'a> FromValue<'a>>(wire: &str) -> Result<T, String> {
    frame(wire).parse::<T>().map_err(|error| error.to_string())
}

fn says<T>(message: &str) -> Result<T, String> {
    Err(message.to_string())
}

#[test]
fn integers_come_as_integers_or_as_decimal_text() {
    assert_eq!(read::<i64>(":-42\r\n"), Ok(-42));
    assert_eq!(read::<i64>("$3\r\n-42\r\n"), Ok(-42));
    assert_eq!(read::<i64>("+7\r\n"), Ok(7));
    assert_eq!(read::<i64>("=6\r\ntxt:42\r\n"), Ok(42));
    assert_eq!(read::<u8>(":255\r\n"), Ok(255));
    assert_eq!(read::<usize>("$1\r\n9\r\n"), Ok(9));
    assert_eq!(read::<u64>("(18446744073709551615\r\n"), Ok(u64::MAX));
    assert_eq!(read::<i128>("(-170141183460469231731687303715884105728\r\n"), Ok(i128::MIN));
    assert_eq!(read::<i64>("$?\r\n;2\r\n42\r\n;0\r\n"), Ok(42));
}

#[test]
fn integers_out_of_range_or_of_another_form_are_errors() {
    assert_eq!(read::<u8>(":256\r\n"), says("an integer expected, a number out of range found"));
    assert_eq!(read::<u64>(":-1\r\n"), says("an integer expected, a number out of range found"));
    assert_eq!(
        read::<i64>("(9223372036854775808\r\n"),
        says("an integer expected, a number out of range found")
    );
    assert_eq!(
        read::<i64>("$3\r\n1.5\r\n"),
        says("an integer expected, a bulk string of another form found")
    );
    assert_eq!(
        read::<i64>("(junk\r\n"),
        says("an integer expected, a big number of another form found")
    );
    assert_eq!(read::<i64>(",1\r\n"), says("an integer expected, a double found"));
    assert_eq!(read::<i64>("#t\r\n"), says("an integer expected, a boolean found"));
    assert_eq!(read::<i64>("_\r\n"), says("an integer expected, null found"));
    assert_eq!(read::<i64>("*0\r\n"), says("an integer expected, an array found"));
}

#[test]
fn doubles_come_in_every_numeric_form() {
    assert_eq!(read::<f64>(",1.5\r\n"), Ok(1.5));
    assert_eq!(read::<f64>("$18\r\n13.361389338970184\r\n"), Ok(13.361389338970184));
    assert_eq!(read::<f64>(":3\r\n"), Ok(3.0));
    assert_eq!(read::<f64>("(10\r\n"), Ok(10.0));
    assert_eq!(read::<f64>("$3\r\ninf\r\n"), Ok(f64::INFINITY));
    assert_eq!(read::<f64>(",1e400\r\n"), Ok(f64::INFINITY));
    assert!(read::<f64>(",-nan\r\n").unwrap().is_nan());
    assert_eq!(read::<f64>(",INF\r\n"), says("a double expected, a double of another form found"));
    assert_eq!(read::<f64>("#t\r\n"), says("a double expected, a boolean found"));
}

#[test]
fn narrow_doubles_are_doubles_rounded() {
    assert_eq!(read::<f32>(",0.1\r\n"), Ok(0.1));
    assert_eq!(read::<f32>("$4\r\n-2.5\r\n"), Ok(-2.5));
    assert_eq!(read::<f32>(",1e300\r\n"), Ok(f32::INFINITY));
    assert_eq!(
        read::<f32>("+x\r\n"),
        says("a double expected, a simple string of another form found")
    );
}

#[test]
fn booleans_come_as_booleans_zero_one_or_ok() {
    assert_eq!(read::<bool>("#t\r\n"), Ok(true));
    assert_eq!(read::<bool>("#f\r\n"), Ok(false));
    assert_eq!(read::<bool>(":1\r\n"), Ok(true));
    assert_eq!(read::<bool>(":0\r\n"), Ok(false));
    assert_eq!(read::<bool>("+OK\r\n"), Ok(true));
    assert_eq!(read::<bool>(":2\r\n"), says("a boolean expected, an integer found"));
    assert_eq!(read::<bool>("$2\r\nOK\r\n"), says("a boolean expected, a bulk string found"));
}

#[test]
fn text_comes_from_strings_and_from_the_text_of_numbers() {
    assert_eq!(read::<String>("$5\r\nhello\r\n"), Ok("hello".to_string()));
    assert_eq!(read::<String>("+OK\r\n"), Ok("OK".to_string()));
    assert_eq!(read::<String>("=6\r\ntxt:hi\r\n"), Ok("hi".to_string()));
    assert_eq!(read::<String>(":007\r\n"), Ok("007".to_string()));
    assert_eq!(read::<String>(",1.50\r\n"), Ok("1.50".to_string()));
    assert_eq!(read::<String>("(123\r\n"), Ok("123".to_string()));
    assert_eq!(read::<Vec<u8>>("$2\r\n\0\x01\r\n"), Ok(vec![0, 1]));
    assert_eq!(read::<String>("_\r\n"), says("a string expected, null found"));
    assert_eq!(read::<String>("#t\r\n"), says("a string expected, a boolean found"));
}

#[test]
fn text_that_is_not_utf8_is_still_bytes() {
    let mut src = BytesMut::from(&b"$2\r\n\xff\xfe\r\n"[..]);
    let frame = Decoder::default().decode(&mut src).unwrap().unwrap();
    assert_eq!(frame.parse::<&[u8]>(), Ok(&[0xff, 0xfe][..]));
    let error = frame.parse::<&str>().unwrap_err();
    assert_eq!(error.to_string(), "a string expected, bytes that are not UTF-8 found");
}

#[test]
fn borrowed_text_needs_a_string_in_one_piece() {
    let whole = frame("$?\r\n;2\r\nab\r\n;0\r\n");
    assert_eq!(whole.parse::<&str>(), Ok("ab"));
    assert_eq!(frame("$?\r\n;0\r\n").parse::<&str>(), Ok(""));
    let pieces = frame("$?\r\n;2\r\nab\r\n;1\r\nc\r\n;0\r\n");
    let error = pieces.parse::<&str>().unwrap_err();
    assert_eq!(error.to_string(), "a string expected, a streamed string in several pieces found");
    assert_eq!(pieces.parse::<String>(), Ok("abc".to_string()));
    assert_eq!(pieces.parse::<Cow<'_, str>>(), Ok(Cow::Owned("abc".to_string())));
    assert_eq!(pieces.parse::<Bytes>(), Ok(Bytes::from("abc")));
    assert_eq!(pieces.value().to_bytes(), Some(Bytes::from("abc")));
}

#[test]
fn bytes_share_the_memory_of_the_frame() {
    let frame = frame("*1\r\n$5\r\nhello\r\n");
    let [value] = &frame.parse::<Vec<Bytes>>().unwrap()[..] else { panic!("one element") };
    assert!(frame.bytes().as_ptr_range().contains(&value.as_ptr()));
    let detached = frame.detach();
    assert!(!frame.bytes().as_ptr_range().contains(&detached.bytes().as_ptr()));
}

#[test]
fn null_is_none_and_everything_else_is_some() {
    assert_eq!(read::<Option<i64>>("$-1\r\n"), Ok(None));
    assert_eq!(read::<Option<i64>>("*-1\r\n"), Ok(None));
    assert_eq!(read::<Option<i64>>("_\r\n"), Ok(None));
    assert_eq!(read::<Option<i64>>(":1\r\n"), Ok(Some(1)));
    assert!(read::<Option<i64>>("+x\r\n").is_err());
    let error = frame("_\r\n").parse::<i64>().unwrap_err();
    assert!(error.is_null() && !error.is_error_reply());
}

#[test]
fn lists_come_from_every_aggregate() {
    assert_eq!(read::<Vec<i64>>("*2\r\n:1\r\n:2\r\n"), Ok(vec![1, 2]));
    assert_eq!(read::<Vec<i64>>("~2\r\n:1\r\n:2\r\n"), Ok(vec![1, 2]));
    assert_eq!(read::<Vec<i64>>(">2\r\n:1\r\n:2\r\n"), Ok(vec![1, 2]));
    assert_eq!(read::<Vec<i64>>("%1\r\n:1\r\n:2\r\n"), Ok(vec![1, 2]));
    assert_eq!(read::<Vec<i64>>("*?\r\n:1\r\n.\r\n"), Ok(vec![1]));
    assert_eq!(read::<Vec<u8>>("*2\r\n:1\r\n:2\r\n"), Ok(vec![1, 2]));
    assert_eq!(read::<Vec<Vec<u8>>>("*2\r\n$1\r\na\r\n$0\r\n\r\n"), Ok(vec![vec![b'a'], vec![]]));
    assert_eq!(read::<Vec<i64>>("_\r\n"), says("an array expected, null found"));
    assert_eq!(read::<BTreeSet<i64>>("~2\r\n:2\r\n:2\r\n"), Ok(BTreeSet::from([2])));
    assert_eq!(read::<HashSet<String>>("*1\r\n+a\r\n"), Ok(HashSet::from(["a".to_string()])));
}

#[test]
fn pairs_come_from_maps_and_from_both_forms_of_resp2() {
    let expected = vec![("a".to_string(), 1), ("b".to_string(), 2)];
    for wire in [
        "%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n",
        "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n",
        "*2\r\n*2\r\n$1\r\na\r\n:1\r\n*2\r\n$1\r\nb\r\n:2\r\n",
    ] {
        assert_eq!(read::<Vec<(String, u8)>>(wire), Ok(expected.clone()));
        let sorted: BTreeMap<String, u8> = expected.iter().cloned().collect();
        assert_eq!(read::<BTreeMap<String, u8>>(wire), Ok(sorted));
        let hashed: HashMap<String, u8> = expected.iter().cloned().collect();
        assert_eq!(read::<HashMap<String, u8>>(wire), Ok(hashed));
    }
    assert_eq!(read::<Vec<(String, u8)>>("*0\r\n"), Ok(vec![]));
    assert_eq!(
        read::<BTreeMap<String, u8>>("*3\r\n+a\r\n:1\r\n+b\r\n"),
        says("a map expected, 3 elements found")
    );
    assert_eq!(
        read::<HashMap<String, u8>>("+a\r\n"),
        says("a map expected, a simple string found")
    );
    // The elements of a set are in no order.
    for set in ["~2\r\n+a\r\n:1\r\n", "~1\r\n*2\r\n+a\r\n:1\r\n"] {
        let refused = "a map expected, a set found";
        assert_eq!(read::<HashMap<String, u8>>(set), says(refused));
        assert_eq!(read::<Vec<(String, u8)>>(set), says(refused));
    }
}

#[test]
fn tuples_need_exactly_their_number_of_elements() {
    assert_eq!(read::<(u8,)>("*1\r\n:1\r\n"), Ok((1,)));
    assert_eq!(read::<(u8, String)>("*2\r\n:1\r\n+a\r\n"), Ok((1, "a".to_string())));
    assert_eq!(
        read::<(u8, u8, u8, u8, u8, u8, u8, u8)>(&("*8\r\n".to_owned() + &":1\r\n".repeat(8))),
        Ok((1, 1, 1, 1, 1, 1, 1, 1))
    );
    assert_eq!(read::<(u8, u8)>("*1\r\n:1\r\n"), says("an array of 2 expected, 1 element found"));
    assert_eq!(
        read::<(u8, u8, u8)>("*4\r\n:1\r\n:1\r\n:1\r\n:1\r\n"),
        says("an array of 3 expected, 4 elements found")
    );
}

#[test]
fn attributes_do_not_get_into_the_way() {
    let wire = "*2\r\n|1\r\n+a\r\n*0\r\n:1\r\n|1\r\n+b\r\n:2\r\n|1\r\n+c\r\n:3\r\n$-1\r\n";
    assert_eq!(read::<(u8, Option<u8>)>(wire), Ok((1, None)));
    let frame = frame(wire);
    let items: Vec<ValueRef<'_>> = frame.parse().unwrap();
    let names: Vec<&str> = items[1].attributes().map(|(key, _)| key.parse().unwrap()).collect();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(items[0].attributes().count(), 1);
    assert_eq!(frame.value().attributes().count(), 0);
}

#[test]
fn elements_with_attributes_are_read_like_those_without() {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let listed = "*3\r\n$1\r\na\r\n|1\r\n+ttl\r\n:60\r\n$1\r\nb\r\n$1\r\nc\r\n";
    assert_eq!(read(listed), Ok(["a", "b", "c"].map(bytes).to_vec()));
    assert_eq!(read(listed), Ok(["a", "b", "c"].map(String::from).to_vec()));
    let map =
        "%2\r\n|1\r\n+ttl\r\n:60\r\n$1\r\na\r\n|1\r\n+x\r\n*1\r\n:0\r\n:1\r\n$1\r\nb\r\n:2\r\n";
    assert_eq!(read(map), Ok(HashMap::from([(bytes("a"), 1), (bytes("b"), 2)])));
    let nested = "*2\r\n|1\r\n+x\r\n:0\r\n*2\r\n$1\r\na\r\n:1\r\n*2\r\n$1\r\nb\r\n:2\r\n";
    assert_eq!(read(nested), Ok(HashMap::from([(bytes("a"), 1), (bytes("b"), 2)])));
    let described = "|1\r\n+x\r\n:0\r\n%1\r\n$1\r\na\r\n:1\r\n";
    assert_eq!(read(described), Ok(HashMap::from([(bytes("a"), 1)])));
}

#[test]
fn an_error_reply_is_never_read_as_something_else() {
    for wire in ["-ERR no\r\n", "!6\r\nERR no\r\n"] {
        let frame = frame(wire);
        assert_eq!(frame.value().error(), Some(&b"ERR no"[..]));
        let errors = [
            frame.parse::<()>().unwrap_err(),
            frame.parse::<bool>().unwrap_err(),
            frame.parse::<String>().unwrap_err(),
            frame.parse::<i64>().unwrap_err(),
            frame.parse::<f64>().unwrap_err(),
            frame.parse::<Option<Bytes>>().unwrap_err(),
            frame.parse::<Vec<u8>>().unwrap_err(),
            frame.parse::<Vec<Option<String>>>().unwrap_err(),
            frame.parse::<HashMap<String, String>>().unwrap_err(),
        ];
        assert!(errors.iter().all(ValueError::is_error_reply));
    }
    assert!(read::<Vec<Option<String>>>("*1\r\n-ERR no\r\n").is_err());
}

#[test]
fn anything_else_is_the_unit() {
    for wire in ["+OK\r\n", "_\r\n", "*0\r\n", ":0\r\n", "%1\r\n-a\r\n-b\r\n"] {
        assert_eq!(read::<()>(wire), Ok(()));
    }
}

#[test]
fn a_value_can_be_read_later() {
    let frame = frame("*2\r\n:1\r\n%1\r\n+a\r\n:2\r\n");
    let (number, rest): (u8, ValueRef<'_>) = frame.parse().unwrap();
    assert_eq!(number, 1);
    assert_eq!(rest.parse::<HashMap<&str, u8>>(), Ok(HashMap::from([("a", 2)])));
    let owned: (u8, OwnedValue) = frame.parse().unwrap();
    assert_eq!(format!("{:?}", owned.1), r#"{+"a": 2}"#);
}

#[test]
fn the_elements_of_a_frame_are_frames_that_read_as_they_do_in_it() {
    let wire = "*7\r\n+OK\r\n*2\r\n:1\r\n*1\r\n$1\r\na\r\n%1\r\n+k\r\n~1\r\n#t\r\n-ERR no\r\n|1\r\n+ttl\r\n:3\r\n*1\r\n:9\r\n*-1\r\n$?\r\n;1\r\nx\r\n;0\r\n";
    let mut received = bytes::BytesMut::from(wire);
    let frame = respire_codec::Decoder::default().decode(&mut received).unwrap().unwrap();
    assert!(received.is_empty());
    let elements: Vec<_> = frame.elements().unwrap().collect();
    let expected: Vec<respire_codec::ValueRef<'_>> = frame.parse().unwrap();
    assert_eq!(elements.len(), 7);
    for (element, expected) in elements.iter().zip(&expected) {
        assert_eq!(element.value(), *expected);
        // Alone on the wire it is the same value again.
        let mut alone = bytes::BytesMut::from(&element.bytes()[..]);
        let again = respire_codec::Decoder::default().decode(&mut alone).unwrap().unwrap();
        assert!(alone.is_empty());
        assert_eq!(again.value(), *expected);
        assert_eq!(element.detach().value(), *expected);
        let part = expected.detach();
        assert_eq!((part.value(), part.bytes()), (*expected, element.bytes()));
        assert!(!frame.bytes().as_ptr_range().contains(&part.bytes().as_ptr()));
    }
    assert_eq!(elements[4].value().attributes().count(), 1);
    let inner: Vec<_> = elements[1].elements().unwrap().collect();
    assert_eq!(inner[1].parse::<Vec<&str>>().unwrap(), ["a"]);
    assert!(inner[0].elements().is_none());
}
