//! What real servers answered, byte for byte, where it breaks other clients.
//!
//! The files in `captures/` were written by the ignored test at the end from
//! Valkey 8.0.1 and Redis 7.0.15.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod properties;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use properties::{End, outcome, take_batches, take_each, whole};
use respire_codec::{
    Decoder, DecoderConfig, Frame, Limits, Mode, Protocol, Reason, Value, ValueRef, encode,
};

const SERVERS: [&str; 2] = ["valkey", "redis"];

fn path(server: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(format!("{server}-{name}"))
}

fn capture(server: &str, name: &str) -> Vec<u8> {
    fs::read(path(server, name)).unwrap()
}

/// Room for the 7,999 arrays that a script can nest.
fn deep() -> DecoderConfig {
    let limits = Limits { depth: 8_000, ..Limits::default() };
    DecoderConfig { limits, ..DecoderConfig::default() }
}

fn frames(server: &str, name: &str) -> Vec<Frame> {
    let mut src = BytesMut::from(&capture(server, name)[..]);
    let mut frames = Vec::new();
    take_each(&mut Decoder::new(deep()), &mut src, &mut frames).unwrap();
    assert!(src.is_empty());
    frames
}

fn printed(server: &str, name: &str) -> Vec<String> {
    frames(server, name).iter().map(|frame| format!("{frame:?}")).collect()
}

fn each(check: impl Fn(&str, &str)) {
    for server in SERVERS {
        for name in [
            "command",
            "command-info",
            "command-docs",
            "nested",
            "lua-types",
            "errors",
            "doubles",
            "nulls",
            "pushes",
            "transaction",
            "resp2",
            "long-status",
        ] {
            check(server, name);
        }
    }
}

#[test]
fn captures_do_not_depend_on_how_they_are_cut() {
    each(|server, name| {
        let wire = capture(server, name);
        let expected = whole(deep(), &wire);
        assert_eq!(expected.end, End::Clean, "{server} {name}");
        for piece in [1, 7, 1460] {
            assert_eq!(outcome(deep(), wire.chunks(piece), take_each), expected);
            assert_eq!(outcome(deep(), wire.chunks(piece), take_batches), expected);
        }
        let step = wire.len() / 97 + 1;
        for cut in (0..wire.len()).step_by(step) {
            let (left, right) = wire.split_at(cut);
            assert_eq!(outcome(deep(), [left, right], take_each), expected);
        }
    });
}

#[test]
fn captures_are_encoded_as_the_servers_did() {
    each(|server, name| {
        let protocol = if name == "resp2" { Protocol::Resp2 } else { Protocol::Resp3 };
        let mut again = BytesMut::new();
        for frame in frames(server, name) {
            let start = again.len();
            encode::reply(&mut again, &frame.to_value(), protocol).unwrap();
            // The null array of RESP2 is encoded as its null string, and pushes
            // that were taken out of a reply are still in its bytes.
            let same = again[start..] == frame.bytes()[..];
            let null = protocol == Protocol::Resp2 && format!("{frame:?}").contains("null");
            let hoisted = server == "redis" && name == "transaction";
            assert!(same || null || hoisted, "{server} {name} {frame:?}");
        }
    });
}

#[test]
fn commands_are_described_by_sets_of_maps() {
    for server in SERVERS {
        let [commands] = &frames(server, "command-info")[..] else { panic!("one reply") };
        let commands: Vec<Vec<ValueRef<'_>>> = commands.parse().unwrap();
        let get = commands.iter().find(|parts| parts[0].parse() == Ok("get")).unwrap();
        assert_eq!(get[1].parse(), Ok(2));
        let flags: HashSet<&str> = get[2].parse().unwrap();
        assert_eq!(flags, HashSet::from(["readonly", "fast"]));
        assert_eq!(commands.len(), 5);
        let Value::Set(mut specs) = get[8].get() else { panic!("key specifications are a set") };
        let spec: HashMap<&str, ValueRef<'_>> = specs.next().unwrap().parse().unwrap();
        assert!(spec.contains_key("begin_search"));

        let [commands] = &frames(server, "command")[..] else { panic!("one reply") };
        let commands: Vec<Vec<ValueRef<'_>>> = commands.parse().unwrap();
        assert!(commands.len() > 200);
        assert!(commands.iter().all(|parts| parts.len() == 10));
    }
}

#[test]
fn documentation_is_a_map_of_maps() {
    for server in SERVERS {
        let [docs] = &frames(server, "command-docs")[..] else { panic!("one reply") };
        let docs: HashMap<&str, HashMap<&str, ValueRef<'_>>> = docs.parse().unwrap();
        assert_eq!(docs["get"]["group"].parse(), Ok("string"));
        assert!(docs["set"].contains_key("history"));
    }
}

