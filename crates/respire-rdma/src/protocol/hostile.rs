//! What a session keeps to whatever a peer, a card or a driver does: a property of all inputs, for the fuzzer and for
//! random ones.

use std::{
    convert::Infallible,
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    command::{Command, XferMemory},
    *,
};

const STAGING_BYTES: u32 = 300;
const RECEIVE_BYTES: u32 = 200;
const RECEIVE_SLOTS: u16 = 20;
const COMMAND_SLOTS: u16 = 3;
const SEND_PLACES: u16 = 20;

/// Runs a session on what the input says, and asserts what it must never do: panic, write outside of the memory that the
/// peer announced last or that is staged, tell the peer another length than it writes, exceed a queue or the bound of
/// what is unproven, lend memory that is not its own or nothing new, send after it has failed, or come back to life.
pub(crate) fn nothing_does_harm(input: &[u8]) {
    let now = Instant::now();
    let settings = Settings {
        receive_memory: own_memory(),
        staging_bytes: STAGING_BYTES,
        send_places: SEND_PLACES,
        command_slots: COMMAND_SLOTS,
        receive_slots: RECEIVE_SLOTS,
        announced_by: now + Duration::from_secs(20),
        probe_after: Some(Duration::from_secs(2)),
    };
    let mut trial = Trial {
        session: Session::new(settings, now),
        now,
        input,
        peer: None,
        receives: Vec::new(),
        sends: Vec::new(),
        lent: 0..0,
        ended: None,
    };
    while let Some(action) = trial.byte() {
        trial.act(action);
        trial.check();
    }
}

fn own_memory() -> XferMemory {
    XferMemory::new(1 << 32, RECEIVE_BYTES, 7).expect("it is short, and far from the end")
}

struct Trial<'a> {
    session: Session,
    now: Instant,
    input: &'a [u8],
    /// What the peer announced last, and how much was written to it.
    peer: Option<(XferMemory, u64)>,
    receives: Vec<u16>,
    sends: Vec<WorkId>,
    lent: Range<usize>,
    /// How the connection has ended for a reader.
    ended: Option<Receive>,
}

