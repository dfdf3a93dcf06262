//! What a block costs on the server.

use std::fmt;

use anyhow::{Context, Result};
use redis::Connection;
use respire_kvblock::{BlockHash, Index, PodEntry, ServerIndex};

use super::fleet::{Fleet, mixed};
use super::server::{self, Server};

/// Databases that nothing else is in.
const LLM_D: u32 = 30;
const BITMAP: u32 = 31;

/// What the names of keys begin with in the bitmap layout.
const PREFIX: &str = "kvb:";

/// What the value of a block begins with that is a list.
const LIST: u8 = 1;

/// Pods of which each has an entry, and so a column: a fleet of today, and fleets for which a bitmap alone would be too much.
pub const COLUMNS: [usize; 3] = [128, 1_024, 20_000];

/// Holders that are measured, beside all.
const SOME: [usize; 2] = [1, 10];

/// Blocks that the memory is the mean of, at most.
const BLOCKS: usize = 256;

/// Holders of all blocks together, at most: each costs some hundred bytes in llm-d's layout.
const PAIRS: usize = 200_000;

/// Pods that are registered by one call.
const BATCH: usize = 512;

/// Bytes for each block, as the server accounts for its keys.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// How many columns there are.
    pub columns: usize,
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
    /// The value of the request key in the bitmap layout, by itself.
    pub value: f64,
    /// In which form that is.
    pub form: Form,
}

/// The forms of a block's value in the bitmap layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A bit for each column.
    Bitmap,
    /// Two bytes for each holder.
    List,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bitmap => "bitmap",
            Self::List => "list",
        })
    }
}

/// Measures.
///
/// # Errors
///
/// When the server refuses.
pub async fn measure(server: &Server) -> Result<Vec<Memory>> {
    let mut found = Vec::new();
    for columns in COLUMNS {
        for holders in SOME.into_iter().chain([columns]) {
            found.push(measure_one(server, columns, holders).await?);
        }
    }
    Ok(found)
}

/// In databases that are empty before and after.
async fn measure_one(server: &Server, columns: usize, holders: usize) -> Result<Memory> {
    for database in [LLM_D, BITMAP] {
        flush(server, database)?;
    }
    let llm_d = ServerIndex::new(server::patient(&server.url(LLM_D, false)).await?);
    let bitmap = server::bitmap(server::patient(&server.url(BITMAP, false)).await?, PREFIX);
    let fleet = Fleet { pods: columns, entries: columns };
    let pods: Vec<PodEntry> = (0..columns).map(|pod| fleet.entry(pod)).collect();
    for pods in pods.chunks(BATCH) {
        bitmap.add(None, &[BlockHash(mixed(1 << 57))], pods).await?;
    }
    let before = sizes(server, BITMAP)?;
    // Spread over the fleet, so that neither the first columns nor the last are favoured.
    let held: Vec<PodEntry> =
        pods.iter().step_by(columns / holders).take(holders).cloned().collect();
    let blocks = (PAIRS / holders).clamp(1, BLOCKS);
    let keys: Vec<BlockHash> =
        (0..blocks as u64).map(|block| BlockHash(mixed(1 << 56 | block))).collect();
    let engine: Vec<BlockHash> = keys.iter().map(|key| BlockHash(!key.0)).collect();
    for held in held.chunks(BATCH) {
        llm_d.add(Some(&engine), &keys, held).await?;
        bitmap.add(Some(&engine), &keys, held).await?;
    }
    let (hashes, after) = (sizes(server, LLM_D)?, sizes(server, BITMAP)?);
    for database in [LLM_D, BITMAP] {
        flush(server, database)?;
    }
    let each = |bytes: u64| bytes as f64 / blocks as f64;
    Ok(Memory {
        columns,
        holders,
        llm_d: each(hashes.request),
        bitmap: each(after.request - before.request),
        llm_d_engine: each(hashes.engine),
        bitmap_engine: each(after.engine - before.engine),
        value: each(after.values - before.values),
        form: if after.lists > before.lists { Form::List } else { Form::Bitmap },
    })
}

fn flush(server: &Server, database: u32) -> Result<()> {
    let mut connection = connect(server, database)?;
    Ok(redis::cmd("FLUSHDB").query(&mut connection)?)
}

fn connect(server: &Server, database: u32) -> Result<Connection> {
    Ok(redis::Client::open(server.url(database, false))?.get_connection()?)
}

/// Bytes of all keys of a database.
#[derive(Default)]
struct Sizes {
    request: u64,
    engine: u64,
    /// The values of request keys alone, where they are bitmaps or lists.
    values: u64,
    /// How many of those are lists.
    lists: usize,
}

/// Asks for the size of every single key, without sampling. What belongs to neither kind, such as a registry, is left out.
fn sizes(server: &Server, database: u32) -> Result<Sizes> {
    let mut connection = connect(server, database)?;
    let mut sizes = Sizes::default();
    for key in redis::cmd("KEYS").arg("*").query::<Vec<Vec<u8>>>(&mut connection)? {
        let size = size(&mut connection, &key)?;
        match key.strip_prefix(PREFIX.as_bytes()).and_then(|rest| rest.first()) {
            Some(b'b') => {
                sizes.request += size;
                let value: Vec<u8> = redis::cmd("GET").arg(&key).query(&mut connection)?;
                sizes.values += value.len() as u64;
                sizes.lists += usize::from(value.first() == Some(&LIST));
            }
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
