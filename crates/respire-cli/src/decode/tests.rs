use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::thread;

use respire_codec::{Limits, Mode, Protocol, Seq, Value, ValueRef};

use super::*;

fn json() -> Options {
    Options { format: Format::Json, ..Options::default() }
}

fn pretty() -> Options {
    Options::default()
}

fn strict(options: Options) -> Options {
    Options { decoder: DecoderConfig { mode: Mode::Strict, ..options.decoder }, ..options }
}

fn in_chunks(options: Options, size: usize) -> Options {
    Options { chunk: NonZeroUsize::new(size), ..options }
}

fn deep(options: Options, depth: usize) -> Options {
    let limits = Limits { depth, ..Limits::default() };
    Options { decoder: DecoderConfig { limits, ..options.decoder }, ..options }
}

fn printed(options: &Options, wire: impl AsRef<[u8]>) -> (Outcome, String) {
    let mut output = Vec::new();
    let outcome = run(wire.as_ref(), &mut output, options).unwrap();
    (outcome, String::from_utf8(output).unwrap())
}

/// What is printed for input that is all frames.
fn complete(options: &Options, wire: impl AsRef<[u8]>) -> String {
    let (outcome, output) = printed(options, wire);
    assert_eq!(outcome, Outcome::Complete, "{output}");
    output
}

/// The last line, of input that is not all frames.
fn failed(wire: &str, expected: Outcome) -> String {
    let (outcome, output) = printed(&json(), wire);
    assert_eq!(outcome, expected, "{output}");
    output.lines().last().unwrap().to_owned()
}

