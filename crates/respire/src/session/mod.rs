//! Which reply belongs to which request. No I/O, no clock, no task: what happens comes in by `handle_*`, what is to be
//! done goes out by `take_*` and `poll_*`, and time is an argument.
//!
//! The order to call them in: [`Session::open`] once the handshake is done; [`submit`](Session::submit) at any time;
//! [`begin_send`](Session::begin_send) and [`end_send`](Session::end_send) around each time that the transport is asked
//! to send; [`handle_frames`](Session::handle_frames) for what was received; [`handle_deadlines`](Session::handle_deadlines) when the instant that it
//! returned last has come; [`fail`](Session::fail) at the end. After any of them, [`take_woken`](Session::take_woken)
//! has the tasks to wake.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use respire_codec::{Batch, Frame};
use slab::Slab;

use crate::{
    command::Packet,
    error::{Error, SendState},
    reply::ServerError,
    stats::{
        Stats,
        recorder::{Recorder, SampleId},
    },
};

pub(crate) mod fence;
pub(crate) mod handshake;
pub(crate) mod outgoing;
pub(crate) mod push;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use fence::{Checks, Fences};
use outgoing::Outgoing;
use push::{ConnectionId, PushSink};

/// Names a request of one session, from `submit` to the `poll_outcome` that is ready, or to `abandon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(usize);

/// The bounds of what may be under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Commands sent or about to be, and not answered.
    pub(crate) commands: usize,
    /// The bytes of those commands.
    pub(crate) bytes: usize,
    /// How long nothing may be answered, once the oldest request is overdue, before the connection is given up.
    pub(crate) stall: Option<Duration>,
}

#[derive(Debug)]
enum Phase {
    /// Requests are taken and held back.
    Opening,
    Open,
    /// No new requests; those that were taken are carried out.
    Draining,
    /// No new requests, and none that waits; those under way may still be answered.
    Retired,
    /// Nothing is under way and nothing will be.
    Closed(Error),
}

#[derive(Debug)]
pub(crate) struct Session {
    phase: Phase,
    bounds: Bounds,
    requests: Slab<Request>,
    /// The requests whose bytes are in the stream, oldest first. The order of their bytes is this order.
    order: VecDeque<usize>,
    /// The requests that wait for the session to open or for their turn, by ticket. None of their bytes is in the stream.
    waiting: BTreeMap<u64, usize>,
    next_ticket: u64,
    commands_in_flight: usize,
    bytes_in_flight: usize,
    outgoing: Outgoing,
    /// Bytes that ever entered the stream; those of them that the transport was offered, and may have taken while
    /// nobody looked; those that it is known to have taken. `taken <= offered <= entered`.
    entered: u64,
    offered: u64,
    taken: u64,
    /// The transport is being asked to send, so that up to `offered` may have left.
    asking: bool,
    /// Requests that somebody waits for and that have no outcome yet.
    unsettled: usize,
    /// When a reply arrived last, or the first request after a time without any was submitted.
    progress: Instant,
    /// Not later than the earliest deadline of a request.
    next_check: Option<Instant>,
    /// Tasks that wait for outcomes that are there now.
    woken: Vec<Waker>,
    /// Tasks that listen to what the sink was told.
    listening: Vec<Waker>,
    /// Who takes the pushes, and as whose.
    sink: Option<(ConnectionId, Arc<dyn PushSink>)>,
    fences: Fences,
    answered: u64,
    given_up: bool,
    recorder: Recorder,
    /// Of the request whose outcome was taken last, if that was sampled.
    finished: Option<SampleId>,
}

#[derive(Debug)]
struct Request {
    place: Place,
    /// Whether somebody waits for the outcome. Else the request only keeps its place in the order.
    awaited: bool,
    /// Set once. A request that timed out has its outcome while it still keeps its place.
    outcome: Option<Result<(), Error>>,
    deadline: Option<Instant>,
    waker: Option<Waker>,
    /// Replies still to come.
    outstanding: usize,
    replies: Replies,
    bytes: usize,
    commands: usize,
    sample: Option<SampleId>,
}

