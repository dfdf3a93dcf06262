use proptest::prelude::*;
use respire_codec::{Decoder, DecoderConfig, Frame};

use super::{super::queue::QueueMax, *};
use crate::pubsub::{Event, queue::Queue};

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::new(DecoderConfig::default());
    let mut buffer = BytesMut::from(bytes);
    std::iter::from_fn(|| decoder.decode(&mut buffer).unwrap()).collect()
}

fn name(text: &str) -> Name {
    let kind = match text.as_bytes()[0] {
        b'p' => ChannelKind::Pattern,
        b's' => ChannelKind::Shard,
        _ => ChannelKind::Channel,
    };
    Name { kind, text: Bytes::copy_from_slice(text.as_bytes()) }
}

#[derive(Default)]
struct Harness {
    registry: Registry,
    queues: HashMap<usize, Arc<EventQueue>>,
}

impl Harness {
    fn add(&mut self) -> SubscriberId {
        let queue = Arc::new(Queue::new(QueueMax { items: 1000, bytes: 1 << 20 }));
        let id = self.registry.add(Arc::clone(&queue), false);
        self.queues.insert(id.0, queue);
        id
    }

    fn join(&mut self, id: SubscriberId, names: &[&str]) -> usize {
        self.registry.join(id, names.iter().copied().map(name).collect()).len()
    }

    fn leave(&mut self, id: SubscriberId, text: &str) {
        self.registry.leave(id, &[name(text)], &mut Vec::new());
    }

    /// What is sent, each command as one line.
    fn sent(&mut self) -> Vec<String> {
        let mut bytes = BytesMut::new();
        while self.registry.next_command(&mut bytes) {}
        let words = frames(&bytes).into_iter().map(|frame| frame.parse::<Vec<String>>().unwrap());
        words.map(|words| words.join(" ")).collect()
    }

    fn receive(&mut self, lines: &[&str]) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let mut bytes = format!(">{}\r\n", words.len());
            for word in words {
                bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
            self.feed(&bytes).unwrap();
        }
    }

    fn feed(&mut self, bytes: &str) -> Result<(), Error> {
        let frames = frames(bytes.as_bytes());
        frames
            .iter()
            .try_for_each(|frame| self.registry.handle_value(frame.value(), &mut Vec::new()))
    }

    fn joined(&mut self, id: SubscriberId) -> Option<Result<(), Error>> {
        match self.registry.poll_joined(id, &Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    fn events(&mut self, id: SubscriberId) -> Vec<String> {
        let queue = &self.queues[&id.0];
        let mut events = Vec::new();
        let cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(next)) = queue.poll_next(&cx) {
            events.push(match Event::from(next) {
                Event::Message(message) => {
                    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                    let pattern = message.pattern().map(|pattern| text(pattern) + "/");
                    let pattern = pattern.unwrap_or_default();
                    format!("{pattern}{}={}", text(message.channel()), text(message.payload()))
                }
                Event::Lagged { dropped } => format!("lagged {dropped}"),
                Event::Interrupted => "interrupted".to_owned(),
                Event::Resumed => "resumed".to_owned(),
                Event::Refused { channel, error, .. } => {
                    format!("refused {channel:?} {}", error.server_error().unwrap().code())
                }
            });
        }
        events
    }

    fn disconnect(&mut self) {
        self.registry.disconnect(&mut Vec::new());
    }
}

/// One subscriber of these names, confirmed.
fn subscribed(names: &[&str]) -> (Harness, SubscriberId) {
    let mut h = Harness::default();
    let id = h.add();
    h.join(id, names);
    for command in h.sent() {
        h.receive(&[&(command.to_lowercase() + " 1")]);
    }
    assert!(h.joined(id).unwrap().is_ok());
    (h, id)
}

#[test]
fn a_subscription_is_joined_when_every_name_is_confirmed() {
    let mut h = Harness::default();
    let id = h.add();
    assert_eq!(h.join(id, &["a", "p*", "s1"]), 3);
    assert_eq!(h.sent(), ["SUBSCRIBE a", "PSUBSCRIBE p*", "SSUBSCRIBE s1"]);
    h.receive(&["subscribe a 1", "psubscribe p* 2"]);
    assert!(h.joined(id).is_none());
    h.receive(&["message a early", "ssubscribe s1 1"]);
    assert!(h.joined(id).unwrap().is_ok());
    h.receive(&["pmessage p* pa x", "smessage s1 y", "message other z"]);
    assert_eq!(h.events(id), ["a=early", "p*/pa=x", "s1=y"]);
    assert!(h.sent().is_empty());
}

