use std::time::Duration;

use bytes::{Bytes, BytesMut};
use respire_codec::encode;

use super::*;

fn wire(packet: &Packet) -> Vec<u8> {
    packet.to_vec()
}

fn single(command: Command) -> Vec<u8> {
    wire(&command.into_packet().unwrap())
}

#[test]
fn a_command_is_an_array_of_bulk_strings() {
    let command = Command::new("SET").arg("key").arg(b"\r\n\0").arg("PX").arg(1500_u32);
    assert_eq!(
        single(command),
        b"*5\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\n\r\n\0\r\n$2\r\nPX\r\n$4\r\n1500\r\n"
    );
}

#[test]
fn numbers_go_out_in_decimal() {
    let command = Command::new("X")
        .args([i64::MIN, -1, 0])
        .arg(u64::MAX)
        .arg(0.1)
        .arg(f64::INFINITY)
        .arg(f64::NEG_INFINITY)
        .arg(f64::NAN);
    let text = String::from_utf8(single(command)).unwrap();
    let args: Vec<_> = text.split("\r\n").skip(4).step_by(2).collect();
    assert_eq!(
        args,
        ["-9223372036854775808", "-1", "0", "18446744073709551615", "0.1", "inf", "-inf", "nan"]
    );
}

#[test]
fn a_pipeline_built_either_way_has_the_same_bytes() {
    let mut pushed = Pipeline::new();
    pushed.push(Command::new("GET").arg("a")).push(Command::new("PING"));
    let mut slices = Pipeline::with_capacity(64);
    slices.command(&["GET", "a"]).command(&["PING"]);
    assert_eq!(pushed.len(), slices.len());
    let pushed = pushed.into_packet().unwrap();
    assert_eq!(pushed.replies, 2);
    assert_eq!(wire(&pushed), wire(&slices.into_packet().unwrap()));
}

#[test]
fn what_would_change_or_block_the_connection_for_all_is_refused() {
    for words in [
        &["SELECT", "1"][..],
        &["select", "1"],
        &["AUTH", "secret"],
        &["HELLO", "2"],
        &["RESET"],
        &["QUIT"],
        &["WATCH", "k"],
        &["BLPOP", "k", "0"],
        &["brpoplpush", "a", "b", "0"],
        &["XREAD", "block", "0", "STREAMS", "s", "$"],
        &["SUBSCRIBE", "c"],
        &["PUNSUBSCRIBE"],
        &["SUNSUBSCRIBE"],
        &["MONITOR"],
        &["PSYNC", "?", "-1"],
        &["CLIENT", "reply", "OFF"],
        &["CLIENT", "TRACKING", "ON"],
        &["CLIENT", "caching", "YES"],
        &["CLIENT", "SETNAME", "n"],
        &["CLIENT", "NO-EVICT", "ON"],
        &["ASKING"],
        &["SCRIPT", "DEBUG", "YES"],
        &["XREADGROUP", "GROUP", "streams", "c", "BLOCK", "1500", "STREAMS", "s", ">"],
        &["DISCARD"],
        &["MULTI", "x"],
        &["EXEC", "x"],
        &["MULTI"],
        &["EXEC"],
    ] {
        let command = Command::new(words[0]).args(&words[1..]);
        assert!(command.clone().into_packet().is_err(), "{words:?} alone");
        let mut pipeline = Pipeline::new();
        pipeline.command(&["PING"]).push(command);
        assert!(pipeline.into_packet().is_err(), "{words:?} in a pipeline");
        let mut pipeline = Pipeline::new();
        pipeline.command(words).command(&["PING"]);
        assert!(pipeline.into_packet().is_err(), "{words:?} in a pipeline, from slices");
    }
}

#[test]
fn what_only_looks_alike_is_let_through() {
    for words in [
        &["CLIENT", "ID"][..],
        &["CLIENT"],
        &["XREAD", "COUNT", "1", "STREAMS", "BLOCK", "0"],
        &["XREADGROUP", "GROUP", "BLOCK", "block", "COUNT", "1", "STREAMS", "s", ">"],
        &["SCRIPT", "LOAD", "return 1"],
        &["SELECTED", "1"],
        &["WAITING"],
        &[""],
        &["A-NAME-LONGER-THAN-ANY-REFUSED-ONE"],
    ] {
        assert!(Command::new(words[0]).args(&words[1..]).into_packet().is_ok(), "{words:?}");
    }
}

