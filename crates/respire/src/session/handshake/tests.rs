use respire_codec::{Decoder, DecoderConfig};

use super::*;
use crate::{cache::Tracking, config::Address};

fn config() -> Config {
    Config::new(Address::Tcp { host: "h".to_owned(), port: 1 })
}

fn commands(bytes: &BytesMut) -> Vec<Vec<String>> {
    frames(bytes).iter().map(|frame| frame.parse().unwrap()).collect()
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new(DecoderConfig::default());
    let mut buffer = BytesMut::from(bytes);
    std::iter::from_fn(|| decoder.decode(&mut buffer).unwrap()).collect()
}

/// Feeds the replies of one flight, of which only the last may lead to anything.
fn answer(handshake: &mut Handshake<'_>, replies: &str) -> Result<Progress, ConnectFailure> {
    let mut frames = frames(replies.as_bytes());
    let last = frames.pop().unwrap();
    for frame in frames {
        match handshake.handle_frame(&frame)? {
            Progress::Await => {}
            other => panic!("it is done early: {other:?}"),
        }
    }
    handshake.handle_frame(&last)
}

fn done(progress: Result<Progress, ConnectFailure>) -> Protocol {
    match progress {
        Ok(Progress::Done(protocol)) => protocol,
        other => panic!("it is not done: {other:?}"),
    }
}

const HELLO_OK: &str = "%1\r\n+proto\r\n:3\r\n";

#[test]
fn everything_is_asked_for_in_one_flight() {
    let config = config()
        .with_credentials(Some("app"), "secret")
        .with_client_name("router")
        .with_database(2);
    let mut handshake = Handshake::new(&config);
    let asked = commands(&handshake.first_flight());
    assert_eq!(asked[0], ["HELLO", "3", "AUTH", "app", "secret", "SETNAME", "router"]);
    assert_eq!(asked[1], ["CLIENT", "SETINFO", "LIB-NAME", "respire"]);
    assert_eq!(asked[2], ["CLIENT", "SETINFO", "LIB-VER", env!("CARGO_PKG_VERSION")]);
    assert_eq!(asked[3], ["SELECT", "2"]);
    assert_eq!(asked.len(), 4);
    let replies = format!("{HELLO_OK}+OK\r\n-ERR unknown subcommand\r\n+OK\r\n");
    assert_eq!(done(answer(&mut handshake, &replies)), Protocol::Resp3);
}

#[test]
fn a_password_alone_is_the_default_users() {
    let config = config().with_credentials(None, "secret");
    let asked = commands(&Handshake::new(&config).first_flight());
    assert_eq!(asked[0], ["HELLO", "3", "AUTH", "default", "secret"]);
}

#[test]
fn a_server_without_hello_is_asked_again_in_resp2() {
    for refusal in [
        "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'secret' \r\n",
        "-ERR Unknown command `HELLO`\r\n",
        "-NOPROTO unsupported protocol version\r\n",
        "-NOAUTH Authentication required.\r\n",
    ] {
        let config =
            config().with_credentials(None, "secret").with_client_name("n").with_database(1);
        let mut handshake = Handshake::new(&config);
        handshake.first_flight();
        let replies = format!("{refusal}-NOAUTH\r\n-NOAUTH\r\n-NOAUTH\r\n");
        let Ok(Progress::Send(second)) = answer(&mut handshake, &replies) else {
            panic!("{refusal}: no second flight")
        };
        assert_eq!(
            commands(&second),
            [&["AUTH", "secret"][..], &["CLIENT", "SETNAME", "n"], &["PING"], &["SELECT", "1"]]
        );
        let replies = "+OK\r\n+OK\r\n-LOADING the data set\r\n+OK\r\n";
        assert_eq!(done(answer(&mut handshake, replies)), Protocol::Resp2);
    }
}

#[test]
fn a_second_flight_with_nothing_to_ask_still_waits_for_an_answer() {
    let config = config();
    let mut handshake = Handshake::new(&config);
    handshake.first_flight();
    let replies = "-ERR unknown command 'HELLO'\r\n+OK\r\n+OK\r\n";
    let Ok(Progress::Send(second)) = answer(&mut handshake, replies) else { panic!("no second") };
    assert_eq!(commands(&second), [["PING"]]);
    assert_eq!(done(answer(&mut handshake, "+PONG\r\n")), Protocol::Resp2);
}

#[test]
fn resp2_is_spoken_where_it_is_asked_for() {
    let config = config().with_protocol(Protocol::Resp2).with_credentials(Some("u"), "p");
    let mut handshake = Handshake::new(&config);
    let asked = commands(&handshake.first_flight());
    assert_eq!(asked[0], ["AUTH", "u", "p"]);
    assert!(asked.iter().all(|command| command[0] != "HELLO"));
    let replies = "+OK\r\n+PONG\r\n+OK\r\n+OK\r\n";
    assert_eq!(done(answer(&mut handshake, replies)), Protocol::Resp2);
}

