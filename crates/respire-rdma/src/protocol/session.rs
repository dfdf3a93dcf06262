//! One connection's state.

use std::{
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    budget::{Budget, UNPROVEN_MAX},
    command::{Command, XferMemory},
    failure::{Failure, ProtocolError, WorkStatus},
    receiving::Receiving,
    sending::{CommandSend, Sending, Write},
    work::{Outcome, WorkId},
};

/// Work that was flushed has a reason, which may come later, but not later than this.
const REASON_WITHIN: Duration = Duration::from_secs(1);

/// What a session has to work with. The lengths are those of memory that is there already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The memory that the peer is to write to.
    pub(crate) receive_memory: XferMemory,
    /// The length of the memory that is written from; not 0.
    pub(crate) staging_bytes: u32,
    /// How much work the queue that sends takes; at least 16.
    pub(crate) send_places: u16,
    /// How many slots there are for commands to be sent from; not 0.
    pub(crate) command_slots: u16,
    /// How many receives can be posted, each with a slot for a command; not 0.
    pub(crate) receive_slots: u16,
    /// Until when the peer must have announced its memory.
    pub(crate) announced_by: Instant,
    /// After this long without having sent, heard, or seen anything acknowledged, the peer is probed.
    pub(crate) probe_after: Option<Duration>,
}

/// What the connection manager may say of a connection that it has established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEvent {
    Disconnected,
    DeviceRemoved,
    AddressChanged,
    TimewaitExit,
}

/// What [`Session::receive`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    /// This part of the receive memory may be read until it is released, and `room` bytes more may come to stand behind it.
    /// There is at least one byte behind what was lent before.
    Bytes { range: Range<usize>, room: usize },
    /// Nothing new.
    Pending,
    /// Everything was handed out, and the peer has disconnected.
    End,
    /// Everything was handed out, and the connection has failed.
    Failed(Failure),
}

/// What went through a connection since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) commands: u64,
    pub(crate) arrivals: u64,
    pub(crate) arrived_bytes: u64,
    pub(crate) commands_arrived: u64,
    pub(crate) completions: u64,
}

/// The state of one connection.
///
/// # Order of calls
///
/// Before connecting, [`post_receive`](Self::post_receive) until it posts nothing: the peer may send as soon as the
/// connection is there. Its first messages may be polled before the event that says so.
///
/// From then on, and whoever does it:
///
/// 1. The events: [`handle_established`](Self::handle_established) and [`handle_event`](Self::handle_event). Where the peer has
///    disconnected, the queue pair is put into its error state, so that nothing arrives from then on.
/// 2. The completion queue until it is empty: [`handle_completion`](Self::handle_completion).
/// 3. The time: [`handle_timeout`](Self::handle_timeout), if it is due.
/// 4. `post_receive` and [`send_command`](Self::send_command), each until it posts nothing; also after
///    [`release`](Self::release) and after writing.
/// 5. [`handle_queue_empty`](Self::handle_queue_empty). In this order nothing that arrived before the end is lost, and an end that
///    was met in any of the steps is handed out behind it.
///
/// Then wake the reader if [`can_receive`](Self::can_receive) and the writer if [`can_send`](Self::can_send), unless it is they who are
/// doing this.
///
/// At the end, [`close`](Self::close), and the same again until [`is_flushed`](Self::is_flushed): what was posted and not yet sent
/// is lost with the queue pair.
///
/// What posts takes a closure. Where it fails, nothing has happened, and the same is asked for again by the next call; where
/// that makes no sense, say [`handle_post_failure`](Self::handle_post_failure).
#[derive(Debug)]
pub(crate) struct Session {
    settings: Settings,
    sending: Sending,
    receiving: Receiving,
    budget: Budget,
    receives: ReceiveSlots,
    is_established: bool,
    is_disconnected: bool,
    /// The completion queue was found empty after the connection had ended. What completes then is not looked at.
    is_drained: bool,
    /// Until when a reason for flushed work is waited for.
    reason_by: Option<Instant>,
    /// The first one.
    failure: Option<Failure>,
    /// When anything was sent, heard or acknowledged last, or a probe was due.
    quiet_since: Instant,
    probe_is_due: bool,
    is_closing: bool,
    counts: Counts,
}