/// The replies of a request, in order. Most have one, which needs no list.
#[derive(Debug, Default)]
pub(crate) enum Replies {
    #[default]
    None,
    One(Frame),
    Many(Vec<Frame>),
}

impl Replies {
    fn push(&mut self, frame: Frame, still_to_come: usize) {
        match self {
            Self::None if still_to_come == 0 => *self = Self::One(frame),
            _ => self.list(still_to_come + 1).push(frame),
        }
    }

    /// The list of several, with room for those to come when it is made.
    fn list(&mut self, to_come: usize) -> &mut Vec<Frame> {
        if let Self::None = self {
            *self = Self::Many(Vec::with_capacity(to_come));
        }
        match self {
            Self::Many(frames) => frames,
            Self::None | Self::One(_) => unreachable!("one is stored when no more are to come"),
        }
    }

    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Frame> {
        match self {
            Self::None => [].iter(),
            Self::One(frame) => std::slice::from_ref(frame).iter(),
            Self::Many(frames) => frames.iter(),
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Frame> {
        match self {
            Self::None => Vec::new(),
            Self::One(frame) => vec![frame],
            Self::Many(frames) => frames,
        }
    }

    /// The reply of a request of one command.
    pub(crate) fn into_one(self) -> Option<Frame> {
        match self {
            Self::One(frame) => Some(frame),
            Self::None | Self::Many(_) => None,
        }
    }
}

#[derive(Debug)]
enum Place {
    Waiting {
        ticket: u64,
        /// Boxed, because few requests wait and all would be larger by it.
        packet: Box<Packet>,
    },
    /// In the order; the first byte's position in the stream.
    InFlight { start: u64 },
    /// Neither: it was answered, or never will be.
    Left,
}

impl Session {
    pub(crate) fn new(bounds: Bounds, now: Instant) -> Self {
        Self {
            phase: Phase::Opening,
            bounds,
            requests: Slab::new(),
            order: VecDeque::new(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            commands_in_flight: 0,
            bytes_in_flight: 0,
            outgoing: Outgoing::default(),
            entered: 0,
            offered: 0,
            taken: 0,
            asking: false,
            unsettled: 0,
            progress: now,
            next_check: None,
            woken: Vec::new(),
            listening: Vec::new(),
            sink: None,
            fences: Fences::default(),
            answered: 0,
            given_up: false,
            recorder: Recorder::new(),
            finished: None,
        }
    }

    /// Has the pushes handed to a sink, from now on.
    pub(crate) fn attach(&mut self, id: ConnectionId, sink: Arc<dyn PushSink>) {
        self.sink = Some((id, sink));
    }

    /// Has it checked that replies belong to their requests, from the opening on. To be called before.
    pub(crate) fn check(&mut self, checks: Checks) {
        self.fences = Fences::new(checks);
    }

    /// Has it checked in another way from now on. A check that is under way ends as it would have.
    pub(crate) fn change_checks(&mut self, checks: Checks, now: Instant) {
        self.fences.change(checks);
        if let Phase::Open = self.phase {
            let check = self.fences.schedule(now);
            self.next_check = [self.next_check, check].into_iter().flatten().min();
        }
    }

    /// Whether pushes must be received as soon as they arrive.
    pub(crate) fn is_urgent(&self) -> bool {
        self.sink.as_ref().is_some_and(|(_, sink)| sink.is_urgent())
    }

    /// Whether the connection was given up because nothing was answered.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up
    }

    /// Whether any request was ever answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered > 0
    }

    /// The handshake is done: what was held back goes out.
    pub(crate) fn open(&mut self, now: Instant) {
        if let Phase::Opening = self.phase {
            self.phase = Phase::Open;
            self.progress = now;
            self.admit_waiting();
            let check = self.fences.schedule(now);
            self.next_check = [self.next_check, check].into_iter().flatten().min();
        }
    }

    /// What this session does is counted here.
    pub(crate) fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// What has happened and what is under way.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.recorder.stats.clone();
        stats.waiting = self.waiting.len() as u64;
        stats.in_flight = self.commands_in_flight as u64;
        stats.in_flight_bytes = self.bytes_in_flight as u64;
        stats
    }

