use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use bytes::BytesMut;
use respire_codec::{Decoder, DecoderConfig};

use super::*;
use crate::command::Command;

const BOUNDS: Bounds = Bounds { commands: 8, bytes: 1024, stall: Some(Duration::from_secs(5)) };

/// Counts its wakes.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn noop() -> &'static Waker {
    Waker::noop()
}

/// Frames that were received together.
fn frames(bytes: &[u8]) -> Batch {
    let mut decoder = Decoder::new(DecoderConfig::default());
    let mut buffer = BytesMut::from(bytes);
    let frames = decoder.decode_batch(&mut buffer).unwrap();
    assert!(buffer.is_empty(), "the test's bytes are whole frames");
    frames
}

/// A request of `replies` replies whose packet has about `size` bytes.
fn packet(replies: usize, size: usize) -> Packet {
    let mut packet = Command::new("ECHO").arg(vec![b'x'; size]).into_packet().unwrap();
    packet.replies = replies;
    packet
}

struct Harness {
    session: Session,
    start: Instant,
    now: Instant,
    outgoing: Outgoing,
}

impl Harness {
    fn opening(bounds: Bounds) -> Self {
        let now = Instant::now();
        Self { session: Session::new(bounds, now), start: now, now, outgoing: Outgoing::default() }
    }

    fn open() -> Self {
        let mut harness = Self::opening(BOUNDS);
        harness.session.open(harness.now);
        harness
    }

    fn submit(&mut self, replies: usize, deadline: Option<u64>) -> RequestId {
        let deadline = deadline.map(|seconds| self.start + Duration::from_secs(seconds));
        self.session.submit(&packet(replies, 4), deadline, self.now).unwrap()
    }

    /// Lets the transport take everything that is queued; returns how many bytes that was.
    fn send_all(&mut self) -> usize {
        let mut total = 0;
        if !self.session.begin_send(&mut self.outgoing) {
            return 0;
        }
        while !self.outgoing.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let count = self.outgoing.slices(&mut slices);
            let bytes: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            self.outgoing.advance(bytes);
            total += bytes;
        }
        self.session.end_send(total);
        total
    }

    fn at(&mut self, seconds: u64) -> Option<u64> {
        self.now = self.start + Duration::from_secs(seconds);
        let next = self.session.handle_deadlines(self.now)?;
        Some(next.duration_since(self.start).as_secs())
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.session.handle_frames(frames(bytes), self.now)
    }

    fn outcome(&mut self, id: RequestId) -> Option<Result<Vec<String>, Error>> {
        match self.session.poll_outcome(id, noop()) {
            Poll::Pending => None,
            Poll::Ready(outcome) => Some(outcome.map(|replies| {
                replies
                    .into_vec()
                    .iter()
                    .map(|frame| String::from_utf8_lossy(frame.bytes()).into_owned())
                    .collect()
            })),
        }
    }

    fn replies(&mut self, id: RequestId) -> Vec<String> {
        self.outcome(id).expect("it is done").expect("it was answered")
    }

    fn error(&mut self, id: RequestId) -> Error {
        self.outcome(id).expect("it is done").expect_err("it failed")
    }
}

#[test]
fn replies_that_come_together_end_where_their_requests_do() {
    let mut h = Harness::open();
    let (a, gone, late) = (h.submit(2, None), h.submit(2, None), h.submit(2, Some(1)));
    let b = h.submit(2, None);
    h.send_all();
    h.session.abandon(gone);
    h.at(1);
    h.receive(b":1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n").unwrap();
    assert_eq!(h.replies(a), [":1\r\n", ":2\r\n"]);
    assert!(h.error(late).is_timeout());
    assert!(h.outcome(b).is_none(), "one is missing");
    h.receive(b">1\r\n+p\r\n:8\r\n").unwrap();
    assert_eq!(h.replies(b), [":7\r\n", ":8\r\n"]);
}

#[test]
fn what_comes_together_with_replies_and_answers_nothing_is_an_error_behind_them() {
    let mut h = Harness::open();
    let a = h.submit(2, None);
    h.send_all();
    h.receive(b":1\r\n>1\r\n+p\r\n:2\r\n:3\r\n").unwrap_err();
    assert_eq!(h.replies(a), [":1\r\n", ":2\r\n"]);
    assert_eq!(h.session.recorder().stats.pushes, 1);
}

