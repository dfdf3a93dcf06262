//! What a server's `COMMAND` does not tell: which commands may be sent again, and which must not share a connection.
//!
//! # Sending again
//!
//! A command that only observes may be sent again by itself. A write may, where the caller allows it, if sending it twice in
//! a row leaves what sending it once would leave:
//!
//! - A reply that counts what was changed (`DEL`, `HSET`, `SADD`) then counts what the last attempt changed.
//! - A relative time to live counts from the last attempt.
//! - Where the reply decides something, as after `SET … NX`, or hands out what was there before, as from `GETSET`, the
//!   answer to a second attempt misleads; such commands count as not repeatable.
//! - Nothing is said of others: a repeated `SET` can undo what somebody else wrote between the two attempts. This is why
//!   the caller has to allow it, and why `FLUSHDB` is not in the list.
//!
//! # Sharing a connection
//!
//! Commands that change the connection itself may be sent over a connection of one's own only, and those that leave the
//! client unable to tell replies apart not at all.

use super::keys::{KeySpec, SORT_STORE, key};

/// What we know of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Whether it changes nothing, although servers do not call it read-only, because it reads no keys.
    pub(super) observes: bool,
    pub(super) repeat: Repeat,
    pub(super) scope: Scope,
    /// Where its keys are, if not where servers say. Empty for all others.
    pub(super) key_specs: &'static [KeySpec],
}

/// The arguments of a command, without its name.
pub(super) type Rest<'i, 'a> = &'i mut dyn Iterator<Item = &'a [u8]>;

/// Whether a write may be sent again.
#[derive(Clone, Copy)]
pub(super) enum Repeat {
    Never,
    Always,
    /// Unless one of the arguments is one of these words. That a value is taken for an option only errs on the safe side.
    Without(&'static [&'static str]),
    If(for<'i, 'a> fn(Rest<'i, 'a>) -> bool),
}

