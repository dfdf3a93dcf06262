//! `respire decode` as a person or a script runs it.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use respire_cli::local_server::{Flavour, LocalServer};
use serde_json::{Value, json};

const COMPLETE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const WRONG_COMMAND_LINE: Option<i32> = Some(2);
const PROTOCOL_ERROR: Option<i32> = Some(3);
const INCOMPLETE: Option<i32> = Some(4);

fn respire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_respire"));
    command.arg("decode").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Writes what a test has to say to the command, which may stop listening before the end.
fn send(child: &mut Child, wire: &[u8]) -> thread::JoinHandle<()> {
    let mut stdin = child.stdin.take().unwrap();
    let wire = wire.to_vec();
    thread::spawn(move || drop(stdin.write_all(&wire)))
}

/// The exit status and standard output. Standard error stays empty.
fn decode(args: &[&str], wire: impl AsRef<[u8]>) -> (Option<i32>, String) {
    let mut child = respire(args).spawn().unwrap();
    let sender = send(&mut child, wire.as_ref());
    let output = child.wait_with_output().unwrap();
    sender.join().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The exit status and the objects that are printed with `--json`.
fn objects(args: &[&str], wire: impl AsRef<[u8]>) -> (Option<i32>, Vec<Value>) {
    let (code, output) = decode(&[&["--json"], args].concat(), wire);
    (code, output.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn simple(text: &str) -> Value {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    json!({"type": "simple", "data_hex": hex})
}

fn int(number: i64) -> Value {
    json!({"type": "int", "value": number.to_string()})
}

fn capture(name: &str) -> Vec<u8> {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../respire-codec/tests/captures");
    fs::read(captures.join(name)).unwrap()
}

/// What the codec's tests and fuzzers are fed.
fn corpus() -> Vec<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["../../fuzz/corpus/wire", "../respire-codec/tests/captures"];
    let entries = folders.into_iter().flat_map(|folder| fs::read_dir(crates.join(folder)).unwrap());
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_type_is_one_object_a_line() {
    let wire = b"+OK\r\n-ERR no\r\n!2\r\n\xff\n\r\n:-7\r\n$2\r\nhi\r\n_\r\n$-1\r\n*-1\r\n#t\r\n,1e+300\r\n\
        (123456789012345678901234567890\r\n(hello world\r\n=7\r\ntxt:abc\r\n*1\r\n:1\r\n~1\r\n:1\r\n\
        >1\r\n:1\r\n%1\r\n:1\r\n:2\r\n|1\r\n:1\r\n:2\r\n+OK\r\n$?\r\n;1\r\nh\r\n;1\r\ni\r\n;0\r\n\
        *?\r\n:1\r\n.\r\n~?\r\n.\r\n%?\r\n:1\r\n:2\r\n.\r\n";
    let hi = json!({"type": "bulk", "data_hex": "6869"});
    let null = json!({"type": "null"});
    let array = json!({"type": "array", "items": [int(1)]});
    let map = json!({"type": "map", "pairs": [[int(1), int(2)]]});
    let expected = [
        simple("OK"),
        json!({"type": "error", "kind": "simple", "data_hex": "455252206e6f"}),
        json!({"type": "error", "kind": "bulk", "data_hex": "ff0a"}),
        int(-7),
        hi.clone(),
        null.clone(),
        null.clone(),
        null,
        json!({"type": "bool", "value": true}),
        json!({"type": "double", "value": "1e+300"}),
        json!({"type": "bignum", "value": "123456789012345678901234567890"}),
        json!({"type": "bignum", "value": "hello world"}),
        json!({"type": "verbatim", "format": "txt", "data_hex": "616263"}),
        array.clone(),
        json!({"type": "set", "items": [int(1)]}),
        json!({"type": "push", "items": [int(1)]}),
        map.clone(),
        json!({"type": "attribute", "attrs": [[int(1), int(2)]], "value": simple("OK")}),
        hi,
        array,
        json!({"type": "set", "items": []}),
        map,
    ];
    for args in [&[][..], &["--strict"], &["--chunk", "1"], &["--protocol", "3"]] {
        let (code, objects) = objects(args, wire);
        assert_eq!((code, &objects[..]), (COMPLETE, &expected[..]), "{args:?}");
    }
}

#[test]
fn people_are_shown_lines() {
    let wire = b"%1\r\n$1\r\nk\r\n*2\r\n:1\r\n-E \xff\r\n|1\r\n+a\r\n+b\r\n_\r\n>0\r\n";
    let lines = r#"map of 1
  key: bulk "k"
  value: array of 2
    int 1
    error "E \xff"
attribute
  key: simple "a"
  value: simple "b"
  of: null
push of 0
"#;
    assert_eq!(decode(&[], wire), (COMPLETE, lines.to_owned()));
    assert_eq!(decode(&["--chunk", "3"], wire), (COMPLETE, lines.to_owned()));
}

#[test]
fn nothing_prints_nothing() {
    assert_eq!(decode(&[], ""), (COMPLETE, String::new()));
    assert_eq!(decode(&["--json", "--chunk", "1"], ""), (COMPLETE, String::new()));
}

#[test]
fn what_is_not_resp_ends_with_status_3() {
    for (args, wire, message, offset) in [
        (&[][..], "x", "unknown type byte", 0),
        (&[], "*2\r\n:1\r\n:1.5\r\n", "malformed integer", 10),
        (&[], "#y\r\n", "malformed boolean", 1),
        (&[], "*2\r\n:1\r\n*1\r\n,1.5.2\r\n", "malformed double", 12),
        (&[], "*1\r\n>1\r\n,x\r\n:1\r\n", "malformed double", 8),
        (&["--strict"], "*1\r\n>1\r\n+p\r\n:1\r\n", "push inside of a reply", 4),
        (&["--protocol", "2"], "_\r\n", "a type of RESP3 on a RESP2 connection", 0),
    ] {
        let wire = format!("+a\r\n{wire}");
        let expected = [simple("a"), json!({"protocol_error": message, "offset": offset + 4})];
        let (code, objects) = objects(args, &wire);
        assert_eq!((code, &objects[..]), (PROTOCOL_ERROR, &expected[..]), "{wire:?}");
        let (code, lines) = decode(args, &wire);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!((code, lines[0]), (PROTOCOL_ERROR, "simple \"a\""));
        assert_eq!(serde_json::from_str::<Value>(lines[1]).unwrap(), expected[1]);
    }
}

#[test]
fn what_is_not_whole_ends_with_status_4() {
    let wire = "+a\r\n*2\r\n:1\r\n>1\r\n+p\r\n:2";
    let rest = json!({"incomplete": true, "pending_bytes": 18});
    for args in [&[][..], &["--chunk", "1"], &["--chunk", "1000000"]] {
        let expected = vec![simple("a"), rest.clone()];
        assert_eq!(objects(args, wire), (INCOMPLETE, expected));
    }
    let lines = "simple \"a\"\n{\"incomplete\":true,\"pending_bytes\":18}\n";
    assert_eq!(decode(&[], wire), (INCOMPLETE, lines.to_owned()));
}

#[test]
fn a_wrong_command_line_ends_with_status_2() {
    for args in [["--protocol", "1"], ["--chunk", "0"], ["--json", "extra"]] {
        let output = respire(&args).output().unwrap();
        assert_eq!(output.status.code(), WRONG_COMMAND_LINE, "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn input_that_cannot_be_read_ends_with_status_1() {
    let folder = fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    let output = respire(&[]).stdin(folder).output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (FAILED, &b""[..]));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("respire: the input cannot be read: "), "{message}");
}

#[test]
fn help_documents_the_exit_status() {
    let output = respire(&["--help"]).output().unwrap();
    assert_eq!(output.status.code(), COMPLETE);
    let help = String::from_utf8(output.stdout).unwrap();
    for said in ["Exit status: 0 if", "3 after a protocol error", "4 if the input was incomplete"] {
        assert!(help.contains(said), "{help}");
    }
}

/// The text of `--help`, which fits on a screen of 80 columns.
fn help() -> String {
    let output = respire(&["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    // What is above is formatted by clap.
    let (_, text) = help.split_once("Each value is printed on a line").unwrap();
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    help
}

#[test]
fn help_shows_what_is_printed() {
    let wire = "%1\r\n$5\r\nflags\r\n~2\r\n+readonly\r\n:7\r\n|1\r\n+ttl\r\n,1.5\r\n_\r\n";
    let help = help();
    let shown = help.lines().skip_while(|line| !line.starts_with("  map of 1"));
    let shown = shown.take_while(|line| !line.starts_with("The types"));
    // The right column has the wire.
    let (left, right): (Vec<_>, Vec<_>) = shown.map(|line| line.split_at(34)).unzip();
    let left: String = left.iter().map(|line| format!("{}\n", line[2..].trim_end())).collect();
    assert_eq!(decode(&[], wire), (COMPLETE, left));
    let right: String =
        right.iter().map(|text| text.trim().replace(' ', "\r\n") + "\r\n").collect();
    assert_eq!(right, wire);
    let quoted =
        ("+\"'\\\t\x01\u{e9}\r\n", "simple \"\\\"\\'\\\\\\t\\x01\\xc3\\xa9\"\n".to_owned());
    assert_eq!(decode(&[], quoted.0), (COMPLETE, quoted.1));
}

#[test]
fn numbers_and_nulls_are_printed_as_help_says() {
    let help = help();
    for said in
        ["shortest form: :+007 is 7", "as it was sent", "forms _, $-1 and *-1", ".5, 5. or +inf"]
    {
        assert!(help.contains(said), "{said}");
    }
    for (wire, line) in
        [(":+007", "int 7"), (":-0", "int 0"), (",-nan", "double -nan"), ("(no", "bignum no")]
    {
        assert_eq!(decode(&[], format!("{wire}\r\n")), (COMPLETE, format!("{line}\n")));
    }
    for double in
        ["1", "+1", "-01.50", "1e5", "1.0E+2", "2e-07", "inf", "-inf", "nan", "-nan", "1e400"]
    {
        let line = format!("double {double}\n");
        assert_eq!(decode(&[], format!(",{double}\r\n")), (COMPLETE, line));
    }
    for double in ["", ".5", "5.", "+inf", "+nan", "INF", "infinity", "0x1", "1e", " 1", "1_0"] {
        let (code, line) = decode(&[], format!(",{double}\r\n"));
        assert_eq!(code, PROTOCOL_ERROR, "{double:?}");
        assert_eq!(line, "{\"protocol_error\":\"malformed double\",\"offset\":0}\n");
    }
    for null in ["_", "$-1", "*-1"] {
        assert_eq!(decode(&[], format!("{null}\r\n")), (COMPLETE, "null\n".to_owned()));
        assert_eq!(objects(&[], format!("{null}\r\n")), (COMPLETE, vec![json!({"type": "null"})]));
    }
}

#[test]
fn attributes_and_unfinished_lines_are_judged_as_help_says() {
    let help = help();
    for said in ["empty one is not shown", "when their line has ended", "in front of a push it is"]
    {
        assert!(help.contains(said), "{said}");
    }
    assert_eq!(decode(&[], "|0\r\n:1\r\n"), (COMPLETE, "int 1\n".to_owned()));
    for cut in [",x", ",1.5.", ":9223372036854775808"] {
        let line = format!("{{\"incomplete\":true,\"pending_bytes\":{}}}\n", cut.len());
        assert_eq!(decode(&[], cut), (INCOMPLETE, line));
    }
    let before_push = "|1\r\n+a\r\n:1\r\n>1\r\n+p\r\n:5\r\n";
    assert_eq!(decode(&[], before_push).0, PROTOCOL_ERROR);
}

#[test]
fn offsets_are_those_that_help_promises() {
    let help = help();
    assert!(help.contains("The offset counts bytes from the start of the input"), "{help}");
    for (wire, offset) in [
        // The first byte that cannot be right.
        ("*2\r\n:1x\r\n", 6),
        ("#y\r\n", 1),
        ("$1\r\nabc", 5),
        ("+a\nb\r\n", 2),
        ("+a\r\n?", 4),
        ("$x\r\n", 1),
        ("=5\r\ntxt,a\r\n", 7),
        // A value as a whole.
        ("*1\r\n,1.5.2\r\n", 4),
        ("*1\r\n:9223372036854775808\r\n", 4),
        ("*1\r\n.\r\n", 4),
        ("*1\r\n;1\r\n", 4),
        ("|1\r\n:1\r\n:1\r\n>1\r\n", 12),
        ("*1\r\n$536870913\r\n", 4),
        ("*1\r\n=3\r\ntxt\r\n", 4),
    ] {
        let (code, objects) = objects(&[], wire);
        let last = objects.last().unwrap();
        assert_eq!((code, &last["offset"]), (PROTOCOL_ERROR, &json!(offset)), "{wire:?}");
        assert_eq!(objects.len(), 1 + usize::from(wire.starts_with("+a\r")), "{wire:?}");
    }
}

#[test]
fn of_a_frame_that_is_wrong_or_cut_off_nothing_is_printed() {
    let pushed = "+a\r\n*3\r\n:1\r\n>1\r\n+p\r\n";
    for args in [&[][..], &["--chunk", "1"]] {
        let cut = json!({"incomplete": true, "pending_bytes": 16});
        assert_eq!(objects(args, pushed), (INCOMPLETE, vec![simple("a"), cut]));
        for (rest, message, offset) in [
            (":x\r\n", "malformed integer", 21),
            (",x\r\n", "malformed double", 20),
            // The frame is cut off, and wrong before that.
            (",x\r\n:1", "malformed double", 20),
            ("*9\r\n#x", "malformed boolean", 25),
            // Of two errors, the first.
            (",x\r\n:x\r\n", "malformed double", 20),
            (":x\r\n,x\r\n", "malformed integer", 21),
        ] {
            let error = json!({"protocol_error": message, "offset": offset});
            let expected = (PROTOCOL_ERROR, vec![simple("a"), error]);
            assert_eq!(objects(args, format!("{pushed}{rest}")), expected, "{rest:?}");
        }
    }
}

#[test]
fn the_readme_shows_what_is_printed() {
    let readme = include_str!("../../../README.md");
    let wire = r"%1\r\n+ttl\r\n:60\r\n*2\r\n$1\r\na\r\n,1.5.2\r\n";
    assert!(readme.contains(&wire.replace('%', "%%")));
    let (code, output) = decode(&[], wire.replace(r"\r\n", "\r\n"));
    assert_eq!(code, PROTOCOL_ERROR);
    assert!(readme.contains(&format!("```text\n{output}```\n")), "{output}");
}

#[test]
fn a_push_inside_of_a_reply_is_printed_in_front_of_it() {
    let push = |name: &str| json!({"type": "push", "items": [simple(name)]});
    let wire = "*2\r\n:1\r\n>1\r\n+p\r\n*1\r\n>1\r\n+q\r\n:2\r\n>1\r\n+r\r\n";
    let inner = json!({"type": "array", "items": [int(2)]});
    let reply = json!({"type": "array", "items": [int(1), inner]});
    let expected = vec![push("p"), push("q"), reply, push("r")];
    for args in [&[][..], &["--chunk", "1"]] {
        assert_eq!(objects(args, wire), (COMPLETE, expected.clone()));
    }

    // A transaction that published to its own connection, as Redis 7.0 answered it.
    let (code, objects) = objects(&[], capture("redis-transaction"));
    let bulk = |hex: &str| json!({"type": "bulk", "data_hex": hex});
    let message = [bulk("6d657373616765"), bulk("6368"), bulk("6869")];
    let reply = [simple("PONG"), int(1), simple("PONG")];
    let expected =
        [json!({"type": "push", "items": message}), json!({"type": "array", "items": reply})];
    assert_eq!((code, &objects[5..]), (COMPLETE, &expected[..]));
    assert_eq!(decode(&["--strict"], capture("redis-transaction")).0, PROTOCOL_ERROR);
    assert_eq!(decode(&["--strict"], capture("valkey-transaction")).0, COMPLETE);
}

#[test]
fn attributes_may_be_inside_of_attributes() {
    let wire =
        "*1\r\n|1\r\n|1\r\n+a\r\n:1\r\n+b\r\n|1\r\n+c\r\n:2\r\n:3\r\n|1\r\n+d\r\n:4\r\n:5\r\n";
    let attribute =
        |attrs: Value, value: Value| json!({"type": "attribute", "attrs": attrs, "value": value});
    let key = attribute(json!([[simple("a"), int(1)]]), simple("b"));
    let value = attribute(json!([[simple("c"), int(2)]]), int(3));
    let element = attribute(json!([[key, value], [simple("d"), int(4)]]), int(5));
    let expected = vec![json!({"type": "array", "items": [element]})];
    assert_eq!(objects(&["--chunk", "1"], wire), (COMPLETE, expected));
}

#[test]
fn nesting_is_printed_down_to_the_limit() {
    let nested = |levels| "*1\r\n".repeat(levels) + ":7\r\n";
    let (code, line) = decode(&["--json"], nested(1024));
    let array = r#"{"type":"array","items":["#.repeat(1024);
    let expected = array + r#"{"type":"int","value":"7"}"# + &"]}".repeat(1024) + "\n";
    assert!((code, line) == (COMPLETE, expected));

    let (code, lines) = decode(&[], nested(1024));
    assert_eq!((code, lines.lines().count()), (COMPLETE, 1025));
    assert_eq!(lines.lines().last().unwrap().trim_start(), "[1024] int 7");
    assert!(lines.lines().all(|line| line.len() < 100), "indentation has a bound");

    let too_deep = json!({"protocol_error": "nested deeper than the limit", "offset": 4096});
    for wire in [nested(1025), nested(1_000_000)] {
        assert_eq!(objects(&[], wire), (PROTOCOL_ERROR, vec![too_deep.clone()]));
    }
    for name in ["valkey-nested", "redis-nested"] {
        assert_eq!(objects(&[], capture(name)), (PROTOCOL_ERROR, vec![too_deep.clone()]));
    }
}

#[test]
fn byte_by_byte_prints_the_same() {
    let mut codes = Vec::new();
    for path in corpus() {
        let wire = fs::read(&path).unwrap();
        let whole = decode(&["--json"], &wire);
        assert!(whole == decode(&["--json", "--chunk", "1"], &wire), "{}", path.display());
        codes.push(whole.0);
    }
    for code in [COMPLETE, PROTOCOL_ERROR, INCOMPLETE] {
        assert!(codes.iter().filter(|other| **other == code).count() > 10, "{code:?}");
    }
}

#[test]
fn frames_are_printed_when_they_arrive() {
    let mut child = respire(&[]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..3 {
        write!(stdin, ":{number}\r\n$5").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("int {number}"));
        stdin.write_all(b"\r\nhello\r\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "bulk \"hello\"");
    }
    drop(stdin);
    assert!(lines.next().is_none());
    assert_eq!(child.wait().unwrap().code(), COMPLETE);
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let mut child = respire(&["--json"]).spawn().unwrap();
    let sender = send(&mut child, &b":1\r\n".repeat(1 << 20));
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "{\"type\":\"int\",\"value\":\"1\"}\n");
    let output = child.wait_with_output().unwrap();
    sender.join().unwrap();
    assert_eq!((output.status.code(), output.stderr), (COMPLETE, Vec::new()));
}

/// What a server answers to commands in one line each, the last of which is QUIT.
fn ask(server: &LocalServer, commands: &str) -> Vec<u8> {
    let mut socket = UnixStream::connect(server.socket_path()).unwrap();
    socket.write_all(commands.as_bytes()).unwrap();
    let mut replies = Vec::new();
    socket.read_to_end(&mut replies).unwrap();
    replies
}

#[test]
fn servers_describe_their_commands_in_resp3() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).expect("both servers are needed for the tests");
        let wire = ask(&server, "HELLO 3\r\nCOMMAND\r\nQUIT\r\n");
        let (code, printed) = objects(&[], &wire);
        assert_eq!(code, COMPLETE);
        let [hello, commands, ok] = &printed[..] else { panic!("three replies") };
        let proto = json!([{"type": "bulk", "data_hex": "70726f746f"}, int(3)]);
        assert!(hello["pairs"].as_array().unwrap().contains(&proto), "{hello}");
        let commands = commands["items"].as_array().unwrap();
        let get = json!({"type": "bulk", "data_hex": "676574"});
        let get = commands.iter().find(|command| command["items"][0] == get).unwrap();
        assert_eq!(get["items"][1], int(2));
        assert!(get["items"][2]["items"].as_array().unwrap().contains(&simple("fast")));
        // Key specifications, which are maps in a set.
        assert_eq!(get["items"][8]["type"], "set");
        assert_eq!(get["items"][8]["items"][0]["type"], "map");
        assert_eq!(ok, &simple("OK"));
        assert!(commands.len() > 200);

        assert_eq!(objects(&["--chunk", "1"], &wire), (COMPLETE, printed));
        let refused =
            json!({"protocol_error": "a type of RESP3 on a RESP2 connection", "offset": 0});
        assert_eq!(objects(&["--protocol", "2"], &wire), (PROTOCOL_ERROR, vec![refused]));
        let (code, lines) = decode(&[], &wire);
        assert!(code == COMPLETE && lines.starts_with("map of "));
    }
}

#[test]
fn servers_answer_in_resp2_until_they_are_asked_for_resp3() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).expect("both servers are needed for the tests");
        let wire = ask(&server, "GET absent\r\nHKEYS absent\r\nNONESUCH\r\nQUIT\r\n");
        let (code, printed) = objects(&["--protocol", "2"], &wire);
        assert_eq!((code, printed.len()), (COMPLETE, 4));
        assert_eq!(printed[0], json!({"type": "null"}));
        assert_eq!(printed[1], json!({"type": "array", "items": []}));
        assert_eq!((&printed[2]["type"], &printed[2]["kind"]), (&json!("error"), &json!("simple")));
    }
}