#[test]
fn replies_to_what_was_not_sent_are_an_error() {
    let mut h = Harness::open();
    let a = h.submit(2, None);
    h.receive(b":1\r\n:2\r\n").unwrap_err();
    assert!(h.outcome(a).is_none(), "it is not answered");
}

#[test]
fn the_first_reply_to_a_pipeline_that_was_not_sent_is_an_error() {
    let mut h = Harness::open();
    h.submit(2, None);
    h.receive(b":1\r\n").unwrap_err();
}

#[test]
fn replies_go_to_requests_in_order() {
    let mut h = Harness::open();
    let (a, b, c) = (h.submit(1, None), h.submit(2, None), h.submit(1, None));
    h.send_all();
    h.receive(b"+a\r\n+b1\r\n").unwrap();
    assert_eq!(h.replies(a), ["+a\r\n"]);
    assert!(h.outcome(b).is_none());
    h.receive(b"+b2\r\n+c\r\n").unwrap();
    assert_eq!(h.replies(b), ["+b1\r\n", "+b2\r\n"]);
    assert_eq!(h.replies(c), ["+c\r\n"]);
    assert!(h.session.requests.is_empty());
}

#[test]
fn an_abandoned_request_keeps_its_place() {
    let mut h = Harness::open();
    let (a, b, c) = (h.submit(1, None), h.submit(2, None), h.submit(1, None));
    h.send_all();
    h.session.abandon(b);
    h.receive(b"+a\r\n+b1\r\n+b2\r\n+c\r\n").unwrap();
    assert_eq!(h.replies(a), ["+a\r\n"]);
    assert_eq!(h.replies(c), ["+c\r\n"]);
    assert!(h.session.requests.is_empty() && h.session.order.is_empty());
}

#[test]
fn a_push_answers_nothing() {
    let mut h = Harness::open();
    let a = h.submit(1, None);
    h.send_all();
    h.receive(b">2\r\n+invalidate\r\n_\r\n").unwrap();
    assert!(h.outcome(a).is_none());
    h.receive(b"+a\r\n").unwrap();
    assert_eq!(h.replies(a), ["+a\r\n"]);
}

#[test]
fn a_reply_that_nobody_asked_for_is_an_error() {
    let mut h = Harness::open();
    assert!(h.receive(b"+OK\r\n").unwrap_err().is_protocol());
    let error = h.receive(b"-ERR max number of clients reached\r\n").unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.server_error().unwrap().message(), "max number of clients reached");
}

#[test]
fn a_reply_to_what_was_not_sent_is_an_error() {
    let mut h = Harness::open();
    h.submit(1, None);
    assert!(h.receive(b"+OK\r\n").unwrap_err().is_protocol());
}

#[test]
fn requests_wait_for_the_session_to_open() {
    let mut h = Harness::opening(BOUNDS);
    let (a, b) = (h.submit(1, Some(1)), h.submit(1, Some(9)));
    assert!(!h.session.has_outgoing());
    assert_eq!(h.at(1), Some(9));
    let error = h.error(a);
    assert!(error.is_timeout() && error.send_state() == SendState::NotSent);
    h.session.open(h.now);
    assert_eq!(h.send_all(), packet(1, 4).len(), "only the live request is sent");
    h.receive(b"+b\r\n").unwrap();
    assert_eq!(h.replies(b), ["+b\r\n"]);
}

#[test]
fn what_is_in_flight_is_bounded_by_count_and_waits_in_order() {
    let mut h = Harness::open();
    let first = h.submit(8, None);
    let (second, third) = (h.submit(1, None), h.submit(1, None));
    assert_eq!(h.send_all(), packet(8, 4).len());
    h.receive(b"+1\r\n+2\r\n+3\r\n+4\r\n+5\r\n+6\r\n+7\r\n").unwrap();
    assert!(!h.session.has_outgoing(), "the first request counts whole until it is done");
    h.receive(b"+8\r\n").unwrap();
    assert_eq!(h.send_all(), 2 * packet(1, 4).len());
    h.receive(b"+second\r\n+third\r\n").unwrap();
    assert_eq!(h.replies(first).len(), 8);
    assert_eq!(h.replies(second), ["+second\r\n"]);
    assert_eq!(h.replies(third), ["+third\r\n"]);
}

