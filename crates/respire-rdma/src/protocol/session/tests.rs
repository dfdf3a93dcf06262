use std::convert::Infallible;

use super::*;
use crate::protocol::command::CommandError;

const RECEIVE_BYTES: u32 = 64;

/// A session, and what it has posted.
struct Bench {
    session: Session,
    now: Instant,
    next_receive: u16,
}

impl Bench {
    /// Established, with our memory announced.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut bench = Self::unconnected(change);
        bench.session.handle_established(bench.now);
        let own = bench.session.settings.receive_memory;
        assert_eq!(bench.commands(), [Command::RegisterXferMemory(own)]);
        bench
    }

    fn unconnected(change: impl FnOnce(&mut Settings)) -> Self {
        let now = Instant::now();
        let mut settings = Settings {
            receive_memory: memory(RECEIVE_BYTES),
            staging_bytes: 256,
            send_places: 1024,
            command_slots: 16,
            receive_slots: 1024,
            announced_by: now + Duration::from_secs(5),
            probe_after: Some(Duration::from_secs(10)),
        };
        change(&mut settings);
        let mut bench = Self { session: Session::new(settings, now), now, next_receive: 0 };
        bench.post_receives();
        bench
    }

    fn post_receives(&mut self) -> usize {
        std::iter::from_fn(|| {
            let mut slot = None;
            let posted = self.session.post_receive(|given| {
                slot = Some(given);
                Ok::<_, Infallible>(())
            });
            posted.unwrap().then_some(slot).flatten()
        })
        .count()
    }

    /// What the peer sends, in the next receive.
    fn arrive(&mut self, outcome: Outcome<'_>) {
        let slot = WorkId::Receive(self.next_receive);
        self.session.handle_completion(slot, outcome, self.now);
        self.post_receives();
    }

    fn arrive_command(&mut self, command: Command) {
        self.arrive(Outcome::Command(&command.encode()));
    }

    /// The peer announces memory of so many bytes.
    fn open(&mut self, bytes: u32) {
        self.arrive_command(Command::RegisterXferMemory(memory(bytes)));
    }

    /// All commands that are due.
    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| {
            let mut command = None;
            let now = self.now;
            let posted = self.session.send_command(now, |send| {
                command = Some(Command::decode(send.bytes()).unwrap());
                Ok::<_, Infallible>(())
            });
            posted.unwrap().then_some(command).flatten()
        })
        .collect()
    }

    /// The write that is made where so many bytes are offered.
    fn write(&mut self, offered: usize) -> Option<Write> {
        let mut made = None;
        let count = self
            .session
            .write(offered, self.now, |write| {
                made = Some(write.clone());
                Ok::<_, Infallible>(())
            })
            .unwrap();
        assert_eq!(count, made.as_ref().map_or(0, Write::length));
        made
    }

    /// So many writes of a byte.
    fn write_times(&mut self, count: usize) {
        for _ in 0..count {
            assert!(self.write(1).is_some());
        }
    }

    fn complete(&mut self, id: WorkId) {
        self.session.handle_completion(id, Outcome::Sent, self.now);
    }

    fn fail(&mut self, status: u32) {
        let outcome = Outcome::Failed(WorkStatus(status));
        self.session.handle_completion(WorkId::Send(0), outcome, self.now);
        self.session.handle_queue_empty();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }
}

fn memory(length: u32) -> XferMemory {
    XferMemory::new(0x10_0000, length, 77).unwrap()
}

fn protocol(error: impl Into<ProtocolError>) -> Receive {
    Receive::Failed(Failure::Protocol(error.into()))
}

#[test]
fn every_receive_is_posted_before_the_connection_is_there() {
    let mut session = Bench::unconnected(|_| {}).session;
    assert_eq!(session.post_receive(|_| Ok::<_, Infallible>(())), Ok(false));
    assert_eq!(session.receives.is_posted.iter().filter(|posted| **posted).count(), 1024);
}

