//! A message of events is read or refused, and what is read is no more than was there.
#![no_main]
#![allow(dead_code, unused_imports, reason = "what the reader has beside what is fuzzed is for its caller")]

#[path = "../../crates/respire-kvblock/src/events/batch.rs"]
mod batch;
#[path = "../../crates/respire-kvblock/src/block.rs"]
mod block;
#[path = "../../crates/respire-kvblock/src/events/error.rs"]
mod error;
#[path = "../../crates/respire-kvblock/src/events/extra_keys.rs"]
mod extra_keys;
#[path = "../../crates/respire-kvblock/src/events/msgpack.rs"]
mod msgpack;

use batch::{Engine, EventBatch, KvEvent};
use block::BlockHash;

/// In the place of the entries' module, of which the reader needs one function. This one replaces broken characters by other
/// numbers of signs, and as seldom panics.
mod entry {
    pub(crate) fn text_from_bytes(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for engine in [Engine::Vllm, Engine::Sglang] {
        let Ok(batch) = EventBatch::parse(engine, data) else { continue };
        assert!(batch.len() <= data.len());
        for event in batch.events() {
            match event {
                Ok(KvEvent::BlockStored(stored)) => {
                    let read = stored.block_hashes.len() + stored.token_ids.len();
                    let keys = stored.extra_keys.iter().map(|keys| keys.count() + 1);
                    assert!(read + keys.sum::<usize>() <= data.len());
                    assert!(stored.extra_keys == stored.extra_keys.clone());
                    assert!(stored.group.is_none_or(|group| group >= 0));
                }
                Ok(_) => {}
                Err(error) => assert!(error.position() < data.len(), "{error}"),
            }
        }
    }
});