#[test]
fn what_is_in_flight_is_bounded_by_bytes_and_one_too_large_goes_alone() {
    let mut h = Harness::open();
    let now = h.now;
    let small = h.submit(1, None);
    let large = h.session.submit(&packet(1, 5000), None, now).unwrap();
    let behind = h.submit(1, None);
    assert_eq!(h.send_all(), packet(1, 4).len());
    h.receive(b"+small\r\n").unwrap();
    assert_eq!(h.send_all(), packet(1, 5000).len(), "alone");
    h.receive(b"+large\r\n").unwrap();
    h.send_all();
    h.receive(b"+behind\r\n").unwrap();
    assert_eq!(h.replies(small), ["+small\r\n"]);
    assert_eq!(h.replies(large), ["+large\r\n"]);
    assert_eq!(h.replies(behind), ["+behind\r\n"]);
}

#[test]
fn dropping_a_request_that_waits_lets_the_next_one_in() {
    let mut h = Harness::open();
    let now = h.now;
    let first = h.submit(7, None);
    let too_many = h.session.submit(&packet(2, 4), None, now).unwrap();
    let fits = h.submit(1, None);
    h.send_all();
    h.session.abandon(too_many);
    assert_eq!(h.send_all(), packet(1, 4).len());
    h.receive(b"+\r\n+\r\n+\r\n+\r\n+\r\n+\r\n+\r\n+fits\r\n").unwrap();
    assert_eq!(h.replies(first).len(), 7);
    assert_eq!(h.replies(fits), ["+fits\r\n"]);
}

#[test]
fn a_deadline_ends_the_wait_and_keeps_the_place() {
    let mut h = Harness::open();
    let (slow, next) = (h.submit(1, Some(1)), h.submit(1, Some(3)));
    h.send_all();
    h.at(1);
    let error = h.error(slow);
    assert!(error.is_timeout());
    assert_eq!(error.send_state(), SendState::MaybeSent);
    h.receive(b"+slow\r\n+next\r\n").unwrap();
    assert_eq!(h.replies(next), ["+next\r\n"]);
    assert!(h.session.requests.is_empty());
}

#[test]
fn a_reply_and_a_deadline_at_once_give_one_outcome() {
    let mut h = Harness::open();
    let a = h.submit(1, Some(1));
    h.send_all();
    h.receive(b"+a\r\n").unwrap();
    h.at(1);
    assert_eq!(h.replies(a), ["+a\r\n"]);
    let b = h.submit(1, Some(2));
    h.send_all();
    h.at(2);
    h.receive(b"+b\r\n").unwrap();
    assert!(h.error(b).is_timeout());
}

#[test]
fn a_session_that_answers_nothing_is_given_up_and_one_that_is_slow_is_not() {
    let mut h = Harness::open();
    let (slow, other) = (h.submit(1, Some(1)), h.submit(1, Some(20)));
    h.send_all();
    h.at(1);
    assert!(h.error(slow).is_timeout());
    assert!(h.session.accepts(), "one overdue reply is no stall");
    h.now = h.start + Duration::from_secs(4);
    h.receive(b"+slow\r\n").unwrap();
    h.at(6);
    assert!(h.session.accepts(), "something was answered");

    let overdue = h.submit(1, Some(7));
    h.send_all();
    h.at(8);
    assert!(h.error(overdue).is_timeout());
    assert!(h.session.accepts());
    assert_eq!(h.at(20), None);
    assert!(h.error(other).is_timeout());
    assert!(!h.session.accepts(), "nothing was answered for longer than the stall time");
    assert!(h.session.is_finished());
}

#[test]
fn a_request_without_a_deadline_at_the_head_is_no_stall() {
    let mut h = Harness::open();
    let (patient, hasty) = (h.submit(1, None), h.submit(1, Some(1)));
    h.send_all();
    h.at(100);
    assert!(h.error(hasty).is_timeout());
    assert!(h.session.accepts());
    h.receive(b"+patient\r\n+hasty\r\n").unwrap();
    assert_eq!(h.replies(patient), ["+patient\r\n"]);
}

#[test]
fn a_failure_says_what_certainly_never_left() {
    let mut h = Harness::opening(Bounds { commands: 2, ..BOUNDS });
    h.session.open(h.now);
    let sent = h.submit(1, None);
    h.send_all();
    let queued = h.submit(1, None);
    let waiting = h.submit(1, None);
    h.session.fail(&Error::closed("the test ends it"));
    assert_eq!(h.error(sent).send_state(), SendState::MaybeSent);
    assert_eq!(h.error(queued).send_state(), SendState::NotSent);
    assert_eq!(h.error(waiting).send_state(), SendState::NotSent);
    let late = h.session.submit(&packet(1, 4), None, h.now).unwrap_err();
    assert!(late.is_closed() && late.send_state() == SendState::NotSent);
    assert!(h.session.requests.is_empty() && !h.session.has_outgoing());
}

