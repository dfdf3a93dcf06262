//! The scripts that change several keys as one.

use std::sync::OnceLock;

use respire::{Command, Pipeline, Reply};
use sha1_smol::Sha1;

use super::{ServerIndex, keys::Key};

/// Drops engine keys whose request keys hold nothing any more.
///
/// Keys are declared, and a group is dropped only if the sorted set names just the request keys that were declared: one
/// that another writer has mapped meanwhile keeps the mapping. A hash that exists has a field.
pub(super) static PRUNE: Script = Script::new(
    r"
    -- KEYS: for each group an engine key and then its request keys. ARGV: behind how many bytes of a request key's name
    -- its number starts, and then how many request keys each group has.
    local skip, pruned, at = tonumber(ARGV[1]) + 1, 0, 1
    for group = 2, #ARGV do
        local engine, first, last = KEYS[at], at + 1, at + tonumber(ARGV[group])
        at = last + 1
        local kind = redis.call('TYPE', engine).ok
        local empty = false
        if kind == 'zset' then
            empty = redis.call('ZCARD', engine) == last - first + 1
        elseif kind == 'string' then
            empty = first == last and redis.call('GET', engine) == string.sub(KEYS[first], skip)
        end
        for i = first, last do
            if not empty then break end
            empty = redis.call('TYPE', KEYS[i]).ok ~= 'hash'
                and (kind == 'string'
                    or redis.call('ZSCORE', engine, string.sub(KEYS[i], skip)) ~= false)
        end
        if empty then
            pruned = pruned + redis.call('DEL', engine)
        end
    end
    return pruned
    ",
);