#[test]
fn nothing_is_sent_before_the_connection_is_there() {
    let mut bench = Bench::unconnected(|_| {});
    bench.open(64);
    assert_eq!(bench.commands(), []);
    assert!(bench.write(1).is_none());
    bench.session.handle_established(bench.now);
    assert_eq!(bench.commands().len(), 1);
    assert!(bench.session.is_ready() && bench.write(1).is_some());
}

#[test]
fn nothing_is_written_before_the_peer_has_announced_memory() {
    let mut bench = Bench::new();
    assert!(bench.write(1).is_none() && !bench.session.is_ready());
    bench.open(1);
    assert!(bench.session.can_send());
    assert_eq!(bench.write(1).unwrap().length(), 1);
}

#[test]
fn a_window_is_filled_to_its_last_byte_and_the_rest_waits() {
    let mut bench = Bench::new();
    bench.open(64);
    let first = bench.write(61).unwrap();
    assert_eq!(
        (first.staging(), first.remote_address(), first.remote_key()),
        (0..61, 0x10_0000, 77)
    );
    let second = bench.write(10).unwrap();
    assert_eq!((second.staging(), second.remote_address()), (61..64, 0x10_0000 + 61));
    assert_eq!(second.immediate(), 3_u32.to_be());
    assert!(bench.write(7).is_none() && !bench.session.can_send());
    bench.open(64);
    let third = bench.write(7).unwrap();
    assert_eq!((third.staging(), third.remote_address()), (64..71, 0x10_0000));
}

#[test]
fn staging_memory_shorter_than_the_window_is_used_again_when_its_write_completed() {
    let mut bench = Bench::new();
    bench.open(1_000_000);
    let first = bench.write(200).unwrap();
    assert!(first.is_signalled());
    let second = bench.write(200).unwrap();
    assert_eq!(second.staging(), 200..256);
    assert!(bench.write(200).is_none() && bench.session.awaits_completion());
    // The announcement is before it in the queue.
    bench.complete(WorkId::Send(0));
    bench.complete(first.id());
    let third = bench.write(250).unwrap();
    assert_eq!(third.staging(), 0..200);
    assert!(bench.write(250).is_none() && !second.is_signalled());
    bench.complete(third.id());
    let fourth = bench.write(250).unwrap();
    assert_eq!((fourth.staging(), fourth.remote_address()), (200..256, 0x10_0000 + 456));
}

#[test]
fn a_window_that_was_filled_and_is_opened_again_frees_the_staging_memory() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.open(256);
        assert_eq!(bench.write(1000).unwrap().staging(), 0..256);
    }
}

#[test]
fn one_write_in_64_is_signalled_and_its_completion_frees_the_queue() {
    let mut bench = Bench::with(|settings| {
        settings.send_places = 200;
        settings.staging_bytes = 4096;
    });
    bench.open(1_000_000);
    let mut signalled = Vec::new();
    let mut writes = 0;
    while let Some(write) = bench.write(1) {
        signalled.extend(write.is_signalled().then_some(write.id()));
        writes += 1;
    }
    // The announcement has a place, and places are left for commands.
    assert_eq!((writes, signalled.len()), (191, 2));
    bench.complete(WorkId::Send(0));
    signalled.into_iter().for_each(|id| bench.complete(id));
    let more = std::iter::from_fn(|| bench.write(1)).count();
    assert_eq!(more, 129);
}

#[test]
fn writes_stop_at_512_that_the_peer_may_not_have_seen_and_go_on_when_it_answers() {
    let mut bench = Bench::with(|settings| settings.staging_bytes = 1 << 20);
    bench.open(1 << 20);
    let writes = std::iter::from_fn(|| bench.write(1)).count();
    assert_eq!(writes as u64, UNPROVEN_MAX - 1);
    let [Command::GetServerFeature { select, .. }] = bench.commands()[..] else { panic!() };
    assert_eq!(bench.session.unproven(), 513);
    // What the card says is no proof of what the server has done, and neither is what it sends by itself.
    bench.complete(WorkId::Send(0));
    bench.arrive_command(Command::Keepalive);
    assert!(bench.write(1).is_none() && bench.commands().is_empty());
    bench.arrive_command(Command::GetServerFeature { select, features: 0 });
    assert_eq!(bench.session.unproven(), 0);
    assert!(bench.session.can_send());
}