#[test]
fn a_script_nests_as_deep_as_it_likes() {
    for server in SERVERS {
        let wire = capture(server, "nested");
        let refused = whole(DecoderConfig::default(), &wire);
        assert_eq!(refused.end, End::Error(Reason::TooDeep, 4 * 1024));
        // The scripting engine's own limit, told from the innermost place.
        let innermost = "-\"ERR reached lua stack limit\"";
        let expected = format!("{}{innermost}{}", "[".repeat(7_995), "]".repeat(7_995));
        assert!(printed(server, "nested") == [expected]);
    }
}

#[test]
fn a_status_is_as_long_as_a_script_likes() {
    for server in SERVERS {
        let [status] = &frames(server, "long-status")[..] else { panic!("one reply") };
        assert_eq!(status.parse::<&str>().map(str::len), Ok(70_000));
    }
}

#[test]
fn scripts_send_every_type_and_odd_ones() {
    for server in SERVERS {
        assert_eq!(
            printed(server, "lua-types"),
            [
                r#"x  :"hi""#,
                r#"htm:"hi""#,
                "(hello world",
                "(a  b",
                r#"+"a  b""#,
                r#"+"""#,
                r#"-"""#,
                "true",
                "{true: 1}",
                "~[1]",
                "1.5",
            ]
        );
    }
    let [.., junk, _, _, _, _, _, _, _, _] = &frames("valkey", "lua-types")[..] else { panic!() };
    assert!(junk.parse::<i128>().is_err() && junk.parse::<&str>() == Ok("hello world"));
}

#[test]
fn errors_are_not_always_utf8() {
    for server in SERVERS {
        let frames = frames(server, "errors");
        let error = frames[0].value().error().unwrap();
        assert!(error.starts_with(b"ERR unknown command '\xff\xfe'"));
        assert!(std::str::from_utf8(error).is_err());
        assert!(frames[1].value().error().unwrap().starts_with(b"WRONGTYPE "));
    }
}

#[test]
fn doubles_are_spelled_as_each_server_does() {
    let number = |server: &str, at: usize| frames(server, "doubles")[at].parse::<f64>().unwrap();
    for server in SERVERS {
        assert_eq!(number(server, 0), 0.1);
        assert_eq!(number(server, 1), f64::INFINITY);
        assert_eq!(number(server, 2), f64::NEG_INFINITY);
        assert_eq!(number(server, 3), 1e300);
        assert!(number(server, 4).is_nan());
    }
    assert_eq!(printed("valkey", "doubles"), ["0.1", "inf", "-inf", "1e+300", "nan"]);
    assert_eq!(
        printed("redis", "doubles"),
        ["0.10000000000000001", "inf", "-inf", "1.0000000000000001e+300", "-nan",]
    );
}

