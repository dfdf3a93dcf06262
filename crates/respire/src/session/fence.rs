//! Whether replies still belong to their requests.
//!
//! A server answers in order, and that is all that tells replies apart. If it, or a proxy before it, ever leaves one out or sends
//! one twice, each request from then on gets the reply to another. A fence notices: it is a `PING` with a number of its
//! own, whose reply must come at its place in the order.

use std::time::{Duration, Instant};

use respire_codec::{Frame, Value};

use crate::command::{Command, Packet};

/// When fences are put into the order of requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checks {
    /// When a request under way has timed out.
    pub(crate) after_timeout: bool,
    /// At the latest after so long.
    pub(crate) period: Option<Duration>,
}

/// There is no fence more often than this, whatever the period: a timer's resolution, without which the driver would
/// look at the clock for ever.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// How long a fence may take that no other bound is set for.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// The fences of a session, of which one is under way at a time.
#[derive(Debug, Default)]
pub(super) struct Fences {
    checks: Checks,
    /// The key of the request that is the fence, and its number.
    under_way: Option<(usize, u64)>,
    next: Option<Instant>,
    raised: bool,
}

impl Fences {
    pub(super) fn new(checks: Checks) -> Self {
        Self { checks, ..Self::default() }
    }

    /// When to raise the next ones. One that is under way stays.
    pub(super) fn change(&mut self, checks: Checks) {
        self.checks = checks;
        self.next = None;
    }

    /// Whether one is to be raised now. `late` says that a request under way has just timed out.
    pub(super) fn is_wanted(&self, late: bool, now: Instant) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        self.under_way.is_none() && (is_due || (late && self.checks.after_timeout))
    }

    /// The session was opened, or a fence raised: when to look again.
    pub(super) fn schedule(&mut self, now: Instant) -> Option<Instant> {
        // At random, so that connections that were made together are not checked together.
        let period = self.checks.period?.mul_f64(rand::random_range(0.8..=1.0)).max(PERIOD_MIN);
        self.next = now.checked_add(period);
        self.next
    }

    /// When to look again. While a fence is under way, it is looked at once a period.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        if self.next? <= now {
            return self.schedule(now);
        }
        self.next
    }

    #[cfg(test)]
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn is_fence(&self, key: usize) -> bool {
        self.under_way.is_some_and(|(fence, _)| fence == key)
    }

    /// The request with this key is a fence with this number.
    pub(super) fn raise(&mut self, key: usize, number: u64) {
        self.under_way = Some((key, number));
        self.raised = true;
    }

    /// Whether one was raised since this was asked last, so that there is something to send.
    pub(super) fn take_raised(&mut self) -> bool {
        std::mem::take(&mut self.raised)
    }

    /// Whether the request with this key is not a fence, or this is the reply to it.
    pub(super) fn admits(&self, key: usize, frame: &Frame) -> bool {
        match self.under_way {
            Some((fence, number)) if fence == key => answers(frame, number),
            _ => true,
        }
    }

    /// The request with this key has left the order.
    pub(super) fn left(&mut self, key: usize) {
        if self.is_fence(key) {
            self.under_way = None;
        }
    }
}

pub(super) fn packet(number: u64) -> Packet {
    Command::new("PING").arg(number).into_unchecked_packet()
}

/// Whether a frame is the reply to the `PING` with this number: the number, or a server's word that it will not do that now.
fn answers(frame: &Frame, number: u64) -> bool {
    let mut digits = itoa::Buffer::new();
    match frame.value().get() {
        Value::BulkString(text) | Value::SimpleString(text) => {
            text == digits.format(number).as_bytes()
        }
        Value::SimpleError(text) | Value::BulkError(text) => {
            let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
            matches!(code, b"LOADING" | b"BUSY" | b"MASTERDOWN" | b"NOPERM" | b"NOAUTH")
        }
        _ => false,
    }
}
