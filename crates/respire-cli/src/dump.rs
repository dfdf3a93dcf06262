//! The oracle at the end of a replay: everything that the index holds against everything that the
//! pods hold.
//!
//! A server is read raw, key by key, and not through the index: what the index failed to write, or
//! wrote where it never looks, shows. An index in memory can only be asked.

use std::collections::{HashMap, HashSet};

use respire::{Client, Command, Pipeline};
use respire_kvblock::{BlockHash, PodEntry, PodSet};

use crate::fleet::Fleet;
use crate::oracle::Verdict;
use crate::replay::ReplayError;
use crate::store::{Store, StoreError};

/// Keys that the server is asked to visit in one step of a scan.
const SCAN_COUNT: usize = 1000;

/// Compares every (block, pod) pair: a false hit is one that only the index has, a missed block
/// one that only the pod has.
pub(crate) async fn compare(store: &Store, fleet: &Fleet) -> Result<Verdict, ReplayError> {
    let blocks: HashMap<BlockHash, u64> =
        store.written().iter().map(|id| (store.keys().request_key(*id), *id)).collect();
    let claimed = match store.client() {
        Some(client) => server_pairs(client, fleet).await.map_err(ReplayError::Store)?,
        None => index_pairs(store, fleet).await?,
    };

    let mut verdict = Verdict::default();
    for (key, pod) in &claimed {
        let holds = |id: &u64| fleet.pods()[*pod].holds(*id);
        verdict.compare_block(true, blocks.get(key).is_some_and(holds));
    }
    for (number, pod) in fleet.pods().iter().enumerate() {
        for id in pod.blocks() {
            verdict.compare_block(claimed.contains(&(store.keys().request_key(id), number)), true);
        }
    }
    Ok(verdict)
}

/// What the index answers for each single block.
async fn index_pairs(
    store: &Store,
    fleet: &Fleet,
) -> Result<HashSet<(BlockHash, usize)>, ReplayError> {
    let mut pairs = HashSet::new();
    for id in store.written() {
        let key = store.keys().request_key(*id);
        let lookup = store.index().lookup(&[key], &PodSet::all()).await;
        let lookup = lookup.map_err(ReplayError::Index)?;
        let pods = lookup.entries(0).filter_map(|entry| fleet.number(entry));
        pairs.extend(pods.map(|pod| (key, pod)));
    }
    Ok(pairs)
}

/// What stands on the server, under whatever key.
async fn server_pairs(
    client: &Client,
    fleet: &Fleet,
) -> Result<HashSet<(BlockHash, usize)>, StoreError> {
    let mut pairs = HashSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let scan = Command::new("SCAN").arg(&*cursor).args([
            "COUNT",
            &SCAN_COUNT.to_string(),
            "TYPE",
            "hash",
        ]);
        let (next, keys): (String, Vec<Vec<u8>>) =
            client.query(scan).await.map_err(StoreError::Server)?;
        // A key that is no number is nobody's block.
        let keys: Vec<BlockHash> = keys.iter().filter_map(|key| block_hash(key)).collect();
        collect_fields(client, fleet, &keys, &mut pairs).await?;
        if next == "0" {
            return Ok(pairs);
        }
        cursor = next;
    }
}

async fn collect_fields(
    client: &Client,
    fleet: &Fleet,
    keys: &[BlockHash],
    pairs: &mut HashSet<(BlockHash, usize)>,
) -> Result<(), StoreError> {
    let mut pipeline = Pipeline::new();
    for key in keys {
        pipeline.command(&["HKEYS", &key.to_string()]);
    }
    let replies = client.pipeline(pipeline).await.map_err(StoreError::Server)?;
    for (key, reply) in keys.iter().zip(replies) {
        // Another client may have replaced the key since by something else.
        if reply.server_error().is_some_and(|error| error.code() == "WRONGTYPE") {
            continue;
        }
        let fields: Vec<Vec<u8>> = reply.parse().map_err(StoreError::Server)?;
        let entries = fields.iter().filter_map(|field| PodEntry::from_field(field));
        let pods = entries.filter_map(|entry| fleet.number(&entry));
        pairs.extend(pods.map(|pod| (*key, pod)));
    }
    Ok(())
}

fn block_hash(key: &[u8]) -> Option<BlockHash> {
    std::str::from_utf8(key).ok()?.parse().ok()
}
