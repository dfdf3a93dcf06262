//! What is sent again, and when.

use std::time::{Duration, Instant};

use crate::{
    command::Packet,
    config::WhenDown,
    error::{Error, SendState},
};

/// What a client sends again by itself when it failed.
///
/// Whatever the policy, a request ends by its deadline, and these are never sent again: a request that was answered, but
/// for the errors below, and one that may have been carried out and is not named below.
///
/// | what failed | sent again |
/// |---|---|
/// | a request of which no byte left, because its connection was lost | up to the attempts |
/// | a request that may have been carried out when its connection was lost, of commands that only read | up to the attempts, unless [`with_reads`](Self::with_reads) says no |
/// | the same, of commands that may be sent twice: see [`Command::is_idempotent`](crate::Command::is_idempotent) | up to the attempts, if [`with_idempotent_writes`](Self::with_idempotent_writes) says so |
/// | an attempt to connect, before which nothing was sent | with [`WhenDown::Wait`], until the deadline |
/// | a request that the server refused in its present state: `LOADING`, `MASTERDOWN`, `TRYAGAIN`, `CLUSTERDOWN`, `BUSY`, `READONLY` | with [`WhenDown::Wait`], until the deadline |
///
/// ```
/// use respire::RetryPolicy;
///
/// let policy = RetryPolicy::default().with_attempts(5);
/// assert_eq!(policy.attempts(), 5);
/// assert_eq!(RetryPolicy::never().attempts(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryPolicy {
    attempts: u32,
    pause_min: Duration,
    pause_max: Duration,
    reads: bool,
    idempotent_writes: bool,
}

impl Default for RetryPolicy {
    /// Three attempts; the second one at once, the third after 5 ms or a little less.
    fn default() -> Self {
        Self {
            attempts: 3,
            pause_min: Duration::from_millis(5),
            pause_max: Duration::from_millis(500),
            reads: true,
            idempotent_writes: false,
        }
    }
}

impl RetryPolicy {
    /// Sends nothing again.
    pub fn never() -> Self {
        Self::default().with_attempts(1)
    }

    /// Sets how often a request is sent at most, the first time included; at least once.
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Sets the pauses between attempts. The second attempt is made at once; before each later one there is a pause, at
    /// first of `min`, then twice as long each time, up to `max`; each is shortened at random by up to a half.
    pub fn with_pauses(mut self, min: Duration, max: Duration) -> Self {
        self.pause_min = min;
        self.pause_max = max.max(min);
        self
    }

    /// Sets whether commands that only read are sent again if they may have been carried out. They are by default.
    pub fn with_reads(mut self, reads: bool) -> Self {
        self.reads = reads;
        self
    }

    /// Sets whether writes that may be sent twice are sent again if they may have been carried out. They are not by default:
    /// a `SET` that is repeated undoes what somebody else has written in between, and was told is written.
    pub fn with_idempotent_writes(mut self, idempotent_writes: bool) -> Self {
        self.idempotent_writes = idempotent_writes;
        self
    }

    /// How often a request is sent at most.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether it has a request sent again that may have been carried out.
    pub(super) fn repeats(&self, packet: &Packet) -> bool {
        (self.reads && packet.is_read_only()) || (self.idempotent_writes && packet.is_idempotent())
    }

    /// The pause before the attempt of this number; the first one's is 1.
    pub(super) fn pause(&self, attempt: u32) -> Duration {
        let Some(doublings) = attempt.checked_sub(3) else { return Duration::ZERO };
        let pause = self.pause_min.saturating_mul(2_u32.saturating_pow(doublings.min(30)));
        pause.min(self.pause_max).mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// The attempts at one request.
#[derive(Debug)]
pub(super) struct Attempts {
    policy: RetryPolicy,
    when_down: WhenDown,
    made: u32,
    /// Attempts that the server's state or its absence came in between.
    put_off: u32,
    /// The most that is known of any of them.
    sent: SendState,
}

impl Attempts {
    /// The first attempt has been made.
    pub(super) fn new(policy: RetryPolicy, when_down: WhenDown) -> Self {
        Self { policy, when_down, made: 1, put_off: 0, sent: SendState::NotSent }
    }

    /// How long to wait before the next attempt, after one failed with `error`. `may_repeat` says whether what may have
    /// been carried out may be sent again under a policy.
    ///
    /// # Errors
    ///
    /// The error to report, when there is to be no other.
    pub(super) fn after(
        &mut self,
        error: Error,
        may_repeat: impl Fn(RetryPolicy) -> bool,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Duration, Error> {
        let Some(pause) = self.pause(&error, may_repeat) else { return Err(self.conclude(error)) };
        // A pause that ends after the deadline would only put off the same error.
        if deadline.is_some_and(|deadline| now + pause >= deadline) {
            return Err(self.conclude(error));
        }
        if error.send_state() == SendState::MaybeSent {
            self.sent = SendState::MaybeSent;
        }
        Ok(pause)
    }

    fn pause(
        &mut self,
        error: &Error,
        may_repeat: impl Fn(RetryPolicy) -> bool,
    ) -> Option<Duration> {
        if error.is_timeout() && !error.is_connect() {
            return None;
        }
        if self.when_down == WhenDown::Wait {
            if error.is_down() {
                // The link paces the attempts to connect, for all that wait for one.
                return Some(Duration::ZERO);
            }
            let answer = error.server_error().filter(|_| error.send_state() == SendState::Answered);
            if answer.is_some_and(|answer| is_passing(answer.code())) {
                self.put_off = self.put_off.saturating_add(1);
                return Some(self.policy.pause(self.put_off.saturating_add(2)));
            }
        }
        let may_repeat = || match error.send_state() {
            SendState::NotSent => true,
            SendState::MaybeSent => may_repeat(self.policy),
            SendState::Answered => false,
        };
        if error.is_lost() && self.made < self.policy.attempts && may_repeat() {
            self.made += 1;
            return Some(self.policy.pause(self.made));
        }
        None
    }

    /// Of several attempts the last error is told, and the most that any of them may have sent.
    fn conclude(&mut self, error: Error) -> Error {
        match (self.sent, error.send_state()) {
            (SendState::MaybeSent, SendState::NotSent) => {
                error.with_send_state(SendState::MaybeSent)
            }
            _ => error,
        }
    }
}

/// Whether a server's error says that it did not carry out the command because of the state that it is in, which passes.
pub(crate) fn is_passing(code: &str) -> bool {
    matches!(code, "LOADING" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "BUSY" | "READONLY")
}
