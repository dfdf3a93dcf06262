//! A session against a model of a server, over a model of two network cards.
//!
//! A card is a queue of messages a direction, delivered in order, and two queues of completions that come in any
//! interleaving. What a message carries is read from the sender's memory when it is delivered and not before, so that memory that
//! is used again too early is seen by what arrives. The tasks of the client run only when they were woken as the session
//! says, so that a wake-up that is missing is a deadlock. The server sleeps for as long as it likes.
//!
//! Checked at every step: a write is contiguous with the one before and within the server's window; it finds a place in the
//! queue and a receive posted; what the server has not looked at is unproven; the bytes of both streams are the right ones in the right order, at the moment when the reader releases them. At
//! the end of a history either everything arrives once the server has woken up, or the connection is cut and exactly what had
//! reached our memory is handed out before the end.

use std::{
    collections::VecDeque,
    sync::LazyLock,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use super::{command::Command, history::History, sending::CommandSend, work::WorkId, *};

/// As many as valkey-server posts.
const SERVER_RECEIVES: usize = 1024;

#[test]
fn streams_arrive_whole_whatever_the_windows_and_whoever_sleeps() {
    let mut seen = Seen::default();
    let steps = History::run_many(3_000_000, |history| World::new(history).run(history, &mut seen));
    println!("{seen:?}");
    if steps >= 1_000_000 {
        seen.assert_all();
    }
}

/// What happened in any history. A simulation that avoids what it is there for shows nothing.
#[derive(Debug, Default)]
struct Seen {
    unproven_max: u64,
    fences: u64,
    windows: u64,
    announcements: u64,
    probes: u64,
    cuts_with_data: u64,
    closes_with_data: u64,
    refused: u64,
}

impl Seen {
    fn assert_all(&self) {
        assert!(self.unproven_max >= 512, "{self:?}");
        let Self { fences, windows, announcements, probes, refused, .. } = *self;
        let ends = [self.cuts_with_data, self.closes_with_data];
        for count in [fences, windows, announcements, probes, refused].into_iter().chain(ends) {
            assert!(count >= 10, "{self:?}");
        }
    }
}

/// A stream has the same bytes over and over, but with a prime period: no window's length is a multiple of it.
struct Stream(Vec<u8>);

const PERIOD: usize = 65_521;

static REQUESTS: LazyLock<Stream> = LazyLock::new(|| Stream::new(1));
static REPLIES: LazyLock<Stream> = LazyLock::new(|| Stream::new(2));

impl Stream {
    fn new(seed: u64) -> Self {
        let mut bytes = vec![0; PERIOD];
        Xoshiro256PlusPlus::seed_from_u64(seed).fill(&mut bytes[..]);
        Self(bytes)
    }

    /// Fills `place` with what is in the stream from `at` on.
    fn fill(&self, mut place: &mut [u8], at: u64) {
        let mut at = (at % PERIOD as u64) as usize;
        while !place.is_empty() {
            let count = place.len().min(PERIOD - at);
            let (part, rest) = place.split_at_mut(count);
            part.copy_from_slice(&self.0[at..at + count]);
            (place, at) = (rest, 0);
        }
    }

    fn check(&self, bytes: &[u8], at: u64) {
        let mut expected = vec![0; bytes.len()];
        self.fill(&mut expected, at);
        let wrong = || bytes.iter().zip(&expected).position(|(is, should)| is != should);
        assert!(bytes == expected, "{:?} bytes behind {at}, of {}", wrong(), bytes.len());
    }
}

struct World {
    now: Instant,
    session: Session,
    client: Client,
    server: Server,
    /// To the server, which has taken what is in front.
    requests: VecDeque<ToServer>,
    replies: VecDeque<ToClient>,
    habits: Habits,
    /// Steps that changed something. Where a round changes nothing, nothing will.
    changes: u64,
    steps: u64,
    seen: Seen,
    send_places: usize,
}

/// How likely what is in this history.
struct Habits {
    server_wakes: usize,
    server_reads_max: usize,
    server_writes_max: usize,
    server_echoes: bool,
    offered_max: usize,
    frame_max: usize,
    posting_fails: usize,
    batch_ends: usize,
    end: End,
}

/// How a history ends.
enum End {
    Finish,
    Cut,
    Close,
}

/// A message of ours. What it carries is in the staging memory or the slot until it is delivered.
enum ToServer {
    Write(Write),
    Command { slot: u16, id: WorkId },
}

enum ToClient {
    Write { offset: usize, bytes: Vec<u8> },
    Command([u8; COMMAND_BYTES]),
}

/// What stands for the driver, its memory, its two tasks, and its card.
struct Client {
    staging: Vec<u8>,
    memory: Vec<u8>,
    slots: Vec<[u8; COMMAND_BYTES]>,
    receives: VecDeque<u16>,
    is_posted: Vec<bool>,
    /// Work in the queue that sends, until a completion says that it is done.
    queue: VecDeque<WorkId>,
    sent: VecDeque<WorkId>,
    received: VecDeque<(u16, Arrived)>,
    is_cut: bool,
    cut_was_told: bool,
    /// Of the stream of requests, handed to the transport.
    taken: u64,
    /// How many bytes the writer has beyond that.
    offered: usize,
    writer_runs: bool,
    reader_runs: bool,
    /// Of the stream of replies: delivered to memory, lent and released.
    delivered: u64,
    released: u64,
    lent: std::ops::Range<usize>,
    room: usize,
    /// The length of the frame that the reader is in, and how much of it was copied out.
    frame: usize,
    ended: bool,
}

enum Arrived {
    Command([u8; COMMAND_BYTES]),
    Data(u32),
}

struct Server {
    memory: Vec<u8>,
    address: u64,
    key: u32,
    /// By the card: how much of the memory was written to.
    landed: usize,
    completions: VecDeque<Arrived>,
    receives: usize,
    /// By the server: how much has arrived, and how much of that was read.
    arrived: usize,
    read: usize,
    /// Of the stream of requests, read.
    consumed: u64,
    peer: Option<XferMemory>,
    written: u32,
    produced: u64,
    sent: u64,
}

impl World {
    fn new(history: &mut History) -> Self {
        let now = Instant::now();
        let window = |history: &mut History| match history.below(8) {
            0 => history.size(63),
            1 => 1 << 20,
            _ => 63 + history.size(4096),
        };
        let receive_bytes = window(history);
        let staging_bytes = window(history);
        let server_window = window(history);
        let receive_slots = if history.once_in(4) { history.size(1024) } else { 1024 };
        let settings = Settings {
            receive_memory: XferMemory::new(1 << 40, receive_bytes as u32, 5).unwrap(),
            staging_bytes: staging_bytes as u32,
            send_places: 15 + history.size(1009) as u16,
            command_slots: history.size(16) as u16,
            receive_slots: receive_slots as u16,
            announced_by: now + Duration::from_secs(1),
            probe_after: history.once_in(2).then_some(Duration::from_millis(100)),
        };
        let rarely = |history: &mut History| [1, 10, 300, 5000][history.below(4)];
        let mut world = Self {
            now,
            session: Session::new(settings, now),
            client: Client {
                staging: vec![0; staging_bytes],
                memory: vec![0; receive_bytes],
                slots: vec![[0; COMMAND_BYTES]; settings.command_slots.into()],
                receives: VecDeque::new(),
                is_posted: vec![false; receive_slots],
                queue: VecDeque::new(),
                sent: VecDeque::new(),
                received: VecDeque::new(),
                is_cut: false,
                cut_was_told: false,
                taken: 0,
                offered: 0,
                writer_runs: true,
                reader_runs: true,
                delivered: 0,
                released: 0,
                lent: 0..0,
                room: 0,
                frame: 1,
                ended: false,
            },
            server: Server {
                memory: vec![0; server_window],
                address: 1 << 50,
                key: 1,
                landed: 0,
                completions: VecDeque::new(),
                receives: SERVER_RECEIVES,
                arrived: 0,
                read: 0,
                consumed: 0,
                peer: None,
                written: 0,
                produced: 0,
                sent: 0,
            },
            requests: VecDeque::new(),
            replies: VecDeque::new(),
            habits: Habits {
                server_wakes: rarely(history),
                server_reads_max: if history.once_in(4) { history.size(100) } else { usize::MAX },
                server_writes_max: if history.once_in(2) { 8 } else { usize::MAX },
                server_echoes: history.once_in(2),
                offered_max: if history.once_in(2) { 3 } else { history.size(20_000) },
                frame_max: history.size(3 * receive_bytes),
                posting_fails: rarely(history) + 1,
                batch_ends: [3, 100][history.below(2)],
                end: match history.below(4) {
                    0 => End::Cut,
                    1 => End::Close,
                    _ => End::Finish,
                },
            },
            changes: 0,
            steps: 0,
            seen: Seen::default(),
            send_places: settings.send_places.into(),
        };
        world.post(history);
        // The server's announcement may be polled before the connection is known to be there.
        world.server_announces(history);
        if history.once_in(2) {
            world.deliver_reply();
            world.drive(history);
        }
        world.session.handle_established(now);
        world.drive(history);
        world
    }

    fn run(mut self, history: &mut History, seen: &mut Seen) -> u64 {
        let steps = history.below(10_000) as u64;
        while self.steps < steps {
            self.step(history);
        }
        match self.habits.end {
            End::Cut => self.cut(history),
            End::Close => self.close(history),
            End::Finish => self.finish(history),
        }
        seen.unproven_max = seen.unproven_max.max(self.seen.unproven_max);
        seen.fences += self.seen.fences;
        seen.windows += self.seen.windows;
        seen.announcements += self.seen.announcements;
        seen.probes += self.seen.probes;
        seen.cuts_with_data += self.seen.cuts_with_data;
        seen.closes_with_data += self.seen.closes_with_data;
        seen.refused += self.seen.refused;
        self.steps
    }

    fn step(&mut self, history: &mut History) {
        self.steps += 1;
        match history.below(12) {
            0..3 => {
                let more = history.size(self.habits.offered_max);
                let most = 20 * self.server.memory.len();
                self.client.offered = (self.client.offered + more).min(most);
                self.write(history);
            }
            3 | 4 => self.read(history),
            5 | 6 => self.deliver_request(),
            7 => self.deliver_reply(),
            8 => self.drive(history),
            9 => self.pass_time(history),
            10 if history.once_in(self.habits.server_wakes) => self.server_wakes(history),
            11 if history.once_in(20) => self.produce(history),
            11 if history.once_in(50) => {
                self.replies.push_back(ToClient::Command(Command::Keepalive.encode()));
            }
            _ => {}
        }
    }

    fn produce(&mut self, history: &mut History) {
        let server = &mut self.server;
        if server.produced - server.sent < 20 * self.client.memory.len() as u64 {
            server.produced += history.size(2000) as u64;
        }
    }

    /// The server stays awake, and all of both streams has to arrive.
    fn finish(&mut self, history: &mut History) {
        self.habits.posting_fails = usize::MAX;
        self.habits.server_reads_max = usize::MAX;
        loop {
            let changes = self.changes;
            while !self.requests.is_empty() {
                self.deliver_request();
            }
            self.server_wakes(history);
            while !self.replies.is_empty() && !self.client.receives.is_empty() {
                self.deliver_reply();
            }
            if !self.client.sent.is_empty() || !self.client.received.is_empty() {
                self.drive(history);
            }
            self.write(history);
            self.read(history);
            self.steps += 6;
            if self.changes == changes {
                break;
            }
        }
        assert_eq!(self.session.send_failure(), None);
        let posted = self.client.is_posted.iter().filter(|posted| **posted).count();
        assert_eq!(posted, self.client.is_posted.len(), "receives are lost");
        assert_eq!(self.client.offered, 0, "the writer waits for ever: {:?}", self.session);
        assert_eq!(self.server.consumed, self.client.taken, "requests are lost");
        assert_eq!(self.server.sent, self.server.produced, "the server waits: {:?}", self.session);
        assert_eq!(self.client.delivered, self.server.sent, "replies are lost");
        assert_eq!(self.client.released, self.server.sent, "the reader waits: {:?}", self.session);
    }

    /// The client closes the connection while the server sleeps, whose card gets all that the transport has taken.
    fn close(&mut self, history: &mut History) {
        self.habits.posting_fails = usize::MAX;
        self.seen.closes_with_data += u64::from(!self.requests.is_empty());
        self.session.close();
        loop {
            let changes = self.changes;
            self.post(history);
            while !self.requests.is_empty() {
                self.deliver_request();
            }
            if !self.client.sent.is_empty() || !self.client.received.is_empty() {
                self.drive(history);
            }
            self.steps += 2;
            if self.changes == changes {
                break;
            }
            assert!(!self.session.is_flushed() || self.client.queue.is_empty(), "too early");
        }
        assert!(self.session.is_flushed(), "the close waits for ever: {:?}", self.session);
        assert!(self.client.queue.is_empty());
        let landed = self.server.consumed + (self.server.landed - self.server.read) as u64;
        assert_eq!(landed, self.client.taken, "requests are lost");
    }

    /// The connection ends. What has reached our memory has to be handed out, whatever is polled first.
    fn cut(&mut self, history: &mut History) {
        self.server_wakes(history);
        (0..history.below(20)).for_each(|_| self.deliver_reply());
        self.client.is_cut = true;
        let has_data = |(_, arrived): &(u16, Arrived)| matches!(arrived, Arrived::Data(_));
        self.seen.cuts_with_data += u64::from(self.client.received.iter().any(has_data));
        for slot in std::mem::take(&mut self.client.receives) {
            if history.once_in(200) {
                // Flushed work stands behind what was received.
                let outcome = Outcome::Failed(WorkStatus::FLUSHED);
                if self.client.received.is_empty() {
                    self.session.handle_completion(WorkId::Receive(slot), outcome, self.now);
                }
            }
        }
        for _ in 0..history.below(20) {
            match history.below(3) {
                0 => self.drive(history),
                1 => self.read(history),
                _ => self.write(history),
            }
        }
        self.tell_cut();
        for _ in 0..10_000 {
            if self.client.ended {
                break;
            }
            self.drive(history);
            self.read(history);
        }
        assert!(self.client.ended, "the reader does not learn of the end: {:?}", self.session);
        assert_eq!(
            self.client.released + self.client.lent.len() as u64,
            self.client.delivered,
            "data is lost at the end"
        );
        assert!(self.session.send_failure().is_some());
    }

    fn tell_cut(&mut self) {
        if self.client.is_cut && !self.client.cut_was_told {
            self.client.cut_was_told = true;
            self.session.handle_event(ConnectionEvent::Disconnected);
        }
    }

    /// What a driver does whenever it runs.
    fn drive(&mut self, history: &mut History) {
        if history.once_in(2) {
            self.tell_cut();
            // The queue is polled next, but by whom is open.
            if self.client.is_cut && history.once_in(4) {
                self.wake();
                return;
            }
        }
        while !self.client.sent.is_empty() || !self.client.received.is_empty() {
            self.complete(history);
            if history.once_in(self.habits.batch_ends) {
                // A batch; the rest is for who comes next.
                self.post(history);
                self.wake();
                return;
            }
        }
        self.session.handle_queue_empty();
        self.post(history);
        self.wake();
    }

    fn wake(&mut self) {
        self.client.reader_runs |= self.session.can_receive();
        self.client.writer_runs |= self.session.can_send();
    }

    fn complete(&mut self, history: &mut History) {
        self.changes += 1;
        let sent_first = self.client.received.is_empty() || history.once_in(2);
        let sent = if sent_first { self.client.sent.pop_front() } else { None };
        if let Some(id) = sent {
            while self.client.queue.pop_front().is_some_and(|done| done != id) {}
            self.session.handle_completion(id, Outcome::Sent, self.now);
        } else if let Some((slot, arrived)) = self.client.received.pop_front() {
            let outcome = match &arrived {
                Arrived::Command(bytes) => Outcome::Command(bytes),
                Arrived::Data(count) => Outcome::Data(*count),
            };
            self.session.handle_completion(WorkId::Receive(slot), outcome, self.now);
        }
    }

    /// What is true whenever something was posted.
    fn check_posted(&mut self) {
        assert!(self.client.queue.len() <= self.send_places, "the queue that sends is full");
        let unproven = self.session.unproven();
        // The bound of writes, an announcement, a fence, and what comes last.
        assert!(unproven <= 515, "{unproven} messages are unproven");
        let not_seen = self.requests.len() + self.server.completions.len();
        assert!(unproven >= not_seen as u64, "{unproven} are unproven, {not_seen} not seen");
        self.seen.unproven_max = self.seen.unproven_max.max(unproven);
    }

    /// Posts all receives and commands that are due. Posting may fail for now; then it is tried again by the next run.
    fn post(&mut self, history: &mut History) {
        let Self { session, client, requests, habits, changes, now, .. } = self;
        let Client { receives, is_posted, slots, queue, .. } = client;
        while let Ok(true) = session.post_receive(|slot| {
            assert!(!std::mem::replace(&mut is_posted[usize::from(slot)], true), "posted twice");
            receives.push_back(slot);
            Ok::<_, ()>(())
        }) {
            *changes += 1;
        }
        loop {
            // The card has room again when something completes, so it refuses only while something will.
            let refuses = history.once_in(habits.posting_fails) && session.awaits_completion();
            let posted = session.send_command(*now, |send: &CommandSend| {
                if refuses {
                    return Err(());
                }
                slots[usize::from(send.slot())] = *send.bytes();
                queue.push_back(send.id());
                requests.push_back(ToServer::Command { slot: send.slot(), id: send.id() });
                Ok(())
            });
            if posted != Ok(true) {
                break;
            }
            *changes += 1;
        }
        self.check_posted();
    }

    fn write(&mut self, history: &mut History) {
        if !self.client.writer_runs || self.client.offered == 0 {
            return;
        }
        let Self { session, client, requests, habits, now, .. } = self;
        if session.send_failure().is_some() {
            client.writer_runs = false;
            return;
        }
        let refuses = history.once_in(habits.posting_fails) && session.awaits_completion();
        let taken = session.write(client.offered, *now, |write| {
            if refuses {
                return Err(());
            }
            REQUESTS.fill(&mut client.staging[write.staging()], client.taken);
            client.queue.push_back(write.id());
            requests.push_back(ToServer::Write(write.clone()));
            Ok(())
        });
        match taken {
            Ok(0) => client.writer_runs = false,
            Ok(count) => {
                client.taken += u64::from(count);
                client.offered -= count as usize;
                self.changes += 1;
            }
            // It is tried again when something completes.
            Err(()) => self.seen.refused += 1,
        }
        // The fence that a write makes due is posted by who wrote.
        self.post(history);
    }

    /// One call of the reader, which is like the client's: it releases whole frames, and copies out one that cannot be
    /// complete where it is.
    fn read(&mut self, history: &mut History) {
        if !self.client.reader_runs {
            return;
        }
        if history.once_in(2) {
            self.drive(history);
        }
        match self.session.receive() {
            Receive::Bytes { range, room } => {
                assert_eq!(range.start, self.client.lent.start % self.client.memory.len());
                assert!(range.len() > self.client.lent.len(), "nothing new is lent");
                assert!(!self.client.ended, "data comes after the end");
                assert!(range.end + room == self.client.memory.len());
                (self.client.lent, self.client.room) = (range, room);
                self.changes += 1;
                self.take_frames(history);
            }
            Receive::Pending => self.client.reader_runs = false,
            Receive::End => {
                assert!(self.client.is_cut);
                self.client.ended = true;
                self.client.reader_runs = false;
            }
            Receive::Failed(failure) => {
                assert!(self.client.is_cut, "{failure:?}");
                assert_eq!(failure, Failure::ClosedEarly);
                self.client.ended = true;
                self.client.reader_runs = false;
            }
        }
    }

    fn take_frames(&mut self, history: &mut History) {
        let left = |world: &Self| world.server.produced - world.client.released;
        while !self.client.lent.is_empty() {
            let client = &self.client;
            let frame = client.frame.min(left(self) as usize).max(1);
            if frame <= client.lent.len() {
                self.release(frame);
                self.client.frame = history.size(self.habits.frame_max);
            } else if frame > client.lent.len() + client.room {
                let all = client.lent.len();
                self.release(all);
                self.client.frame = frame - all;
            } else {
                break;
            }
        }
        self.post(history);
        self.wake();
    }

    fn release(&mut self, count: usize) {
        let client = &mut self.client;
        let start = client.lent.start;
        REPLIES.check(&client.memory[start..start + count], client.released);
        client.released += count as u64;
        client.lent.start += count;
        self.session.release(count);
        self.changes += 1;
    }

    fn pass_time(&mut self, history: &mut History) {
        self.now += Duration::from_millis(history.size(50) as u64);
        if self.session.next_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
            self.post(history);
        }
    }

    /// The server's card takes a message.
    fn deliver_request(&mut self) {
        if self.client.is_cut {
            return;
        }
        let Some(message) = self.requests.pop_front() else { return };
        self.changes += 1;
        let server = &mut self.server;
        assert!(server.receives > 0, "the server has no receive posted");
        server.receives -= 1;
        match message {
            ToServer::Command { slot, id } => {
                let bytes = self.client.slots[usize::from(slot)];
                server.completions.push_back(Arrived::Command(bytes));
                self.client.sent.push_back(id);
            }
            ToServer::Write(write) => {
                let count = write.length() as usize;
                let place = server.landed..server.landed + count;
                assert_eq!(write.remote_address(), server.address + server.landed as u64);
                assert_eq!(write.remote_key(), server.key);
                assert_eq!(u32::from_be(write.immediate()), write.length());
                assert!(count > 0 && place.end <= server.memory.len(), "beyond the window");
                server.memory[place].copy_from_slice(&self.client.staging[write.staging()]);
                server.landed += count;
                server.completions.push_back(Arrived::Data(write.length()));
                if write.is_signalled() {
                    self.client.sent.push_back(write.id());
                }
            }
        }
    }

    /// Our card takes a message. Without a receive it is told to try again, for ever.
    fn deliver_reply(&mut self) {
        if self.client.is_cut || self.replies.is_empty() {
            return;
        }
        let Some(slot) = self.client.receives.pop_front() else { return };
        self.changes += 1;
        self.client.is_posted[usize::from(slot)] = false;
        let arrived = match self.replies.pop_front() {
            Some(ToClient::Write { offset, bytes }) => {
                self.client.memory[offset..offset + bytes.len()].copy_from_slice(&bytes);
                self.client.delivered += bytes.len() as u64;
                Arrived::Data(bytes.len() as u32)
            }
            Some(ToClient::Command(bytes)) => Arrived::Command(bytes),
            None => return,
        };
        self.client.received.push_back((slot, arrived));
    }

    /// The server looks at what has completed, reads, announces its memory where it is at its end, and writes.
    fn server_wakes(&mut self, history: &mut History) {
        while let Some(arrived) = self.server.completions.pop_front() {
            self.changes += 1;
            match arrived {
                Arrived::Data(count) => {
                    self.server.arrived += count as usize;
                    assert!(self.server.arrived <= self.server.memory.len(), "the server aborts");
                }
                Arrived::Command(bytes) => self.server_handles(&bytes),
            }
            self.server.receives += 1;
        }
        self.server_reads(history);
        if self.server.read == self.server.memory.len() {
            self.server_announces(history);
        }
        self.server_writes(history);
    }

    fn server_handles(&mut self, bytes: &[u8; COMMAND_BYTES]) {
        match Command::decode(bytes).expect("the session sends valid commands") {
            Command::RegisterXferMemory(memory) => {
                self.seen.announcements += 1;
                assert!(
                    self.server.peer.is_none_or(|peer| peer.length() == self.server.written),
                    "memory is announced again that was not filled"
                );
                self.server.peer = Some(memory);
                self.server.written = 0;
            }
            command @ Command::GetServerFeature { .. } => {
                self.seen.fences += 1;
                self.replies.push_back(ToClient::Command(command.encode()));
            }
            Command::Keepalive => self.seen.probes += 1,
            command @ Command::SetClientFeature { .. } => panic!("{command:?}"),
        }
    }

    fn server_reads(&mut self, history: &mut History) {
        let server = &mut self.server;
        let count = (server.arrived - server.read).min(self.habits.server_reads_max);
        REQUESTS.check(&server.memory[server.read..server.read + count], server.consumed);
        server.read += count;
        server.consumed += count as u64;
        self.changes += count as u64;
        if self.habits.server_echoes && count > 0 {
            server.produced += history.size(count) as u64;
        }
    }

    /// Each time other memory, so that what is still written to the old one is seen.
    fn server_announces(&mut self, history: &mut History) {
        self.changes += 1;
        self.seen.windows += 1;
        let server = &mut self.server;
        if history.once_in(10) {
            server.memory = vec![0; history.size(4096)];
        }
        server.address += 1 << 32;
        server.key += 1;
        (server.landed, server.arrived, server.read) = (0, 0, 0);
        let memory = XferMemory::new(server.address, server.memory.len() as u32, server.key);
        let command = Command::RegisterXferMemory(memory.expect("it is not empty"));
        self.replies.push_back(ToClient::Command(command.encode()));
    }

    fn server_writes(&mut self, history: &mut History) {
        let server = &mut self.server;
        let Some(peer) = server.peer else { return };
        loop {
            let left = (server.produced - server.sent) as usize;
            let room = (peer.length() - server.written) as usize;
            let count = left.min(room);
            if count == 0 {
                return;
            }
            let count = count.min(self.habits.server_writes_max);
            let count = if history.once_in(3) { history.size(count) } else { count };
            let mut bytes = vec![0; count];
            REPLIES.fill(&mut bytes, server.sent);
            self.replies.push_back(ToClient::Write { offset: server.written as usize, bytes });
            server.written += count as u32;
            server.sent += count as u64;
            self.changes += 1;
        }
    }
}