#[test]
fn a_fence_proves_what_was_sent_before_it_and_not_after() {
    let mut bench = Bench::with(|settings| settings.staging_bytes = 1 << 20);
    bench.open(1 << 20);
    bench.write_times(300);
    let [Command::GetServerFeature { select, .. }] = bench.commands()[..] else { panic!() };
    bench.write_times(100);
    bench.arrive_command(Command::GetServerFeature { select, features: 0 });
    assert_eq!(bench.session.unproven(), 100);
    bench.write_times(200);
    let [Command::GetServerFeature { select: next, .. }] = bench.commands()[..] else { panic!() };
    assert_ne!(select, next);
}

#[test]
fn data_in_memory_announced_anew_proves_the_announcement() {
    let mut bench = Bench::with(|settings| settings.staging_bytes = 1 << 20);
    bench.open(1 << 20);
    bench.write_times(9);
    assert_eq!(bench.session.unproven(), 10);
    bench.arrive(Outcome::Data(0));
    assert_eq!(bench.session.unproven(), 10);
    bench.arrive(Outcome::Data(RECEIVE_BYTES));
    // The announcement was the first message.
    assert_eq!(bench.session.unproven(), 9);
    assert!(matches!(bench.session.receive(), Receive::Bytes { .. }));
    bench.session.release(RECEIVE_BYTES as usize);
    assert_eq!(bench.commands().len(), 1);
    bench.write_times(1);
    bench.arrive(Outcome::Data(1));
    assert_eq!(bench.session.unproven(), 1);
    bench.arrive(Outcome::Data(1));
    assert_eq!(bench.session.unproven(), 1);
}

#[test]
fn a_window_opened_again_proves_the_writes_that_filled_it() {
    let mut bench = Bench::new();
    bench.open(10);
    bench.write_times(10);
    bench.open(10);
    assert_eq!(bench.session.unproven(), 0);
    bench.write_times(9);
    // Announced out of turn: nothing is known of the old memory.
    bench.open(10);
    assert_eq!(bench.session.unproven(), 9);
}