#[test]
fn a_request_of_which_one_byte_left_may_have_been_sent() {
    let mut h = Harness::open();
    let (first, second) = (h.submit(1, None), h.submit(1, None));
    assert!(h.session.begin_send(&mut h.outgoing));
    h.session.end_send(packet(1, 4).len() + 1);
    h.session.fail(&Error::closed("the test ends it"));
    assert_eq!(h.error(first).send_state(), SendState::MaybeSent);
    assert_eq!(h.error(second).send_state(), SendState::MaybeSent);
}

#[test]
fn after_sending_is_lost_what_was_sent_is_answered_and_the_rest_is_not_sent() {
    let mut h = Harness::opening(Bounds { commands: 2, ..BOUNDS });
    h.session.open(h.now);
    let sent = h.submit(1, None);
    h.send_all();
    let queued = h.submit(1, None);
    let waiting = h.submit(1, None);
    h.session.lose_sending();
    assert!(!h.session.accepts() && !h.session.is_finished());
    assert_eq!(h.error(waiting).send_state(), SendState::NotSent);
    h.receive(b"+sent\r\n").unwrap();
    assert_eq!(h.replies(sent), ["+sent\r\n"]);
    assert!(h.outcome(queued).is_none());
    h.session.fail(&Error::closed("the test ends it"));
    assert_eq!(h.error(queued).send_state(), SendState::NotSent);
}

#[test]
fn draining_carries_out_what_was_taken() {
    let mut h = Harness::opening(Bounds { commands: 1, ..BOUNDS });
    h.session.open(h.now);
    let (a, b) = (h.submit(1, None), h.submit(1, None));
    h.send_all();
    h.session.drain();
    assert!(h.session.submit(&packet(1, 4), None, h.now).is_err());
    h.receive(b"+a\r\n").unwrap();
    h.send_all();
    assert!(!h.session.is_finished());
    h.receive(b"+b\r\n").unwrap();
    assert!(h.session.is_finished(), "though nobody has taken the outcomes yet");
    assert_eq!(h.replies(a), ["+a\r\n"]);
    assert_eq!(h.replies(b), ["+b\r\n"]);
}

#[test]
fn each_outcome_wakes_its_task_once() {
    let mut h = Harness::open();
    let a = h.submit(2, None);
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    assert!(h.session.poll_outcome(a, &waker).is_pending());
    h.send_all();
    h.receive(b"+1\r\n+2\r\n").unwrap();
    let mut woken = Vec::new();
    h.session.take_woken(&mut woken);
    woken.drain(..).for_each(Waker::wake);
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    h.session.take_woken(&mut woken);
    assert!(woken.is_empty());
}
/// Notes what it is told, and of what arrived before.
#[derive(Debug, Default)]
struct Notes {
    told: std::sync::Mutex<Vec<(ConnectionId, String)>>,
}

impl Notes {
    fn note(&self, connection: ConnectionId, text: &str) {
        self.told.lock().unwrap().push((connection, text.to_owned()));
    }

    fn texts(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }
}

impl PushSink for Notes {
    fn handle_push(&self, connection: ConnectionId, push: Frame, woken: &mut Vec<Waker>) {
        let (text,): (&str,) = push.parse().unwrap();
        self.note(connection, text);
        woken.push(noop().clone());
    }

    fn handle_end(&self, connection: ConnectionId, _: &mut Vec<Waker>) {
        self.note(connection, "end");
    }

    fn is_urgent(&self) -> bool {
        true
    }
}

#[test]
fn pushes_go_to_the_sink_and_answer_nothing() {
    let mut harness = Harness::open();
    assert!(!harness.session.is_urgent());
    let (notes, id) = (Arc::new(Notes::default()), ConnectionId::next());
    harness.session.attach(id, notes.clone());
    assert!(harness.session.is_urgent());
    harness.receive(b">1\r\n+early\r\n").unwrap();
    let request = harness.submit(1, None);
    harness.send_all();
    harness.receive(b">1\r\n+before\r\n").unwrap();
    assert!(harness.outcome(request).is_none());
    harness.receive(b"+OK\r\n>1\r\n+after\r\n").unwrap();
    assert_eq!(harness.replies(request), ["+OK\r\n"]);
    assert_eq!(notes.texts(), ["early", "before", "after"]);
    let mut woken = Vec::new();
    assert_eq!(harness.session.take_woken(&mut woken), 1, "the request's is the first");
    assert_eq!(woken.len(), 1 + 3, "the sink's wakers are woken with it");
    assert!(notes.told.lock().unwrap().iter().all(|(of, _)| *of == id));
    assert_ne!(id, ConnectionId::next());
}