impl Session {
    /// # Panics
    ///
    /// Where `settings` has a number that is smaller than it says.
    pub(crate) fn new(settings: Settings, now: Instant) -> Self {
        assert!(settings.staging_bytes > 0, "there is no memory to write from");
        assert!(settings.send_places >= 16, "the send queue is too short");
        assert!(settings.command_slots > 0, "there is no slot for a command");
        assert!(settings.receive_slots > 0, "there is no slot for a receive");
        Self {
            sending: Sending::new(
                settings.send_places,
                settings.command_slots,
                settings.staging_bytes,
            ),
            receiving: Receiving::new(settings.receive_memory.length()),
            budget: Budget::new(),
            receives: ReceiveSlots::new(settings.receive_slots),
            settings,
            is_established: false,
            is_disconnected: false,
            is_drained: false,
            reason_by: None,
            failure: None,
            quiet_since: now,
            probe_is_due: false,
            is_closing: false,
            counts: Counts::default(),
        }
    }

    /// The connection is there: work that sends may be posted.
    pub(crate) fn handle_established(&mut self, now: Instant) {
        self.is_established = true;
        self.quiet_since = now;
    }

    pub(crate) fn handle_event(&mut self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Disconnected => self.is_disconnected = true,
            ConnectionEvent::DeviceRemoved => self.fail(Failure::DeviceRemoved),
            ConnectionEvent::AddressChanged => self.fail(Failure::AddressChanged),
            // It follows on every end, some time later, and says nothing of one that is known.
            ConnectionEvent::TimewaitExit if self.is_disconnected => {}
            ConnectionEvent::TimewaitExit => self.fail(Failure::TimewaitExit),
        }
    }

    /// A piece of work is done, one way or the other.
    pub(crate) fn handle_completion(&mut self, id: WorkId, outcome: Outcome<'_>, now: Instant) {
        self.counts.completions += 1;
        // A reader may know of the end already. And of a peer that has broken the protocol nothing more is believed.
        if self.is_drained
            || matches!(self.failure, Some(Failure::Protocol(_) | Failure::StrayCompletion))
        {
            return;
        }
        let known = match (id, outcome) {
            (_, Outcome::Failed(status)) => return self.handle_failed(status, now),
            (WorkId::Send(sequence), Outcome::Sent) => self.sending.complete(sequence),
            (WorkId::Receive(slot), Outcome::Command(_) | Outcome::Data(_)) => {
                self.receives.complete(slot)
            }
            _ => false,
        };
        if !known {
            return self.fail(Failure::StrayCompletion);
        }
        self.quiet_since = now;
        let handled = match outcome {
            Outcome::Command(bytes) => self.handle_command(bytes),
            Outcome::Data(bytes) => self.handle_data(bytes),
            Outcome::Sent | Outcome::Failed(_) => Ok(()),
        };
        if let Err(error) = handled {
            self.fail(Failure::Protocol(error));
        }
    }

    fn handle_command(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.counts.commands_arrived += 1;
        match Command::decode(bytes)? {
            Command::Keepalive => Ok(()),
            Command::RegisterXferMemory(memory) => {
                if self.sending.open_window(memory) {
                    self.budget.window_was_consumed();
                }
                Ok(())
            }
            Command::GetServerFeature { select, .. } if self.budget.fence_answered(select) => {
                Ok(())
            }
            Command::GetServerFeature { .. } | Command::SetClientFeature { .. } => {
                Err(ProtocolError::Unasked)
            }
        }
    }

    fn handle_data(&mut self, bytes: u32) -> Result<(), ProtocolError> {
        self.receiving.arrive(bytes)?;
        self.counts.arrivals += 1;
        self.counts.arrived_bytes += u64::from(bytes);
        // A write of nothing can be made without having seen our announcement.
        if bytes > 0 {
            self.budget.data_arrived();
        }
        Ok(())
    }

    fn handle_failed(&mut self, status: WorkStatus, now: Instant) {
        match status {
            WorkStatus::FLUSHED if self.is_disconnected => {}
            WorkStatus::FLUSHED => self.reason_by = self.reason_by.or(Some(now + REASON_WITHIN)),
            WorkStatus::RECEIVER_NOT_READY => {
                self.fail(Failure::ReceiverNotReady { unproven: self.unproven() });
            }
            WorkStatus::RETRY_EXCEEDED => self.fail(Failure::Unreachable),
            WorkStatus::REMOTE_ACCESS => self.fail(Failure::AccessRefused),
            other => self.fail(Failure::Work(other)),
        }
    }

    /// The completion queue was found empty, after all events were handled that had come before. Until this is said, neither an
    /// end nor a failure is handed out.
    pub(crate) fn handle_queue_empty(&mut self) {
        if self.is_disconnected && !self.sending.has_peer() {
            self.fail(Failure::ClosedEarly);
        }
        if self.is_disconnected || self.failure.is_some() {
            self.is_drained = true;
        }
    }

    /// Work could not be posted, for a reason that will not pass.
    pub(crate) fn handle_post_failure(&mut self, errno: i32) {
        self.fail(Failure::Post(errno));
    }

    /// A task has panicked in the middle of something, so that what was posted and what was counted may not be the same: a
    /// range of the staging memory may be given out while the card reads it.
    pub(crate) fn handle_panic(&mut self) {
        self.fail(Failure::Panicked);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing is handled before.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.failure.is_some() || self.is_disconnected {
            return None;
        }
        let announcement = (!self.sending.has_peer()).then_some(self.settings.announced_by);
        [announcement, self.reason_by, self.probe_at()].into_iter().flatten().min()
    }

    fn probe_at(&self) -> Option<Instant> {
        let after = self.settings.probe_after.filter(|_| self.may_send())?;
        self.quiet_since.checked_add(after)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.failure.is_some() || self.is_disconnected {
            return;
        }
        if self.reason_by.is_some_and(|at| at <= now) {
            self.fail(Failure::Flushed);
        } else if !self.sending.has_peer() && self.settings.announced_by <= now {
            self.fail(Failure::NotAnnounced);
        } else if self.probe_at().is_some_and(|at| at <= now) {
            self.probe_is_due = true;
            self.quiet_since = now;
        }
    }

    /// Whether the connection was there at any time.
    pub(crate) fn is_established(&self) -> bool {
        self.is_established
    }

    /// Nothing more is written. What was is followed by a last message, if it needs one for its completion to be told.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
    }

    /// Whether the peer's card has everything that was posted, or never will. Becomes true in time only after
    /// [`close`](Self::close).
    pub(crate) fn is_flushed(&self) -> bool {
        !self.may_send() || self.sending.is_done()
    }

    /// Whether the peer has announced memory, so that the connection can be used.
    pub(crate) fn is_ready(&self) -> bool {
        self.may_send() && self.sending.has_peer()
    }

    /// Posts a write of as many of `offered` bytes as may be written at once. Returns how many that is; 0 where none may
    /// be now.
    pub(crate) fn write<E>(
        &mut self,
        offered: usize,
        now: Instant,
        post: impl FnOnce(&Write) -> Result<(), E>,
    ) -> Result<u32, E> {
        let Some(write) = self.next_write(offered) else { return Ok(0) };
        post(&write)?;
        self.sending.note_write(&write);
        self.budget.note_write(self.sending.posted());
        self.quiet_since = now;
        self.counts.writes += 1;
        self.counts.written_bytes += u64::from(write.length());
        Ok(write.length())
    }

    fn next_write(&self, offered: usize) -> Option<Write> {
        if !self.may_send() || self.is_closing || self.unproven() >= UNPROVEN_MAX {
            return None;
        }
        self.sending.next_write(offered)
    }

    /// Posts the next command, if one is due and can be posted. Returns whether it was.
    pub(crate) fn send_command<E>(
        &mut self,
        now: Instant,
        post: impl FnOnce(&CommandSend) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(command) = self.next_command() else { return Ok(false) };
        let Some(send) = self.sending.next_command(command) else { return Ok(false) };
        post(&send)?;
        self.sending.note_command();
        self.quiet_since = now;
        self.counts.commands += 1;
        match command {
            Command::RegisterXferMemory(_) => {
                self.receiving.note_announcement();
                self.budget.note_announcement(self.sending.posted());
            }
            Command::GetServerFeature { .. } => self.budget.note_fence(self.sending.posted()),
            Command::Keepalive | Command::SetClientFeature { .. } => self.probe_is_due = false,
        }
        Ok(true)
    }

    /// Announcements and fences go beyond the bound of what is unproven, since they are what lifts it. There is at most
    /// one of each that the peer may not have looked at. So does the one message that comes last.
    fn next_command(&self) -> Option<Command> {
        if !self.may_send() {
            return None;
        }
        if !self.receiving.is_announced() {
            return Some(Command::RegisterXferMemory(self.settings.receive_memory));
        }
        if let Some(select) = self.budget.fence_due(self.sending.posted()) {
            return Some(Command::GetServerFeature { select, features: 0 });
        }
        let is_last = self.is_closing && self.sending.has_untold();
        let is_probe = self.probe_is_due && self.unproven() < UNPROVEN_MAX;
        (is_last || is_probe).then_some(Command::Keepalive)
    }

    /// Posts a receive, if one is not posted, with the slot that is given. Returns whether it did.
    pub(crate) fn post_receive<E>(
        &mut self,
        post: impl FnOnce(u16) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.has_ended() {
            return Ok(false);
        }
        let Some(slot) = self.receives.due() else { return Ok(false) };
        post(slot)?;
        self.receives.note_posted();
        Ok(true)
    }

    /// What has arrived. Data goes before the end and before errors.
    pub(crate) fn receive(&mut self) -> Receive {
        if let Some((range, room)) = self.receiving.lend() {
            return Receive::Bytes { range, room };
        }
        match self.failure {
            _ if !self.is_drained => Receive::Pending,
            Some(failure) => Receive::Failed(failure),
            None => Receive::End,
        }
    }

    /// The reader is done with the first `count` bytes of what was lent.
    pub(crate) fn release(&mut self, count: usize) {
        self.receiving.release(count);
    }

    /// Why nothing can be sent any more, if so.
    pub(crate) fn send_failure(&self) -> Option<Failure> {
        self.failure.or(self.is_disconnected.then_some(Failure::Disconnected))
    }

    /// Whether a reader has something to do: [`receive`](Self::receive) is not pending, or will not be after the completion
    /// queue was emptied once more.
    pub(crate) fn can_receive(&self) -> bool {
        self.receiving.has_new() || self.failure.is_some() || self.is_disconnected
    }

    /// Whether a writer has something to do: something may be written, or it must learn that nothing will be.
    pub(crate) fn can_send(&self) -> bool {
        self.send_failure().is_some() || self.next_write(1).is_some()
    }

    /// Whether work that sends is under way whose completion will come. Where posting fails for want of memory, it may
    /// succeed then, and only then.
    pub(crate) fn awaits_completion(&self) -> bool {
        self.sending.awaits_completion()
    }

    /// How many messages the peer may not have looked at.
    pub(crate) fn unproven(&self) -> u64 {
        self.budget.unproven(self.sending.posted())
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn may_send(&self) -> bool {
        self.is_established && !self.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.failure.is_some() || self.is_disconnected || self.reason_by.is_some()
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }
}

/// Which receives are posted.
struct ReceiveSlots {
    due: Vec<u16>,
    is_posted: Box<[bool]>,
}

impl fmt::Debug for ReceiveSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} due", self.due.len(), self.is_posted.len())
    }
}

impl ReceiveSlots {
    fn new(count: u16) -> Self {
        Self {
            due: (0..count).rev().collect(),
            is_posted: vec![false; count.into()].into_boxed_slice(),
        }
    }

    fn due(&self) -> Option<u16> {
        self.due.last().copied()
    }

    fn note_posted(&mut self) {
        if let Some(slot) = self.due.pop() {
            self.is_posted[usize::from(slot)] = true;
        }
    }

    /// Returns whether the receive was posted.
    fn complete(&mut self, slot: u16) -> bool {
        let Some(is_posted) = self.is_posted.get_mut(usize::from(slot)) else { return false };
        let was_posted = std::mem::take(is_posted);
        if was_posted {
            self.due.push(slot);
        }
        was_posted
    }
}

#[cfg(test)]
mod tests;
