//! A message of events is read or refused, and what is read is no more than was there.
#![no_main]

use respire_kvblock::events::{Engine, EventBatch, KvEvent};

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
