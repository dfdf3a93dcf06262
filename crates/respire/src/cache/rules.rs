//! What may be cached, and under which name.

use bytes::{BufMut, Bytes};

use crate::command::{Command, View};

/// Commands whose reply depends on one key alone, and on nothing else: not on the time, not on chance, not on other keys.
/// In alphabetical order.
const CACHEABLE: &[&str] = &[
    "bitcount",
    "bitfield_ro",
    "bitpos",
    "exists",
    "expiretime",
    "geodist",
    "geohash",
    "geopos",
    "georadius_ro",
    "georadiusbymember_ro",
    "geosearch",
    "get",
    "getbit",
    "getrange",
    "hexists",
    "hget",
    "hgetall",
    "hkeys",
    "hlen",
    "hmget",
    "hstrlen",
    "hvals",
    "lindex",
    "llen",
    "lpos",
    "lrange",
    "pexpiretime",
    "scard",
    "sismember",
    "smembers",
    "smismember",
    "strlen",
    "substr",
    "type",
    "xlen",
    "xrange",
    "xrevrange",
    "zcard",
    "zcount",
    "zlexcount",
    "zmscore",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrank",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zrevrank",
    "zscore",
];

/// The key of a command that may be cached.
pub(super) fn cacheable_key(command: &Command) -> Option<Bytes> {
    CACHEABLE.binary_search(&command.info()?.name()).ok()?;
    let mut keys = command.keys();
    let key = keys.next()?;
    keys.next().is_none().then(|| Bytes::copy_from_slice(key))
}

/// The keys of a command that can be answered by one `GET` for each.
pub(super) fn keys_of_mget(command: &Command) -> Option<Vec<Bytes>> {
    (command.info()?.name() == "mget").then(|| command.keys().map(Bytes::copy_from_slice).collect())
}

/// What tells commands on one key apart: their words, of which the first in capitals.
pub(super) fn identity(command: &Command) -> Bytes {
    let mut identity = Vec::new();
    for (at, word) in command.words().enumerate() {
        // No two lists of words have the same bytes: each word has its length in front.
        identity.put_u64(word.len() as u64);
        let start = identity.len();
        identity.put_slice(word);
        if at == 0 {
            identity[start..].make_ascii_uppercase();
        }
    }
    identity.into()
}

/// What a command that was carried out may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changes {
    Nothing,
    Keys(Vec<Bytes>),
    Everything,
}

/// What a command may change. Of one that is not known, each argument may be a key. What a script or a function changes
/// beside the keys that it is given is for the server to say.
pub(super) fn changes(command: &View<'_>) -> Changes {
    let Some(info) = command.info() else {
        return Changes::Keys(command.words().skip(1).map(Bytes::copy_from_slice).collect());
    };
    match info.name() {
        "flushall" | "flushdb" | "swapdb" => Changes::Everything,
        _ if info.is_read_only() => Changes::Nothing,
        _ => Changes::Keys(command.keys(false).map(Bytes::copy_from_slice).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::CommandInfo;

    fn command(words: &str) -> Command {
        let mut words = words.split(' ');
        Command::new(words.next().unwrap()).args(words)
    }

    fn changes_of(words: &str) -> Changes {
        changes(&command(words).view())
    }

    fn keys(names: &[&'static str]) -> Vec<Bytes> {
        names.iter().map(|name| Bytes::from(*name)).collect()
    }

    #[test]
    fn what_is_cached_is_known_and_only_reads() {
        assert!(CACHEABLE.is_sorted());
        for name in CACHEABLE {
            let info = CommandInfo::of(name, None).unwrap_or_else(|| panic!("{name} is not known"));
            assert!(info.is_read_only(), "{name}");
        }
    }

    #[test]
    fn a_command_is_cached_by_its_only_key() {
        for (words, key) in [
            ("GET k", Some("k")),
            ("get k", Some("k")),
            ("HGET h f", Some("h")),
            ("ZRANGE z 0 -1 WITHSCORES", Some("z")),
            ("EXISTS k", Some("k")),
            ("EXISTS k l", None),
            ("MGET k", None),
            ("TTL k", None),
            ("SRANDMEMBER s", None),
            ("SET k v", None),
            ("GETDEL k", None),
            ("GET", None),
            ("SORT_RO k BY w_*", None),
            ("UNHEARD.OF k", None),
        ] {
            assert_eq!(
                cacheable_key(&command(words)).as_deref(),
                key.map(str::as_bytes),
                "{words}"
            );
        }
    }

    #[test]
    fn words_that_differ_are_told_apart() {
        let texts = ["HGET h f", "HGET hf ", "HGET h f g", "HMGET h f", "HGET h F", "HGET H f"];
        for (at, text) in texts.iter().enumerate() {
            for other in &texts[..at] {
                assert_ne!(identity(&command(text)), identity(&command(other)), "{text} {other}");
            }
        }
        assert_eq!(identity(&command("hGet h f")), identity(&command("HGET h f")));
    }

    #[test]
    fn what_may_have_changed_is_never_less_than_what_has() {
        assert_eq!(changes_of("GET k"), Changes::Nothing);
        assert_eq!(changes_of("SET k v"), Changes::Keys(keys(&["k"])));
        assert_eq!(changes_of("MSET k 1 l 2"), Changes::Keys(keys(&["k", "l"])));
        assert_eq!(changes_of("RENAME k l"), Changes::Keys(keys(&["k", "l"])));
        assert_eq!(changes_of("EVAL script 1 k x"), Changes::Keys(keys(&["k"])));
        assert_eq!(changes_of("UNHEARD.OF a b"), Changes::Keys(keys(&["a", "b"])));
        assert_eq!(changes_of("flushall ASYNC"), Changes::Everything);
    }
}