#[test]
fn the_server_is_told_of_a_name_once_and_to_forget_it_after_the_last() {
    let (mut h, first) = subscribed(&["a"]);
    let second = h.add();
    assert_eq!(h.join(second, &["a", "a"]), 1);
    assert!(h.joined(second).unwrap().is_ok(), "the server has it already");
    assert!(h.sent().is_empty());
    h.receive(&["message a 1"]);
    h.registry.remove(first);
    assert!(h.sent().is_empty());
    h.receive(&["message a 2"]);
    assert_eq!(h.events(second), ["a=1", "a=2"]);
    h.leave(second, "a");
    assert_eq!(h.sent(), ["UNSUBSCRIBE a"]);
    h.receive(&["message a 3", "unsubscribe a 0"]);
    assert!(h.events(second).is_empty());
    assert!(h.registry.is_unused());
}

#[test]
fn a_name_that_comes_and_goes_has_one_command_under_way() {
    let mut h = Harness::default();
    let id = h.add();
    h.join(id, &["a"]);
    assert_eq!(h.sent(), ["SUBSCRIBE a"]);
    h.leave(id, "a");
    h.join(id, &["a"]);
    h.leave(id, "a");
    assert!(h.sent().is_empty());
    h.receive(&["subscribe a 1"]);
    assert_eq!(h.sent(), ["UNSUBSCRIBE a"]);
    h.join(id, &["a"]);
    assert!(h.sent().is_empty());
    h.receive(&["unsubscribe a 0"]);
    assert!(h.joined(id).is_none());
    assert_eq!(h.sent(), ["SUBSCRIBE a"]);
    h.receive(&["subscribe a 1"]);
    assert!(h.joined(id).unwrap().is_ok());
    // Gone before anything was sent: nothing is.
    let other = h.add();
    h.join(other, &["b"]);
    h.registry.remove(other);
    assert!(h.sent().is_empty());
}

#[test]
fn an_error_is_that_of_the_oldest_name_and_of_who_wanted_it() {
    let mut h = Harness::default();
    let (first, second) = (h.add(), h.add());
    h.join(first, &["a", "b"]);
    h.join(second, &["b", "c"]);
    assert_eq!(h.sent(), ["SUBSCRIBE a", "SUBSCRIBE b", "SUBSCRIBE c"]);
    h.receive(&["subscribe a 1"]);
    h.feed("-NOPERM no\r\n").unwrap();
    h.receive(&["subscribe c 2"]);
    for id in [first, second] {
        let error = h.joined(id).unwrap().unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "NOPERM");
    }
    // What was not refused stays until it is left.
    assert_eq!(h.registry.names(first).collect::<Vec<_>>(), [&name("a")]);
    h.registry.remove(first);
    h.registry.remove(second);
    let mut sent = h.sent();
    sent.sort();
    assert_eq!(sent, ["UNSUBSCRIBE a", "UNSUBSCRIBE c"]);
}

#[test]
fn after_a_lost_connection_everything_is_asked_for_again_and_the_gap_is_told() {
    let (mut h, id) = subscribed(&["a", "s1"]);
    let joining = h.add();
    h.join(joining, &["b"]);
    h.sent();
    h.receive(&["message a 1"]);
    h.disconnect();
    h.disconnect();
    let mut sent = h.sent();
    sent.sort();
    assert_eq!(sent, ["SSUBSCRIBE s1", "SUBSCRIBE a", "SUBSCRIBE b"]);
    // The order of the map decides in which order they were sent.
    for asked in h.registry.asked.iter().map(|asked| format!("{asked:?}")).collect::<Vec<_>>() {
        let line = ["ssubscribe s1", "subscribe a", "subscribe b"]
            .into_iter()
            .find(|line| asked.contains(&format!("\"{}\"", line.split(' ').nth(1).unwrap())))
            .unwrap();
        h.receive(&[&format!("{line} 1")]);
        if line.ends_with('a') {
            h.receive(&["message a 2"]);
        }
    }
    h.receive(&["message a 3"]);
    let events = h.events(id);
    assert_eq!(events[..2], ["a=1", "interrupted"]);
    let (resumed, second) = (
        events.iter().position(|event| event == "resumed").unwrap(),
        events.iter().position(|event| event == "a=2").unwrap(),
    );
    assert!(resumed >= 2 && second >= 2);
    assert_eq!(events.last().unwrap(), "a=3");
    assert_eq!(events.len(), 5);
    assert!(h.joined(joining).unwrap().is_ok());
    assert!(h.events(joining).is_empty(), "it had nothing to lose");
}