impl Trial<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.input.split_off_first().copied()
    }

    fn number<const BYTES: usize>(&mut self) -> u64 {
        (0..BYTES).fold(0, |number, _| number << 8 | u64::from(self.byte().unwrap_or(0)))
    }

    fn act(&mut self, action: u8) {
        match action % 16 {
            0 => self.session.handle_established(self.now),
            1 => {
                let events = [
                    ConnectionEvent::Disconnected,
                    ConnectionEvent::DeviceRemoved,
                    ConnectionEvent::AddressChanged,
                    ConnectionEvent::TimewaitExit,
                ];
                let event = events[usize::from(self.byte().unwrap_or(0) % 4)];
                self.session.handle_event(event);
            }
            2 => {
                let passed = Duration::from_millis(self.number::<2>());
                self.now += passed;
                self.session.handle_timeout(self.now);
            }
            3 | 4 => self.send_commands(),
            5 | 6 => self.write(),
            7 => self.release(),
            8 => self.receive(),
            9 if action > 240 => self.session.close(),
            9 => self.session.handle_queue_empty(),
            10 => self.complete_anything(),
            11 => self.complete_send(),
            12 => self.arrive_announcement(),
            13 => self.arrive_bytes(),
            14 => {
                let count = self.byte().unwrap_or(0).into();
                self.arrive(Outcome::Data(count));
            }
            _ => self.post_receives(),
        }
    }

    fn send_commands(&mut self) {
        let failed = self.session.send_failure().is_some();
        let Self { session, sends, now, .. } = self;
        while let Ok(true) = session.send_command(*now, |send| {
            assert!(!failed && send.slot() < COMMAND_SLOTS);
            match Command::decode(send.bytes()) {
                Ok(Command::RegisterXferMemory(memory)) => assert_eq!(memory, own_memory()),
                Ok(Command::GetServerFeature { .. } | Command::Keepalive) => {}
                other => panic!("{other:?}"),
            }
            sends.push(send.id());
            Ok::<_, Infallible>(())
        }) {}
    }

    fn write(&mut self) {
        let offered = self.number::<2>() as usize;
        let failed = self.session.send_failure().is_some();
        let Self { session, sends, peer, now, .. } = self;
        let taken = session.write(offered, *now, |write| {
            let (memory, written) = peer.as_mut().expect("the peer has announced memory");
            assert!(!failed);
            assert!((1..=offered).contains(&(write.length() as usize)));
            assert_eq!(write.staging().len(), write.length() as usize);
            assert!(write.staging().end <= STAGING_BYTES as usize);
            assert_eq!(write.immediate(), write.length().to_be());
            assert_eq!(write.remote_key(), memory.key());
            assert_eq!(write.remote_address(), memory.address() + *written);
            *written += u64::from(write.length());
            assert!(*written <= u64::from(memory.length()));
            sends.push(write.id());
            Ok::<_, Infallible>(())
        });
        assert!(taken.is_ok_and(|taken| taken as usize <= offered));
    }

    fn release(&mut self) {
        let count = usize::from(self.byte().unwrap_or(0)).min(self.lent.len());
        self.session.release(count);
        self.lent.start += count;
    }

    fn receive(&mut self) {
        let received = self.session.receive();
        match &received {
            Receive::Bytes { range, room } => {
                assert!(self.ended.is_none(), "data comes after the end");
                assert_eq!(range.end + room, RECEIVE_BYTES as usize);
                assert_eq!(range.start, self.lent.start % RECEIVE_BYTES as usize);
                assert!(range.len() > self.lent.len());
                self.lent = range.clone();
            }
            Receive::Pending => assert!(self.ended.is_none(), "the connection lives again"),
            Receive::End | Receive::Failed(_) => {
                assert!(self.session.send_failure().is_some());
                self.ended.get_or_insert_with(|| received.clone());
            }
        }
    }

    /// Of any work, as a card would not.
    fn complete_anything(&mut self) {
        let id = WorkId::from(self.number::<8>());
        let outcome = match self.byte().unwrap_or(0) {
            0 => Outcome::Sent,
            1 => Outcome::Data(self.number::<4>() as u32),
            status => Outcome::Failed(WorkStatus(status.into())),
        };
        // Where it is known, it is not one that this end waits for any more.
        match id {
            WorkId::Receive(slot) => self.receives.retain(|posted| *posted != slot),
            WorkId::Send(_) => {}
        }
        self.session.handle_completion(id, outcome, self.now);
    }

    fn complete_send(&mut self) {
        let count = usize::from(self.byte().unwrap_or(0)).min(self.sends.len());
        for id in self.sends.drain(..count) {
            if !self.session.awaits_completion() {
                break;
            }
            self.session.handle_completion(id, Outcome::Sent, self.now);
        }
    }

    fn arrive_announcement(&mut self) {
        let (address, length, key) =
            (self.number::<8>(), self.number::<4>() as u32, self.number::<4>() as u32);
        let mut bytes = Command::Keepalive.encode();
        bytes[1] = 3;
        bytes[16..24].copy_from_slice(&address.to_be_bytes());
        bytes[24..28].copy_from_slice(&length.to_be_bytes());
        bytes[28..].copy_from_slice(&key.to_be_bytes());
        self.arrive(Outcome::Command(&bytes));
    }

    fn arrive_bytes(&mut self) {
        let length = usize::from(self.byte().unwrap_or(0)).min(self.input.len());
        let (bytes, rest) = self.input.split_at(length);
        self.input = rest;
        self.arrive(Outcome::Command(bytes));
    }

    fn arrive(&mut self, outcome: Outcome<'_>) {
        let Some(slot) = self.receives.pop() else { return };
        self.session.handle_completion(WorkId::Receive(slot), outcome, self.now);
        if let Outcome::Command(bytes) = outcome
            && let Ok(Command::RegisterXferMemory(memory)) = Command::decode(bytes)
        {
            self.peer = Some((memory, 0));
        }
    }

    fn post_receives(&mut self) {
        let Self { session, receives, .. } = self;
        while let Ok(true) = session.post_receive(|slot| {
            assert!(slot < RECEIVE_SLOTS && !receives.contains(&slot));
            receives.push(slot);
            Ok::<_, Infallible>(())
        }) {}
    }

    fn check(&self) {
        assert!(self.session.unproven() <= 515);
        if let Some(at) = self.session.next_timeout() {
            assert!(self.session.send_failure().is_none());
            assert!(at <= self.now + Duration::from_secs(20));
        }
        if self.ended.is_some() {
            assert!(self.session.can_receive() && self.session.can_send());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::history::History;

    #[test]
    fn nothing_that_a_peer_or_a_card_says_does_harm() {
        History::run_many(200_000, |history| {
            let mut input = vec![15, 0];
            for _ in 0..history.below(1000) {
                // Mostly bytes that mean something in most places.
                let byte = if history.once_in(4) { history.below(256) } else { history.below(16) };
                input.push(byte as u8);
            }
            super::nothing_does_harm(&input);
            input.len() as u64
        });
    }
}
