//! The oracle at the end of a replay: everything that the index holds against everything that the
//! pods hold.
//!
//! A server is read raw, key by key, and not through the index: what the index failed to write, or
//! wrote where it never looks, shows. An index in memory can only be asked, and bitmaps are by an
//! index that knows nothing but what stands on the server.

use std::collections::{HashMap, HashSet};

use respire::{Client, Command, Pipeline};
use respire_kvblock::{BlockHash, PodEntry, PodSet};

use crate::fleet::Fleet;
use crate::keys::Keys;
use crate::oracle::Verdict;
use crate::replay::ReplayError;
use crate::store::{Store, StoreError};

/// Keys, or fields of a hash, that the server is asked to visit in one step of a scan.
const SCAN_COUNT: usize = 1000;

/// Compares every (block, pod) pair: a false hit is one that only the index has, a missed block
/// one that only the pod has.
pub(crate) async fn compare(store: &Store, fleet: &Fleet) -> Result<Verdict, ReplayError> {
    let blocks: HashMap<BlockHash, u64> =
        store.written().blocks().map(|id| (store.keys().request_key(id), id)).collect();
    let claimed = match store.client() {
        Some(client) => {
            server_pairs(client, store.keys(), fleet).await.map_err(ReplayError::Store)?
        }
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
    let index = store.second_index();
    for id in store.written().blocks() {
        let key = store.keys().request_key(id);
        let lookup = index.lookup(&[key], &PodSet::all()).await;
        let lookup = lookup.map_err(ReplayError::Index)?;
        let pods = lookup.entries(0).filter_map(|entry| fleet.number(entry));
        pairs.extend(pods.map(|pod| (key, pod)));
    }
    Ok(pairs)
}

/// What stands on the server, under whatever key.
async fn server_pairs(
    client: &Client,
    names: &Keys,
    fleet: &Fleet,
) -> Result<HashSet<(BlockHash, usize)>, StoreError> {
    let ours = format!("*{}*", names.pod_prefix());
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
        let keys = keys.iter().filter_map(|key| block_hash(key));
        collect_fields(client, &ours, fleet, keys.collect(), &mut pairs).await?;
        if next == "0" {
            return Ok(pairs);
        }
        cursor = next;
    }
}

/// Scans each hash for the fields that match `ours`: others' hashes may be large, and have none.
async fn collect_fields(
    client: &Client,
    ours: &str,
    fleet: &Fleet,
    keys: Vec<BlockHash>,
    pairs: &mut HashSet<(BlockHash, usize)>,
) -> Result<(), StoreError> {
    let mut scans: Vec<_> = keys.into_iter().map(|key| (key, "0".to_owned())).collect();
    while !scans.is_empty() {
        let mut pipeline = Pipeline::new();
        for (key, cursor) in &scans {
            let scan = Command::new("HSCAN").arg(key.to_string()).arg(&**cursor);
            pipeline.push(scan.args(["MATCH", ours, "COUNT"]).arg(SCAN_COUNT));
        }
        let replies = client.pipeline(pipeline).await.map_err(StoreError::Server)?;
        let mut unfinished = Vec::new();
        for ((key, _), reply) in scans.into_iter().zip(replies) {
            // Another client may have replaced the key since by something else.
            if reply.server_error().is_some_and(|error| error.code() == "WRONGTYPE") {
                continue;
            }
            let (next, members): (String, Vec<Vec<u8>>) =
                reply.parse().map_err(StoreError::Server)?;
            // Fields and their values take turns.
            let fields = members.iter().step_by(2);
            let entries = fields.filter_map(|field| PodEntry::from_field(field));
            pairs.extend(entries.filter_map(|entry| Some((key, fleet.number(&entry)?))));
            if next != "0" {
                unfinished.push((key, next));
            }
        }
        scans = unfinished;
    }
    Ok(())
}

fn block_hash(key: &[u8]) -> Option<BlockHash> {
    std::str::from_utf8(key).ok()?.parse().ok()
}