#[test]
fn what_arrives_is_lent_with_the_room_behind_it_until_it_is_released() {
    let mut bench = Bench::new();
    let lent = |bench: &mut Bench| match bench.session.receive() {
        Receive::Bytes { range, room } => Some((range, room)),
        Receive::Pending => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(lent(&mut bench), None);
    bench.arrive(Outcome::Data(10));
    assert!(bench.session.can_receive());
    assert_eq!(lent(&mut bench), Some((0..10, 54)));
    assert!(!bench.session.can_receive());
    assert_eq!(lent(&mut bench), None);
    bench.session.release(4);
    assert_eq!(lent(&mut bench), None);
    bench.arrive(Outcome::Data(54));
    assert_eq!(lent(&mut bench), Some((4..64, 0)));
    bench.session.release(59);
    assert_eq!(bench.commands(), []);
    bench.session.release(1);
    assert_eq!(bench.commands(), [Command::RegisterXferMemory(memory(RECEIVE_BYTES))]);
    bench.arrive(Outcome::Data(1));
    assert_eq!(lent(&mut bench), Some((0..1, 63)));
}

#[test]
fn a_peer_that_claims_more_than_there_is_room_for_has_what_it_sent_before_handed_out_first() {
    let mut bench = Bench::new();
    bench.arrive(Outcome::Data(60));
    bench.arrive(Outcome::Data(5));
    bench.session.handle_queue_empty();
    assert!(matches!(bench.session.receive(), Receive::Bytes { range: Range { end: 60, .. }, .. }));
    assert_eq!(bench.session.receive(), protocol(ProtocolError::Overrun { bytes: 5, room: 4 }));
    assert!(bench.session.can_send() && bench.write(1).is_none());
}

#[test]
fn data_is_refused_while_memory_is_not_announced() {
    let mut bench = Bench::unconnected(|_| {});
    bench.session.handle_established(bench.now);
    bench.arrive(Outcome::Data(1));
    bench.session.handle_queue_empty();
    assert_eq!(bench.session.receive(), protocol(ProtocolError::Overrun { bytes: 1, room: 0 }));
}

#[test]
fn commands_that_no_server_sends_end_the_connection() {
    let cases: [(&[u8], ProtocolError); 5] = [
        (&[0; 31], CommandError::Length(31).into()),
        (&Command::SetClientFeature { select: 0, features: 0 }.encode(), ProtocolError::Unasked),
        (&Command::GetServerFeature { select: 1, features: 0 }.encode(), ProtocolError::Unasked),
        (&[9; 32], CommandError::Opcode(0x0909).into()),
        (
            &{
                let mut empty = [0; 32];
                empty[1] = 3;
                empty
            },
            CommandError::EmptyMemory.into(),
        ),
    ];
    for (bytes, error) in cases {
        let mut bench = Bench::new();
        bench.arrive(Outcome::Command(bytes));
        bench.session.handle_queue_empty();
        assert_eq!(bench.session.receive(), protocol(error));
    }
}

#[test]
fn a_peer_that_is_idle_and_silent_is_probed() {
    let mut bench = Bench::new();
    bench.open(64);
    let start = bench.now;
    assert_eq!(bench.session.next_timeout(), Some(start + Duration::from_secs(10)));
    bench.wait(Duration::from_secs(9));
    assert_eq!(bench.commands(), []);
    // The peer's own keepalive makes a probe unnecessary.
    bench.arrive_command(Command::Keepalive);
    bench.wait(Duration::from_secs(9));
    assert_eq!(bench.commands(), []);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.commands(), [Command::Keepalive]);
    assert_eq!(bench.session.next_timeout(), Some(bench.now + Duration::from_secs(10)));
}

#[test]
fn probes_of_a_peer_that_never_looks_stop_at_the_bound() {
    let mut bench = Bench::with(|settings| settings.command_slots = 1024);
    bench.open(64);
    let mut probes = 0;
    for _ in 0..2000 {
        bench.wait(Duration::from_secs(10));
        probes += bench.commands().iter().filter(|command| **command == Command::Keepalive).count();
    }
    assert_eq!((probes as u64, bench.session.unproven()), (UNPROVEN_MAX - 2, UNPROVEN_MAX));
}

#[test]
fn a_peer_that_announces_nothing_is_given_up() {
    let mut bench = Bench::new();
    assert_eq!(bench.session.next_timeout(), Some(bench.now + Duration::from_secs(5)));
    bench.wait(Duration::from_secs(5));
    bench.session.handle_queue_empty();
    assert_eq!(bench.session.receive(), Receive::Failed(Failure::NotAnnounced));
}

#[test]
fn the_end_comes_after_the_data_that_it_has_overtaken() {
    let mut bench = Bench::new();
    bench.open(64);
    bench.session.handle_event(ConnectionEvent::Disconnected);
    assert_eq!(bench.session.receive(), Receive::Pending);
    assert_eq!(bench.session.send_failure(), Some(Failure::Disconnected));
    bench.arrive(Outcome::Data(7));
    bench.fail(5);
    assert!(matches!(bench.session.receive(), Receive::Bytes { .. }));
    assert_eq!(bench.session.receive(), Receive::End);
    assert_eq!(bench.session.next_timeout(), None);
}

#[test]
fn a_peer_that_closes_before_it_announces_memory_is_said_to_refuse() {
    let mut bench = Bench::new();
    bench.session.handle_event(ConnectionEvent::Disconnected);
    bench.session.handle_queue_empty();
    assert_eq!(bench.session.receive(), Receive::Failed(Failure::ClosedEarly));
    let error = std::io::Error::from(Failure::ClosedEarly);
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains("maxclients"));
}