#[test]
fn the_sink_is_told_as_soon_as_pushes_cannot_be_relied_on() {
    let ends: [fn(&mut Harness); 3] = [
        |harness| harness.session.fail(&Error::closed("test")),
        |harness| harness.session.lose_sending(),
        |harness| {
            harness.submit(1, Some(1));
            harness.send_all();
            harness.at(1);
            harness.at(6);
            assert!(harness.session.is_given_up());
        },
    ];
    for end in ends {
        let mut harness = Harness::open();
        let notes = Arc::new(Notes::default());
        harness.session.attach(ConnectionId::next(), notes.clone());
        end(&mut harness);
        assert_eq!(notes.texts(), ["end"]);
    }
}

/// A session that is open and checked, and the instant of its opening.
fn checked(period: Option<Duration>, stall: Option<Duration>) -> (Session, Instant) {
    let now = Instant::now();
    let mut session = Session::new(Bounds { commands: 100, bytes: 1 << 20, stall }, now);
    session.check(fence::Checks { after_timeout: true, period });
    session.open(now);
    (session, now)
}

/// What the session has to send, as sent.
fn sent(session: &mut Session) -> String {
    let mut outgoing = Outgoing::default();
    let mut bytes = Vec::new();
    while session.begin_send(&mut outgoing) {
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let count = outgoing.slices(&mut slices);
        let taken: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
        outgoing.advance(taken);
        session.end_send(taken);
    }
    String::from_utf8(bytes).unwrap()
}

/// The number in the only `PING` there is to send.
fn fence_number(session: &mut Session) -> String {
    let bytes = sent(session);
    let words: Vec<&str> = bytes.split("\r\n").collect();
    assert_eq!((words[0], words[2]), ("*2", "PING"), "{bytes:?}");
    words[4].to_owned()
}

fn bulk(text: &str) -> Batch {
    frames(format!("${}\r\n{text}\r\n", text.len()).as_bytes())
}

#[test]
fn a_timeout_is_followed_by_one_fence_which_passes_if_replies_are_in_order() {
    let (mut session, now) = checked(None, None);
    let deadline = now + Duration::from_millis(10);
    let get = || crate::Command::new("GET").arg("k").into_packet().unwrap();
    for _ in 0..3 {
        session.submit(&get(), Some(deadline), now).unwrap();
    }
    assert_eq!(sent(&mut session).matches("GET").count(), 3);
    assert!(!session.take_raised());
    session.handle_deadlines(deadline);
    assert!(session.take_raised());
    let number = fence_number(&mut session);
    // Others behind it, one of which times out while the fence is under way.
    let late = session.submit(&get(), Some(deadline + Duration::from_millis(1)), deadline).unwrap();
    let kept = session.submit(&get(), None, deadline).unwrap();
    sent(&mut session);
    session.handle_deadlines(deadline + Duration::from_millis(1));
    assert!(!session.take_raised(), "one at a time");
    for _ in 0..3 {
        session.handle_frames(frames(b"+late\r\n"), deadline).unwrap();
    }
    session.handle_frames(bulk(&number), deadline).unwrap();
    session.handle_frames(frames(b"+late\r\n"), deadline).unwrap();
    session.handle_frames(frames(b"+kept\r\n"), deadline).unwrap();
    let Poll::Ready(Ok(replies)) = session.poll_outcome(kept, Waker::noop()) else {
        panic!("it is answered")
    };
    assert_eq!(replies.into_one().unwrap().parse::<&str>().unwrap(), "kept");
    assert!(matches!(session.poll_outcome(late, Waker::noop()), Poll::Ready(Err(_))));
    assert!(!session.is_busy());
}

