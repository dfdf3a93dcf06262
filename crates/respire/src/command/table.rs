//! What servers say about their commands, and finding it by name.

use super::{
    keys::*,
    rules::{RULES, Rule, Scope},
};

#[rustfmt::skip]
mod entries;

/// What is known about a command or a subcommand, whatever its arguments.
///
/// The table is made of what a valkey-server 8.0 and a redis-server 7.0 answer to `COMMAND`, and of a few rules of our own
/// for what `COMMAND` does not tell. A command of a newer server or of a module is not in it.
///
/// ```
/// use respire::CommandInfo;
///
/// let get = CommandInfo::of("get", None).expect("every server knows it");
/// assert!(get.is_read_only() && !get.is_write() && !get.may_block());
/// let id = CommandInfo::of("CLIENT", Some(b"id")).expect("every server knows it");
/// assert_eq!(id.name(), "client|id");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CommandInfo {
    name: &'static str,
    arity: i8,
    flags: u32,
    key_specs: &'static [KeySpec],
    servers: u8,
    pub(super) rule: Rule,
}

impl CommandInfo {
    /// What is known about the command `name`, in letters of any case; about its subcommand, if it has any and one is named.
    /// `None` for a command that neither server knows.
    ///
    /// A second word that is no subcommand does not matter, as in `CommandInfo::of("GET", Some(b"key"))`.
    pub fn of(name: impl AsRef<[u8]>, second: Option<&[u8]>) -> Option<&'static Self> {
        Self::of_words(name.as_ref(), || second)
    }

    /// As [`of`](Self::of), where the second word is looked for only if it matters.
    pub(super) fn of_words<'a>(
        name: &[u8],
        second: impl FnOnce() -> Option<&'a [u8]>,
    ) -> Option<&'static Self> {
        let command = find(name, None)?;
        if !command.has_subcommands() {
            return Some(command);
        }
        Some(second().and_then(|second| find(name, Some(second))).unwrap_or(command))
    }

    /// All commands and subcommands, by name.
    pub fn all() -> impl ExactSizeIterator<Item = &'static Self> {
        TABLE.iter()
    }

    /// The name in small letters, a subcommand's behind a bar: `get`, `client|id`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The number of words, the name included; negative where it is the least number.
    pub fn arity(&self) -> i32 {
        self.arity.into()
    }

    /// Whether it only reads: keys, or what the server says of itself. Sending it twice changes nothing.
    ///
    /// `false` for what may write by its arguments, such as `SORT`, or by the script it names.
    pub fn is_read_only(&self) -> bool {
        self.has(READ_ONLY) || self.rule.observes
    }

    /// Whether it writes keys or functions, or may, by its arguments; scripts and functions called by name are not known to.
    pub fn is_write(&self) -> bool {
        self.has(WRITE)
    }

    /// Whether it may make its connection wait; [`Command::blocking`](super::Command::blocking) tells whether one does.
    pub fn may_block(&self) -> bool {
        self.has(BLOCKING)
    }

    /// Whether it has to do with pub/sub.
    pub fn is_pub_sub(&self) -> bool {
        self.has(PUB_SUB)
    }

    /// Whether it is one of the administrator's.
    pub fn is_admin(&self) -> bool {
        self.has(ADMIN)
    }

    /// Whether servers call it fast: constant or logarithmic time.
    pub fn is_fast(&self) -> bool {
        self.has(FAST)
    }

    /// Whether a server that is out of memory refuses it.
    pub fn is_denied_out_of_memory(&self) -> bool {
        self.has(DENY_OOM)
    }

    /// Whether scripts must not call it.
    pub fn is_denied_in_scripts(&self) -> bool {
        self.has(NO_SCRIPT)
    }

    /// Whether it must not stand in a transaction.
    pub fn is_denied_in_transactions(&self) -> bool {
        self.has(NO_MULTI)
    }

    /// Whether it may be replicated although it is no write, as scripts and `PUBLISH` are.
    pub fn may_replicate(&self) -> bool {
        self.has(MAY_REPLICATE)
    }

    /// Whether where its keys are depends on the arguments.
    pub fn has_movable_keys(&self) -> bool {
        self.has(MOVABLE_KEYS)
    }

    /// Whether its second word chooses a subcommand.
    pub fn has_subcommands(&self) -> bool {
        self.has(CONTAINER)
    }

    /// Whether a valkey-server 8.0 knows it.
    pub fn is_in_valkey_8_0(&self) -> bool {
        self.servers & VALKEY != 0
    }

    /// Whether a redis-server 7.0 knows it.
    pub fn is_in_redis_7_0(&self) -> bool {
        self.servers & REDIS != 0
    }

    /// Whether any connection may carry it, whatever its arguments and what came before it: of nearly all commands, and
    /// known without a further look.
    pub(super) fn is_plain(&self) -> bool {
        self.has(PLAIN)
    }

    /// Whether this is the word that the command is called by; of a subcommand, no single word is.
    pub(super) fn has_name(&self, word: &[u8]) -> bool {
        is_named(self, word, None)
    }

    /// Where its keys are.
    pub(super) fn key_specs(&self) -> &'static [KeySpec] {
        if self.rule.key_specs.is_empty() { self.key_specs } else { self.rule.key_specs }
    }

    const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

