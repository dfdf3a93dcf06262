use super::*;

const GOOD: &str = r#"{"timestamp": 5, "input_length": 7, "output_length": 1, "hash_ids": [0]}"#;

fn read(trace: &str) -> Vec<Result<Request, TraceError>> {
    TraceReader::new(trace.as_bytes()).collect()
}

/// The message about the third line of a trace whose first two lines are good.
fn message(third: &str) -> String {
    let results = read(&format!("{GOOD}\n{GOOD}\n{third}\n{GOOD}\n"));
    assert_eq!(results.len(), 3, "nothing follows an error: {results:?}");
    assert!(results[..2].iter().all(Result::is_ok), "{results:?}");
    let error = results[2].as_ref().unwrap_err();
    assert_eq!(error.line(), 3);
    error.to_string()
}

#[test]
fn reads_every_field_and_ignores_others() {
    let line = r#"{"hash_ids":[3,9223372036854775806],"extra":{"a":[1]},"output_length":2,
        "input_length":1000,"timestamp":1.5}"#;
    let request = read(&line.replace('\n', "")).remove(0).unwrap();
    let expected = Request {
        timestamp_ms: 1.5,
        input_length: 1000,
        output_length: 2,
        hash_ids: vec![3, BLOCK_ID_MAX],
    };
    assert_eq!(request, expected);
}

#[test]
fn line_ends_may_be_of_either_kind_and_missing_at_the_end() {
    for trace in [format!("{GOOD}\n{GOOD}"), format!("{GOOD}\r\n{GOOD}\r\n")] {
        let results = read(&trace);
        assert_eq!(results.len(), 2);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    assert!(read("").is_empty());
}

#[test]
fn a_malformed_line_is_an_error_with_its_number() {
    assert_eq!(message("{"), "line 3: EOF while parsing an object (column 1)");
    assert_eq!(message("not json"), "line 3: expected ident (column 2)");
    assert_eq!(
        message(&format!("{GOOD} {GOOD}")),
        format!("line 3: trailing characters (column {})", GOOD.len() + 2)
    );
    assert_eq!(message("  3"), "line 3: invalid type: integer `3`, expected an object (column 3)");
    assert!(message("null").starts_with("line 3: invalid type: null"));
}

#[test]
fn an_array_of_the_fields_in_their_order_is_no_request() {
    let reason = "an array, and a request is an object";
    assert_eq!(message("[0,512,1,[1]]"), format!("line 3: {reason} (column 1)"));
    assert_eq!(message(" []"), format!("line 3: {reason} (column 2)"));
}

#[test]
fn blank_lines_may_stand_at_the_end_alone() {
    for end in ["\n", "\r\n", "\n\n \t\r\n", "  "] {
        let results = read(&format!("{GOOD}\n{GOOD}\n{end}"));
        assert_eq!(results.len(), 2, "{end:?}: {results:?}");
        assert!(results.iter().all(Result::is_ok), "{end:?}: {results:?}");
    }
    assert!(read(" \n\n").is_empty());
    assert_eq!(message(""), "line 3: the line is blank");
    // The first of several is named.
    assert_eq!(message(" \r\n\n\t"), "line 3: the line is blank");
}

#[test]
fn what_is_no_plain_text_is_called_by_its_name() {
    let packed = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, b'\n'];
    let marked = [b"\xef\xbb\xbf", GOOD.as_bytes()].concat();
    for (trace, name) in [(&packed[..], "gzip -dc"), (&marked[..], "byte order mark")] {
        let error = TraceReader::new(trace).next().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("line 1: ") && error.contains(name), "{error}");
    }
}

#[test]
fn a_missing_or_repeated_field_is_named() {
    for field in ["timestamp", "input_length", "output_length", "hash_ids"] {
        let message = message(&GOOD.replace(field, "other"));
        assert!(message.starts_with(&format!("line 3: missing field `{field}`")), "{message}");
    }
    let twice = message(&GOOD.replace('}', r#", "timestamp": 6}"#));
    assert!(twice.starts_with("line 3: duplicate field `timestamp`"), "{twice}");
}

#[test]
fn a_field_out_of_its_range_is_an_error() {
    for (from, to, reason) in [
        (r#""input_length": 7"#, r#""input_length": -7"#, "invalid value: integer `-7`"),
        (r#""input_length": 7"#, r#""input_length": 7.5"#, "invalid type: floating point `7.5`"),
        (r#""output_length": 1"#, r#""output_length": "1""#, "invalid type: string \"1\""),
        (r#""timestamp": 5"#, r#""timestamp": 1e999"#, "number out of range"),
        (r#""timestamp": 5"#, r#""timestamp": null"#, "invalid type: null"),
        (r#""timestamp": 5"#, r#""timestamp": -0.5"#, "the timestamp -0.5 is negative"),
        (
            r#""timestamp": 5"#,
            r#""timestamp": 9007199254740994"#,
            "`timestamp` is greater than 9007",
        ),
        (
            r#""input_length": 7"#,
            r#""input_length": 9007199254740993"#,
            "`input_length` is greater",
        ),
        (r#""output_length": 1"#, r#""output_length": 18446744073709551615"#, "`output_length` is"),
        ("[0]", "[]", "`hash_ids` is empty"),
        ("[0]", "[0, -1]", "invalid value: integer `-1`"),
        ("[0]", "0", "invalid type: integer `0`"),
        ("[0]", "[9223372036854775807]", "the block id 9223372036854775807 is greater than"),
    ] {
        let line = GOOD.replace(from, to);
        assert_ne!(line, GOOD);
        let message = message(&line);
        assert!(message.starts_with(&format!("line 3: {reason}")), "{message}");
    }
}

#[test]
fn lengths_need_not_fit_the_blocks() {
    for length in ["0", "1", "513", "9007199254740992"] {
        let line = GOOD.replace(r#""input_length": 7"#, &format!(r#""input_length": {length}"#));
        assert!(read(&line)[0].is_ok(), "{length}");
    }
}

#[test]
fn a_timestamp_that_goes_backwards_is_an_error_and_one_that_stands_still_is_not() {
    assert_eq!(
        message(&GOOD.replace('5', "4")),
        "line 3: the timestamp goes backwards, from 5 to 4"
    );
    assert!(read(&format!("{GOOD}\n{GOOD}\n")).iter().all(Result::is_ok));
}

#[test]
fn a_line_without_end_is_given_up() {
    let endless = io::BufReader::new(io::repeat(b' '));
    let error = TraceReader::new(endless).next().unwrap().unwrap_err();
    assert!(matches!(error.kind(), TraceErrorKind::TooLong), "{error}");
}

#[test]
fn text_that_is_not_utf_8_is_malformed() {
    let mut reader = TraceReader::new(&b"{\"timestamp\xff\": 1}\n"[..]);
    let error = reader.next().unwrap().unwrap_err();
    assert!(matches!(error.kind(), TraceErrorKind::Malformed { .. }), "{error}");
}

#[test]
fn an_input_that_fails_is_an_error_with_the_line_it_failed_at() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("out of order"))
        }
    }
    let first = format!("{GOOD}\n");
    let input = io::BufReader::new(first.as_bytes().chain(Failing));
    let results: Vec<_> = TraceReader::new(input).collect();
    assert_eq!(results.len(), 2);
    let message = results[1].as_ref().unwrap_err().to_string();
    assert_eq!(message, "line 2: the trace cannot be read: out of order");
}