#[test]
fn a_transaction_stands_whole_in_a_pipeline() {
    let transaction = |words: &[&str]| {
        let mut pipeline = Pipeline::new();
        for word in words {
            pipeline.command(&[word]);
        }
        pipeline.into_packet()
    };
    assert!(transaction(&["MULTI", "PING", "EXEC"]).is_ok());
    assert!(transaction(&["multi", "exec", "MULTI", "EXEC", "PING"]).is_ok());
    assert!(transaction(&["MULTI", "PING", "DISCARD"]).is_err());
    assert!(transaction(&["MULTI", "PING"]).is_err());
    assert!(transaction(&["MULTI", "MULTI", "EXEC"]).is_err());
    assert!(transaction(&["MULTI", "EXEC", "EXEC"]).is_err());
    assert!(transaction(&["EXEC", "MULTI"]).is_err());
}

#[test]
fn debug_shows_no_argument() {
    let command = Command::new("SET").arg("key").arg("secret");
    let shown = format!("{command:?}");
    assert!(
        shown.contains("SET") && !shown.contains("secret") && !shown.contains("key"),
        "{shown}"
    );
    let mut pipeline = Pipeline::new();
    pipeline.push(command);
    assert!(!format!("{pipeline:?}").contains("secret"));
}

#[test]
fn the_longest_header_fits() {
    assert_eq!(Header::array(usize::MAX).as_ref(), format!("*{}\r\n", usize::MAX).as_bytes());
}

#[test]
fn large_values_are_sent_from_where_they_are() {
    let value = Bytes::from(vec![b'v'; LARGE_BYTES]);
    let small = value.slice(1..);
    let command =
        Command::new("MSET").arg("a").arg(&value).arg("b").arg(&small).arg("c").arg(value.to_vec());
    let words: Vec<_> = command.view().words().collect();
    assert_eq!(words, [&b"MSET"[..], b"a", &value, b"b", &small, b"c", &value]);
    assert_eq!(words[2].as_ptr(), value.as_ptr(), "it is not copied");
    assert_ne!(words[4].as_ptr(), small.as_ptr(), "it is copied");
    assert_eq!(command.keys().collect::<Vec<_>>(), [b"a", b"b", b"c"]);

    let mut expected = BytesMut::new();
    encode::command(&mut expected, &[&b"MSET"[..], b"a", &value, b"b", &small, b"c", &value]);
    let mut pipeline = Pipeline::new();
    pipeline.command(&["PING"]).push(command.clone()).push(command.clone()).command(&["PING"]);
    let packet = command.into_packet().unwrap();
    assert!(wire(&packet) == expected, "the bytes are those of the codec");
    assert_eq!(packet.len(), expected.len());
    assert!(packet.is_idempotent() && !packet.is_read_only());
    let ping = b"*1\r\n$4\r\nPING\r\n";
    let packet = pipeline.into_packet().unwrap();
    assert!(wire(&packet) == [&ping[..], &expected, &expected, ping].concat());
    assert_eq!(packet.pieces().filter(|piece| matches!(piece, Piece::Large(_))).count(), 6);
}

#[test]
fn what_may_be_sent_again_depends_on_the_arguments() {
    let command = |words: &str| {
        let mut words = words.split(' ');
        Command::new(words.next().unwrap()).args(words)
    };
    for reads in [
        "GET k",
        "ping",
        "XREAD STREAMS s 0",
        "CLIENT ID",
        "client list",
        "EVAL_RO x 0",
        "SORT_RO k",
    ] {
        assert!(command(reads).is_read_only() && command(reads).is_idempotent(), "{reads}");
    }
    for repeatable in [
        "SET k v",
        "set k v ex 5",
        "SET k v XX",
        "DEL a b",
        "HSET h f v",
        "SADD s m",
        "ZADD z GT 1 m",
        "EXPIRE k 5",
        "MSET a 1 b 2",
        "LTRIM l 0 9",
        "LTRIM l -10 -1",
        "LREM l 0 x",
        "COPY a b REPLACE",
        "SORT k BY w_*",
        "SUNIONSTORE d d a",
        "ZUNIONSTORE d 2 a b",
        "BITOP AND d a b",
        "GETEX k EX 5",
        "BITFIELD k GET u8 0",
        "XGROUP SETID s g 0",
    ] {
        assert!(command(repeatable).is_idempotent(), "{repeatable}");
        assert!(!command(repeatable).is_read_only(), "{repeatable}");
    }
    for single in [
        "SET k v NX",
        "SET k v get",
        "SETNX k v",
        "INCR k",
        "APPEND k v",
        "LPUSH l v",
        "GETDEL k",
        "GETSET k v",
        "LTRIM l 1 -1",
        "LTRIM l 0 -2",
        "LREM l 1 x",
        "COPY a b",
        "SORT k STORE d",
        "ZUNIONSTORE d 2 d a",
        "BITOP NOT a a",
        "ZADD z INCR 1 m",
        "EXPIRE k 5 GT",
        "EVAL return 0",
        "FLUSHALL",
        "PUBLISH c m",
        "XADD s * f v",
        "SPOP s",
        "MODULE.COMMAND k",
        "XGROUP CREATE s g 0",
        "CLIENT KILL x",
        "MULTI",
        "EXEC",
    ] {
        assert!(!command(single).is_idempotent() && !command(single).is_read_only(), "{single}");
    }
}

