//! The grammar, rule by rule, as inputs with their outcomes. Frames are given as
//! they print.

use respire_codec::{DecoderConfig, Limits, Mode, Protocol, Reason};

use super::{End, Outcome};

/// One input and what must come of it.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) wire: Vec<u8>,
    pub(crate) config: DecoderConfig,
    pub(crate) frames: Vec<String>,
    pub(crate) end: End,
    /// Doubles and big numbers whose text has no value, in all the frames.
    pub(crate) unreadable: usize,
}

impl Vector {
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome { frames: self.frames.clone(), end: self.end.clone() }
    }

    /// What chooses this vector's configuration in [`super::config`], or the
    /// default one if it has limits of its own.
    pub(crate) fn selector(&self) -> u8 {
        u8::from(self.config.protocol == Protocol::Resp2)
            | u8::from(self.config.mode == Mode::Strict) << 1
    }

    fn strict(mut self) -> Self {
        self.config.mode = Mode::Strict;
        self
    }

    fn resp2(mut self) -> Self {
        self.config.protocol = Protocol::Resp2;
        self
    }

    fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.config.limits);
        self
    }

    fn unreadable(mut self, count: usize) -> Self {
        self.unreadable = count;
        self
    }
}

fn vector(name: &'static str, wire: impl Into<Vec<u8>>, frames: &[&str], end: End) -> Vector {
    let frames = frames.iter().map(ToString::to_string).collect();
    let config = DecoderConfig::default();
    Vector { name, wire: wire.into(), config, frames, end, unreadable: 0 }
}

/// The input is these frames and nothing else.
fn ok(name: &'static str, wire: impl Into<Vec<u8>>, frames: &[&str]) -> Vector {
    vector(name, wire, frames, End::Clean)
}

/// The input stops inside of a frame.
fn wait(name: &'static str, wire: impl Into<Vec<u8>>) -> Vector {
    vector(name, wire, &[], End::Wait)
}

/// The input is wrong at this position.
fn bad(name: &'static str, wire: impl Into<Vec<u8>>, reason: Reason, offset: u64) -> Vector {
    vector(name, wire, &[], End::Error(reason, offset))
}

/// `part` over and over, and `tail`.
fn repeat(part: &str, count: usize, tail: &str) -> Vec<u8> {
    (part.repeat(count) + tail).into_bytes()
}

/// All vectors.
pub(crate) fn all() -> Vec<Vector> {
    let parts = [
        simple(),
        integers(),
        bulks(),
        nulls(),
        lengths(),
        booleans_and_doubles(),
        big_numbers(),
        errors_and_verbatim(),
        line_breaks(),
        aggregates(),
        attributes(),
        pushes(),
        streamed(),
        nesting(),
        resp2(),
        limits(),
        types(),
        sequences(),
    ];
    parts.concat()
}

/// Short inputs that start like others of the table and end somewhere else:
/// every vector without its last bytes.
pub(crate) fn truncated() -> Vec<(String, Vec<u8>)> {
    let short = all().into_iter().filter(|vector| vector.wire.len() <= 64);
    short
        .flat_map(|vector| {
            let name = vector.name;
            (1..vector.wire.len()).map(move |length| {
                (format!("{name}, first {length}"), vector.wire[..length].into())
            })
        })
        .collect()
}