// The flags of COMMAND that a client can use. A flag on which the servers differ is set if either sets it, but for
// READ_ONLY and FAST, which both must.
const READ_ONLY: u32 = 1 << 0;
const WRITE: u32 = 1 << 1;
const BLOCKING: u32 = 1 << 2;
const NO_SCRIPT: u32 = 1 << 3;
const PUB_SUB: u32 = 1 << 4;
const MAY_REPLICATE: u32 = 1 << 5;
const MOVABLE_KEYS: u32 = 1 << 6;
const NO_MULTI: u32 = 1 << 7;
const ADMIN: u32 = 1 << 8;
const FAST: u32 = 1 << 9;
const DENY_OOM: u32 = 1 << 10;
/// It has subcommands.
const CONTAINER: u32 = 1 << 11;
/// Any connection may carry it, whatever its arguments and what came before it.
const PLAIN: u32 = 1 << 12;

const VALKEY: u8 = 1;
const REDIS: u8 = 2;
const BOTH: u8 = VALKEY | REDIS;

/// A line of the generated table.
#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    arity: i8,
    flags: u32,
    key_specs: &'static [KeySpec],
    servers: u8,
}

const fn entry(
    name: &'static str,
    arity: i8,
    flags: u32,
    key_specs: &'static [KeySpec],
    servers: u8,
) -> Entry {
    Entry { name, arity, flags, key_specs, servers }
}

const COUNT: usize = entries::ENTRIES.len();

static TABLE: [CommandInfo; COUNT] = join();

/// The table with our rules. Both are in the order of names; a rule for a command that does not exist does not compile.
const fn join() -> [CommandInfo; COUNT] {
    let mut table = [CommandInfo {
        name: "",
        arity: 0,
        flags: 0,
        key_specs: &[],
        servers: 0,
        rule: Rule::none(),
    }; COUNT];
    let (mut at, mut next_rule) = (0, 0);
    while at < COUNT {
        let Entry { name, arity, flags, key_specs, servers } = entries::ENTRIES[at];
        let mut rule = Rule::none();
        if next_rule < RULES.len() && same(RULES[next_rule].0, name) {
            rule = RULES[next_rule].1;
            next_rule += 1;
        }
        let is_plain = matches!(rule.scope, Scope::Any)
            && flags & BLOCKING == 0
            && !(same(name, "multi") || same(name, "exec") || same(name, "discard"));
        let flags = if is_plain { flags | PLAIN } else { flags };
        table[at] = CommandInfo { name, arity, flags, key_specs, servers, rule };
        at += 1;
    }
    assert!(next_rule == RULES.len(), "a rule is out of order or for a command that is not there");
    table
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A power of two, and more than twice the number of names, so that most are found at the first look.
const SLOTS: usize = 1024;
const EMPTY: u16 = u16::MAX;
const _: () = assert!(COUNT * 2 < SLOTS);

/// Where in the table the names with each hash are, those that collide in the next free slots.
static INDEX: [u16; SLOTS] = index();

const fn index() -> [u16; SLOTS] {
    let mut index = [EMPTY; SLOTS];
    let mut at = 0;
    while at < COUNT {
        let name = entries::ENTRIES[at].name.as_bytes();
        let mut slot = hash(SEED, name) as usize % SLOTS;
        while index[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = at as u16;
        at += 1;
    }
    index
}

/// FNV-1a, over letters of either case alike. Names come from the caller, and one that collides costs a few comparisons.
const SEED: u32 = 0x811c_9dc5;

const fn hash(mut hash: u32, bytes: &[u8]) -> u32 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ (bytes[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

fn find(name: &[u8], subcommand: Option<&[u8]>) -> Option<&'static CommandInfo> {
    let mut hashed = hash(SEED, name);
    if let Some(subcommand) = subcommand {
        hashed = hash(hash(hashed, b"|"), subcommand);
    }
    let mut slot = hashed as usize % SLOTS;
    // Ends, because the index is never full.
    while INDEX[slot] != EMPTY {
        let info = &TABLE[usize::from(INDEX[slot])];
        if is_named(info, name, subcommand) {
            return Some(info);
        }
        slot = (slot + 1) % SLOTS;
    }
    None
}

fn is_named(info: &CommandInfo, name: &[u8], subcommand: Option<&[u8]>) -> bool {
    let full = info.name.as_bytes();
    let Some(subcommand) = subcommand else { return full.eq_ignore_ascii_case(name) };
    full.len() == name.len() + 1 + subcommand.len()
        && full[..name.len()].eq_ignore_ascii_case(name)
        && full[name.len()] == b'|'
        && full[name.len() + 1..].eq_ignore_ascii_case(subcommand)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_letters_of_any_case() {
        for info in CommandInfo::all() {
            for name in [info.name.to_owned(), info.name.to_uppercase()] {
                let (name, second) = match name.split_once('|') {
                    Some((name, second)) => (name, Some(second.as_bytes())),
                    None => (&name[..], None),
                };
                let found = CommandInfo::of(name, second).map(CommandInfo::name);
                assert_eq!(found, Some(info.name));
            }
        }
    }

    #[test]
    fn what_is_no_name_is_not_found() {
        for name in ["", "g", "gett", "client|id", "GET\0", "Z", "\u{17f}et", "0ET"] {
            let found = CommandInfo::of(name, None).map(CommandInfo::name);
            assert_eq!(found, (name == "client|id").then_some("client|id"), "{name}");
        }
        let found = |second| CommandInfo::of("client", second).map(CommandInfo::name);
        assert_eq!(found(None), Some("client"));
        assert_eq!(found(Some(b"nonsense")), Some("client"));
        let get = CommandInfo::of("GET", Some(b"key")).map(CommandInfo::name);
        assert_eq!(get, Some("get"));
    }

    #[test]
    fn names_are_in_order_and_stand_once() {
        let names: Vec<_> = CommandInfo::all().map(CommandInfo::name).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        assert!(names.len() > 350, "{}", names.len());
    }
}
