//! Random histories of a session, with a clock of their own, beside a model of what must come of them.
//!
//! The model is one list of requests in the order in which they were submitted, searched from its beginning for every
//! question. It shares no code and no bookkeeping with the session: what it knows of the stream, it knows by counting
//! bytes, and what the peer answers, the peer has read from the bytes that the session gave out.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use bytes::BytesMut;
use respire_codec::{Decoder, DecoderConfig};

use super::*;
use crate::{
    command::{Command, Pipeline},
    simulation::History,
};

const PUSH: &[u8] = b">1\r\n+p\r\n";

const STEPS: u64 = 1_000_000;
const STEPS_A_HISTORY: usize = 2_000;

/// More requests than this are not submitted, so that the model's searches stay short.
const REQUESTS_MAX: usize = 40;

#[test]
fn no_history_shifts_a_reply_or_tells_an_untruth() {
    History::run_many(STEPS, |history| {
        let mut simulation = Simulation::new(history);
        let mut steps = 0;
        while steps < STEPS_A_HISTORY && simulation.model.phase != Is::Closed {
            simulation.step();
            simulation.check();
            steps += 1;
        }
        simulation.finish();
        steps as u64
    });
}

/// Counts its wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Opening,
    Open,
    Draining,
    Retired,
    Closed,
}

/// What a caller must find when it asks next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Answered,
    TimedOut(SendState),
    Ended(SendState),
}

/// Whoever waits for a request.
struct Caller {
    id: RequestId,
    wakes: Arc<Wakes>,
    /// Its waker is with the session.
    registered: bool,
    wakes_expected: usize,
}

impl Caller {
    fn check(&self) {
        let wakes = self.wakes.0.load(Ordering::Relaxed);
        assert_eq!(wakes, self.wakes_expected, "wakes of the caller of {:?}", self.id);
    }
}

struct Entry {
    tag: usize,
    replies: usize,
    replied: usize,
    bytes: usize,
    deadline: Option<Instant>,
    caller: Option<Caller>,
    /// The position of its first byte in the stream, once it has one.
    start: Option<u64>,
    /// It is in the order: its replies are still to come.
    holds_place: bool,
    outcome: Option<Outcome>,
}

impl Entry {
    fn waits_for_its_turn(&self) -> bool {
        self.start.is_none() && self.outcome.is_none()
    }

    fn is_pending(&self) -> bool {
        self.caller.is_some() && self.outcome.is_none()
    }
}

struct Model {
    phase: Is,
    bounds: Bounds,
    entries: Vec<Entry>,
    /// Bytes that entered the stream; were shown to the transport; that the session knows to be taken; that were.
    entered: u64,
    offered: u64,
    known_taken: u64,
    taken: u64,
    asking: bool,
    progress: Instant,
}

