//! What an index in memory with a budget takes, by what its allocator is asked for.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use respire_kvblock::{BlockHash, CostAwareConfig, InMemoryIndex, Index, KeyType, PodEntry};

const BUDGET: u64 = 8 << 20;

/// Adds blocks of so many holders and engine keys each, many more than there is room for, and drops some.
fn fill(index: &InMemoryIndex, holders: u64, engine_keys: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let entries: Vec<PodEntry> =
            (0..holders).map(|pod| PodEntry::new(format!("10.0.0.{pod}:8000"), "gpu")).collect();
        let mut added = 0;
        // Every block takes more than a hundred bytes.
        while added < BUDGET / 100 {
            let request: Vec<_> = (added..added + 64).map(BlockHash).collect();
            let first = added * engine_keys;
            let engine: Vec<_> = (first..first + 64 * engine_keys).map(BlockHash).collect();
            index.add(Some(&engine), &request, &entries).await.unwrap();
            index.evict(&engine[..1], KeyType::Engine, &entries[..1]).await.unwrap();
            added += 64;
        }
    });
}

#[test]
fn an_index_takes_its_budget_and_no_more() {
    for (holders, engine_keys) in [(1, 1), (10, 1), (40, 1), (1, 4)] {
        let index = InMemoryIndex::with_budget(CostAwareConfig { size_bytes: BUDGET }).unwrap();
        let measured = allocation_counter::measure(|| fill(&index, holders, engine_keys));
        let taken = u64::try_from(measured.bytes_current).unwrap();
        let case = format!("{holders} holders, {engine_keys} engine keys: {taken} of {BUDGET}");
        assert!(taken <= BUDGET, "{case}");
        assert!(taken > BUDGET / 2, "{case}");
        assert!(index.used_bytes() > BUDGET - BUDGET / 100, "{case}: {}", index.used_bytes());
    }
}
