//! What a block costs on the server.

use anyhow::{Context, Result};
use redis::Connection;
use respire_kvblock::{BlockHash, Index, PodEntry, ServerIndex};

use super::fleet::{Fleet, mixed};
use super::server::{self, Server};

/// Databases that nothing else is in.
const LLM_D: u32 = 30;
const BITMAP: u32 = 31;

/// Pods of which each has an entry, and so a column.
pub const COLUMNS: usize = 128;

/// Holders that are measured: one, some, all.
pub const HOLDERS: [usize; 3] = [1, 10, COLUMNS];

/// Blocks that the memory is the mean of.
const BLOCKS: usize = 256;

/// Bytes for each block, as the server accounts for its keys.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Who hold the block.
    pub holders: usize,
    /// The request key, in llm-d's layout.
    pub llm_d: f64,
    /// The request key, in the bitmap layout.
    pub bitmap: f64,
    /// The engine key, in llm-d's layout.
    pub llm_d_engine: f64,
    /// The engine key, in the bitmap layout.
    pub bitmap_engine: f64,
}

/// Measures.
///
/// # Errors
///
/// When the server refuses.
pub async fn measure(server: &Server) -> Result<Vec<Memory>> {
    let fleet = Fleet { pods: COLUMNS, entries: COLUMNS };
    let llm_d = ServerIndex::new(server::patient(&server.url(LLM_D, false)).await?);
    let bitmap = server::bitmap(server::patient(&server.url(BITMAP, false)).await?, "kvb:");
    let pods: Vec<PodEntry> = (0..COLUMNS).map(|pod| fleet.entry(pod)).collect();
    let registered = BlockHash(mixed(1 << 57));
    bitmap.add(None, &[registered], &pods).await?;
    let mut found = Vec::new();
    for holders in HOLDERS {
        // Spread over the fleet, so that neither the first columns nor the last are favoured.
        let step = COLUMNS / holders;
        let held: Vec<PodEntry> = pods.iter().step_by(step).take(holders).cloned().collect();
        let number = |block: u64| BlockHash(mixed(1 << 56 | (holders as u64) << 32 | block));
        let keys: Vec<BlockHash> = (0..BLOCKS as u64).map(number).collect();
        let engine: Vec<BlockHash> = keys.iter().map(|key| BlockHash(!key.0)).collect();
        let before = [sizes(server, LLM_D)?, sizes(server, BITMAP)?];
        llm_d.add(Some(&engine), &keys, &held).await?;
        bitmap.add(Some(&engine), &keys, &held).await?;
        let after = [sizes(server, LLM_D)?, sizes(server, BITMAP)?];
        let each = |after: u64, before: u64| (after - before) as f64 / BLOCKS as f64;
        found.push(Memory {
            holders,
            llm_d: each(after[0].request, before[0].request),
            bitmap: each(after[1].request, before[1].request),
            llm_d_engine: each(after[0].engine, before[0].engine),
            bitmap_engine: each(after[1].engine, before[1].engine),
        });
    }
    Ok(found)
}

/// Bytes of all keys of a database.
struct Sizes {
    request: u64,
    engine: u64,
}

/// Asks for the size of every single key, without sampling. What belongs to neither kind, such as a registry, is left out.
fn sizes(server: &Server, database: u32) -> Result<Sizes> {
    let mut connection = redis::Client::open(server.url(database, false))?.get_connection()?;
    let mut sizes = Sizes { request: 0, engine: 0 };
    for key in redis::cmd("KEYS").arg("*").query::<Vec<Vec<u8>>>(&mut connection)? {
        let size = size(&mut connection, &key)?;
        match key.strip_prefix(b"kvb:").and_then(|rest| rest.first()) {
            Some(b'b') => sizes.request += size,
            Some(b'e') => sizes.engine += size,
            Some(_) => {}
            None if key.iter().all(u8::is_ascii_digit) => sizes.request += size,
            None => sizes.engine += size,
        }
    }
    Ok(sizes)
}

fn size(connection: &mut Connection, key: &[u8]) -> Result<u64> {
    let mut usage = redis::cmd("MEMORY");
    usage.arg("USAGE").arg(key).arg("SAMPLES").arg(0);
    usage.query::<Option<u64>>(connection)?.context("a key has gone")
}