impl Model {
    fn in_order(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.holds_place)
    }

    fn settle(&mut self, at: usize, outcome: Outcome) {
        let entry = &mut self.entries[at];
        if entry.outcome.is_some() {
            return;
        }
        entry.outcome = Some(outcome);
        if let Some(caller) = &mut entry.caller {
            caller.wakes_expected += usize::from(caller.registered);
            caller.registered = false;
        }
    }

    /// Lets in what may enter the stream: the oldest that waits, as long as there is room for it.
    fn admit(&mut self) {
        while let Some(at) = self.entries.iter().position(Entry::waits_for_its_turn) {
            let commands: usize = self.in_order().map(|entry| entry.replies).sum();
            let bytes: usize = self.in_order().map(|entry| entry.bytes).sum();
            let entry = &self.entries[at];
            let fits = commands + entry.replies <= self.bounds.commands
                && bytes + entry.bytes <= self.bounds.bytes;
            if !matches!(self.phase, Is::Open | Is::Draining) || !(fits || commands == 0) {
                return;
            }
            self.entries[at].start = Some(self.entered);
            self.entries[at].holds_place = true;
            self.entered += self.entries[at].bytes as u64;
        }
    }

    fn end_waiting(&mut self) {
        while let Some(at) = self.entries.iter().position(Entry::waits_for_its_turn) {
            self.settle(at, Outcome::Ended(SendState::NotSent));
        }
    }

    /// The reply that the peer has numbered is the one that must come next.
    fn reply(&mut self, (tag, number): (usize, usize), now: Instant) {
        let at = self.entries.iter().position(|entry| entry.holds_place);
        let at = at.expect("the peer answers what was asked");
        let entry = &mut self.entries[at];
        assert_eq!((entry.tag, entry.replied), (tag, number), "the bytes are in another order");
        self.progress = now;
        entry.replied += 1;
        if entry.replied == entry.replies {
            entry.holds_place = false;
            self.settle(at, Outcome::Answered);
            self.admit();
        }
    }

    /// Whether a frame that comes now answers nothing.
    fn is_unasked(&self) -> bool {
        self.in_order()
            .next()
            .is_none_or(|head| head.start.expect("it is in the stream") >= self.offered)
    }

    fn keep_deadlines(&mut self, now: Instant) {
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if entry.is_pending() && entry.deadline.is_some_and(|deadline| deadline <= now) {
                let sent =
                    if entry.start.is_some() { SendState::MaybeSent } else { SendState::NotSent };
                self.settle(at, Outcome::TimedOut(sent));
            }
        }
        self.admit();
        if self.lost_at().is_some_and(|lost| lost <= now) && self.phase == Is::Open {
            self.phase = Is::Retired;
            self.end_waiting();
        }
    }

    /// When the oldest request is overdue and nothing was answered for as long as may be.
    fn lost_at(&self) -> Option<Instant> {
        let deadline = self.in_order().next()?.deadline?;
        Some(deadline.max(self.progress + self.bounds.stall?))
    }

    fn fail(&mut self) {
        self.phase = Is::Closed;
        self.end_waiting();
        let left = if self.asking { self.offered } else { self.known_taken };
        for at in 0..self.entries.len() {
            let Some(start) = self.entries[at].start else { continue };
            let sent = if start < left { SendState::MaybeSent } else { SendState::NotSent };
            self.settle(at, Outcome::Ended(sent));
            self.entries[at].holds_place = false;
        }
    }

    /// Forgets what nobody waits for and what holds no place.
    fn tidy(&mut self) {
        self.entries.retain(|entry| {
            entry.caller.is_some() || entry.holds_place || entry.waits_for_its_turn()
        });
    }
}

/// The other end: it reads commands from the stream and numbers their replies.
struct Peer {
    decoder: Decoder,
    received: BytesMut,
    asked: VecDeque<(usize, usize)>,
}

impl Peer {
    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while let Some(frame) = self.decoder.decode(&mut self.received).expect("it is RESP") {
            let words: Vec<&str> = frame.parse().expect("it is a command");
            let number = |word: &str| word.parse().expect("the word is a number of ours");
            self.asked.push_back((number(words[0]), number(words[1])));
        }
    }
}

struct Simulation<'a> {
    history: &'a mut History,
    session: Session,
    model: Model,
    peer: Peer,
    now: Instant,
    /// What the session has given out for sending.
    sending: Outgoing,
    /// What the transport takes of it in the call under way.
    taking: usize,
    sending_lost: bool,
    /// Requests are few, so that at times there are none.
    calm: bool,
    next_tag: usize,
}

impl<'a> Simulation<'a> {
    fn new(history: &'a mut History) -> Self {
        let now = Instant::now();
        let stall = Duration::from_millis(1 + history.below(50) as u64);
        let stall = Some(stall).filter(|_| !history.once_in(4));
        let bounds =
            Bounds { commands: 1 + history.below(12), bytes: 40 + history.below(800), stall };
        let model = Model {
            phase: Is::Opening,
            bounds,
            entries: Vec::new(),
            entered: 0,
            offered: 0,
            known_taken: 0,
            taken: 0,
            asking: false,
            progress: now,
        };
        let peer = Peer {
            decoder: Decoder::new(DecoderConfig::default()),
            received: BytesMut::new(),
            asked: VecDeque::new(),
        };
        let calm = history.once_in(3);
        let mut session = Session::new(bounds, now);
        session.recorder().sample(NonZeroU32::new(2));
        Self {
            history,
            session,
            model,
            peer,
            now,
            sending: Outgoing::default(),
            taking: 0,
            sending_lost: false,
            calm,
            next_tag: 0,
        }
    }

