//! What a client does when something is not as it should be.

use super::Config;
use crate::client::RetryPolicy;

/// What a request does when the last attempt to connect has failed and it is too soon for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// It fails at once, with the error of that attempt: a caller that can do without, or ask elsewhere, is not held up.
    #[default]
    FailFast,
    /// It waits for further attempts, within its deadline. All requests that wait share one attempt at a time.
    ///
    /// The same holds while a server answers that it cannot serve for now: see [`RetryPolicy`]. A server that refuses the
    /// credentials is not down: that fails at once.
    Wait,
}

/// What a request does when as much is under way as [`Config::with_in_flight_max`] allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for its turn, within its deadline.
    #[default]
    Wait,
    /// It fails at once; [`Error::is_full`](crate::Error::is_full) tells.
    Reject,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Behaviour {
    when_down: WhenDown,
    when_full: WhenFull,
    retry: RetryPolicy,
}

impl Config {
    /// Sets what requests do while the server cannot be reached. The default is to fail at once.
    pub fn with_when_down(mut self, when_down: WhenDown) -> Self {
        self.behaviour.when_down = when_down;
        self
    }

    /// Sets what requests do when the connection is full. The default is to wait.
    pub fn with_when_full(mut self, when_full: WhenFull) -> Self {
        self.behaviour.when_full = when_full;
        self
    }

    /// Sets what is sent again when it failed.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.behaviour.retry = retry;
        self
    }

    /// What requests do while the server cannot be reached.
    pub fn when_down(&self) -> WhenDown {
        self.behaviour.when_down
    }

    /// What requests do when the connection is full.
    pub fn when_full(&self) -> WhenFull {
        self.behaviour.when_full
    }

    /// What is sent again when it failed.
    pub fn retry(&self) -> RetryPolicy {
        self.behaviour.retry
    }
}