/// Which connections may carry a command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    Any,
    /// Only one that is the caller's own, for this reason.
    Own(&'static str),
    /// None, for this reason.
    None(&'static str),
}

const STATE: &str = "it changes the shared connection for every task: set it in Config";
const SHARED: &str = "it changes the shared connection for every task";
const ENDS: &str = "it ends the shared connection for every task: use Client::close";
const WATCHES: &str = "on a shared connection another task's commands would run in between";
const PUSHES: &str = "its answers arrive as pushes, which this version cannot hand on";
const CACHES: &str = "what it asks for arrives as pushes: use Client::cached";
const SUBSCRIBES: &str = "its answers arrive as pushes: use Client::subscribe";
const REPLICATES: &str = "it turns the connection into a replication link";
const SILENT: &str = "replies are matched to requests in order, so none may be left out";
const NO_REPLIES: &str = "its answers are no replies";

/// In the order of names.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("acl|cat", observes()),
    ("acl|dryrun", observes()),
    ("acl|genpass", observes()),
    ("acl|getuser", observes()),
    ("acl|help", observes()),
    ("acl|list", observes()),
    ("acl|users", observes()),
    ("acl|whoami", observes()),
    ("asking", own(SHARED)),
    ("auth", own(STATE)),
    // `SET` and `INCRBY` answer with the value before or after.
    ("bitfield", without(&["SET", "INCRBY"])),
    ("bitop", repeat_if(bitop_elsewhere)),
    ("client|caching", none(CACHES)),
    ("client|capa", own(SHARED)),
    ("client|getname", observes()),
    ("client|getredir", observes()),
    ("client|help", observes()),
    ("client|id", observes()),
    ("client|info", observes()),
    ("client|list", observes()),
    ("client|no-evict", own(SHARED)),
    ("client|no-touch", own(SHARED)),
    ("client|reply", none(SILENT)),
    ("client|setinfo", own(STATE)),
    ("client|setname", own(STATE)),
    ("client|tracking", none(CACHES)),
    ("client|trackinginfo", observes()),
    ("cluster|count-failure-reports", observes()),
    ("cluster|countkeysinslot", observes()),
    ("cluster|getkeysinslot", observes()),
    ("cluster|help", observes()),
    ("cluster|info", observes()),
    ("cluster|keyslot", observes()),
    ("cluster|links", observes()),
    ("cluster|myid", observes()),
    ("cluster|myshardid", observes()),
    ("cluster|nodes", observes()),
    ("cluster|replicas", observes()),
    ("cluster|shards", observes()),
    ("cluster|slaves", observes()),
    ("cluster|slot-stats", observes()),
    ("cluster|slots", observes()),
    ("command", observes()),
    ("command|count", observes()),
    ("command|docs", observes()),
    ("command|getkeys", observes()),
    ("command|getkeysandflags", observes()),
    ("command|help", observes()),
    ("command|info", observes()),
    ("command|list", observes()),
    ("config|get", observes()),
    ("config|help", observes()),
    ("config|set", always()),
    // Without REPLACE a second attempt finds the copy of the first.
    ("copy", repeat_if(replaces)),
    ("del", always()),
    ("echo", observes()),
    ("expire", without(&["NX", "GT", "LT"])),
    ("expireat", without(&["NX", "GT", "LT"])),
    ("function|dump", observes()),
    ("function|help", observes()),
    ("function|list", observes()),
    ("function|load", repeat_if(replaces)),
    ("function|stats", observes()),
    ("geoadd", without(&["NX"])),
    ("georadius", without(&["STORE", "STOREDIST"])),
    ("georadiusbymember", without(&["STORE", "STOREDIST"])),
    ("geosearchstore", repeat_if(stored_elsewhere)),
    ("getex", always()),
    ("hdel", always()),
    ("hello", own(STATE)),
    ("hmset", always()),
    ("hset", always()),
    ("info", observes()),
    ("lastsave", observes()),
    ("latency|doctor", observes()),
    ("latency|graph", observes()),
    ("latency|help", observes()),
    ("latency|histogram", observes()),
    ("latency|history", observes()),
    ("latency|latest", observes()),
    ("lrem", repeat_if(removes_all)),
    ("lset", always()),
    ("ltrim", repeat_if(trims_to_an_end)),
    ("memory|doctor", observes()),
    ("memory|help", observes()),
    ("memory|malloc-stats", observes()),
    ("memory|stats", observes()),
    ("module|help", observes()),
    ("module|list", observes()),
    ("monitor", none(PUSHES)),
    ("mset", always()),
    ("object|help", observes()),
    ("persist", always()),
    ("pexpire", without(&["NX", "GT", "LT"])),
    ("pexpireat", without(&["NX", "GT", "LT"])),
    ("pfadd", always()),
    ("pfmerge", always()),
    ("ping", observes()),
    ("psetex", always()),
    ("psubscribe", none(SUBSCRIBES)),
    ("psync", none(REPLICATES)),
    ("pubsub|channels", observes()),
    ("pubsub|help", observes()),
    ("pubsub|numpat", observes()),
    ("pubsub|numsub", observes()),
    ("pubsub|shardchannels", observes()),
    ("pubsub|shardnumsub", observes()),
    ("punsubscribe", none(SUBSCRIBES)),
    ("quit", none(ENDS)),
    ("readonly", own(SHARED)),
    ("readwrite", own(SHARED)),
    ("replconf", none(REPLICATES)),
    ("reset", none(ENDS)),
    ("restore", repeat_if(replaces)),
    ("role", observes()),
    ("sadd", always()),
    ("script|debug", none(NO_REPLIES)),
    ("script|exists", observes()),
    ("script|help", observes()),
    ("script|load", always()),
    ("script|show", observes()),
    ("sdiffstore", repeat_if(stored_elsewhere)),
    ("select", own(STATE)),
    // `IFEQ` came with Valkey 8.1.
    ("set", without(&["NX", "GET", "IFEQ"])),
    ("setex", always()),
    ("setrange", always()),
    ("sinterstore", always()),
    ("slowlog|get", observes()),
    ("slowlog|help", observes()),
    ("slowlog|len", observes()),
    ("sort", Rule { key_specs: &[key(1), SORT_STORE], ..without(&["STORE"]) }),
    ("srem", always()),
    ("ssubscribe", none(SUBSCRIBES)),
    ("subscribe", none(SUBSCRIBES)),
    ("sunionstore", always()),
    ("sunsubscribe", none(SUBSCRIBES)),
    ("sync", none(REPLICATES)),
    ("time", observes()),
    ("unlink", always()),
    ("unsubscribe", none(SUBSCRIBES)),
    ("watch", own(WATCHES)),
    ("xack", always()),
    ("xdel", always()),
    ("xgroup|createconsumer", always()),
    ("xgroup|destroy", always()),
    ("xgroup|help", observes()),
    ("xgroup|setid", always()),
    ("xinfo|help", observes()),
    ("xsetid", always()),
    // About a length or an identifier, exact or not, what is trimmed stays trimmed.
    ("xtrim", always()),
    ("zadd", without(&["NX", "INCR"])),
    ("zdiffstore", repeat_if(stored_elsewhere)),
    ("zinterstore", repeat_if(stored_elsewhere)),
    ("zrangestore", repeat_if(stored_elsewhere)),
    ("zrem", always()),
    ("zremrangebylex", always()),
    ("zremrangebyscore", always()),
    ("zunionstore", repeat_if(stored_elsewhere)),
];