fn simple() -> Vec<Vector> {
    use Reason::*;
    let status = [&b"+"[..], &[b'x'; 70_000], b"\r\n"].concat();
    let printed = format!("+\"{}\"", "x".repeat(70_000));
    vec![
        ok("nothing", b"", &[]),
        ok("simple string", b"+OK\r\n", &[r#"+"OK""#]),
        ok("simple string, empty", b"+\r\n", &[r#"+"""#]),
        ok("simple error", b"-ERR no\r\n", &[r#"-"ERR no""#]),
        ok("simple error, empty", b"-\r\n", &[r#"-"""#]),
        ok("simple error, lower case", b"-oops\r\n", &[r#"-"oops""#]),
        ok("simple string, not UTF-8", b"+\xff\xfe\x00\x80\r\n", &[r#"+"\xff\xfe\x00\x80""#]),
        ok(
            "simple string, other control characters",
            b"+\t\x0b\x0c\x0e\r\n",
            &[r#"+"\t\x0b\x0c\x0e""#],
        ),
        ok(
            "simple error, not UTF-8",
            b"-ERR unknown command '\xff\xfe', with args beginning with: '\xe9' \r\n",
            &[r#"-"ERR unknown command \'\xff\xfe\', with args beginning with: \'\xe9\' ""#],
        ),
        ok("simple string of 70,000 bytes", status, &[&printed]),
        wait("simple string without its end", b"+OK"),
        wait("simple string with half its end", b"+OK\r"),
        bad("simple string ended by LF", b"+OK\n", StrayLineBreak, 3),
        bad("simple string with a CR in it", b"+foo\rbar\r\n", StrayLineBreak, 5),
        bad("simple string with an LF in it", b"+foo\nbar\r\n", StrayLineBreak, 4),
        bad("simple string with two CRs", b"+foo\r\r\n", StrayLineBreak, 5),
        bad(
            "long simple string with a CR in it",
            b"+0123456789abcdefgh\rx\r\n",
            StrayLineBreak,
            20,
        ),
        bad("error ended by LF", b"-ERR\n", StrayLineBreak, 4),
    ]
}

fn integers() -> Vec<Vector> {
    use Reason::*;
    vec![
        ok("integer", b":12\r\n", &["12"]),
        ok("integer, zero", b":0\r\n", &["0"]),
        ok("integer, negative", b":-9\r\n", &["-9"]),
        ok("integer, plus sign", b":+5\r\n", &["5"]),
        ok("integer, leading zeros", b":007\r\n", &["7"]),
        ok("integer, minus zero", b":-0\r\n", &["0"]),
        ok("integer, eight digits", b":12345678\r\n", &["12345678"]),
        ok("integer, sixteen digits", b":1234567890123456\r\n", &["1234567890123456"]),
        ok("integer, largest", b":9223372036854775807\r\n", &["9223372036854775807"]),
        ok("integer, smallest", b":-9223372036854775808\r\n", &["-9223372036854775808"]),
        bad("integer, one too large", b":9223372036854775808\r\n", IntegerOutOfRange, 0),
        bad("integer, one too small", b":-9223372036854775809\r\n", IntegerOutOfRange, 0),
        bad("integer, wraps at 2^64", b":18446744073709551621\r\n", IntegerOutOfRange, 0),
        bad("integer, empty", b":\r\n", MalformedInteger, 1),
        bad("integer, only a sign", b":-\r\n", MalformedInteger, 2),
        bad("integer, two signs", b":--1\r\n", MalformedInteger, 2),
        bad("integer, trailing space", b":12 \r\n", MalformedInteger, 3),
        bad("integer, leading space", b": 12\r\n", MalformedInteger, 1),
        bad("integer, hexadecimal", b":0x1F\r\n", MalformedInteger, 2),
        bad("integer ended by LF", b":12\n", MalformedInteger, 3),
        bad("integer with a CR in it", b":1\r2\r\n", MalformedInteger, 3),
        ok("integer, 64 digits", repeat("", 0, &format!(":{}1\r\n", "0".repeat(63))), &["1"]),
        bad(
            "integer, 65 digits",
            repeat("", 0, &format!(":{}1\r\n", "0".repeat(64))),
            HeaderTooLong,
            0,
        ),
        wait("integer without its end", b":12"),
    ]
}

fn bulks() -> Vec<Vector> {
    use Reason::*;
    vec![
        ok("bulk string", b"$5\r\nhello\r\n", &[r#""hello""#]),
        ok("bulk string, empty", b"$0\r\n\r\n", &[r#""""#]),
        ok("bulk string of line breaks", b"$4\r\n\r\n\r\n\r\n", &[r#""\r\n\r\n""#]),
        ok("bulk string, not UTF-8", b"$2\r\n\xc3\x28\r\n", &[r#""\xc3(""#]),
        bad("bulk string, wrong end", b"$3\r\nabcXY", MissingCrlf, 7),
        bad("bulk string, two LFs", b"$3\r\nabc\n\n", MissingCrlf, 7),
        bad("bulk string, CR and no LF", b"$3\r\nabc\rX", MissingCrlf, 8),
        bad("bulk string, too long for its length", b"$3\r\nabcd\r\n", MissingCrlf, 7),
        bad("bulk string without CRs", b"$3\nabc\n", MalformedLength, 2),
        bad("bulk string, header with LF", b"$3\n", MalformedLength, 2),
        wait("bulk string without its length", b"$"),
        wait("bulk string without its payload", b"$3\r\n"),
        wait("bulk string without its end", b"$3\r\nabc"),
        wait("bulk string with half its end", b"$3\r\nabc\r"),
    ]
}

fn nulls() -> Vec<Vector> {
    use Reason::*;
    vec![
        ok("null", b"_\r\n", &["null"]),
        ok("null bulk string", b"$-1\r\n", &["null"]),
        ok("null array", b"*-1\r\n", &["null"]),
        ok("null and the next reply", b"$-1\r\n+OK\r\n", &["null", r#"+"OK""#]),
        ok(
            "nulls of every form in an array",
            b"*3\r\n_\r\n$-1\r\n*-1\r\n",
            &["[null, null, null]"],
        ),
        bad("length of minus two", b"$-2\r\nasdf\r\n", MalformedLength, 2),
        bad("count of minus two", b"*-2\r\n+asdf\r\n", MalformedLength, 2),
        bad("null map", b"%-1\r\n", MalformedLength, 1),
        bad("null set", b"~-1\r\n", MalformedLength, 1),
        bad("null push", b">-1\r\n", MalformedLength, 1),
        bad("null attribute", b"|-1\r\n+OK\r\n", MalformedLength, 1),
        bad("null verbatim string", b"=-1\r\n", MalformedLength, 1),
        bad("null bulk error", b"!-1\r\n", MalformedLength, 1),
        bad("map of minus two", b"%-2\r\n", MalformedLength, 1),
        bad("length of minus zero", b"$-0\r\n\r\n", MalformedLength, 2),
        bad("length of minus one, leading zero", b"$-01\r\n", MalformedLength, 2),
        bad("length of minus ten", b"$-10\r\n", MalformedLength, 3),
        bad("null with content", b"_x\r\n", MissingCrlf, 1),
        bad("null with a wrong end", b"_XY+OK\r\n", MissingCrlf, 1),
        bad("null ended by CR alone", b"_\rX", MissingCrlf, 2),
        wait("null without its end", b"_\r"),
        wait("null bulk string without its end", b"$-1"),
    ]
}

fn lengths() -> Vec<Vector> {
    use Reason::*;
    vec![
        bad("length with a plus sign", b"$+3\r\nfoo\r\n", MalformedLength, 1),
        ok("length with a leading zero", b"$03\r\nfoo\r\n", &[r#""foo""#]),
        ok(
            "length with forty leading zeros",
            b"$00000000000000000000000000000000000000003\r\nfoo\r\n",
            &[r#""foo""#],
        ),
        bad("length with a space", b"$ 3\r\nfoo\r\n", MalformedLength, 1),
        bad("length that is only a sign", b"$-\r\n\r\n", MalformedLength, 2),
        bad("length that is empty", b"$\r\n\r\n", MalformedLength, 1),
        bad("count that is empty", b"*\r\n", MalformedLength, 1),
        bad("length with a letter", b"$3x\r\nfoo\r\n", MalformedLength, 2),
        bad("length with CR and no LF", b"$3\rxfoo\r\n", MalformedLength, 3),
        bad("length that wraps at 2^32", b"$4294967301\r\nhello\r\n", BulkTooLong, 0),
        wait("length of the largest bulk string", b"$536870912\r\n"),
        bad("length above the largest bulk string", b"$536870913\r\n", BulkTooLong, 0),
        bad("length that wraps at 2^64", b"$18446744073709551621\r\nhello\r\n", BulkTooLong, 0),
        bad("length of 2^63 - 1", b"$9223372036854775807\r\nasdf\r\n", BulkTooLong, 0),
        wait("count of 10^9", b"*1000000000\r\n"),
        wait("count of 2^31 - 1", b"*2147483647\r\n"),
        bad("count of 2^31", b"*2147483648\r\n", TooManyElements, 0),
        bad("count of 2^32 - 1", b"*4294967295\r\n", TooManyElements, 0),
        bad("count of 2^63 - 1", b"*9223372036854775807\r\n+asdf\r\n", TooManyElements, 0),
        bad("map that wraps when doubled", b"%4611686018427387904\r\n", TooManyElements, 0),
        bad("map of 2^63", b"%9223372036854775808\r\n", TooManyElements, 0),
        bad("map of 2^32 - 1", b"%4294967295\r\n", TooManyElements, 0),
        wait("map of 2^30 - 1", b"%1073741823\r\n"),
        bad("map of 2^30", b"%1073741824\r\n", TooManyElements, 0),
        bad("attribute of 2^30", b"|1073741824\r\n", TooManyElements, 0),
        bad("push of 2^31", b">2147483648\r\n", TooManyElements, 0),
        wait("counts whose product wraps", repeat("*100000000\r\n", 8, "")),
        bad(
            "length of 100,000 digits",
            repeat("", 0, &format!("${}", "1".repeat(100_000))),
            HeaderTooLong,
            0,
        ),
        bad(
            "count of 100,000 digits",
            repeat("", 0, &format!("*{}", "0".repeat(100_000))),
            HeaderTooLong,
            0,
        ),
        wait("length of 64 digits", repeat("", 0, &format!("${}", "0".repeat(64)))),
    ]
}

fn booleans_and_doubles() -> Vec<Vector> {
    use Reason::*;
    let same = |name, text: &str| ok(name, format!(",{text}\r\n"), &[text]);
    let junk = |name, text: &str| same(name, text).unreadable(1);
    vec![
        ok("true", b"#t\r\n", &["true"]),
        ok("false", b"#f\r\n", &["false"]),
        bad("boolean, upper case", b"#T\r\n", MalformedBoolean, 1),
        bad("boolean, another letter", b"#x\r\n", MalformedBoolean, 1),
        bad("boolean, empty", b"#\r\n", MalformedBoolean, 1),
        bad("boolean, a word", b"#true\r\n", MissingCrlf, 2),
        bad("boolean, wrong end", b"#tXY", MissingCrlf, 2),
        wait("boolean without its end", b"#t"),
        wait("boolean without anything", b"#"),
        same("double", "1.23"),
        same("double, whole", "10"),
        same("double, minus zero", "-0"),
        same("double, plus sign", "+1.5"),
        same("double, exponent", "5e-324"),
        same("double, signed exponent", "1E+300"),
        same("double, too large for the type", "1e400"),
        same("double, seventeen digits", "0.10000000000000001"),
        same("double, more digits than the type has", "13.36138933897018433"),
        same("double, infinite", "inf"),
        same("double, minus infinite", "-inf"),
        same("double, not a number", "nan"),
        same("double, minus not a number", "-nan"),
        junk("double, infinite in upper case", "INF"),
        junk("double, +inf", "+inf"),
        junk("double, infinity", "infinity"),
        junk("double, NaN", "NaN"),
        junk("double, no digit before the point", ".5"),
        junk("double, no digit behind the point", "5."),
        junk("double, no digit in the exponent", "1e"),
        junk("double, hexadecimal", "0x1p4"),
        junk("double, trailing space", "1.5 "),
        junk("double, two points", "1.2.3"),
        junk("double, a word", "abc"),
        junk("double, empty", ""),
        bad("double ended by LF", b",1.5\n", StrayLineBreak, 4),
        wait("double without its end", b",1.5"),
    ]
}

fn big_numbers() -> Vec<Vector> {
    let same = |name, text: &str| ok(name, format!("({text}\r\n"), &[&format!("({text}")]);
    let junk = |name, text: &str| same(name, text).unreadable(1);
    vec![
        same("big number", "3492890328409238509324850943850943825024385"),
        same("big number, negative", "-1"),
        same("big number, plus sign", "+1"),
        junk("big number, empty", ""),
        junk("big number, a fraction", "1.5"),
        junk("big number, a sentence", "hello world"),
        junk("big number, only a sign", "-"),
        ok(
            "big number, junk between replies",
            b":1\r\n(hello  world\r\n:2\r\n",
            &["1", "(hello  world", "2"],
        )
        .unreadable(1),
    ]
}

fn errors_and_verbatim() -> Vec<Vector> {
    use Reason::*;
    vec![
        ok("bulk error", b"!21\r\nSYNTAX invalid syntax\r\n", &[r#"!"SYNTAX invalid syntax""#]),
        ok("bulk error of any bytes", b"!4\r\n\xff\x00\r\n\r\n", &[r#"!"\xff\x00\r\n""#]),
        ok("bulk error, empty", b"!0\r\n\r\n", &[r#"!"""#]),
        bad("bulk error, wrong end", b"!3\r\nabcXY", MissingCrlf, 7),
        bad("bulk error, streamed", b"!?\r\n", MalformedLength, 1),
        ok("verbatim string", b"=15\r\ntxt:Some string\r\n", &[r#"txt:"Some string""#]),
        ok("verbatim string, padded format", b"=6\r\nx  :hi\r\n", &[r#"x  :"hi""#]),
        ok("verbatim string, cut format", b"=6\r\nhtm:hi\r\n", &[r#"htm:"hi""#]),
        ok("verbatim string, any bytes as format", b"=4\r\n\xff\r\n:\r\n", &[r#"\xff\r\n:"""#]),
        ok("verbatim string, empty", b"=4\r\ntxt:\r\n", &[r#"txt:"""#]),
        bad("verbatim string without a colon", b"=8\r\ntxtXabcd\r\n", MalformedVerbatim, 7),
        bad("verbatim string of three bytes", b"=3\r\ntxt\r\n", MalformedVerbatim, 0),
        bad("verbatim string of no bytes", b"=0\r\n\r\n", MalformedVerbatim, 0),
        bad("verbatim string, streamed", b"=?\r\n", MalformedLength, 1),
        bad("verbatim string, wrong end", b"=5\r\ntxt:aXY", MissingCrlf, 9),
        wait("verbatim string up to its format", b"=5\r\ntxt"),
    ]
}

fn line_breaks() -> Vec<Vector> {
    use Reason::*;
    vec![
        bad("map header with LF", b"%1\n", MalformedLength, 2),
        bad("LF between frames", b"+OK\r\n\n+OK\r\n", UnknownType, 5),
        bad("CRLF between frames", b"+OK\r\n\r\n", UnknownType, 5),
        bad("big number ended by LF", b"(12\n", StrayLineBreak, 3),
    ]
    .into_iter()
    .map(|mut vector| {
        if vector.wire.starts_with(b"+OK") {
            vector.frames.push(r#"+"OK""#.to_string());
        }
        vector
    })
    .collect()
}

fn aggregates() -> Vec<Vector> {
    let key_spec = "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n\
                    ~3\r\n+@read\r\n+@string\r\n+@fast\r\n~0\r\n\
                    ~1\r\n%3\r\n$5\r\nflags\r\n~2\r\n+RO\r\n+access\r\n\
                    $12\r\nbegin_search\r\n%2\r\n$4\r\ntype\r\n$5\r\nindex\r\n\
                    $4\r\nspec\r\n%1\r\n$5\r\nindex\r\n:1\r\n\
                    $9\r\nfind_keys\r\n%0\r\n*0\r\n_\r\n";
    vec![
        ok("array", b"*2\r\n:1\r\n+a\r\n", &[r#"[1, +"a"]"#]),
        ok("array, empty", b"*0\r\n", &["[]"]),
        ok("set", b"~2\r\n:1\r\n:1\r\n", &["~[1, 1]"]),
        ok("set, empty", b"~0\r\n", &["~[]"]),
        ok("map", b"%1\r\n+a\r\n:1\r\n", &[r#"{+"a": 1}"#]),
        ok("map, empty", b"%0\r\n", &["{}"]),
        ok("map with an array as its key", b"%1\r\n*1\r\n:1\r\n:9\r\n", &["{[1]: 9}"]),
        ok("map with null as its key", b"%1\r\n$-1\r\n:9\r\n", &["{null: 9}"]),
        ok("map with a boolean as its key", b"%1\r\n#t\r\n:9\r\n", &["{true: 9}"]),
        ok(
            "map with a map as its value",
            b"%1\r\n+a\r\n%1\r\n+b\r\n:1\r\n",
            &[r#"{+"a": {+"b": 1}}"#],
        ),
        ok("set of maps", b"~1\r\n%1\r\n+a\r\n+b\r\n", &[r#"~[{+"a": +"b"}]"#]),
        ok("map with a key twice", b"%2\r\n+a\r\n:1\r\n+a\r\n:2\r\n", &[r#"{+"a": 1, +"a": 2}"#]),
        ok(
            "empty aggregates in an array",
            b"*4\r\n*0\r\n~0\r\n%0\r\n:1\r\n",
            &["[[], ~[], {}, 1]"],
        ),
        ok("error inside of an array", b"*2\r\n-ERR no\r\n:1\r\n", &[r#"[-"ERR no", 1]"#]),
        ok(
            "command description",
            key_spec,
            &[concat!(
                r#"[["get", 2, ~[+"readonly", +"fast"], 1, 1, 1, ~[+"@read", +"@string", +"@fast"], ~[], "#,
                r#"~[{"flags": ~[+"RO", +"access"], "begin_search": {"type": "index", "spec": "#,
                r#"{"index": 1}}, "find_keys": {}}], []], null]"#
            )],
        ),
        ok("count with leading zeros", b"*002\r\n:1\r\n:2\r\n", &["[1, 2]"]),
        wait("array without its last element", b"*2\r\n:1\r\n"),
        wait("map without its last value", b"%1\r\n:1\r\n"),
        bad("array, streamed with trailing digits", b"*?1\r\n", Reason::MalformedLength, 2),
    ]
}

fn attributes() -> Vec<Vector> {
    use Reason::*;
    let popularity = b"|1\r\n+key-popularity\r\n%2\r\n$1\r\na\r\n,0.1923\r\n$1\r\nb\r\n,0.0012\r\n\
                       *2\r\n:2039123\r\n:9543892\r\n";
    vec![
        ok(
            "attribute before a reply",
            popularity,
            &[r#"|{+"key-popularity": {"a": 0.1923, "b": 0.0012}} [2039123, 9543892]"#],
        ),
        ok(
            "attribute before an element",
            b"*3\r\n:1\r\n:2\r\n|1\r\n+ttl\r\n:3600\r\n:3\r\n",
            &[r#"[1, 2, |{+"ttl": 3600} 3]"#],
        ),
        ok(
            "two attributes in a row",
            b"|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n+OK\r\n",
            &[r#"|{+"a": 1, +"b": 2} +"OK""#],
        ),
        ok("attribute before null", b"|1\r\n+a\r\n:1\r\n_\r\n", &[r#"|{+"a": 1} null"#]),
        ok(
            "attribute before the null of RESP2",
            b"|1\r\n+a\r\n:1\r\n*-1\r\n",
            &[r#"|{+"a": 1} null"#],
        ),
        wait("attribute alone", b"|1\r\n+a\r\n:1\r\n"),
        wait("empty attribute alone", b"|0\r\n"),
        bad("attribute before a push", b"|1\r\n+a\r\n:1\r\n>1\r\n+x\r\n", AttributedPush, 12),
        bad(
            "attribute before a push inside of a reply",
            b"*1\r\n|1\r\n+a\r\n:1\r\n>1\r\n+x\r\n:5\r\n",
            AttributedPush,
            16,
        ),
        ok(
            "attribute before a key",
            b"%1\r\n|1\r\n+a\r\n:1\r\n+k\r\n+v\r\n",
            &[r#"{|{+"a": 1} +"k": +"v"}"#],
        ),
        ok(
            "attribute before a value",
            b"%1\r\n+k\r\n|1\r\n+a\r\n:1\r\n+v\r\n",
            &[r#"{+"k": |{+"a": 1} +"v"}"#],
        ),
        ok(
            "attribute inside of an attribute",
            b"|1\r\n+a\r\n|1\r\n+b\r\n:2\r\n:1\r\n+OK\r\n",
            &[r#"|{+"a": |{+"b": 2} 1} +"OK""#],
        ),
        ok(
            "attributes before an aggregate and its element",
            b"|1\r\n+a\r\n:1\r\n*1\r\n|1\r\n+b\r\n:2\r\n|1\r\n+c\r\n:3\r\n*0\r\n",
            &[r#"|{+"a": 1} [|{+"b": 2, +"c": 3} []]"#],
        ),
        ok("empty attribute", b"|0\r\n:1\r\n", &["1"]),
        ok(
            "empty attributes among others",
            b"|0\r\n|1\r\n+a\r\n:1\r\n|0\r\n|1\r\n+b\r\n:2\r\n|0\r\n:7\r\n",
            &[r#"|{+"a": 1, +"b": 2} 7"#],
        ),
        ok(
            "attribute and the next reply",
            b"|1\r\n+a\r\n:1\r\n:2\r\n:3\r\n",
            &[r#"|{+"a": 1} 2"#, "3"],
        ),
        ok(
            "attribute before a streamed string",
            b"|1\r\n+a\r\n:1\r\n$?\r\n;1\r\nx\r\n;0\r\n",
            &[r#"|{+"a": 1} "x""#],
        ),
        bad("attribute, streamed", b"|?\r\n", MalformedLength, 1),
        ok(
            "100,000 attributes in a row",
            repeat("|1\r\n+a\r\n:1\r\n", 100_000, "+OK\r\n"),
            &[&format!("|{{{}}} +\"OK\"", vec![r#"+"a": 1"#; 100_000].join(", "))],
        ),
    ]
}

fn pushes() -> Vec<Vector> {
    use Reason::*;
    let inside = b"*2\r\n:1\r\n>1\r\n+p\r\n:2\r\n";
    // What Redis 7.0 answers to a transaction that publishes to its own connection.
    let transaction = b"*3\r\n+PONG\r\n>3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$7\r\npayload\r\n\
                        >4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\nch\r\n$7\r\npayload\r\n\
                        :2\r\n+PONG\r\n";
    let delivered = [
        r#">["message", "ch", "payload"]"#,
        r#">["pmessage", "c*", "ch", "payload"]"#,
        r#"[+"PONG", 2, +"PONG"]"#,
    ];
    vec![
        ok("push", b">2\r\n$6\r\nLOLWUT\r\n:42\r\n", &[r#">["LOLWUT", 42]"#]),
        ok("push, empty", b">0\r\n+OK\r\n", &[">[]", r#"+"OK""#]),
        ok("push without a string in front", b">1\r\n:1\r\n", &[">[1]"]),
        ok("push between replies", b":1\r\n>1\r\n+p\r\n:2\r\n", &["1", r#">[+"p"]"#, "2"]),
        ok("push with a map in it", b">2\r\n+p\r\n%1\r\n+a\r\n:1\r\n", &[r#">[+"p", {+"a": 1}]"#]),
        ok("push inside of an array", inside, &[r#">[+"p"]"#, "[1, 2]"]),
        bad("push inside of an array, strict", inside, NestedPush, 8).strict(),
        ok("pushes inside of a transaction", transaction, &delivered),
        bad("pushes inside of a transaction, strict", transaction, NestedPush, 11).strict(),
        ok("push before the first element", b"*1\r\n>1\r\n+p\r\n:1\r\n", &[r#">[+"p"]"#, "[1]"]),
        ok("push between key and value", b"%1\r\n+k\r\n>1\r\n+p\r\n+v\r\n", &[
            r#">[+"p"]"#,
            r#"{+"k": +"v"}"#,
        ]),
        ok("push inside of a push", b">2\r\n+a\r\n>1\r\n+p\r\n+b\r\n", &[
            r#">[+"p"]"#,
            r#">[+"a", +"b"]"#,
        ]),
        ok("push inside of an attribute", b"|1\r\n+k\r\n>1\r\n+p\r\n+v\r\n:1\r\n", &[
            r#">[+"p"]"#,
            r#"|{+"k": +"v"} 1"#,
        ]),
        ok("empty push inside of an array", b"*1\r\n>0\r\n:1\r\n", &[">[]", "[1]"]),
        ok("push with aggregates inside of an array",
            b"*2\r\n*1\r\n>3\r\n*1\r\n+x\r\n$?\r\n;1\r\na\r\n;0\r\n|1\r\n+k\r\n:1\r\n*-1\r\n:1\r\n:2\r\n",
            &[r#">[[+"x"], "a", |{+"k": 1} null]"#, "[[1], 2]"]),
        ok("push before the end of a streamed array", b"*?\r\n:1\r\n>1\r\n+p\r\n.\r\n", &[
            r#">[+"p"]"#,
            "[1]",
        ]),
        bad("push inside of a streamed string", b"$?\r\n>1\r\n+p\r\n;0\r\n", MisplacedChunk, 4),
        bad("push, streamed", b">?\r\n", MalformedLength, 1),
        wait("reply with a push inside and nothing after it", b"*2\r\n:1\r\n>1\r\n+p\r\n"),
    ]
}

fn streamed() -> Vec<Vector> {
    use Reason::*;
    vec![
        ok(
            "streamed string",
            b"$?\r\n;4\r\nHell\r\n;5\r\no wor\r\n;1\r\nd\r\n;0\r\n",
            &[r#""Hello word""#],
        ),
        ok("streamed string, empty", b"$?\r\n;0\r\n", &[r#""""#]),
        ok(
            "streamed string, chunk that looks like an end",
            b"$?\r\n;4\r\n;0\r\n\r\n;0\r\n",
            &[r#"";0\r\n""#],
        ),
        ok("streamed array", b"*?\r\n:1\r\n:2\r\n:3\r\n.\r\n", &["[1, 2, 3]"]),
        ok("streamed array, empty", b"*?\r\n.\r\n", &["[]"]),
        ok("streamed map", b"%?\r\n+a\r\n:1\r\n+b\r\n:2\r\n.\r\n", &[r#"{+"a": 1, +"b": 2}"#]),
        ok("streamed set", b"~?\r\n:1\r\n.\r\n", &["~[1]"]),
        ok(
            "streamed string inside of an array",
            b"*2\r\n$?\r\n;1\r\na\r\n;0\r\n:1\r\n",
            &[r#"["a", 1]"#],
        ),
        ok(
            "streamed aggregates inside of each other",
            b"*?\r\n*?\r\n:1\r\n.\r\n~?\r\n.\r\n%?\r\n+k\r\n*?\r\n.\r\n.\r\n.\r\n",
            &[r#"[[1], ~[], {+"k": []}]"#],
        ),
        ok("streamed array and the next reply", b"*?\r\n.\r\n:1\r\n", &["[]", "1"]),
        ok("streamed string as a key", b"%1\r\n$?\r\n;1\r\na\r\n;0\r\n:1\r\n", &[r#"{"a": 1}"#]),
        bad("streamed map with a key and no value", b"%?\r\n+a\r\n.\r\n", MisplacedEnd, 8),
        bad("attribute before the end", b"*?\r\n|1\r\n+a\r\n:1\r\n.\r\n", MisplacedEnd, 16),
        bad("end at the top level", b".\r\n", MisplacedEnd, 0),
        bad("end inside of a counted array", b"*2\r\n:1\r\n.\r\n", MisplacedEnd, 8),
        bad("end with content", b"*?\r\n.x\r\n", MisplacedEnd, 5),
        bad(
            "bulk string inside of a streamed string",
            b"$?\r\n$4\r\nHell\r\n;0\r\n",
            MisplacedChunk,
            4,
        ),
        bad("end of an aggregate inside of a streamed string", b"$?\r\n.\r\n", MisplacedChunk, 4),
        bad("chunk at the top level", b";4\r\nHell\r\n", MisplacedChunk, 0),
        bad("chunk inside of an array", b"*1\r\n;0\r\n", MisplacedChunk, 4),
        bad("end of a streamed string in two digits", b"$?\r\n;00\r\n", MisplacedChunk, 4),
        bad("chunk with a sign", b"$?\r\n;-1\r\n", MalformedLength, 5),
        bad("chunk without a length", b"$?\r\n;\r\n", MalformedLength, 5),
        bad("chunk with a wrong end", b"$?\r\n;1\r\naXY", MissingCrlf, 9),
        bad("chunk above the largest bulk string", b"$?\r\n;536870913\r\n", BulkTooLong, 4),
        bad(
            "chunks above the largest bulk string together",
            b"$?\r\n;1\r\na\r\n;536870912\r\n",
            BulkTooLong,
            11,
        ),
        bad(
            "chunk of a length with sixty digits",
            repeat("", 0, &format!("$?\r\n;1\r\na\r\n;{}\r\n", "9".repeat(60))),
            BulkTooLong,
            11,
        ),
        bad("streamed string with content in its header", b"$?3\r\n", MalformedLength, 2),
        wait("streamed string without its end", b"$?\r\n;1\r\na\r\n"),
        wait("streamed string with half its end", b"$?\r\n;0\r"),
        wait("streamed array without its end", b"*?\r\n:1\r\n"),
        wait("streamed array with half its end", b"*?\r\n.\r"),
    ]
}

fn nesting() -> Vec<Vector> {
    use Reason::*;
    let nested = |name, depth: usize| {
        let printed = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        ok(name, repeat("*1\r\n", depth, ":1\r\n"), &[&printed])
    };
    let raised = |vector: Vector| vector.limits(|limits| limits.depth = 8_000);
    vec![
        nested("99 arrays", 99),
        nested("100 arrays", 100),
        nested("128 arrays", 128),
        nested("129 arrays", 129),
        nested("1,024 arrays", 1_024),
        bad("1,025 arrays", repeat("*1\r\n", 1_025, ":1\r\n"), TooDeep, 4_096),
        bad("1,024 arrays and an empty one", repeat("*1\r\n", 1_024, "*0\r\n"), TooDeep, 4_096),
        ok(
            "1,024 arrays and a streamed string",
            repeat("*1\r\n", 1_024, "$?\r\n;0\r\n"),
            &[&format!("{}\"\"{}", "[".repeat(1_024), "]".repeat(1_024))],
        ),
        bad("7,999 arrays", repeat("*1\r\n", 7_999, ":1\r\n"), TooDeep, 4_096),
        raised(nested("7,999 arrays where 8,000 may be", 7_999)),
        bad("100,000 arrays", repeat("*1\r\n", 100_000, ":1\r\n"), TooDeep, 4_096),
        bad("100,000 maps", repeat("%1\r\n+a\r\n", 100_000, "%0\r\n"), TooDeep, 8_192),
        bad(
            "100,000 attributes inside of each other",
            repeat("|1\r\n", 100_000, ""),
            TooDeep,
            4_096,
        ),
        bad("100,000 streamed arrays", repeat("*?\r\n", 100_000, ""), TooDeep, 4_096),
        bad("pushes inside of each other", repeat(">1\r\n", 1_025, ":1\r\n"), TooDeep, 4_096),
    ]
}

fn resp2() -> Vec<Vector> {
    use Reason::*;
    let refused = |name, wire: &'static str| bad(name, wire, NotInProtocol, 0).resp2();
    vec![
        ok(
            "RESP2, all of it",
            b"*5\r\n+a\r\n-b\r\n:1\r\n$1\r\nc\r\n*2\r\n$-1\r\n*-1\r\n",
            &[r#"[+"a", -"b", 1, "c", [null, null]]"#],
        )
        .resp2(),
        refused("RESP2, null", "_\r\n"),
        refused("RESP2, boolean", "#t\r\n"),
        refused("RESP2, double", ",1\r\n"),
        refused("RESP2, big number", "(1\r\n"),
        refused("RESP2, bulk error", "!1\r\na\r\n"),
        refused("RESP2, verbatim string", "=4\r\ntxt:\r\n"),
        refused("RESP2, map", "%0\r\n"),
        refused("RESP2, set", "~0\r\n"),
        refused("RESP2, push", ">0\r\n"),
        refused("RESP2, attribute", "|0\r\n"),
        refused("RESP2, end", ".\r\n"),
        refused("RESP2, chunk", ";0\r\n"),
        refused("RESP2, streamed string", "$?\r\n"),
        refused("RESP2, streamed array", "*?\r\n"),
        bad("RESP2, map inside of an array", b"*1\r\n%0\r\n", NotInProtocol, 4).resp2(),
        bad("RESP2, unknown type", b"x", UnknownType, 0).resp2(),
    ]
}

fn limits() -> Vec<Vector> {
    use Reason::*;
    vec![
        ok("line as long as allowed", b"+12345\r\n", &[r#"+"12345""#]).limits(|l| l.line_bytes = 5),
        bad("line longer than allowed", b"+123456\r\n", LineTooLong, 0)
            .limits(|l| l.line_bytes = 5),
        bad("line without an end, longer than allowed", b"-123456", LineTooLong, 0)
            .limits(|l| l.line_bytes = 5),
        bad("stray LF behind the longest line", b"+123456\n", LineTooLong, 0)
            .limits(|l| l.line_bytes = 5),
        ok("bulk as long as allowed", b"$5\r\n12345\r\n", &[r#""12345""#])
            .limits(|l| l.bulk_bytes = 5),
        bad("bulk longer than allowed", b"$6\r\n", BulkTooLong, 0).limits(|l| l.bulk_bytes = 5),
        bad("verbatim string longer than allowed", b"=6\r\n", BulkTooLong, 0)
            .limits(|l| l.bulk_bytes = 5),
        ok("as many elements as allowed", b"*2\r\n:1\r\n:2\r\n", &["[1, 2]"])
            .limits(|l| l.elements = 2),
        bad("more elements than allowed", b"*3\r\n", TooManyElements, 0).limits(|l| l.elements = 2),
        bad("more pairs than allowed", b"%2\r\n", TooManyElements, 0).limits(|l| l.elements = 2),
        ok("as many streamed elements as allowed", b"*?\r\n:1\r\n:2\r\n.\r\n", &["[1, 2]"])
            .limits(|l| l.elements = 2),
        bad(
            "more streamed elements than allowed",
            b"*?\r\n:1\r\n:2\r\n:3\r\n.\r\n",
            TooManyElements,
            12,
        )
        .limits(|l| l.elements = 2),
        bad(
            "more streamed aggregates than allowed",
            b"*?\r\n:1\r\n:2\r\n*1\r\n*0\r\n.\r\n",
            TooManyElements,
            12,
        )
        .limits(|l| l.elements = 2),
        bad(
            "more chunks than allowed",
            b"$?\r\n;1\r\na\r\n;1\r\nb\r\n;1\r\nc\r\n",
            TooManyElements,
            18,
        )
        .limits(|l| l.elements = 2),
        ok("frame as long as allowed", b"*1\r\n+123\r\n", &[r#"[+"123"]"#])
            .limits(|l| l.frame_bytes = 10),
        bad("frame longer than allowed", b"*1\r\n+1234\r\n", FrameTooLong, 4)
            .limits(|l| l.frame_bytes = 10),
        bad("frame with a bulk that cannot fit", b"*1\r\n$5\r\n", FrameTooLong, 4)
            .limits(|l| l.frame_bytes = 10),
        bad("frame without an end, longer than allowed", b"*?\r\n:1\r\n:2", FrameTooLong, 8)
            .limits(|l| l.frame_bytes = 10),
        ok(
            "frames of the allowed length in a row",
            b"+123\r\n+456\r\n",
            &[r#"+"123""#, r#"+"456""#],
        )
        .limits(|l| l.frame_bytes = 6),
        ok("as many nodes as allowed", b"*2\r\n:1\r\n:2\r\n", &["[1, 2]"])
            .limits(|l| l.tape_nodes = 4),
        bad("more nodes than allowed", b"*2\r\n:1\r\n:2\r\n", TooManyNodes, 8)
            .limits(|l| l.tape_nodes = 3),
        bad("more nodes than allowed, in an aggregate", b"*1\r\n*0\r\n", TooManyNodes, 4)
            .limits(|l| l.tape_nodes = 3),
        bad(
            "more nodes than allowed, in hoisted pushes",
            b"*1\r\n>1\r\n+a\r\n>1\r\n+b\r\n:1\r\n",
            TooManyNodes,
            16,
        )
        .limits(|l| l.tape_nodes = 7),
        ok("as deep as allowed", b"*1\r\n*1\r\n:1\r\n", &["[[1]]"]).limits(|l| l.depth = 2),
        bad("deeper than allowed", b"*1\r\n*1\r\n*1\r\n", TooDeep, 8).limits(|l| l.depth = 2),
        ok("nothing but scalars allowed", b":1\r\n", &["1"]).limits(|l| l.depth = 0),
        bad("no aggregate allowed", b"*0\r\n", TooDeep, 0).limits(|l| l.depth = 0),
        ok("as many digits as allowed", b"$00000000000000000003\r\nfoo\r\n", &[r#""foo""#])
            .limits(|l| l.header_digits = 20),
        bad("more digits than allowed", b"$000000000000000000003\r\nfoo\r\n", HeaderTooLong, 0)
            .limits(|l| l.header_digits = 20),
        ok("integer with as many digits as allowed", b":-00000000000000000123\r\n", &["-123"])
            .limits(|l| l.header_digits = 20),
        bad(
            "integer with more digits than allowed",
            b":-000000000000000000123\r\n",
            HeaderTooLong,
            0,
        )
        .limits(|l| l.header_digits = 20),
        ok("fewer digits than can be right, which is not allowed", b":123\r\n", &["123"])
            .limits(|l| l.header_digits = 2),
    ]
}

fn types() -> Vec<Vector> {
    use Reason::*;
    vec![
        bad("unknown type", b"x", UnknownType, 0),
        bad("answer of something else", b"HTTP/1.1 400 Bad Request\r\n", UnknownType, 0),
        bad("inline command", b"HELLO 3\r\n", UnknownType, 0),
        bad("zero byte", b"\0", UnknownType, 0),
        bad("unknown type inside of an array", b"*1\r\nx", UnknownType, 4),
        bad("quotation mark", b"\"OK\"\r\n", UnknownType, 0),
    ]
}

fn sequences() -> Vec<Vector> {
    let mut broken =
        bad("reply and then an error", b":1\r\n+a\r\n:x\r\n:2\r\n", Reason::MalformedInteger, 9);
    broken.frames = vec!["1".to_string(), r#"+"a""#.to_string()];
    let mut short = wait("reply and half of another", b":1\r\n$3\r\nfo");
    short.frames = vec!["1".to_string()];
    vec![
        broken,
        short,
        ok(
            "pipeline of replies",
            repeat("+OK\r\n:1\r\n$1\r\na\r\n*1\r\n_\r\n", 3, ""),
            &[
                r#"+"OK""#, "1", r#""a""#, "[null]", r#"+"OK""#, "1", r#""a""#, "[null]",
                r#"+"OK""#, "1", r#""a""#, "[null]",
            ],
        ),
    ]
}
