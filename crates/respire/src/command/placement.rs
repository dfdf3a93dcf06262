//! Which connections may carry a command, and for how long it may make one wait.

use std::time::Duration;

use super::{
    rules::{Scope, is_one_of},
    table::CommandInfo,
};

/// How long a command may make its connection wait, if the server has nothing for it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// So long at most.
    AtMost(Duration),
    /// Until the server has something, however long that takes.
    Unlimited,
}

/// Which connections may carry a request. Of several commands, the last of these that one of them asks for holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Any.
    #[default]
    Shared,
    /// One where nobody minds to wait behind it.
    Waiting(Blocking),
    /// One that belongs to the caller, for this reason.
    Own(&'static str),
    /// None, for this reason.
    Nowhere(&'static str),
}

impl Placement {
    /// Why a connection that many tasks share must not carry the request, if so.
    pub(crate) fn check_shared(self) -> Result<(), &'static str> {
        match self {
            Self::Shared => Ok(()),
            Self::Waiting(_) => Err("it may block the shared connection and every task on it"),
            Self::Own(reason) | Self::Nowhere(reason) => Err(reason),
        }
    }

    /// Why a connection that belongs to the caller must not carry the request either, if so.
    pub(crate) fn check_own(self) -> Result<(), &'static str> {
        match self {
            Self::Shared | Self::Waiting(_) | Self::Own(_) => Ok(()),
            Self::Nowhere(reason) => Err(reason),
        }
    }

    /// What a request asks for that asks for both, one after the other.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nowhere(reason), _) | (_, Self::Nowhere(reason)) => Self::Nowhere(reason),
            (Self::Own(reason), _) | (_, Self::Own(reason)) => Self::Own(reason),
            (Self::Waiting(first), Self::Waiting(then)) => Self::Waiting(first.and(then)),
            (Self::Waiting(blocking), _) | (_, Self::Waiting(blocking)) => Self::Waiting(blocking),
            (Self::Shared, Self::Shared) => Self::Shared,
        }
    }
}

impl Blocking {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::AtMost(first), Self::AtMost(then)) => Self::AtMost(first.saturating_add(then)),
            _ => Self::Unlimited,
        }
    }
}

/// Follows `MULTI` and `EXEC` through the commands of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transaction {
    open: bool,
}

impl Transaction {
    /// What a command asks for that comes after those that were seen so far. `args` are the words behind its name.
    pub(super) fn place<'a>(
        &mut self,
        info: Option<&'static CommandInfo>,
        mut args: impl Iterator<Item = &'a [u8]>,
    ) -> Placement {
        // What no server of ours knows may be a module's: nothing is known against it.
        let Some(info) = info.filter(|info| !info.is_plain()) else { return Placement::Shared };
        match info.name() {
            // A server refuses these with an argument, and what they were to open or close stays as it was.
            "multi" | "exec" if args.next().is_some() => {
                return Placement::Nowhere("MULTI and EXEC take no arguments");
            }
            "multi" if self.open => return Placement::Nowhere("MULTI inside MULTI"),
            "multi" => self.open = true,
            "exec" if !self.open => {
                return Placement::Own("there is no MULTI in the pipeline for this EXEC");
            }
            "exec" => self.open = false,
            // A server that refuses it, for its arguments or the user's rights, leaves the transaction open, for the
            // commands of other tasks to fall into. And nothing that a pipeline could learn would ask for it.
            "discard" => {
                return Placement::Own("a pipeline that is not to be carried out need not be sent");
            }
            _ => {}
        }
        match info.rule.scope {
            Scope::Any => blocking(info, args).map_or(Placement::Shared, Placement::Waiting),
            Scope::Own(reason) => Placement::Own(reason),
            Scope::None(reason) => Placement::Nowhere(reason),
        }
    }

    pub(super) fn is_open(self) -> bool {
        self.open
    }

    /// What the end of the request asks for.
    pub(super) fn place_end(self) -> Placement {
        match self.open {
            false => Placement::Shared,
            true => Placement::Own("MULTI is left open: put it and its EXEC into one pipeline"),
        }
    }
}

/// How long a command blocks, if it does. `args` are the words behind its name.
pub(super) fn blocking<'a>(
    info: &CommandInfo,
    mut args: impl Iterator<Item = &'a [u8]>,
) -> Option<Blocking> {
    if !info.may_block() {
        return None;
    }
    match info.name() {
        "xread" | "xreadgroup" => block_option(args).map(milliseconds),
        "wait" | "waitaof" => {
            Some(args.last().map_or(Blocking::AtMost(Duration::ZERO), milliseconds))
        }
        "blmpop" | "bzmpop" => Some(args.next().map_or(Blocking::AtMost(Duration::ZERO), seconds)),
        _ => Some(args.last().map_or(Blocking::AtMost(Duration::ZERO), seconds)),
    }
}

/// A server answers at once, with an error, to what is no time.
fn milliseconds(word: &[u8]) -> Blocking {
    match std::str::from_utf8(word).ok().and_then(|word| word.parse::<u64>().ok()) {
        Some(0) => Blocking::Unlimited,
        Some(time) => Blocking::AtMost(Duration::from_millis(time)),
        None => Blocking::AtMost(Duration::ZERO),
    }
}

fn seconds(word: &[u8]) -> Blocking {
    let time = std::str::from_utf8(word).ok().and_then(|word| word.parse::<f64>().ok());
    match time.map(Duration::try_from_secs_f64) {
        // Servers round up to milliseconds, so that only nothing is nothing.
        Some(Ok(time)) if time.is_zero() => Blocking::Unlimited,
        Some(Ok(time)) => Blocking::AtMost(time.saturating_add(Duration::from_millis(1))),
        Some(Err(_)) | None => Blocking::AtMost(Duration::ZERO),
    }
}

/// The time of an `XREAD` or `XREADGROUP` that asks to block. `BLOCK` stands before `STREAMS`, after which come keys; the
/// names of a group and a consumer, and a count, may be any word.
fn block_option<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    while let Some(word) = args.next() {
        if is_one_of(word, &["BLOCK"]) {
            return Some(args.next().unwrap_or_default());
        } else if is_one_of(word, &["STREAMS"]) {
            return None;
        } else if is_one_of(word, &["GROUP"]) {
            args.nth(1);
        } else if is_one_of(word, &["COUNT"]) {
            args.next();
        }
    }
    None
}