impl Rule {
    /// What holds for a command without a rule.
    pub(super) const fn none() -> Self {
        Self { observes: false, repeat: Repeat::Never, scope: Scope::Any, key_specs: &[] }
    }
}

const fn observes() -> Rule {
    Rule { observes: true, ..Rule::none() }
}

const fn always() -> Rule {
    Rule { repeat: Repeat::Always, ..Rule::none() }
}

const fn without(words: &'static [&'static str]) -> Rule {
    Rule { repeat: Repeat::Without(words), ..Rule::none() }
}

const fn repeat_if(holds: for<'i, 'a> fn(Rest<'i, 'a>) -> bool) -> Rule {
    Rule { repeat: Repeat::If(holds), ..Rule::none() }
}

const fn own(reason: &'static str) -> Rule {
    Rule { scope: Scope::Own(reason), ..Rule::none() }
}

const fn none(reason: &'static str) -> Rule {
    Rule { scope: Scope::None(reason), ..Rule::none() }
}

impl Repeat {
    pub(super) fn allows<'a>(self, mut args: Rest<'_, 'a>) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Without(words) => !Iterator::any(&mut args, |arg| is_one_of(arg, words)),
            Self::If(holds) => holds(args),
        }
    }
}

impl std::fmt::Debug for Repeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::Always => "Always",
            Self::Without(_) => "Without",
            Self::If(_) => "If",
        })
    }
}

pub(super) fn is_one_of(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

fn replaces<'a>(mut args: Rest<'_, 'a>) -> bool {
    Iterator::any(&mut args, |arg| arg.eq_ignore_ascii_case(b"REPLACE"))
}

/// Whether the destination, which comes first, is none of the sources. That an option is taken for a source, or a source
/// for an option, only errs on the safe side.
fn stored_elsewhere<'a>(mut args: Rest<'_, 'a>) -> bool {
    let destination = args.next();
    Iterator::all(&mut args, |arg| Some(arg) != destination)
}

fn bitop_elsewhere<'a>(args: Rest<'_, 'a>) -> bool {
    args.next();
    stored_elsewhere(args)
}

/// `LREM key 0 element`: all of them.
fn removes_all<'a>(args: Rest<'_, 'a>) -> bool {
    args.nth(1) == Some(b"0")
}

/// `LTRIM` to the first or to the last elements, after which the rest is what it was to be.
fn trims_to_an_end<'a>(args: Rest<'_, 'a>) -> bool {
    let mut number = |at| -> Option<i64> { std::str::from_utf8(args.nth(at)?).ok()?.parse().ok() };
    match (number(1), number(0)) {
        (Some(start), Some(end)) => (start == 0 && end >= 0) || (start < 0 && end == -1),
        _ => false,
    }
}