#[test]
fn a_name_that_is_refused_after_a_reconnect_is_told_and_left() {
    let (mut h, id) = subscribed(&["a"]);
    h.disconnect();
    assert_eq!(h.sent(), ["SUBSCRIBE a"]);
    h.feed("-NOPERM no\r\n").unwrap();
    assert_eq!(h.events(id), ["interrupted", "refused b\"a\" NOPERM", "resumed"]);
    assert!(h.registry.is_unused());
    assert!(h.sent().is_empty());
}

#[test]
fn a_name_that_cannot_be_served_for_now_is_asked_for_again() {
    let (mut h, id) = subscribed(&["a"]);
    h.disconnect();
    h.sent();
    h.feed("-BUSY a script runs\r\n").unwrap();
    assert!(h.registry.is_postponing() && h.sent().is_empty());
    h.registry.retry();
    assert_eq!(h.sent(), ["SUBSCRIBE a"]);
    h.receive(&["subscribe a 1"]);
    assert_eq!(h.events(id), ["interrupted", "resumed"]);
    // Who waits for an answer gets it.
    let other = h.add();
    h.join(other, &["b"]);
    h.sent();
    h.feed("-BUSY a script runs\r\n").unwrap();
    assert!(h.joined(other).unwrap().is_err());
    assert!(!h.registry.is_postponing());
    // One that is postponed and left is not asked for.
    h.disconnect();
    h.sent();
    h.feed("-LOADING soon\r\n").unwrap();
    h.leave(id, "a");
    h.registry.retry();
    assert!(h.sent().is_empty() && h.registry.is_unused());
}

#[test]
fn a_channel_that_the_server_takes_away_is_asked_for_again() {
    let (mut h, id) = subscribed(&["s1", "s2"]);
    h.receive(&["sunsubscribe s1 1"]);
    assert_eq!(h.sent(), ["SSUBSCRIBE s1"]);
    h.receive(&["smessage s2 x", "ssubscribe s1 2"]);
    assert_eq!(h.events(id), ["interrupted", "s2=x", "resumed"]);
    // It goes while we leave it: the confirmation that follows concerns nobody.
    h.leave(id, "s1");
    assert_eq!(h.sent(), ["SUNSUBSCRIBE s1"]);
    h.receive(&["sunsubscribe s1 1", "sunsubscribe s1 1"]);
    assert!(h.sent().is_empty());
    assert!(h.events(id).is_empty());
}

#[test]
fn without_a_connection_those_who_wait_are_told_and_the_others_stay() {
    let (mut h, id) = subscribed(&["a"]);
    let joining = h.add();
    h.join(joining, &["a"]);
    assert!(h.joined(joining).unwrap().is_ok());
    h.join(joining, &["b"]);
    h.join(id, &["c"]);
    h.disconnect();
    h.registry.fail_joining(&Error::closed("test"), &mut Vec::new());
    assert!(h.joined(id).unwrap().unwrap_err().is_closed());
    assert!(h.joined(joining).unwrap().unwrap_err().is_closed());
    assert_eq!(h.registry.names(joining).collect::<Vec<_>>(), [&name("a")]);
    assert_eq!(h.sent(), ["SUBSCRIBE a"]);
}

#[test]
fn who_is_patient_waits_for_the_next_connection() {
    let mut h = Harness::default();
    let hasty = h.add();
    let patient = h.registry.add(Arc::clone(&h.queues[&hasty.0]), true);
    h.join(hasty, &["a"]);
    h.join(patient, &["a", "b"]);
    h.registry.fail_impatient(&Error::closed("test"), &mut Vec::new());
    assert!(h.joined(hasty).unwrap().is_err());
    assert!(h.joined(patient).is_none());
    let mut sent = h.sent();
    sent.sort();
    assert_eq!(sent, ["SUBSCRIBE a", "SUBSCRIBE b"]);
    h.registry.fail_joining(&Error::closed("test"), &mut Vec::new());
    assert!(h.joined(patient).unwrap().is_err());
}

