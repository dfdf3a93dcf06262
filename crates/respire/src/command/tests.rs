use super::*;

fn wire(packet: &Packet) -> Vec<u8> {
    [packet.header.as_ref(), &packet.body[..]].concat()
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