#[test]
fn a_refusal_names_its_step() {
    for (replies, step, code) in [
        ("-WRONGPASS invalid username-password pair\r\n".to_owned(), "HELLO", "WRONGPASS"),
        (
            "-NOAUTH HELLO must be called with the client already authenticated\r\n".to_owned(),
            "HELLO",
            "NOAUTH",
        ),
        ("-ERR max number of clients reached\r\n".to_owned(), "HELLO", "ERR"),
        (format!("{HELLO_OK}+OK\r\n+OK\r\n-ERR DB index is out of range\r\n"), "SELECT", "ERR"),
    ] {
        let config = config().with_database(99);
        let mut handshake = Handshake::new(&config);
        handshake.first_flight();
        match answer(&mut handshake, &replies) {
            Err(ConnectFailure::Refused { step: refused, source }) => {
                assert_eq!((refused, source.code()), (step, code));
            }
            other => panic!("{replies}: {other:?}"),
        }
    }
}

#[test]
fn what_a_server_echoes_of_the_credentials_is_taken_out() {
    for (password, text) in [
        ("hunter2", "-ERR no such user: hunter2 hunter2\r\n"),
        ("hunter2", "-DENIED 'AUTH', with args beginning with: 'default' 'hunt\r\n"),
        ("pass", "-ERR pass is wrong\r\n"),
        ("a", "-ERR wrong\r\n"),
        ("", "-ERR wrong\r\n"),
    ] {
        let config = config().with_protocol(Protocol::Resp2).with_credentials(None, password);
        let mut handshake = Handshake::new(&config);
        handshake.first_flight();
        let error = answer(&mut handshake, text).unwrap_err();
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains("hunt"), "{shown}");
    }
}

#[test]
fn a_long_error_is_cut_and_costs_no_more_than_its_length() {
    let config = config().with_credentials(None, "hunter2");
    let mut handshake = Handshake::new(&config);
    handshake.first_flight();
    let text = format!("-ERR {}\r\n", "hunter".repeat(1 << 20));
    let Err(ConnectFailure::Refused { source, .. }) = answer(&mut handshake, &text) else {
        panic!("it is refused")
    };
    assert!(source.text().len() <= ERROR_BYTES_MAX);
}

#[test]
fn in_resp2_a_server_that_refuses_the_client_is_heard() {
    for text in ["-NOAUTH Authentication required.\r\n", "-DENIED protected mode\r\n"] {
        let config = config().with_protocol(Protocol::Resp2);
        let mut handshake = Handshake::new(&config);
        handshake.first_flight();
        assert!(answer(&mut handshake, text).is_err(), "{text}");
    }
}

#[test]
fn pushes_are_not_replies() {
    let config = config();
    let mut handshake = Handshake::new(&config);
    handshake.first_flight();
    let replies = format!(">1\r\n+hi\r\n{HELLO_OK}>1\r\n+hi\r\n+OK\r\n+OK\r\n");
    assert_eq!(done(answer(&mut handshake, &replies)), Protocol::Resp3);
}

#[test]
fn the_library_is_named_unless_that_is_switched_off() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let config = config().with_protocol(protocol);
        let named = commands(&Handshake::new(&config).first_flight());
        assert!(named.iter().any(|words| words.contains(&"LIB-NAME".to_owned())));
        let config = config.with_client_info(false);
        let mut handshake = Handshake::new(&config);
        let unnamed = commands(&handshake.first_flight());
        assert_eq!(unnamed.len(), named.len() - 2);
        assert!(!unnamed.iter().any(|words| words[0] == "CLIENT"));
    }
}

#[test]
fn tracking_is_asked_for_in_the_same_flight() {
    for (tracking, words) in [
        (Tracking::OptIn, vec!["CLIENT", "TRACKING", "ON", "OPTIN"]),
        (Tracking::Broadcast { prefixes: Vec::new() }, vec!["CLIENT", "TRACKING", "ON", "BCAST"]),
        (
            Tracking::Broadcast { prefixes: vec!["a:".into(), "b:".into()] },
            vec!["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a:", "PREFIX", "b:"],
        ),
    ] {
        let config = config().with_database(1).with_tracking(tracking);
        let mut handshake = Handshake::new(&config);
        let asked = commands(&handshake.first_flight());
        assert_eq!(asked.len(), 5);
        assert_eq!(asked[4], words);
        let replies = format!("{HELLO_OK}+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
        assert_eq!(done(answer(&mut handshake, &replies)), Protocol::Resp3);
        // To be refused it is the end: nothing could be relied on.
        let mut handshake = Handshake::new(&config);
        handshake.first_flight();
        let refused = format!("{HELLO_OK}+OK\r\n+OK\r\n+OK\r\n-ERR overlaps\r\n");
        let failure = answer(&mut handshake, &refused).unwrap_err();
        assert!(failure.to_string().contains("CLIENT TRACKING"), "{failure}");
    }
}

#[test]
fn without_resp3_there_is_no_tracking() {
    let config = config().with_tracking(Tracking::OptIn);
    for reply in ["-ERR unknown command `HELLO`\r\n", "-NOPROTO no\r\n", "*2\r\n+proto\r\n:2\r\n"] {
        let mut handshake = Handshake::new(&config);
        handshake.first_flight();
        let failure = answer(&mut handshake, reply).unwrap_err();
        assert!(matches!(failure, ConnectFailure::NoPushes), "{failure}");
    }
}

#[test]
fn announcements_are_asked_for_where_that_is_wanted_and_may_be_refused() {
    let config = config().with_announced_moves(true);
    let mut handshake = Handshake::new(&config);
    let asked = commands(&handshake.first_flight());
    assert_eq!(asked[3], ["CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "none"]);
    let refused = "%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n-ERR unknown subcommand\r\n";
    assert_eq!(done(answer(&mut handshake, refused)), Protocol::Resp3);
}
