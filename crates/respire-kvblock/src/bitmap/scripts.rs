//! The scripts. Nothing is written to an index but by them.

use respire::{Command, Script};

use super::registry::Token;

/// The script that may be called on any server; it answers with the registry.
pub(super) fn attest() -> Script {
    let code = ["#!lua flags=allow-oom\n", REGISTRY, include_str!("lua/attest.lua")];
    Script::new(code.concat())
}

/// The scripts of one generation.
///
/// Its name is in their code, so that a server which was never told that it is in this generation does not know their digests.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) nonce: Script,
    /// As `nonce`, for a primary that takes no writes at present. A replica would run it as well.
    pub(super) nonce_while_read_only: Script,
    pub(super) add: Script,
    /// Lets go of what an engine key has too many of.
    pub(super) trim: Script,
    pub(super) evict: Script,
    pub(super) join: Script,
    pub(super) retire: Script,
    pub(super) touch: Script,
    pub(super) leave: Script,
    pub(super) renew: Script,
    pub(super) lapse: Script,
    pub(super) forget: Script,
    pub(super) sweep: Script,
    pub(super) old: Script,
    pub(super) free: Script,
}

const VALUES: &str = include_str!("lua/values.lua");
const FENCE: &str = include_str!("lua/fence.lua");
const MAPPED: &str = include_str!("lua/mapped.lua");
const REGISTRY: &str = include_str!("lua/registry.lua");
const RETIRED: &str = include_str!("lua/retired.lua");
const NONCE: &str = include_str!("lua/nonce.lua");

/// What may need more memory. A server that has none left refuses it as a whole.
const NEEDS_MEMORY: &str = "#!lua";
/// What is needed to free some, or writes next to nothing.
const FREES_MEMORY: &str = "#!lua flags=allow-oom";

impl Scripts {
    pub(super) fn of(generation: Token) -> Self {
        let script = |flags: &str, parts: &[&str]| {
            Script::new(format!("{flags}\n-- {generation}\n{}", parts.concat()))
        };
        Self {
            nonce: script(FREES_MEMORY, &[NONCE]),
            nonce_while_read_only: script("#!lua flags=no-writes,allow-oom", &[NONCE]),
            add: script(NEEDS_MEMORY, &[VALUES, FENCE, MAPPED, include_str!("lua/add.lua")]),
            trim: script(FREES_MEMORY, &[FENCE, MAPPED, include_str!("lua/trim.lua")]),
            evict: script(FREES_MEMORY, &[VALUES, FENCE, include_str!("lua/evict.lua")]),
            join: script(NEEDS_MEMORY, &[REGISTRY, include_str!("lua/join.lua")]),
            retire: script(FREES_MEMORY, &[REGISTRY, include_str!("lua/retire.lua")]),
            touch: script(FREES_MEMORY, &[REGISTRY, include_str!("lua/touch.lua")]),
            leave: script(FREES_MEMORY, &[REGISTRY, include_str!("lua/leave.lua")]),
            renew: script(FREES_MEMORY, &[REGISTRY, include_str!("lua/renew.lua")]),
            lapse: script(FREES_MEMORY, &[REGISTRY, include_str!("lua/lapse.lua")]),
            forget: script(FREES_MEMORY, &[REGISTRY, include_str!("lua/forget.lua")]),
            sweep: script(
                FREES_MEMORY,
                &[VALUES, REGISTRY, RETIRED, include_str!("lua/sweep.lua")],
            ),
            old: script(FREES_MEMORY, &[include_str!("lua/old.lua")]),
            free: script(FREES_MEMORY, &[REGISTRY, RETIRED, include_str!("lua/free.lua")]),
        }
    }

    pub(super) fn all(&self) -> [&Script; 15] {
        [
            &self.nonce,
            &self.nonce_while_read_only,
            &self.add,
            &self.trim,
            &self.evict,
            &self.join,
            &self.retire,
            &self.touch,
            &self.leave,
            &self.renew,
            &self.lapse,
            &self.forget,
            &self.sweep,
            &self.old,
            &self.free,
        ]
    }
}

/// A call by digest. A server that does not know the script is not to be told it, but asked which one it is.
pub(super) fn call(script: &Script, keys: usize) -> Command {
    Command::new("EVALSHA").arg(script.digest()).arg(keys)
}