    /// Names the request whose outcome was taken last, if it is sampled, once.
    pub(crate) fn take_finished(&mut self) -> Option<SampleId> {
        self.finished.take()
    }

    /// Whether new requests are taken.
    pub(crate) fn accepts(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Open)
    }

    /// The bytes of the requests that are under way.
    pub(crate) fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight
    }

    /// Whether the connection is of no more use to anybody.
    pub(crate) fn is_finished(&self) -> bool {
        match self.phase {
            Phase::Opening | Phase::Open => false,
            Phase::Draining | Phase::Retired => self.unsettled == 0,
            Phase::Closed(_) => true,
        }
    }

    /// Whether a request would have to wait for its turn; before the session is open, whether as many wait already as
    /// may be under way.
    pub(crate) fn is_full_for(&self, packet: &Packet) -> bool {
        match self.phase {
            Phase::Open => !self.waiting.is_empty() || !self.has_room(packet.replies, packet.len()),
            _ => self.waiting.len() >= self.bounds.commands,
        }
    }

    /// Takes a request. Its bytes enter the stream at once, or when there is room for it.
    pub(crate) fn submit(
        &mut self,
        packet: &Packet,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<RequestId, Error> {
        match &self.phase {
            Phase::Opening | Phase::Open => {}
            Phase::Draining | Phase::Retired => {
                return Err(
                    Error::closed("it is being replaced").with_send_state(SendState::NotSent)
                );
            }
            Phase::Closed(error) => return Err(error.with_send_state(SendState::NotSent)),
        }
        let commands = packet.replies;
        let bytes = packet.len();
        let was_idle = self.order.is_empty();
        let enters = self.waiting.is_empty() && self.has_room(commands, bytes);
        let sample = self.recorder.submitted(now);
        let place = if enters {
            self.enter(packet, sample)
        } else {
            self.next_ticket += 1;
            Place::Waiting { ticket: self.next_ticket, packet: Box::new(packet.clone()) }
        };
        let key = self.requests.insert(Request {
            place,
            awaited: true,
            outcome: None,
            deadline,
            waker: None,
            outstanding: commands,
            replies: Replies::None,
            bytes,
            commands,
            sample,
        });
        self.unsettled += 1;
        if let Some(deadline) = deadline {
            self.next_check = Some(self.next_check.map_or(deadline, |next| next.min(deadline)));
        }
        if was_idle {
            self.progress = now;
        }
        if enters {
            self.order.push_back(key);
        } else {
            self.waiting.insert(self.next_ticket, key);
        }
        Ok(RequestId(key))
    }

    /// Leaves the waker of the task that waits for a request that was just submitted.
    pub(crate) fn register(&mut self, id: RequestId, waker: &Waker) {
        self.requests[id.0].waker = Some(waker.clone());
    }

    /// The outcome of a request, or a place for the task that waits for it. Once ready, the id is void.
    pub(crate) fn poll_outcome(
        &mut self,
        id: RequestId,
        waker: &Waker,
    ) -> Poll<Result<Replies, Error>> {
        let request = &mut self.requests[id.0];
        if let Some(outcome) = request.outcome.take() {
            let outcome = outcome.map(|()| request.replies.take());
            if outcome.is_ok() {
                let last = std::mem::replace(&mut self.finished, request.sample.take());
                // Where nobody wanted to know of the last one.
                last.into_iter().for_each(|last| self.recorder.dropped(last));
            }
            self.let_go(id.0);
            return Poll::Ready(outcome);
        }
        match &mut request.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        Poll::Pending
    }

    /// Nobody waits for the request any more. If its bytes are in the stream, its replies will be skipped; else it is
    /// never sent. Whether its outcome was there already.
    pub(crate) fn abandon(&mut self, id: RequestId) -> bool {
        let had_outcome = self.requests[id.0].outcome.is_some();
        if let Place::Waiting { ticket, .. } = self.requests[id.0].place {
            self.waiting.remove(&ticket);
            self.requests[id.0].place = Place::Left;
        }
        self.forget(id.0);
        self.admit_waiting();
        had_outcome
    }

    /// Nobody waits for the request any more; what is left is its place in the order, if it has one.
    fn forget(&mut self, key: usize) {
        let request = &mut self.requests[key];
        if request.outcome.is_none() {
            self.unsettled -= 1;
            self.recorder.stats.abandoned += 1;
        }
        self.let_go(key);
    }

    /// The request's outcome is nobody's any more.
    fn let_go(&mut self, key: usize) {
        let request = &mut self.requests[key];
        if let Some(sample) = request.sample.take() {
            self.recorder.dropped(sample);
        }
        if let Place::InFlight { .. } = request.place {
            request.awaited = false;
            request.waker = None;
            request.replies = Replies::None;
        } else {
            self.requests.remove(key);
        }
    }

    /// Whether this request is the only one that was taken and not answered.
    pub(crate) fn is_alone(&self, id: RequestId) -> bool {
        self.order.len() == 1 && self.order[0] == id.0
    }

    /// How many requests have not been offered to the transport, if that is all of them.
    pub(crate) fn unsent_while_idle(&self) -> usize {
        match self.order.front().map(|&key| &self.requests[key].place) {
            Some(Place::InFlight { start }) if *start >= self.offered => self.order.len(),
            _ => 0,
        }
    }

    /// Whether requests are under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.order.is_empty()
    }

    /// The task that waits for a request is running: it is not woken for what it will see by itself.
    pub(crate) fn hush(&mut self, id: RequestId) {
        self.requests[id.0].waker = None;
    }

    /// Whether bytes wait to be sent.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Before the transport is asked to send: makes sure that `sending` has bytes, exchanging it where it is empty for
    /// those that wait, and says whether there are any. A reply may then come before [`end_send`](Self::end_send).
    pub(crate) fn begin_send(&mut self, sending: &mut Outgoing) -> bool {
        if let Phase::Closed(_) = self.phase {
            return false;
        }
        if sending.is_empty() {
            std::mem::swap(&mut self.outgoing, sending);
            self.offered = self.entered;
        }
        self.asking = !sending.is_empty();
        self.asking
    }

    /// The transport was asked, and took this many bytes more.
    pub(crate) fn end_send(&mut self, bytes: usize) {
        self.asking = false;
        self.taken += bytes as u64;
        self.recorder.stats.sends += 1;
        self.recorder.stats.bytes_sent += bytes as u64;
        debug_assert!(self.taken <= self.offered, "more was sent than there was");
    }

    /// Whether [`note_sent`](Self::note_sent) has a use for the time at which the transport was asked to send.
    pub(crate) fn times_sends(&self) -> bool {
        self.recorder.times_sends()
    }

    /// When the call ended whose [`end_send`](Self::end_send) came last.
    pub(crate) fn note_sent(&mut self, now: Instant) {
        self.recorder.sent(self.taken, now);
    }

    /// Frames have arrived.
    ///
    /// # Errors
    ///
    /// One of them answers nothing. The caller must [`fail`](Self::fail) the session with this error.
    pub(crate) fn handle_frames(&mut self, mut frames: Batch, now: Instant) -> Result<(), Error> {
        loop {
            self.take_all_but_last(&mut frames, now);
            match frames.next() {
                Some(frame) => self.handle_frame(frame, now)?,
                None => return Ok(()),
            }
        }
    }

    /// Takes the replies to the oldest request up to its last one, and no push. Nothing changes by these but the list that
    /// they are put in, so a pipeline's need not be looked at one by one.
    fn take_all_but_last(&mut self, frames: &mut Batch, now: Instant) {
        let Some(&key) = self.order.front() else { return };
        let request = &mut self.requests[key];
        let count = frames.len().min(request.outstanding.saturating_sub(1));
        let Place::InFlight { start } = request.place else {
            unreachable!("what is in the order is in flight")
        };
        if count == 0 || self.offered <= start || self.fences.is_fence(key) {
            return;
        }
        let is_reply = |frames: &Batch| frames.iter().next().is_some_and(|next| !next.is_push());
        let kept = request.awaited && request.outcome.is_none();
        let mut kept = kept.then(|| request.replies.list(request.outstanding));
        for _ in 0..count {
            if !is_reply(frames) {
                return;
            }
            self.progress = now;
            request.outstanding -= 1;
            match &mut kept {
                Some(kept) => kept.extend(frames.next()),
                None => drop(frames.next()),
            }
        }
    }

    /// A frame has arrived.
    ///
    /// # Errors
    ///
    /// The frame answers nothing. The caller must [`fail`](Self::fail) the session with this error.
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Error> {
        if frame.is_push() {
            self.recorder.stats.pushes += 1;
            self.hand_on(frame);
            return Ok(());
        }
        let Some(&key) = self.order.front() else { return Err(unasked(&frame)) };
        let request = &mut self.requests[key];
        let Place::InFlight { start } = request.place else {
            unreachable!("what is in the order is in flight")
        };
        if self.offered <= start {
            return Err(unasked(&frame));
        }
        if !self.fences.admits(key, &frame) {
            return Err(Error::protocol(
                "its replies do not belong to the requests any more",
                None,
            ));
        }
        self.progress = now;
        request.outstanding -= 1;
        if request.awaited && request.outcome.is_none() {
            request.replies.push(frame, request.outstanding);
        }
        if request.outstanding == 0 {
            self.answered += 1;
            if let Some(sample) = request.sample {
                self.recorder.received(sample, now);
            }
            self.order.pop_front();
            self.leave_order(key, Ok(()));
            self.admit_waiting();
        }
        Ok(())
    }

    fn hand_on(&mut self, push: Frame) {
        match &self.sink {
            Some((id, sink)) => sink.handle_push(*id, push, &mut self.listening),
            None => tracing::trace!("a push that nobody takes"),
        }
    }

    /// What pushes have told is not to be relied on any more.
    fn end_pushes(&mut self) {
        if let Some((id, sink)) = &self.sink {
            sink.handle_end(*id, &mut self.listening);
        }
    }

    /// When to call [`handle_deadlines`](Self::handle_deadlines) next.
    pub(crate) fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// Ends what is overdue, and returns when to look again.
    pub(crate) fn handle_deadlines(&mut self, now: Instant) -> Option<Instant> {
        if self.next_check.is_none_or(|next| now < next) {
            return self.next_check;
        }
        let mut next: Option<Instant> = None;
        let mut overdue = Vec::new();
        for (key, request) in &self.requests {
            let Some(deadline) = request.deadline else { continue };
            if !request.awaited || request.outcome.is_some() {
                continue;
            }
            if deadline <= now {
                overdue.push(key);
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        let mut late = false;
        for key in overdue {
            late |= matches!(self.requests[key].place, Place::InFlight { .. });
            self.time_out(key);
        }
        self.admit_waiting();
        if self.fences.is_wanted(late, now) {
            self.raise_fence(now);
        }
        let stall = self.check_stall(now);
        self.next_check = [next, stall, self.fences.next(now)].into_iter().flatten().min();
        self.next_check
    }

    /// Puts a fence at the end of the order. It is small, and waits for no room.
    fn raise_fence(&mut self, now: Instant) {
        let Phase::Open = self.phase else { return };
        let number = rand::random();
        let packet = fence::packet(number);
        if self.order.is_empty() {
            self.progress = now;
        }
        let place = self.enter(&packet, None);
        let key = self.requests.insert(Request {
            place,
            awaited: false,
            outcome: None,
            deadline: now.checked_add(self.bounds.stall.unwrap_or(fence::TIMEOUT)),
            waker: None,
            outstanding: packet.replies,
            replies: Replies::None,
            bytes: packet.len(),
            commands: packet.replies,
            sample: None,
        });
        self.order.push_back(key);
        self.fences.raise(key, number);
        self.fences.schedule(now);
    }

    /// Whether a fence was raised and is not answered yet.
    #[cfg(test)]
    pub(crate) fn awaits_fence(&self) -> bool {
        self.fences.is_under_way()
    }

    /// Whether [`handle_deadlines`](Self::handle_deadlines) has left something to send.
    pub(crate) fn take_raised(&mut self) -> bool {
        self.fences.take_raised()
    }

    fn time_out(&mut self, key: usize) {
        let request = &mut self.requests[key];
        let error = match request.place {
            Place::Waiting { ticket, .. } => {
                self.waiting.remove(&ticket);
                request.place = Place::Left;
                let doing = match self.phase {
                    Phase::Opening => "waiting for the connection",
                    _ => "waiting for its turn",
                };
                Error::timeout(doing, SendState::NotSent)
            }
            // Its bytes cannot be taken out of the stream again.
            _ => Error::timeout("waiting for the reply", SendState::MaybeSent),
        };
        request.replies = Replies::None;
        self.recorder.stats.timed_out += 1;
        self.settle(key, Err(error));
    }

    /// Retires a session whose oldest request is overdue while nothing is answered at all; returns when to look again.
    ///
    /// One slow answer under a short deadline is no sign of a lost connection: giving it up for that would mean to dial
    /// under load, when it helps least.
    fn check_stall(&mut self, now: Instant) -> Option<Instant> {
        let oldest = *self.order.front()?;
        let deadline = self.requests[oldest].deadline?;
        // Where a command may take for ever, a fence may not.
        let stall = match self.fences.is_fence(oldest) {
            true => self.bounds.stall.unwrap_or(fence::TIMEOUT),
            false => self.bounds.stall?,
        };
        let lost = self.progress.checked_add(stall)?.max(deadline);
        if now < lost {
            return Some(lost);
        }
        if let Phase::Open = self.phase {
            tracing::debug!(?stall, "nothing is answered: the connection is given up");
            self.phase = Phase::Retired;
            self.given_up = true;
            self.end_pushes();
            // What waits for its turn here never will have it.
            let error = Error::closed("the server stopped answering");
            self.end_waiting(&error);
        }
        None
    }

    /// Takes no new requests; those that were taken are still carried out, unless the session never opened.
    pub(crate) fn drain(&mut self) {
        match self.phase {
            Phase::Open => self.phase = Phase::Draining,
            Phase::Opening => {
                self.phase = Phase::Draining;
                self.end_waiting(&Error::closed_by_us());
            }
            _ => {}
        }
    }

    /// Nothing more can be sent. What was may still be answered; the rest waits for [`fail`](Self::fail).
    pub(crate) fn lose_sending(&mut self) {
        if self.accepts() || matches!(self.phase, Phase::Draining) {
            self.phase = Phase::Retired;
            self.end_pushes();
            self.end_waiting(&Error::closed("sending failed"));
        }
    }

    /// The connection has ended: so does every request.
    pub(crate) fn fail(&mut self, error: &Error) {
        if let Phase::Closed(_) = self.phase {
            return;
        }
        self.phase = Phase::Closed(error.clone());
        self.end_pushes();
        self.end_waiting(error);
        let left = if self.asking { self.offered } else { self.taken };
        for key in std::mem::take(&mut self.order) {
            let request = &self.requests[key];
            let Place::InFlight { start } = request.place else {
                unreachable!("what is in the order is in flight")
            };
            let sent = if left <= start { SendState::NotSent } else { SendState::MaybeSent };
            self.leave_order(key, Err(error.with_send_state(sent)));
        }
        self.outgoing = Outgoing::default();
    }

    /// Moves the tasks to wake to `woken`, and returns how many of them, the first ones, come for their outcomes. The others
    /// listen to pushes. Wake them when no lock is held.
    pub(crate) fn take_woken(&mut self, woken: &mut Vec<Waker>) -> usize {
        let callers = self.woken.len();
        woken.append(&mut self.woken);
        woken.append(&mut self.listening);
        callers
    }

    fn end_waiting(&mut self, error: &Error) {
        for key in std::mem::take(&mut self.waiting).into_values() {
            self.requests[key].place = Place::Left;
            self.recorder.stats.failed += 1;
            self.settle(key, Err(error.with_send_state(SendState::NotSent)));
        }
    }

    /// Gives a request that somebody waits for its outcome.
    fn settle(&mut self, key: usize, outcome: Result<(), Error>) {
        let request = &mut self.requests[key];
        debug_assert!(request.awaited && request.outcome.is_none(), "it has an outcome once");
        request.outcome = Some(outcome);
        self.unsettled -= 1;
        self.woken.extend(request.waker.take());
    }

    /// The request has left the order. An outcome that it has already stands.
    fn leave_order(&mut self, key: usize, outcome: Result<(), Error>) {
        self.fences.left(key);
        let request = &mut self.requests[key];
        self.commands_in_flight -= request.commands;
        self.bytes_in_flight -= request.bytes;
        if !request.awaited {
            self.requests.remove(key);
            return;
        }
        request.place = Place::Left;
        if request.outcome.is_none() {
            match outcome {
                Ok(()) => self.recorder.stats.answered += 1,
                Err(_) => self.recorder.stats.failed += 1,
            }
            self.settle(key, outcome);
        }
    }

    /// Whether a request may enter the stream. One that is larger than a bound may when it is alone.
    fn has_room(&self, commands: usize, bytes: usize) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining)
            && (self.order.is_empty()
                || (self.commands_in_flight + commands <= self.bounds.commands
                    && self.bytes_in_flight + bytes <= self.bounds.bytes))
    }

    fn admit_waiting(&mut self) {
        while let Some(next) = self.waiting.first_entry() {
            let key = *next.get();
            let request = &self.requests[key];
            if !self.has_room(request.commands, request.bytes) {
                return;
            }
            self.waiting.pop_first();
            let sample = request.sample;
            let place = std::mem::replace(&mut self.requests[key].place, Place::Left);
            let Place::Waiting { packet, .. } = place else {
                unreachable!("what is among the waiting waits")
            };
            self.requests[key].place = self.enter(&packet, sample);
            self.order.push_back(key);
        }
    }

    /// Puts a request's bytes at the end of the stream. The caller puts the request at the end of the order, in the same
    /// call from outside.
    fn enter(&mut self, packet: &Packet, sample: Option<SampleId>) -> Place {
        let start = self.entered;
        self.entered += packet.len() as u64;
        if let Some(sample) = sample {
            self.recorder.entered(sample, self.entered);
        }
        self.commands_in_flight += packet.replies;
        self.bytes_in_flight += packet.len();
        self.outgoing.push(packet);
        Place::InFlight { start }
    }
}

/// The error for a frame that answers nothing. A server that refuses a client says so in an error before it closes.
fn unasked(frame: &Frame) -> Error {
    match frame.value().error() {
        Some(text) => Error::closed_by("the server ended it", ServerError::new(text)),
        None => Error::protocol("it sent a reply that nobody asked for", None),
    }
}
