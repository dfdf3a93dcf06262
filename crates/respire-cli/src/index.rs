//! Asks and changes an index by hand: what `respire index` does.
//!
//! # Example
//!
//! ```
//! use respire_cli::index;
//! use respire_kvblock::{BlockHash, InMemoryConfig, InMemoryIndex, Index, PodSet};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = InMemoryIndex::new(InMemoryConfig::default())?;
//! let entry = index::parse_entry("10.0.0.1:8000@gpu[group=2]")?;
//! memory.add(None, &[BlockHash(7)], &[entry]).await?;
//! let found = index::lookup(&memory, &[BlockHash(7), BlockHash(8)], &PodSet::all()).await?;
//! assert_eq!(found.to_string(), "7  10.0.0.1:8000@gpu[group=2]\n1 of 2 blocks: 10.0.0.1:8000 1\n");
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;

use respire::{Client, Command, Pipeline};
use respire_kvblock::{BitmapIndex, BlockHash, Index, IndexError, PodEntry, PodSet};
use serde::Serialize;

/// How many keys the server looks at for one page of a scan.
const PAGE: usize = 1024;

/// Reads an entry as it is printed: a pod, `@` and a tier, then `[speculative]` and `[group=N]` where they apply.
///
/// # Errors
///
/// When it is none. The error says what is expected.
pub fn parse_entry(text: &str) -> Result<PodEntry, &'static str> {
    const EXPECTED: &str =
        "expected POD@TIER, and behind it [speculative] and [group=N] if need be";
    let (rest, group) = match text.strip_suffix(']').and_then(|rest| rest.rsplit_once("[group=")) {
        Some((rest, group)) => (rest, Some(group.parse().map_err(|_| EXPECTED)?)),
        None => (text, None),
    };
    let (rest, speculative) = match rest.strip_suffix("[speculative]") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (pod, tier) = rest.rsplit_once('@').ok_or(EXPECTED)?;
    if pod.is_empty() || tier.is_empty() || tier.contains(['[', ']']) {
        return Err(EXPECTED);
    }
    Ok(PodEntry { speculative, group, ..PodEntry::new(pod, tier) })
}

/// What a lookup found. `Display` is one block a line, and then how many blocks each pod holds from the first on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// How many keys were asked for.
    asked: usize,
    /// Whether the walk went as far as there is something to find.
    complete: bool,
    blocks: Vec<Block>,
    /// For each pod how many blocks it holds without a gap.
    pods: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Block {
    key: u64,
    entries: Vec<String>,
}

/// Looks keys up.
///
/// # Errors
///
/// When the index cannot be asked.
pub async fn lookup(
    index: &dyn Index,
    keys: &[BlockHash],
    pods: &PodSet,
) -> Result<Found, IndexError> {
    let found = index.lookup(keys, pods).await?;
    let block = |(key, entries): (BlockHash, respire_kvblock::Entries<'_>)| {
        let mut entries: Vec<String> = entries.map(ToString::to_string).collect();
        entries.sort();
        Block { key: key.0, entries }
    };
    let of_pods = found.prefix_lengths();
    Ok(Found {
        asked: keys.len(),
        complete: found.is_complete(),
        blocks: found.iter().map(block).collect(),
        pods: of_pods.into_iter().map(|(pod, blocks)| (pod.to_owned(), blocks)).collect(),
    })
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for block in &self.blocks {
            writeln!(f, "{}  {}", block.key, block.entries.join(" "))?;
        }
        write!(f, "{} of {} blocks", self.blocks.len(), self.asked)?;
        if !self.complete {
            write!(f, ", not all were asked for in time")?;
        }
        for (number, (pod, blocks)) in self.pods.iter().enumerate() {
            write!(f, "{} {pod} {blocks}", if number == 0 { ":" } else { "," })?;
        }
        writeln!(f)
    }
}

/// What a sweep has done. `Display` is one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Keys of the index that were looked at.
    pub keys: usize,
    /// Blocks out of which pods were taken that are gone.
    pub changed: usize,
    /// Keys of an earlier registry that were removed.
    pub removed: usize,
    /// Columns that can be given out again.
    pub freed: usize,
    /// Pods that are no longer listed.
    pub forgotten: usize,
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, changed, removed, freed, forgotten } = self;
        write!(
            f,
            "{keys} keys: {changed} blocks changed, {removed} keys removed, {freed} columns freed, {forgotten} pods forgotten"
        )
    }
}

/// Sweeps the whole database once.
///
/// # Errors
///
/// When the server cannot be asked or written to.
pub async fn sweep(index: &BitmapIndex) -> Result<Swept, IndexError> {
    let mut swept = Swept::default();
    loop {
        let step = index.sweep(PAGE).await?;
        swept.keys += step.keys;
        swept.changed += step.changed;
        swept.removed += step.removed;
        swept.freed += step.freed;
        swept.forgotten += step.forgotten;
        if step.is_done {
            return Ok(swept);
        }
    }
}

/// Whose names are counted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A hash for each block, a sorted set for each engine key.
    LlmD,
    /// A number of bitmaps, all under one prefix.
    Bitmap,
}

/// What an index on a server consists of. `Display` is one figure a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// The server's name and version.
    pub server: String,
    /// Keys of the index that hold its blocks.
    pub block_keys: u64,
    /// Keys that map engine keys to request keys. In the bitmap layout all keys are counted as one kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_keys: Option<u64>,
    /// Keys that are not the index's.
    pub other_keys: u64,
    /// For each pod how many entries it has, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<BTreeMap<String, u64>>,
    /// What could be better about the server.
    pub findings: Vec<String>,
}