    fn step(&mut self) {
        match self.history.below(1000) {
            0..250 if self.calm && !self.history.once_in(8) => {}
            0..250 => self.submit(),
            250..290 => self.abandon(),
            290..420 => self.poll(),
            420..650 => self.send(),
            650..860 => self.answer(),
            860..880 => self.push(),
            880..910 => self.answer_to_a_running_task(),
            910..980 => self.pass_time(),
            980..996 => self.open(),
            996 if self.history.once_in(4) => self.drain(),
            997 if self.history.once_in(4) => self.lose_sending(),
            998 if self.history.once_in(4) => self.fail(&Error::closed("the test ends it")),
            _ => self.surprise(),
        }
        self.wake();
        self.model.tidy();
    }

    fn wake(&mut self) {
        let mut woken = Vec::new();
        self.session.take_woken(&mut woken);
        woken.into_iter().for_each(Waker::wake);
    }

    fn submit(&mut self) {
        if self.model.entries.len() >= REQUESTS_MAX {
            return;
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        let packet = self.packet(tag);
        let deadline = (!self.history.once_in(3))
            .then(|| self.now + Duration::from_millis(self.history.below(60) as u64));
        let is_taken = matches!(self.model.phase, Is::Opening | Is::Open);
        let id = match self.session.submit(&packet, deadline, self.now) {
            Ok(id) => id,
            Err(error) => {
                assert!(!is_taken && error.is_closed(), "{error:?}");
                assert_eq!(error.send_state(), SendState::NotSent);
                return;
            }
        };
        assert!(is_taken);
        if self.model.in_order().next().is_none() {
            self.model.progress = self.now;
        }
        let caller = Caller { id, wakes: Arc::default(), registered: false, wakes_expected: 0 };
        self.model.entries.push(Entry {
            tag,
            replies: packet.replies,
            replied: 0,
            bytes: packet.len(),
            deadline,
            caller: Some(caller),
            start: None,
            holds_place: false,
            outcome: None,
        });
        self.model.admit();
        let alone = self.model.in_order().count() == 1
            && self.model.entries.last().is_some_and(|entry| entry.holds_place);
        assert_eq!(self.session.is_alone(id), alone);
    }

    /// The tag and the number of the reply travel in the bytes.
    fn packet(&mut self, tag: usize) -> Packet {
        let size = match self.history.below(200) {
            0 => 20_000,
            1..10 => 1_000,
            _ => self.history.below(60),
        };
        let padding = vec![b'x'; size];
        if self.history.once_in(2) {
            let command = Command::new(tag.to_string()).arg(0).arg(padding);
            return command.into_packet().expect("it is no command of a server's");
        }
        let mut pipeline = Pipeline::new();
        for number in 0..1 + self.history.below(4) {
            pipeline.command(&[
                tag.to_string().as_bytes(),
                number.to_string().as_bytes(),
                &padding,
            ]);
        }
        pipeline.into_packet().expect("it is no command of a server's")
    }

    /// One of the requests that somebody waits for.
    fn any_with_a_caller(&mut self) -> Option<usize> {
        let all: Vec<usize> = (0..self.model.entries.len())
            .filter(|&at| self.model.entries[at].caller.is_some())
            .collect();
        if all.is_empty() { None } else { Some(all[self.history.below(all.len())]) }
    }

    fn abandon(&mut self) {
        let Some(at) = self.any_with_a_caller() else { return };
        let entry = &mut self.model.entries[at];
        let caller = entry.caller.take().expect("it has a caller");
        self.session.abandon(caller.id);
        if entry.waits_for_its_turn() {
            self.model.entries.remove(at);
        }
        self.model.admit();
    }

    fn poll(&mut self) {
        if let Some(at) = self.any_with_a_caller() {
            self.poll_one(at);
        }
    }

    fn poll_one(&mut self, at: usize) {
        self.wake();
        let entry = &mut self.model.entries[at];
        let caller = entry.caller.as_mut().expect("it has a caller");
        let waker = Waker::from(Arc::clone(&caller.wakes));
        let Poll::Ready(found) = self.session.poll_outcome(caller.id, &waker) else {
            assert_eq!(entry.outcome, None, "the caller of {} must not wait", entry.tag);
            caller.registered = true;
            return;
        };
        caller.check();
        entry.caller = None;
        if let Some(sample) = self.session.take_finished() {
            self.session.recorder().finished(sample, self.now);
        }
        let expected = entry.outcome.unwrap_or_else(|| panic!("{} has {found:?}", entry.tag));
        match (expected, found) {
            (Outcome::Answered, Ok(replies)) => {
                let texts: Vec<String> = replies
                    .into_vec()
                    .iter()
                    .map(|reply| reply.parse().expect("the peer answers with text"))
                    .collect();
                let own: Vec<String> =
                    (0..entry.replies).map(|reply| text((entry.tag, reply))).collect();
                assert_eq!(texts, own);
            }
            (Outcome::TimedOut(sent), Err(error)) if error.is_timeout() => {
                assert_eq!(error.send_state(), sent, "{error:?}");
                assert!(entry.deadline.is_some_and(|deadline| deadline <= self.now));
                let certainly = entry.start.is_none();
                assert_eq!(sent == SendState::NotSent, certainly);
            }
            (Outcome::Ended(sent), Err(error)) if !error.is_timeout() => {
                assert_eq!(error.send_state(), sent, "{error:?}");
                // Whatever the session thinks that it knows: this is what the peer has of it.
                let left = entry.start.is_some_and(|start| start < self.model.taken);
                assert!(!(left && sent == SendState::NotSent), "{} is with the peer", entry.tag);
            }
            (expected, found) => panic!("{}: {found:?} and not {expected:?}", entry.tag),
        }
    }

    /// Begins or ends a call to the transport.
    fn send(&mut self) {
        if self.model.asking || self.taking > 0 {
            self.session.end_send(self.taking);
            self.session.note_sent(self.now);
            self.model.known_taken += self.taking as u64;
            self.model.asking = false;
            self.taking = 0;
            return;
        }
        if self.sending_lost {
            return;
        }
        let asks = self.session.begin_send(&mut self.sending);
        if self.model.phase == Is::Closed {
            assert!(!asks);
            return;
        }
        if self.model.offered == self.model.taken {
            self.model.offered = self.model.entered;
        }
        assert_eq!(asks, self.model.offered > self.model.taken);
        self.model.asking = asks;
        if asks {
            self.transport_takes();
        }
    }

    /// The peer may have bytes, and answer them, before the call that sends them returns.
    fn transport_takes(&mut self) {
        let mut slices = [std::io::IoSlice::new(&[]); 3];
        let count = self.sending.slices(&mut slices);
        let bytes: Vec<u8> =
            slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        self.taking = match self.history.below(4) {
            0 => self.history.below(bytes.len() + 1),
            1 => 0,
            _ => bytes.len(),
        };
        self.peer.receive(&bytes[..self.taking]);
        self.sending.advance(self.taking);
        self.model.taken += self.taking as u64;
    }

    fn answer(&mut self) {
        if self.model.phase == Is::Closed {
            return;
        }
        let (mut wire, mut replies) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.history.below(6) {
            let Some(next) = self.peer.asked.pop_front() else { break };
            if self.history.once_in(16) {
                wire.extend_from_slice(PUSH);
            }
            wire.extend_from_slice(format!("+{}\r\n", text(next)).as_bytes());
            replies.push(next);
        }
        self.session.handle_frames(frames(&wire), self.now).expect("they answer what was asked");
        for next in replies {
            self.model.reply(next, self.now);
        }
    }

    /// The oldest request's own task receives its reply: it need not be woken, and asks by itself.
    fn answer_to_a_running_task(&mut self) {
        let Some(at) = self.model.entries.iter().position(|entry| entry.holds_place) else {
            return;
        };
        let Some(caller) = &mut self.model.entries[at].caller else { return };
        self.session.hush(caller.id);
        caller.registered = false;
        self.answer();
        self.poll_one(at);
    }

    fn push(&mut self) {
        if self.model.phase != Is::Closed {
            self.session.handle_frames(frames(PUSH), self.now).expect("pushes may come");
        }
    }

    /// The clock moves, and the driver may be late to look at it, or early.
    fn pass_time(&mut self) {
        self.now += Duration::from_millis(self.history.below(12) as u64);
        if self.history.once_in(3) {
            return;
        }
        let is_due = self.session.next_check().is_some_and(|next| next <= self.now);
        let next = self.session.handle_deadlines(self.now);
        assert_eq!(next, self.session.next_check());
        assert!(next.is_none_or(|next| next > self.now), "the driver would spin");
        if is_due {
            self.model.keep_deadlines(self.now);
            if let (Is::Open, Some(lost)) = (self.model.phase, self.model.lost_at()) {
                assert!(next.is_some_and(|next| next <= lost), "a stall would go unnoticed");
            }
        }
    }

    fn open(&mut self) {
        self.session.open(self.now);
        if self.model.phase == Is::Opening {
            self.model.phase = Is::Open;
            self.model.progress = self.now;
            self.model.admit();
        }
    }

    fn drain(&mut self) {
        self.session.drain();
        match self.model.phase {
            Is::Open => self.model.phase = Is::Draining,
            Is::Opening => {
                self.model.phase = Is::Draining;
                self.model.end_waiting();
            }
            _ => {}
        }
    }

    fn lose_sending(&mut self) {
        if self.model.asking {
            self.send();
        }
        self.session.lose_sending();
        self.sending_lost = true;
        if matches!(self.model.phase, Is::Opening | Is::Open | Is::Draining) {
            self.model.phase = Is::Retired;
            self.model.end_waiting();
        }
    }

    fn fail(&mut self, error: &Error) {
        self.session.fail(error);
        self.model.fail();
    }

    /// A frame comes that answers nothing.
    fn surprise(&mut self) {
        if self.model.is_unasked() && self.model.phase != Is::Closed && self.history.once_in(8) {
            let said = [&b"+OK\r\n"[..], b"-ERR no\r\n"][self.history.below(2)];
            let error =
                self.session.handle_frames(frames(said), self.now).expect_err("nobody asked");
            self.fail(&error);
        }
    }

    /// What must be true after every step.
    fn check(&self) {
        let stats = &self.session.recorder.stats;
        let ended = stats.answered + stats.timed_out + stats.abandoned + stats.failed;
        assert_eq!(stats.requests, ended + self.session.unsettled as u64, "{stats:?}");
        let model = &self.model;
        let pending = model.entries.iter().filter(|entry| entry.is_pending());
        let is_closed = model.phase == Is::Closed;
        assert_eq!(self.session.accepts(), matches!(model.phase, Is::Opening | Is::Open));
        let is_leaving = matches!(model.phase, Is::Draining | Is::Retired);
        assert_eq!(
            self.session.is_finished(),
            is_closed || is_leaving && pending.clone().count() == 0
        );
        assert_eq!(self.session.is_busy(), model.in_order().next().is_some());
        assert_eq!(self.session.has_outgoing(), !is_closed && model.entered > model.offered);
        let earliest = pending.filter_map(|entry| entry.deadline).min();
        let check = self.session.next_check();
        assert!(
            is_closed || earliest.is_none_or(|at| check.is_some_and(|check| check <= at)),
            "a deadline would be missed"
        );
        for entry in &model.entries {
            entry.caller.iter().for_each(Caller::check);
        }
    }

    /// Ends the history: what can be answered is, the rest fails, and nothing is left.
    fn finish(mut self) {
        self.open();
        self.check();
        if matches!(self.model.phase, Is::Open | Is::Draining) {
            self.carry_out_everything();
        }
        if self.model.asking {
            self.send();
        }
        if self.model.phase != Is::Closed {
            self.fail(&Error::closed("the test ends it"));
        }
        while let Some(at) = self.any_with_a_caller() {
            self.poll_one(at);
            self.model.tidy();
        }
        let session = &self.session;
        assert!(session.requests.is_empty() && session.order.is_empty());
        assert!(session.waiting.is_empty() && !session.has_outgoing());
        assert_eq!(
            (session.unsettled, session.commands_in_flight, session.bytes_in_flight),
            (0, 0, 0)
        );
    }

    /// A peer that answers leaves nobody waiting.
    fn carry_out_everything(&mut self) {
        let mut rounds = 0;
        while self.model.in_order().next().is_some() {
            rounds += 1;
            assert!(rounds < 10_000, "requests are stuck");
            self.send();
            self.answer();
        }
        assert!(!self.model.entries.iter().any(Entry::is_pending), "a request is stuck");
    }
}

fn text((tag, number): (usize, usize)) -> String {
    format!("{tag}.{number}")
}

/// Frames that were received together.
fn frames(bytes: &[u8]) -> Batch {
    let mut buffer = BytesMut::from(bytes);
    let mut decoder = Decoder::new(DecoderConfig::default());
    let frames = decoder.decode_batch(&mut buffer).expect("the test's bytes are RESP");
    assert!(buffer.is_empty(), "the test's bytes are whole frames");
    frames
}