/// Deletes fields from the request keys of engine keys whose mapping is known, and drops the mappings that are done with.
///
/// Keys are declared. A group is touched only if its sorted set names just the request keys that were declared, and the
/// reply says of each of them: -1 for one of another type, else twice the number of fields that were deleted, and one more
/// if the hash is still there. A group whose engine key is not there has an empty reply, and one that is mapped otherwise
/// the reply 0.
pub(super) static EVICT: Script = Script::new(
    r"
    -- KEYS: for each group an engine key and then its request keys. ARGV: behind how many bytes of a request key's name
    -- its number starts, how many fields there are, the fields, and then how many request keys each group has.
    local skip, count = tonumber(ARGV[1]) + 1, tonumber(ARGV[2])
    local fields = {}
    for i = 1, count do fields[i] = ARGV[i + 2] end
    local replies, at = {}, 1
    for group = count + 3, #ARGV do
        local engine, first, last = KEYS[at], at + 1, at + tonumber(ARGV[group])
        at = last + 1
        local size = last - first + 1
        -- One more than there should be, to see that there are no more.
        local members = redis.pcall('ZRANGE', engine, 0, size)
        if members.err and not string.find(members.err, '^WRONGTYPE') then return members end
        local known = #members == size
        if known and size > 1 then
            local declared = {}
            for i = first, last do declared[string.sub(KEYS[i], skip)] = true end
            for _, member in ipairs(members) do known = known and declared[member] end
        elseif known then
            known = members[1] == string.sub(KEYS[first], skip)
        end
        local reply = 0
        if not members.err and #members == 0 then
            reply = {}
        elseif known then
            local empty = true
            reply = {}
            for i = first, last do
                local removed = redis.pcall('HDEL', KEYS[i], unpack(fields))
                if type(removed) == 'number' then
                    local left = redis.call('EXISTS', KEYS[i])
                    empty = empty and left == 0
                    reply[#reply + 1] = 2 * removed + left
                elseif string.find(removed.err, '^WRONGTYPE') then
                    reply[#reply + 1] = -1
                else
                    return removed
                end
            end
            if empty then redis.call('DEL', engine) end
        end
        replies[#replies + 1] = reply
    end
    return replies
    ",
);

/// Takes request keys out of the sets of an entry, where they do not hold it any more.
pub(super) static TIDY: Script = Script::new(
    r"
    -- KEYS: sets and request keys in turn. ARGV: how many spellings the entry has, the spellings, and then for each
    -- request key its name in its set.
    local count = tonumber(ARGV[1])
    local removed = 0
    for i = 1, #KEYS / 2 do
        local held = false
        for j = 2, count + 1 do
            local found = redis.pcall('HEXISTS', KEYS[2 * i], ARGV[j])
            if type(found) == 'table' and not string.find(found.err, '^WRONGTYPE') then
                return found
            end
            held = held or found == 1
        end
        if not held then
            removed = removed + redis.call('SREM', KEYS[2 * i - 1], ARGV[count + 1 + i])
        end
    end
    return removed
    ",
);

/// Forgets that a pod ever had an entry, if none of the sets is left that name its request keys.
pub(super) static DROP_FIELD: Script = Script::new(
    r"
    -- KEYS[1]: the set of the pod's entries, and then the sets of request keys. ARGV[1]: the entry.
    for i = 2, #KEYS do
        if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end
    end
    return redis.call('SREM', KEYS[1], ARGV[1])
    ",
);

/// Maps an engine key that may be a string, as it was up to v0.8, and makes it a sorted set.
///
/// The request key that the string names stays mapped, in front of the new ones. Where nothing can be mapped, nothing is
/// changed: 0 for a string of something else, -1 for a key of another type.
pub(super) static MAP: Script = Script::new(
    r"
    -- KEYS[1]: the engine key. ARGV: scores and request keys in turn.
    local engine = KEYS[1]
    local kind = redis.call('TYPE', engine).ok
    if kind == 'string' then
        local old = redis.call('GET', engine)
        if not string.find(old, '^%d+$') then return 0 end
        redis.call('DEL', engine)
        redis.call('ZADD', engine, -1, old)
    elseif kind ~= 'zset' and kind ~= 'none' then
        return -1
    end
    for i = 1, #ARGV, 2 do
        redis.call('ZADD', engine, ARGV[i], ARGV[i + 1])
    end
    return 1
    ",
);

/// A script, and the name under which a server remembers it.
pub(super) struct Script {
    source: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    const fn new(source: &'static str) -> Self {
        Self { source, digest: OnceLock::new() }
    }

    fn digest(&self) -> &str {
        self.digest.get_or_init(|| Sha1::from(self.source).digest().to_string())
    }
}

/// A call of a script.
pub(super) struct Call {
    script: &'static Script,
    pub(super) keys: Vec<Key>,
    pub(super) args: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn new(script: &'static Script) -> Self {
        Self { script, keys: Vec::new(), args: Vec::new() }
    }

    /// The call by the script's name, which a server that has not met the script refuses.
    pub(super) fn by_digest(&self) -> Command {
        self.command("EVALSHA", self.script.digest())
    }

    /// The call with the script itself, which the server remembers from then on.
    fn by_source(&self) -> Command {
        self.command("EVAL", self.script.source)
    }

    fn command(&self, name: &str, script: &str) -> Command {
        Command::new(name)
            .arg(script)
            .arg(self.keys.len())
            .args(self.keys.iter().map(AsRef::as_ref))
            .args(&self.args)
    }
}

/// Runs the first call whose script the server does not know, and all behind it, with the scripts themselves, and puts the
/// new replies in the place of the old ones.
///
/// What stands behind it did run if its own script was known, and too early: it looks at what the first one does. Nothing of
/// it does harm when it is run again.
pub(super) async fn rerun_unknown(
    index: &ServerIndex,
    calls: &[Call],
    replies: &mut [Reply],
) -> Result<(), respire::Error> {
    let is_unknown =
        |reply: &Reply| reply.server_error().is_some_and(|error| error.code() == "NOSCRIPT");
    let Some(first) = replies.iter().position(is_unknown) else { return Ok(()) };
    let mut pipeline = Pipeline::new();
    for call in calls.iter().skip(first) {
        pipeline.push(call.by_source());
    }
    for (reply, again) in replies.iter_mut().skip(first).zip(index.pipeline(pipeline).await?) {
        *reply = again;
    }
    Ok(())
}