#[test]
fn resp2_arrays_pongs_and_what_is_out_of_step() {
    let (mut h, id) = subscribed(&["a"]);
    let mut bytes = BytesMut::new();
    for pong in ["*2\r\n$4\r\npong\r\n$0\r\n\r\n", "+PONG\r\n", "-NOPERM no ping for you\r\n"] {
        h.registry.ping(&mut bytes);
        assert!(h.registry.is_awaiting());
        h.feed(pong).unwrap();
        assert!(!h.registry.is_awaiting());
    }
    h.feed("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n").unwrap();
    assert_eq!(h.events(id), ["a=x"]);
    h.feed(">1\r\n$6\r\nMOVING\r\n").unwrap();
    for bad in [
        "+PONG\r\n",
        "-ERR what\r\n",
        ":1\r\n",
        "*1\r\n+what\r\n",
        "*0\r\n",
        ">2\r\n+message\r\n+a\r\n",
        ">3\r\n+subscribe\r\n+a\r\n:1\r\n",
    ] {
        assert!(h.feed(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn to_be_refused_an_unsubscription_is_the_end_of_it() {
    let (mut h, id) = subscribed(&["a"]);
    h.registry.remove(id);
    assert_eq!(h.sent(), ["UNSUBSCRIBE a"]);
    h.feed("-NOPERM no\r\n").unwrap();
    assert!(h.sent().is_empty() && h.registry.is_unused());
}

#[test]
fn a_closed_registry_ends_every_stream() {
    let (mut h, id) = subscribed(&["a"]);
    let joining = h.add();
    h.join(joining, &["b"]);
    h.receive(&["message a last"]);
    h.registry.close(&Error::closed_by_us(), &mut Vec::new());
    assert!(h.joined(joining).unwrap().is_err());
    assert_eq!(h.events(id), ["a=last"]);
    let ended = h.queues[&id.0].poll_next(&Context::from_waker(Waker::noop()));
    assert!(matches!(ended, Poll::Ready(None)));
}

/// A server that does what it is told, in order.
#[derive(Default)]
struct Model {
    has: HashSet<String>,
    inbox: VecDeque<String>,
}

proptest! {
    /// Whatever joins, leaves and is lost: when all is answered, the server has exactly what somebody wants, and every
    /// confirmation was of something that was asked.
    #[test]
    fn in_the_end_the_server_has_what_is_wanted(
        steps in proptest::collection::vec((0_u8..12, 0_usize..3, 0_usize..4), 0..120),
    ) {
        let names = ["a", "b", "p*", "s1"];
        let mut h = Harness::default();
        let ids: Vec<SubscriberId> = (0..3).map(|_| h.add()).collect();
        let mut server = Model::default();
        let mut wanted: Vec<HashSet<String>> = vec![HashSet::new(); 3];
        for (step, who, what) in steps {
            let text = names[what];
            match step {
                0..=3 => {
                    h.join(ids[who], &[text]);
                    wanted[who].insert(text.to_owned());
                }
                4..=6 => {
                    h.leave(ids[who], text);
                    wanted[who].remove(text);
                }
                7..=8 => server.inbox.extend(h.sent()),
                9..=10 => serve_one(&mut h, &mut server),
                _ => {
                    h.disconnect();
                    server = Model::default();
                }
            }
        }
        for _ in 0..100 {
            server.inbox.extend(h.sent());
            serve_one(&mut h, &mut server);
        }
        let all: HashSet<String> = wanted.iter().flatten().cloned().collect();
        prop_assert_eq!(&server.has, &all);
        prop_assert_eq!(h.registry.is_unused(), all.is_empty());
        prop_assert!(!h.registry.is_awaiting());
        for (id, wanted) in ids.iter().zip(&wanted) {
            prop_assert!(h.joined(*id).unwrap().is_ok());
            h.events(*id);
            for text in &all {
                h.receive(&[&match &text[..1] {
                    "p" => format!("pmessage {text} c x"),
                    "s" => format!("smessage {text} x"),
                    _ => format!("message {text} x"),
                }]);
            }
            prop_assert_eq!(h.events(*id).len(), wanted.len());
        }
    }
}

fn serve_one(h: &mut Harness, server: &mut Model) {
    let Some(command) = server.inbox.pop_front() else { return };
    let (verb, text) = command.split_once(' ').unwrap();
    if verb.contains("UNSUB") {
        server.has.remove(text);
    } else {
        server.has.insert(text.to_owned());
    }
    h.receive(&[&format!("{} {text} 1", verb.to_lowercase())]);
}