#[test]
fn a_pipeline_may_be_sent_again_if_all_of_it_may() {
    let pipeline = |commands: &[&str]| {
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.command(&command.split(' ').collect::<Vec<_>>());
        }
        (pipeline.is_read_only(), pipeline.is_idempotent())
    };
    assert_eq!(pipeline(&["GET a", "PING"]), (true, true));
    assert_eq!(pipeline(&["MULTI", "GET a", "EXEC"]), (true, true));
    assert_eq!(pipeline(&["GET a", "SET a 1"]), (false, true));
    assert_eq!(pipeline(&["MULTI", "SET a 1", "INCR a", "EXEC"]), (false, false));
    assert_eq!(pipeline(&["NO.SUCH a"]), (false, false));
}

#[test]
fn how_long_a_command_may_block_is_known() {
    let blocking = |words: &str| {
        let mut words = words.split(' ');
        Command::new(words.next().unwrap()).args(words).blocking()
    };
    let ms = |ms| Some(Blocking::AtMost(Duration::from_millis(ms)));
    for (words, expected) in [
        ("BLPOP a b 0", Some(Blocking::Unlimited)),
        ("brpop a 1.5", ms(1501)),
        ("BLMOVE a b LEFT RIGHT 2", ms(2001)),
        ("BLMPOP 0.5 1 a LEFT", ms(501)),
        ("BZMPOP 0 1 a MIN", Some(Blocking::Unlimited)),
        ("BZPOPMIN a -1", ms(0)),
        ("BZPOPMAX a soon", ms(0)),
        ("WAIT 1 1000", ms(1000)),
        ("WAIT 1 0", Some(Blocking::Unlimited)),
        ("XREAD BLOCK 0 STREAMS s $", Some(Blocking::Unlimited)),
        ("XREAD COUNT 5 BLOCK 70 STREAMS s $", ms(70)),
        ("XREAD STREAMS BLOCK 0", None),
        ("XREADGROUP GROUP BLOCK 9 STREAMS s >", None),
        ("LPOP a", None),
        ("BLPOP", ms(0)),
    ] {
        assert_eq!(blocking(words), expected, "{words}");
    }
    let mut pipeline = Pipeline::new();
    pipeline.command(&["BLPOP", "a", "1"]).command(&["GET", "a"]).command(&["WAIT", "1", "5"]);
    assert_eq!(
        pipeline.placement(),
        Placement::Waiting(Blocking::AtMost(Duration::from_millis(1006)))
    );
    pipeline.command(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]);
    assert_eq!(pipeline.placement(), Placement::Waiting(Blocking::Unlimited));
    pipeline.command(&["WATCH", "a"]);
    assert!(matches!(pipeline.placement(), Placement::Own(_)));
    pipeline.command(&["SUBSCRIBE", "a"]);
    assert!(matches!(pipeline.placement(), Placement::Nowhere(_)));
}

#[test]
fn a_command_that_is_repeated_in_a_pipeline_is_told_from_one_that_differs_in_its_second_word() {
    let placement = |commands: &[&[&str]]| {
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.command(command);
        }
        pipeline.placement()
    };
    let harmless = placement(&[&["GET", "a"], &["get", "b"], &["CLIENT", "ID"], &["GET", "c"]]);
    assert_eq!(harmless, Placement::Shared);
    for first in ["ID", "NONSENSE"] {
        let changing = placement(&[&["CLIENT", first], &["CLIENT", "REPLY", "OFF"]]);
        assert!(matches!(changing, Placement::Nowhere(_)), "{first}: {changing:?}");
    }
    let blocking = placement(&[&["GET", "a"], &["BLPOP", "a", "1"]]);
    assert!(matches!(blocking, Placement::Waiting(_)), "{blocking:?}");
}
