//! Arguments that several families share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::command::{Args, Command, ToArg};

impl Command {
    /// Adds a word if a condition holds.
    pub(super) fn word_if(self, condition: bool, word: &'static str) -> Self {
        if condition { self.arg(word) } else { self }
    }

    /// Adds what there is.
    pub(super) fn optional(self, arg: Option<impl ToArg>) -> Self {
        match arg {
            Some(arg) => self.arg(arg),
            None => self,
        }
    }

    /// Adds a number of keys and the keys.
    pub(super) fn counted<A: ToArg>(
        self,
        args: impl IntoIterator<Item = A, IntoIter: ExactSizeIterator>,
    ) -> Self {
        let args = args.into_iter();
        self.arg(args.len()).args(args)
    }
}

/// Whole milliseconds of a time to wait or to live, rounded up: what is more than nothing stays more than nothing.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970; an earlier time is 0.
pub(super) fn unix_milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

/// A timeout as blocking commands take it, in seconds. Nothing is for ever there, and here too.
pub(super) fn seconds(timeout: Option<Duration>) -> f64 {
    timeout.map_or(0.0, |timeout| timeout.as_secs_f64().max(0.001))
}

/// When a key or a field ceases to be, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// After this time, rounded up to milliseconds.
    In(Duration),
    /// At this time.
    At(SystemTime),
}

impl ToArg for Expiry {
    fn add_to(&self, args: &mut Args) {
        match *self {
            Self::In(time) => ("PX", milliseconds(time)).add_to(args),
            Self::At(time) => ("PXAT", unix_milliseconds(time)).add_to(args),
        }
    }
}

/// On what a change of a time to live depends. Redis and Valkey since 7.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key has no time to live.
    HasNone,
    /// It has one.
    HasOne,
    /// The new one is longer than the present one; none counts as infinite.
    Longer,
    /// The new one is shorter.
    Shorter,
}

impl ToArg for Condition {
    fn add_to(&self, args: &mut Args) {
        args.push(match self {
            Self::HasNone => b"NX",
            Self::HasOne => b"XX",
            Self::Longer => b"GT",
            Self::Shorter => b"LT",
        });
    }
}

/// A direction to sort in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// From the least to the greatest.
    #[default]
    Ascending,
    /// From the greatest to the least.
    Descending,
}

impl ToArg for Order {
    fn add_to(&self, args: &mut Args) {
        args.push(match self {
            Self::Ascending => b"ASC",
            Self::Descending => b"DESC",
        });
    }
}

/// How exactly a stream is trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trim {
    /// To the entry.
    #[default]
    Exactly,
    /// About, by whole nodes, which costs less.
    Nearly,
}