#[test]
fn a_fence_with_anothers_reply_ends_the_session_before_a_later_request_gets_a_wrong_one() {
    for wrong in ["+late\r\n", ":7\r\n", "-WRONGTYPE no\r\n", "_\r\n", "*0\r\n"] {
        let (mut session, now) = checked(None, None);
        let deadline = now + Duration::from_millis(10);
        let get = crate::Command::new("GET").arg("k").into_packet().unwrap();
        session.submit(&get, Some(deadline), now).unwrap();
        sent(&mut session);
        session.handle_deadlines(deadline);
        let number = fence_number(&mut session);
        let next = session.submit(&get, None, deadline).unwrap();
        sent(&mut session);
        // One reply too many came for the first request.
        session.handle_frames(frames(b"+late\r\n"), deadline).unwrap();
        let error = session.handle_frames(frames(wrong.as_bytes()), deadline).unwrap_err();
        assert!(error.is_protocol(), "{error:?}");
        assert!(session.poll_outcome(next, Waker::noop()).is_pending());
        session.fail(&error);
        let Poll::Ready(Err(error)) = session.poll_outcome(next, Waker::noop()) else {
            panic!("it has failed")
        };
        assert_eq!(error.send_state(), SendState::MaybeSent);
        assert!(!format!("{error:?}").contains(&number));
    }
}

#[test]
fn a_server_that_may_not_answer_a_ping_is_in_order() {
    for refusal in ["-NOPERM no\r\n", "-LOADING not now\r\n", "-BUSY a script runs\r\n"] {
        let (mut session, now) = checked(Some(Duration::from_secs(10)), None);
        let due = session.next_check().unwrap();
        assert!((8..=10).contains(&due.duration_since(now).as_secs()), "a fifth sooner at most");
        session.handle_deadlines(due);
        fence_number(&mut session);
        session.handle_frames(frames(refusal.as_bytes()), due).unwrap();
        assert!(session.accepts() && !session.is_busy());
    }
}

#[test]
fn an_idle_session_is_checked_each_period_and_given_up_when_nothing_comes() {
    for stall in [None, Some(Duration::from_secs(2))] {
        let (mut session, _) = checked(Some(Duration::from_secs(10)), stall);
        let mut due = session.next_check().unwrap();
        for _ in 0..5 {
            assert_eq!(session.handle_deadlines(due - Duration::from_millis(1)), Some(due));
            session.handle_deadlines(due);
            let number = fence_number(&mut session);
            let answered = due + Duration::from_millis(1);
            session.handle_frames(bulk(&number), answered).unwrap();
            let next = session.handle_deadlines(session.next_check().unwrap()).unwrap();
            assert!(next > due + Duration::from_secs(7));
            due = next;
        }
        let mut now = due;
        session.handle_deadlines(now);
        fence_number(&mut session);
        // Nothing is answered any more; time passes from check to check.
        for _ in 0..10 {
            if !session.accepts() {
                break;
            }
            now = session.next_check().expect("it is looked at again");
            session.handle_deadlines(now);
        }
        assert!(session.is_given_up() && session.is_finished(), "{stall:?}");
        assert!(now.duration_since(due) <= Duration::from_secs(11), "{stall:?}");
    }
}

#[test]
fn a_session_without_checks_sends_nothing_of_its_own() {
    let now = Instant::now();
    let mut session = Session::new(Bounds { commands: 10, bytes: 1000, stall: None }, now);
    session.open(now);
    assert_eq!(session.next_check(), None);
    let get = crate::Command::new("GET").arg("k").into_packet().unwrap();
    session.submit(&get, Some(now), now).unwrap();
    sent(&mut session);
    session.handle_deadlines(now);
    assert_eq!(sent(&mut session), "");
}

#[test]
fn checks_that_are_changed_hold_from_then_on_and_one_under_way_still_counts() {
    let period = Duration::from_secs(10);
    let (mut session, now) = checked(None, None);
    assert_eq!(session.next_check(), None);
    session.change_checks(fence::Checks { after_timeout: false, period: Some(period) }, now);
    let due = session.next_check().expect("a check is scheduled");
    assert!(due > now && due <= now + period);
    session.handle_deadlines(due);
    let number = fence_number(&mut session);
    session.change_checks(fence::Checks::default(), due);
    let get = crate::Command::new("GET").arg("k").into_packet().unwrap();
    let id = session.submit(&get, None, due).unwrap();
    assert_eq!(sent(&mut session).matches("PING").count(), 0);
    session.handle_frames(bulk(&number), due).unwrap();
    session.handle_frames(frames(b"+v\r\n"), due).unwrap();
    assert!(matches!(session.poll_outcome(id, Waker::noop()), Poll::Ready(Ok(_))));
    // Nothing is raised any more, whenever it is looked.
    session.handle_deadlines(due + 10 * period);
    assert_eq!(sent(&mut session), "");
}