#[test]
fn nulls_are_null() {
    for server in SERVERS {
        assert_eq!(printed(server, "nulls"), ["null", "null", r#"["a", null]"#]);
    }
}

#[test]
fn pushes_come_between_replies() {
    for server in SERVERS {
        let printed = printed(server, "pushes");
        assert_eq!(printed[0], r#"+"OK""#);
        assert!(printed.contains(&r#">["invalidate", ["k"]]"#.to_string()));
        assert!(printed.contains(&r#">["subscribe", "ch", 1]"#.to_string()));
        assert!(printed.contains(&r#">["message", "ch", "hi"]"#.to_string()));
    }
}

#[test]
fn a_transaction_that_publishes_to_itself_is_read_right() {
    let expected =
        [r#">["subscribe", "ch", 1]"#, r#"+"OK""#, r#"+"QUEUED""#, r#"+"QUEUED""#, r#"+"QUEUED""#];
    let message = r#">["message", "ch", "hi"]"#;
    let reply = r#"[+"PONG", 1, +"PONG"]"#;
    let redis = printed("redis", "transaction");
    assert_eq!(redis[..5], expected);
    assert_eq!(redis[5..], [message, reply], "the push was inside of the reply");
    let valkey = printed("valkey", "transaction");
    assert_eq!(valkey[..5], expected);
    assert_eq!(valkey[5..], [reply, message], "the push came after the reply");

    let strict = DecoderConfig { mode: Mode::Strict, ..DecoderConfig::default() };
    let refused = whole(strict, &capture("redis", "transaction"));
    assert!(matches!(refused.end, End::Error(Reason::NestedPush, _)));
    let accepted = whole(strict, &capture("valkey", "transaction"));
    assert_eq!(accepted.end, End::Clean);
}

#[test]
fn the_old_protocol_is_read_by_either_decoder() {
    for server in SERVERS {
        let wire = capture(server, "resp2");
        let config = DecoderConfig { protocol: Protocol::Resp2, ..DecoderConfig::default() };
        assert_eq!(whole(config, &wire), whole(DecoderConfig::default(), &wire));
        assert_eq!(
            printed(server, "resp2"),
            [
                "2",
                r#"["f", "1", "g", "2"]"#,
                "null",
                "null",
                r#"["0.5"]"#,
                r#"["subscribe", "ch", 1]"#,
                r#"["pong", ""]"#,
            ]
        );
        let [_, hash, ..] = &frames(server, "resp2")[..] else { panic!("a hash") };
        let hash: HashMap<&str, u8> = hash.parse().unwrap();
        assert_eq!(hash, HashMap::from([("f", 1), ("g", 2)]));
    }
}

/// Writes the captures of one server. Start it on an empty database and name
/// its Unix socket in `CAPTURE_SOCKET` and its kind in `CAPTURE_SERVER`.
#[cfg(unix)]
#[test]
#[ignore = "needs a server, and writes to the source tree"]
fn capture_from_a_server() {
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    let socket = std::env::var("CAPTURE_SOCKET").unwrap();
    let server = std::env::var("CAPTURE_SERVER").unwrap();
    let capture = |name: &str, resp3: bool, prepare: &[&[&[u8]]], commands: &[&[&[u8]]]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut exchange = |command: &[&[u8]]| {
            let mut request = BytesMut::new();
            encode::command(&mut request, command);
            stream.write_all(&request).unwrap();
            let mut answer = Vec::new();
            let end = stream.read_to_end(&mut answer);
            assert!(end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
            answer
        };
        if resp3 {
            exchange(&[b"HELLO", b"3"]);
        }
        for command in prepare {
            exchange(command);
        }
        let answers: Vec<Vec<u8>> = commands.iter().map(|command| exchange(command)).collect();
        fs::write(path(&server, name), answers.concat()).unwrap();
    };
    let script = |body: &str| format!("redis.setresp(3) return {body}").into_bytes();
    let types: Vec<Vec<u8>> = [
        "{verbatim_string={format='x', string='hi'}}",
        "{verbatim_string={format='html5', string='hi'}}",
        "{big_number='hello world'}",
        "{big_number='a\\r\\nb'}",
        "{ok='a\\r\\nb'}",
        "{ok=''}",
        "{err=''}",
        "true",
        "{map={[true]=1}}",
        "{set={[1]=true}}",
        "{double=1.5}",
    ]
    .map(script)
    .into();
    let types: Vec<[&[u8]; 3]> = types.iter().map(|body| [&b"EVAL"[..], body, b"0"]).collect();
    let types: Vec<&[&[u8]]> = types.iter().map(|command| &command[..]).collect();
    let nested = b"local t='x' for i=1,7998 do t={t} end return t";
    capture("command", true, &[], &[&[b"COMMAND"]]);
    let status = b"return {ok=string.rep('x',70000)}";
    capture("long-status", true, &[], &[&[b"EVAL", status, b"0"]]);
    capture(
        "command-info",
        true,
        &[],
        &[&[b"COMMAND", b"INFO", b"get", b"sort", b"xadd", b"migrate", b"object"]],
    );
    capture("command-docs", true, &[], &[&[b"COMMAND", b"DOCS", b"get", b"set", b"xread"]]);
    capture("nested", true, &[], &[&[b"EVAL", nested, b"0"]]);
    capture("lua-types", true, &[], &types);
    capture(
        "errors",
        true,
        &[&[b"SET", b"s", b"x"]],
        &[&[b"\xff\xfe", b"\xe9"], &[b"LPUSH", b"s", b"x"]],
    );
    let members: &[&[u8]] =
        &[b"ZADD", b"z", b"0.1", b"a", b"inf", b"b", b"-inf", b"c", b"1e300", b"d"];
    capture(
        "doubles",
        true,
        &[members],
        &[
            &[b"ZSCORE", b"z", b"a"],
            &[b"ZSCORE", b"z", b"b"],
            &[b"ZSCORE", b"z", b"c"],
            &[b"ZSCORE", b"z", b"d"],
            &[b"EVAL", b"redis.setresp(3) return {double=0/0}", b"0"],
        ],
    );
    capture(
        "nulls",
        true,
        &[&[b"SET", b"a", b"a"]],
        &[&[b"GET", b"nowhere"], &[b"BLPOP", b"nowhere", b"0.1"], &[b"MGET", b"a", b"nowhere"]],
    );
    capture(
        "pushes",
        true,
        &[],
        &[
            &[b"CLIENT", b"TRACKING", b"ON"],
            &[b"GET", b"k"],
            &[b"SET", b"k", b"v"],
            &[b"SUBSCRIBE", b"ch"],
            &[b"PUBLISH", b"ch", b"hi"],
        ],
    );
    capture(
        "transaction",
        true,
        &[],
        &[
            &[b"SUBSCRIBE", b"ch"],
            &[b"MULTI"],
            &[b"PING"],
            &[b"PUBLISH", b"ch", b"hi"],
            &[b"PING"],
            &[b"EXEC"],
        ],
    );
    capture(
        "resp2",
        false,
        &[&[b"ZADD", b"y", b"0.5", b"m"]],
        &[
            &[b"HSET", b"h", b"f", b"1", b"g", b"2"],
            &[b"HGETALL", b"h"],
            &[b"GET", b"nowhere"],
            &[b"BLPOP", b"nowhere", b"0.1"],
            &[b"ZMSCORE", b"y", b"m"],
            &[b"SUBSCRIBE", b"ch"],
            &[b"PING"],
        ],
    );
}