#[test]
fn every_type_has_its_object() {
    for (wire, object) in [
        (&b"+OK\r\n"[..], r#"{"type":"simple","data_hex":"4f4b"}"#),
        (b"+\r\n", r#"{"type":"simple","data_hex":""}"#),
        (b"-E \xff\r\n", r#"{"type":"error","kind":"simple","data_hex":"4520ff"}"#),
        (b"!3\r\n\r\nx\r\n", r#"{"type":"error","kind":"bulk","data_hex":"0d0a78"}"#),
        (b":12\r\n", r#"{"type":"int","value":"12"}"#),
        (b":+007\r\n", r#"{"type":"int","value":"7"}"#),
        (b":-0\r\n", r#"{"type":"int","value":"0"}"#),
        (b":-9223372036854775808\r\n", r#"{"type":"int","value":"-9223372036854775808"}"#),
        (b"$3\r\n\x00\xabz\r\n", r#"{"type":"bulk","data_hex":"00ab7a"}"#),
        (b"_\r\n", r#"{"type":"null"}"#),
        (b"$-1\r\n", r#"{"type":"null"}"#),
        (b"*-1\r\n", r#"{"type":"null"}"#),
        (b"#t\r\n", r#"{"type":"bool","value":true}"#),
        (b"#f\r\n", r#"{"type":"bool","value":false}"#),
        (b",1.0E+2\r\n", r#"{"type":"double","value":"1.0E+2"}"#),
        (b",-nan\r\n", r#"{"type":"double","value":"-nan"}"#),
        (b"(-0123\r\n", r#"{"type":"bignum","value":"-0123"}"#),
        (b"=7\r\ntxt:\"hi\r\n", r#"{"type":"verbatim","format":"txt","data_hex":"226869"}"#),
        (b"=4\r\nx  :\r\n", r#"{"type":"verbatim","format":"x  ","data_hex":""}"#),
        (b"*0\r\n", r#"{"type":"array","items":[]}"#),
        (b"~0\r\n", r#"{"type":"set","items":[]}"#),
        (b">0\r\n", r#"{"type":"push","items":[]}"#),
        (b"%0\r\n", r#"{"type":"map","pairs":[]}"#),
        (
            b"*2\r\n~1\r\n_\r\n*1\r\n:1\r\n",
            r#"{"type":"array","items":[{"type":"set","items":[{"type":"null"}]},{"type":"array","items":[{"type":"int","value":"1"}]}]}"#,
        ),
        (
            b"%2\r\n*1\r\n:1\r\n:2\r\n:3\r\n%1\r\n:4\r\n:5\r\n",
            r#"{"type":"map","pairs":[[{"type":"array","items":[{"type":"int","value":"1"}]},{"type":"int","value":"2"}],[{"type":"int","value":"3"},{"type":"map","pairs":[[{"type":"int","value":"4"},{"type":"int","value":"5"}]]}]]}"#,
        ),
    ] {
        assert_eq!(complete(&json(), wire), format!("{object}\n"), "{}", wire.escape_ascii());
    }
}

#[test]
fn every_type_has_its_line() {
    let wire = b"+a\"b\r\n-E \xff\r\n!1\r\n\n\r\n:+5\r\n$0\r\n\r\n*-1\r\n#f\r\n,inf\r\n(junk\t\r\n\
        =5\r\nx  :h\r\n%1\r\n~1\r\n:1\r\n*0\r\n|1\r\n+k\r\n%1\r\n:1\r\n:2\r\n*1\r\n:3\r\n>1\r\n_\r\n\
        $?\r\n;1\r\na\r\n;1\r\n\x00\r\n;0\r\n";
    let lines = r#"simple "a\"b"
error "E \xff"
bulk error "\n"
int 5
bulk ""
null
bool false
double inf
bignum junk\t
verbatim "x  " "h"
map of 1
  key: set of 1
    int 1
  value: array of 0
attribute
  key: simple "k"
  value: map of 1
    key: int 1
    value: int 2
  of: array of 1
    int 3
push of 1
  null
bulk "a\x00"
"#;
    assert_eq!(complete(&pretty(), wire), lines);
}

#[test]
fn attributes_wrap_the_value_that_they_describe() {
    let one = r#"{"type":"int","value":"1"}"#;
    let two = r#"{"type":"int","value":"2"}"#;
    let wrapped = format!(r#"{{"type":"attribute","attrs":[[{one},{one}]],"value":{two}}}"#);
    for (wire, object) in [
        ("|1\r\n:1\r\n:1\r\n:2\r\n", wrapped.clone()),
        // On an element, a key, a value.
        (
            "*2\r\n|1\r\n:1\r\n:1\r\n:2\r\n:1\r\n",
            format!(r#"{{"type":"array","items":[{wrapped},{one}]}}"#),
        ),
        (
            "%2\r\n|1\r\n:1\r\n:1\r\n:2\r\n:1\r\n:1\r\n|1\r\n:1\r\n:1\r\n:2\r\n",
            format!(r#"{{"type":"map","pairs":[[{wrapped},{one}],[{one},{wrapped}]]}}"#),
        ),
        // In an attribute, on its key and on its value.
        (
            "|1\r\n|1\r\n:1\r\n:1\r\n:2\r\n|1\r\n:1\r\n:1\r\n:2\r\n*0\r\n",
            format!(
                r#"{{"type":"attribute","attrs":[[{wrapped},{wrapped}]],"value":{{"type":"array","items":[]}}}}"#
            ),
        ),
        // Several in a row are one set of them; without content they are none.
        (
            "|1\r\n:1\r\n:1\r\n|0\r\n|1\r\n:2\r\n:1\r\n:2\r\n",
            format!(
                r#"{{"type":"attribute","attrs":[[{one},{one}],[{two},{one}]],"value":{two}}}"#
            ),
        ),
        ("|0\r\n:1\r\n", one.to_owned()),
    ] {
        assert_eq!(complete(&json(), wire), format!("{object}\n"), "{wire:?}");
    }
}

#[test]
fn what_was_streamed_is_printed_like_what_had_a_length() {
    for (streamed, whole) in [
        ("$?\r\n;1\r\na\r\n;2\r\nbc\r\n;0\r\n", "$3\r\nabc\r\n"),
        ("$?\r\n;0\r\n", "$0\r\n\r\n"),
        ("*?\r\n:1\r\n~?\r\n:2\r\n.\r\n.\r\n", "*2\r\n:1\r\n~1\r\n:2\r\n"),
        ("%?\r\n:1\r\n$?\r\n;1\r\na\r\n;0\r\n.\r\n", "%1\r\n:1\r\n$1\r\na\r\n"),
    ] {
        for options in [json(), pretty()] {
            assert_eq!(complete(&options, streamed), complete(&options, whole), "{streamed:?}");
        }
    }
}

#[test]
fn text_that_no_line_or_terminal_may_see_is_escaped() {
    let wire = "(\u{9b}\u{2028}\u{1f600}\t\"\\\x7f\r\n";
    let object = r#"{"type":"bignum","value":"\u009b\u2028\ud83d\ude00\t\"\\\u007f"}"#;
    assert_eq!(complete(&json(), wire), format!("{object}\n"));
    let value: serde_json::Value = serde_json::from_str(object).unwrap();
    assert_eq!(value["value"], wire[1..wire.len() - 2]);
    assert_eq!(
        complete(&json(), b"(a\xff\r\n"),
        concat!(r#"{"type":"bignum","value":"a\ufffd"}"#, "\n")
    );
    assert!(complete(&pretty(), wire).trim_end().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
}

#[test]
fn a_push_inside_of_a_reply_comes_first() {
    let wire = "+a\r\n*2\r\n:1\r\n>1\r\n:2\r\n:3\r\n>1\r\n:4\r\n";
    let lines =
        "simple \"a\"\npush of 1\n  int 2\narray of 2\n  int 1\n  int 3\npush of 1\n  int 4\n";
    for options in [pretty(), in_chunks(pretty(), 1)] {
        assert_eq!(complete(&options, wire), lines);
    }
    let (outcome, output) = printed(&strict(json()), wire);
    assert_eq!(outcome, Outcome::ProtocolError);
    let last = r#"{"protocol_error":"push inside of a reply","offset":12}"#;
    assert_eq!(output, format!("{{\"type\":\"simple\",\"data_hex\":\"61\"}}\n{last}\n"));
}

#[test]
fn a_malformed_double_is_an_error_where_it_stands() {
    for (wire, offset, lines_before) in [
        (",abc\r\n", 0, 0),
        (",\r\n", 0, 0),
        (",+inf\r\n", 0, 0),
        ("+a\r\n:1\r\n,.5\r\n+b\r\n", 8, 2),
        ("+a\r\n*2\r\n:1\r\n*1\r\n,x\r\n", 16, 1),
        ("%1\r\n,1\r\n,x\r\n", 8, 0),
        ("|1\r\n+a\r\n,x\r\n,y\r\n", 8, 0),
        // In a push inside of a reply, in the reply before it, and behind it.
        ("+a\r\n*2\r\n:1\r\n>2\r\n:2\r\n,x\r\n:3\r\n", 20, 1),
        ("+a\r\n*2\r\n,x\r\n>1\r\n:2\r\n:3\r\n", 8, 1),
        ("+a\r\n*2\r\n:1\r\n>1\r\n:2\r\n,x\r\n+b\r\n", 20, 1),
        // In a reply and in a push inside of it; in a push and in one inside of that.
        ("+a\r\n*2\r\n,x\r\n>1\r\n,y\r\n:3\r\n", 8, 1),
        ("+a\r\n*1\r\n>2\r\n,x\r\n>1\r\n,y\r\n:1\r\n+b\r\n", 12, 1),
        // In a frame that is cut off, even in the middle of a value, or not RESP further back.
        ("+a\r\n*2\r\n,x\r\n", 8, 1),
        ("+a\r\n|1\r\n+k\r\n,x\r\n$5\r\nab", 12, 1),
        ("+a\r\n*3\r\n,1\r\n,x\r\n:y\r\n", 12, 1),
        ("+a\r\n*2\r\n,x\r\nz", 8, 1),
    ] {
        let last = format!(r#"{{"protocol_error":"malformed double","offset":{offset}}}"#);
        for options in [json(), in_chunks(json(), 1), in_chunks(json(), 5)] {
            let (outcome, output) = printed(&options, wire);
            assert_eq!(outcome, Outcome::ProtocolError, "{wire:?}");
            assert_eq!(output.lines().last(), Some(&*last), "{wire:?}");
            assert_eq!(output.lines().count(), lines_before + 1, "{wire:?}");
        }
    }
}

#[test]
fn what_is_wrong_in_front_of_a_malformed_double_is_reported() {
    for (protocol, wire, message, offset) in [
        (Protocol::Resp3, "*2\r\n:y\r\n,x\r\n", "malformed integer", 5),
        (Protocol::Resp3, "*2\r\n$1\r\nab,x\r\n", "CRLF expected", 9),
        (Protocol::Resp3, "$?\r\n,x\r\n", "chunk of a streamed string expected", 4),
        (Protocol::Resp3, "*2\r\n+a\rb\r\n,x\r\n", "stray carriage return", 7),
        (Protocol::Resp3, ",x\ry\r\n", "stray carriage return", 3),
        (Protocol::Resp3, ",x\n", "stray carriage return", 2),
        (Protocol::Resp2, ",x\r\n", "a type of RESP3", 0),
    ] {
        for mut options in [json(), in_chunks(json(), 1), in_chunks(json(), 2)] {
            options.decoder.protocol = protocol;
            let (outcome, output) = printed(&options, wire);
            assert_eq!(outcome, Outcome::ProtocolError, "{wire:?}");
            assert!(output.starts_with(&format!(r#"{{"protocol_error":"{message}"#)), "{output}");
            assert!(output.ends_with(&format!("\"offset\":{offset}}}\n")), "{output}");
        }
    }
}

#[test]
fn a_malformed_double_is_found_behind_everything_that_can_be_in_front_of_it() {
    let mut tried = 0;
    for (path, mut wire) in corpus() {
        let (outcome, before) = printed(&json(), &wire);
        if outcome != Outcome::Complete {
            continue;
        }
        let offset = wire.len() + 8;
        wire.extend_from_slice(b"*2\r\n:1\r\n,x\r\n");
        let last = format!(r#"{{"protocol_error":"malformed double","offset":{offset}}}"#);
        for options in [json(), in_chunks(json(), 1), in_chunks(json(), 7)] {
            let expected = (Outcome::ProtocolError, format!("{before}{last}\n"));
            assert!(printed(&options, &wire) == expected, "{}", path.display());
        }
        tried += 1;
    }
    assert!(tried > 50, "{tried} inputs");
}

#[test]
fn other_malformed_values_are_errors_too() {
    for (wire, message, offset) in [
        ("+a\r\n:\r\n", "malformed integer", 5),
        (":1x\r\n", "malformed integer", 2),
        ("*1\r\n:9223372036854775808\r\n", "integer out of range", 4),
        ("#x\r\n", "malformed boolean", 1),
        ("+a\r\nx", "unknown type byte", 4),
        ("$3\r\nabcXY", "CRLF expected", 7),
    ] {
        let last = format!(r#"{{"protocol_error":"{message}","offset":{offset}}}"#);
        assert_eq!(failed(wire, Outcome::ProtocolError), last, "{wire:?}");
    }
}

#[test]
fn a_frame_that_is_not_whole_is_counted() {
    for (wire, pending) in [
        ("+", 1),
        ("+OK\r", 4),
        ("+a\r\n*2\r\n:1\r\n", 8),
        ("|1\r\n+a\r\n:1\r\n", 12),
        ("*?\r\n:1\r\n", 8),
        // The push inside belongs to the reply as long as that is not whole.
        ("*2\r\n:1\r\n>1\r\n:2\r\n", 16),
    ] {
        let last = format!(r#"{{"incomplete":true,"pending_bytes":{pending}}}"#);
        assert_eq!(failed(wire, Outcome::Incomplete), last, "{wire:?}");
    }
    assert_eq!(printed(&pretty(), "").1, "");
    assert_eq!(printed(&pretty(), ":").1, "{\"incomplete\":true,\"pending_bytes\":1}\n");
}

#[test]
fn types_of_resp3_are_errors_on_resp2() {
    let mut options = json();
    options.decoder.protocol = Protocol::Resp2;
    assert_eq!(complete(&options, "$-1\r\n"), "{\"type\":\"null\"}\n");
    let (outcome, output) = printed(&options, ":1\r\n%0\r\n");
    assert_eq!(outcome, Outcome::ProtocolError);
    let last = r#"{"protocol_error":"a type of RESP3 on a RESP2 connection","offset":4}"#;
    assert_eq!(output.lines().last(), Some(last));
}

#[test]
fn nesting_takes_no_stack_and_indentation_has_a_bound() {
    const ROUNDS: usize = 30_000;
    let down = ["*1\r\n", "%1\r\n:1\r\n", "|1\r\n:1\r\n"].concat().repeat(ROUNDS);
    // What the attributes describe comes after all that is in them.
    let wire = down + ":1\r\n" + &":2\r\n".repeat(ROUNDS);
    let work = move || {
        let object = complete(&deep(json(), 3 * ROUNDS), &wire);
        assert!(object.ends_with("]}\n") && object.lines().count() == 1);
        let described = r#""value":{"type":"int","value":"2"}"#;
        assert_eq!(object.matches(described).count(), ROUNDS);

        let lines = complete(&deep(pretty(), 3 * ROUNDS), &wire);
        assert!(lines.lines().all(|line| line.len() < 100));
        assert!(lines.contains(&format!("\n{}[33] key: int 1\n", " ".repeat(64))), "{lines:.4000}");
    };
    thread::Builder::new().stack_size(128 << 10).spawn(work).unwrap().join().unwrap();
}

/// Brings one byte at a time, and is interrupted in front of each.
struct Slow<'a> {
    wire: &'a [u8],
    interrupted: bool,
}

impl Read for Slow<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.fill_buf()?;
        let length = piece.read(buf)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Slow<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(self.wire.get(..1).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.wire = &self.wire[amount..];
    }
}

#[test]
fn a_piece_of_a_given_size_is_waited_for() {
    let mut input = Slow { wire: b"abcdefgh", interrupted: false };
    let mut sizes = Vec::new();
    let mut received = BytesMut::new();
    while feed(&mut input, NonZeroUsize::new(3), &mut received).unwrap() {
        sizes.push(received.split().len());
    }
    assert_eq!(sizes, [3, 3, 2]);

    let mut input = Slow { wire: b"abc", interrupted: false };
    assert!(feed(&mut input, None, &mut received).unwrap());
    assert_eq!(&received[..], b"a");

    let mut input = Cursor::new(b"abcdefgh");
    assert!(feed(&mut input, NonZeroUsize::new(3), &mut received).unwrap());
    assert_eq!(&received[..], b"aabc");
}

#[test]
fn memory_does_not_grow_with_the_input() {
    let wire = "*2\r\n$3\r\nabc\r\n:1\r\n".repeat(4096);
    let mut stream = Stream::new(DecoderConfig::default());
    for _ in 0..100 {
        for piece in wire.as_bytes().chunks(1000) {
            stream.received.extend_from_slice(piece);
            assert!(stream.print(Format::Json, &mut io::sink()).unwrap().is_none());
            assert!(stream.received.capacity() <= 16 << 10);
        }
    }
    assert_eq!(stream.consumed, 100 * wire.len() as u64);
}

/// Fails every read and every write.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Other.into())
    }
}

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn failures_of_input_and_output_are_told_apart() {
    let error = run(io::BufReader::new(Broken), io::sink(), &json()).unwrap_err();
    assert!(matches!(error, StreamError::Read(_)), "{error:?}");
    for wire in [&b"+a\r\n"[..], b"x", b"+"] {
        let error = run(wire, Broken, &json()).unwrap_err();
        assert!(matches!(error, StreamError::Write(_)), "{error:?}");
    }
}

/// What the codec's tests and fuzzers are fed.
fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = Vec::new();
    for folder in ["../../fuzz/corpus/wire", "../respire-codec/tests/captures"] {
        for entry in fs::read_dir(crates.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            inputs.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    inputs
}

#[test]
fn output_does_not_depend_on_how_the_input_is_cut() {
    for (path, wire) in corpus() {
        for mut options in [json(), strict(json()), pretty(), deep(json(), 10_000)] {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                options.decoder.protocol = protocol;
                let whole = printed(&options, &wire);
                for size in [1, 7] {
                    let cut = printed(&in_chunks(options, size), &wire);
                    assert!(cut == whole, "{} in pieces of {size}", path.display());
                }
            }
        }
    }
}

/// The naive twin: an object of objects, by recursion over what the codec says is in a value.
fn twin(value: ValueRef<'_>) -> String {
    let hex = |text: &[u8]| text.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let data = |kind: &str, text: &[u8]| format!(r#"{{"type":{kind},"data_hex":"{}"}}"#, hex(text));
    let string = |text: &[u8]| serde_json::to_string(&String::from_utf8_lossy(text)).unwrap();
    let items = |kind: &str, items: Seq<'_>| {
        let items: Vec<String> = items.map(twin).collect();
        format!(r#"{{"type":"{kind}","items":[{}]}}"#, items.join(","))
    };
    let pairs = |pairs: &mut dyn Iterator<Item = (ValueRef<'_>, ValueRef<'_>)>| {
        let pair = |(key, value)| format!("[{},{}]", twin(key), twin(value));
        pairs.map(pair).collect::<Vec<_>>().join(",")
    };
    let bare = match value.get() {
        Value::SimpleString(text) => data(r#""simple""#, text),
        Value::SimpleError(text) => data(r#""error","kind":"simple""#, text),
        Value::BulkError(text) => data(r#""error","kind":"bulk""#, text),
        Value::BulkString(text) => data(r#""bulk""#, text),
        Value::StreamedString(chunks) => data(r#""bulk""#, &chunks.collect::<Vec<_>>().concat()),
        Value::VerbatimString(text) => {
            data(&format!(r#""verbatim","format":{}"#, string(text.format())), text.text())
        }
        Value::Integer(number) => format!(r#"{{"type":"int","value":"{number}"}}"#),
        Value::Boolean(truth) => format!(r#"{{"type":"bool","value":{truth}}}"#),
        Value::Double(n) => format!(r#"{{"type":"double","value":{}}}"#, string(n.as_bytes())),
        Value::BigNumber(n) => format!(r#"{{"type":"bignum","value":{}}}"#, string(n.as_bytes())),
        Value::Null => r#"{"type":"null"}"#.to_owned(),
        Value::Array(elements) => items("array", elements),
        Value::Set(elements) => items("set", elements),
        Value::Push(elements) => items("push", elements),
        Value::Map(mut entries) => format!(r#"{{"type":"map","pairs":[{}]}}"#, pairs(&mut entries)),
    };
    let attributes = pairs(&mut value.attributes());
    if attributes.is_empty() {
        return bare;
    }
    format!(r#"{{"type":"attribute","attrs":[{attributes}],"value":{bare}}}"#)
}

#[test]
fn frames_are_printed_as_recursion_would() {
    let work = || {
        let mut frames = 0;
        for (path, wire) in corpus() {
            let (_, output) = printed(&json(), &wire);
            let mut received = BytesMut::from(&wire[..]);
            let mut decoder = Decoder::default();
            for line in output.lines() {
                if line.starts_with(r#"{"protocol_error"#) || line.starts_with(r#"{"incomplete"#) {
                    break;
                }
                let frame = decoder.decode(&mut received).unwrap().unwrap();
                // Where the printer escapes more than it must, only the meaning is the same.
                let twin = twin(frame.value());
                let parse = serde_json::from_str::<serde_json::Value>;
                let same = line == twin || parse(line).unwrap() == parse(&twin).unwrap();
                assert!(same, "{}: {line}", path.display());
                frames += 1;
            }
        }
        assert!(frames > 250, "{frames} frames");
    };
    thread::Builder::new().stack_size(64 << 20).spawn(work).unwrap().join().unwrap();
}