#[test]
fn flushed_work_waits_for_its_reason_for_a_second() {
    let mut bench = Bench::new();
    bench.open(64);
    bench.fail(5);
    assert_eq!(bench.session.receive(), Receive::Pending);
    assert!(bench.write(1).is_none() && bench.session.send_failure().is_none());
    bench.session.handle_event(ConnectionEvent::Disconnected);
    bench.session.handle_queue_empty();
    assert_eq!(bench.session.receive(), Receive::End);

    let mut bench = Bench::new();
    bench.open(64);
    bench.fail(5);
    assert_eq!(bench.session.next_timeout(), Some(bench.now + Duration::from_secs(1)));
    bench.wait(Duration::from_secs(1));
    bench.session.handle_queue_empty();
    assert_eq!(bench.session.receive(), Receive::Failed(Failure::Flushed));
}

#[test]
fn failures_say_what_happened_and_the_first_one_counts() {
    for (status, failure, kind, said) in [
        (
            13,
            Failure::ReceiverNotReady { unproven: 3 },
            std::io::ErrorKind::ConnectionReset,
            "the last 3 messages",
        ),
        (12, Failure::Unreachable, std::io::ErrorKind::TimedOut, "does not answer"),
        (10, Failure::AccessRefused, std::io::ErrorKind::PermissionDenied, "refused access"),
        (4, Failure::Work(WorkStatus(4)), std::io::ErrorKind::Other, "4 (local protection)"),
        (99, Failure::Work(WorkStatus(99)), std::io::ErrorKind::Other, "99 (unknown)"),
    ] {
        let mut bench = Bench::new();
        bench.open(64);
        bench.write_times(2);
        bench.arrive(Outcome::Data(1));
        bench.session.budget = Budget::new();
        bench.fail(status);
        bench.fail(5);
        bench.session.handle_event(ConnectionEvent::Disconnected);
        assert_eq!(bench.session.send_failure(), Some(failure));
        assert!(matches!(bench.session.receive(), Receive::Bytes { .. }));
        assert_eq!(bench.session.receive(), Receive::Failed(failure));
        let error = std::io::Error::from(failure);
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn events_that_nothing_else_would_tell_are_fatal_at_once() {
    for (event, failure) in [
        (ConnectionEvent::DeviceRemoved, Failure::DeviceRemoved),
        (ConnectionEvent::AddressChanged, Failure::AddressChanged),
        (ConnectionEvent::TimewaitExit, Failure::TimewaitExit),
    ] {
        let mut bench = Bench::new();
        bench.open(64);
        bench.session.handle_event(event);
        assert!(bench.session.can_receive() && bench.session.can_send());
        assert!(bench.write(1).is_none());
        bench.session.handle_queue_empty();
        assert_eq!(bench.session.receive(), Receive::Failed(failure));
    }
}

#[test]
fn the_end_of_time_wait_says_nothing_of_an_end_that_is_known() {
    let mut bench = Bench::new();
    bench.open(64);
    bench.session.handle_event(ConnectionEvent::Disconnected);
    bench.session.handle_event(ConnectionEvent::TimewaitExit);
    bench.session.handle_queue_empty();
    assert_eq!(bench.session.receive(), Receive::End);
}

#[test]
fn after_a_panic_nothing_is_written() {
    let mut bench = Bench::new();
    bench.open(64);
    bench.session.handle_panic();
    assert!(bench.write(1).is_none());
    bench.session.handle_queue_empty();
    assert_eq!(bench.session.receive(), Receive::Failed(Failure::Panicked));
}

#[test]
fn a_close_waits_for_a_message_behind_the_writes_whose_completion_is_not_told() {
    let mut bench = Bench::new();
    bench.open(64);
    // The announcement of our memory.
    bench.complete(WorkId::Send(0));
    assert!(bench.session.is_flushed());
    bench.write_times(3);
    assert!(!bench.session.is_flushed());
    assert_eq!(bench.commands(), []);
    bench.session.close();
    assert_eq!(bench.commands(), [Command::Keepalive]);
    assert_eq!(bench.commands(), []);
    assert!(bench.write(1).is_none() && !bench.session.is_flushed());
    bench.complete(WorkId::Send(4));
    assert!(bench.session.is_flushed());
}

#[test]
fn a_close_behind_a_signalled_write_needs_no_message() {
    let mut bench = Bench::with(|settings| settings.staging_bytes = 4);
    bench.open(64);
    bench.complete(WorkId::Send(0));
    let write = bench.write(4).unwrap();
    assert!(write.is_signalled());
    bench.session.close();
    assert_eq!(bench.commands(), []);
    assert!(!bench.session.is_flushed());
    bench.complete(write.id());
    assert!(bench.session.is_flushed());
}

#[test]
fn a_close_waits_for_nothing_where_the_connection_is_over() {
    let mut bench = Bench::new();
    bench.open(64);
    bench.write_times(3);
    bench.session.close();
    bench.session.handle_event(ConnectionEvent::Disconnected);
    assert!(bench.session.is_flushed());
    assert_eq!(bench.commands(), []);
}

#[test]
fn completions_of_what_was_not_posted_end_the_connection() {
    let cases: [(WorkId, Outcome<'_>); 6] = [
        (WorkId::Send(1), Outcome::Sent),
        (WorkId::Send(0), Outcome::Data(1)),
        (WorkId::Receive(0), Outcome::Sent),
        (WorkId::Receive(1024), Outcome::Data(1)),
        (WorkId::Receive(u16::MAX), Outcome::Command(&[0; 32])),
        (WorkId::from(u64::MAX), Outcome::Sent),
    ];
    for (id, outcome) in cases {
        let mut bench = Bench::new();
        bench.session.handle_completion(id, outcome, bench.now);
        bench.session.handle_queue_empty();
        assert_eq!(bench.session.receive(), Receive::Failed(Failure::StrayCompletion));
    }
    let mut bench = Bench::new();
    bench.session.handle_completion(WorkId::Receive(3), Outcome::Data(1), bench.now);
    bench.session.handle_completion(WorkId::Receive(3), Outcome::Data(1), bench.now);
    assert_eq!(bench.session.send_failure(), Some(Failure::StrayCompletion));
}

#[test]
fn what_could_not_be_posted_is_asked_for_again() {
    let mut bench = Bench::with(|settings| settings.receive_slots = 2);
    bench.open(64);
    let refused = bench.session.write(5, bench.now, |write| Err(write.length()));
    assert_eq!(refused, Err(5));
    assert_eq!(bench.write(5).unwrap().staging(), 0..5);
    bench.session.handle_completion(WorkId::Receive(1), Outcome::Data(64), bench.now);
    assert_eq!(bench.session.post_receive(Err::<(), _>), Err(1));
    assert_eq!(bench.post_receives(), 1);
    bench.session.receive();
    bench.session.release(64);
    assert_eq!(bench.session.send_command(bench.now, |send| Err(send.slot())), Err(1));
    assert_eq!(bench.commands().len(), 1);
    bench.session.handle_post_failure(12);
    assert_eq!(bench.session.send_failure(), Some(Failure::Post(12)));
}

#[test]
fn a_command_waits_until_a_slot_is_free() {
    let mut bench = Bench::with(|settings| settings.command_slots = 1);
    bench.arrive(Outcome::Data(64));
    bench.session.receive();
    bench.session.release(64);
    assert_eq!(bench.commands(), []);
    bench.complete(WorkId::Send(0));
    assert_eq!(bench.commands().len(), 1);
}

#[test]
fn names_of_work_survive_the_card() {
    for id in [WorkId::Receive(0), WorkId::Receive(1023), WorkId::Send(0), WorkId::Send(1 << 40)] {
        assert_eq!(WorkId::from(u64::from(id)), id);
    }
}