/// Why keys could not be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatError {
    /// The server does not say how it is set up.
    #[error(transparent)]
    Settings(#[from] IndexError),
    /// The server does not list its keys.
    #[error("the keys of the index could not be listed")]
    List(#[from] respire::Error),
}

/// Counts the keys of an index, and with `entries` what its pods have. All names are gone through, in pages; what comes
/// or goes meanwhile may be counted or not.
///
/// # Errors
///
/// When the server cannot be asked.
pub async fn stat(
    client: &Client,
    layout: Layout,
    prefix: &str,
    entries: bool,
) -> Result<Stat, StatError> {
    let report = respire_kvblock::check_server(client).await?;
    let mut stat = Stat {
        server: report.server,
        block_keys: 0,
        engine_keys: (layout == Layout::LlmD).then_some(0),
        other_keys: 0,
        entries: (entries && layout == Layout::LlmD).then(BTreeMap::new),
        findings: report.findings.iter().map(ToString::to_string).collect(),
    };
    let mut cursor: Vec<u8> = b"0".to_vec();
    loop {
        let scan = Command::new("SCAN").arg(&*cursor).arg("COUNT").arg(PAGE);
        let (next, names): (Vec<u8>, Vec<Vec<u8>>) = client.query(scan).await?;
        let mut blocks = Vec::new();
        for name in &names {
            match kind(name, layout, prefix.as_bytes()) {
                Kind::Block => blocks.push(name),
                Kind::Engine => stat.engine_keys = stat.engine_keys.map(|keys| keys + 1),
                Kind::Other => stat.other_keys += 1,
            }
        }
        stat.block_keys += blocks.len() as u64;
        if let Some(entries) = &mut stat.entries {
            count_entries(client, &blocks, entries).await?;
        }
        if next == b"0" {
            return Ok(stat);
        }
        cursor = next;
    }
}

enum Kind {
    Block,
    Engine,
    Other,
}

fn kind(name: &[u8], layout: Layout, prefix: &[u8]) -> Kind {
    let is_number =
        |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| text.parse::<BlockHash>().is_ok());
    match (name.strip_prefix(prefix), layout) {
        (Some(_), Layout::Bitmap) => Kind::Block,
        (Some(name), Layout::LlmD) => match name.strip_prefix(b"engine:") {
            Some(number) if is_number(number) => Kind::Engine,
            None if is_number(name) => Kind::Block,
            _ => Kind::Other,
        },
        (None, _) => Kind::Other,
    }
}

async fn count_entries(
    client: &Client,
    names: &[&Vec<u8>],
    entries: &mut BTreeMap<String, u64>,
) -> Result<(), respire::Error> {
    let mut pipeline = Pipeline::new();
    for name in names {
        pipeline.command(&[b"HKEYS", name.as_slice()]);
    }
    if pipeline.is_empty() {
        return Ok(());
    }
    for reply in client.pipeline(pipeline).await? {
        // What is no hash is not the index's, whatever its name.
        if reply.server_error().is_some_and(|error| error.code() == "WRONGTYPE") {
            continue;
        }
        let fields: Vec<Vec<u8>> = reply.into_result()?.parse()?;
        for entry in fields.iter().filter_map(|field| PodEntry::from_field(field)) {
            *entries.entry(entry.pod_identifier).or_default() += 1;
        }
    }
    Ok(())
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "server       {}", self.server)?;
        match self.engine_keys {
            Some(engine_keys) => {
                writeln!(f, "block keys   {}", self.block_keys)?;
                writeln!(f, "engine keys  {engine_keys}")?;
            }
            None => writeln!(f, "index keys   {}", self.block_keys)?,
        }
        writeln!(f, "other keys   {}", self.other_keys)?;
        for (pod, entries) in self.entries.iter().flatten() {
            writeln!(f, "{pod}  {entries} entries")?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_is_printed() {
        for entry in [
            PodEntry::new("10.0.0.1:8000", "gpu"),
            PodEntry::new("a@b", "cpu").with_speculative(),
            PodEntry::new("[::1]:8000", "gpu").with_group(0),
            PodEntry::new("a", "disk").with_speculative().with_group(-3),
        ] {
            assert_eq!(parse_entry(&entry.to_string()), Ok(entry));
        }
        for text in
            ["", "a", "@gpu", "a@", "a@gpu[group=x]", "a@gpu[speculative", "a@gpu[x]", "a@gpu]"]
        {
            assert!(parse_entry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_told_apart_by_their_names() {
        let kind_of = |name: &str, layout, prefix: &str| match kind(
            name.as_bytes(),
            layout,
            prefix.as_bytes(),
        ) {
            Kind::Block => "block",
            Kind::Engine => "engine",
            Kind::Other => "other",
        };
        assert_eq!(kind_of("42", Layout::LlmD, ""), "block");
        assert_eq!(kind_of("engine:42", Layout::LlmD, ""), "engine");
        assert_eq!(kind_of("engine:~pod", Layout::LlmD, ""), "other");
        assert_eq!(kind_of("session:42", Layout::LlmD, ""), "other");
        assert_eq!(kind_of("42", Layout::LlmD, "a:"), "other");
        assert_eq!(kind_of("a:42", Layout::LlmD, "a:"), "block");
        assert_eq!(kind_of("a:engine:42", Layout::LlmD, "a:"), "engine");
        assert_eq!(kind_of("kvb:r1", Layout::Bitmap, "kvb:"), "block");
        assert_eq!(kind_of("42", Layout::Bitmap, "kvb:"), "other");
    }
}
