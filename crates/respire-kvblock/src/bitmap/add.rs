//! Add: columns into blocks, and mappings, in one script a few hundred blocks.

use hashbrown::HashSet;
use respire::{Command, Reply, Value};

use super::{
    BitmapIndex, Kind,
    keys::Name,
    write::{BLOCKS_PER_SCRIPT, ENTRIES_PER_WRITE, Job, Purpose, Target, Verdict},
};
use crate::{BlockHash, IndexError, PodEntry, mapping::mappings};

/// The blocks of one script, each once, and what is mapped to them.
#[derive(Clone, Default)]
struct AddJob {
    blocks: Vec<BlockHash>,
    met: HashSet<BlockHash>,
    mapped: Vec<(BlockHash, Vec<BlockHash>)>,
    /// Whether an engine key has too many request keys by now.
    is_too_long: bool,
}

/// Engine keys that may have too many request keys.
struct TrimJob<'a> {
    engine_keys: Vec<BlockHash>,
    /// What they were mapped to among others, and stays.
    request_keys: &'a [BlockHash],
}

impl BitmapIndex {
    pub(super) async fn add_and_map(
        &self,
        engine_keys: &[BlockHash],
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        let jobs = jobs(engine_keys, request_keys);
        for entries in entries.chunks(ENTRIES_PER_WRITE) {
            let done = self.write(entries, jobs.clone()).await?;
            self.remember(&done);
            let trims = trim_jobs(&done, request_keys);
            if !trims.is_empty() {
                self.write(entries, trims).await?;
            }
        }
        Ok(())
    }

    fn remember(&self, done: &[AddJob]) {
        let Some(epoch) = self.state().registry().map(|registry| registry.epoch) else { return };
        let mut mappings = self.mappings();
        for (engine_key, request_keys) in done.iter().flat_map(|job| &job.mapped) {
            mappings.extend(epoch, *engine_key, request_keys);
        }
    }
}

/// Cuts a call into scripts, so that what an engine key maps to is written together with its mapping.
fn jobs(engine_keys: &[BlockHash], request_keys: &[BlockHash]) -> Vec<AddJob> {
    let mut jobs = vec![AddJob::default()];
    let mut push = |engine_key: Option<BlockHash>, request_key: BlockHash| {
        if jobs.last().is_none_or(AddJob::is_full) {
            jobs.push(AddJob::default());
        }
        if let Some(job) = jobs.last_mut() {
            job.push(engine_key, request_key);
        }
    };
    if engine_keys.is_empty() {
        request_keys.iter().for_each(|&key| push(None, key));
    } else {
        for mapping in mappings(engine_keys, request_keys.len()) {
            for position in mapping.positions() {
                push(Some(mapping.engine_key), request_keys[position]);
            }
        }
    }
    jobs
}

/// What has to be done once all of a call is written: no earlier, lest a part lets go of what another one has added.
fn trim_jobs<'a>(done: &[AddJob], request_keys: &'a [BlockHash]) -> Vec<TrimJob<'a>> {
    let mut met = HashSet::new();
    let too_long = done.iter().filter(|job| job.is_too_long).flat_map(|job| &job.mapped);
    let engine_keys: Vec<BlockHash> =
        too_long.map(|&(engine_key, _)| engine_key).filter(|&key| met.insert(key)).collect();
    let jobs = engine_keys.chunks(BLOCKS_PER_SCRIPT);
    jobs.map(|keys| TrimJob { engine_keys: keys.to_vec(), request_keys }).collect()
}

/// Hashes as the server keeps them in a list.
fn list(keys: &[BlockHash]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.0.to_be_bytes()).collect()
}

impl AddJob {
    fn is_full(&self) -> bool {
        self.blocks.len() >= BLOCKS_PER_SCRIPT || self.mapped.len() >= BLOCKS_PER_SCRIPT
    }

    fn push(&mut self, engine_key: Option<BlockHash>, request_key: BlockHash) {
        if self.met.insert(request_key) {
            self.blocks.push(request_key);
        }
        let Some(engine_key) = engine_key else { return };
        match self.mapped.last_mut() {
            // Mappings come one after the other.
            Some((last, keys)) if *last == engine_key => {
                // Of a key that is named again the last place counts.
                keys.retain(|key| *key != request_key);
                keys.push(request_key);
            }
            _ => self.mapped.push((engine_key, vec![request_key])),
        }
    }

    fn names(&self, index: &BitmapIndex, epoch: super::Epoch) -> Vec<Name> {
        let blocks = self.blocks.iter().map(|&key| index.names.key(Kind::Block, epoch, key));
        let engine = self.mapped.iter().map(|&(key, _)| index.names.key(Kind::Engine, epoch, key));
        blocks.chain(engine).collect()
    }
}

impl Job for AddJob {
    const PURPOSE: Purpose = Purpose::Add;
    const FAILED: &'static str = "failed to add blocks to the index";

    fn command(&self, index: &BitmapIndex, target: &Target, number: u64) -> Command {
        let registry = &target.registry;
        let names = self.names(index, registry.epoch);
        let mut command = index
            .fenced(&registry.scripts.add, &names, target, number)
            .arg(registry.width())
            .arg(self.blocks.len())
            .arg(&target.columns[..]);
        for (_, keys) in &self.mapped {
            command = command.arg(list(keys));
        }
        command
    }

    fn verdict(&mut self, index: &BitmapIndex, reply: &Reply) -> Verdict {
        match reply.value().get() {
            Value::Integer(found @ (1 | 2)) => {
                self.is_too_long = found == 2;
                Verdict::Done
            }
            Value::Integer(0) => Verdict::Stale,
            Value::Integer(-1) => Verdict::Late,
            Value::Integer(key) if key < -1 => Verdict::Failed(self.foreign(index, key)),
            _ => match reply.parse::<i64>() {
                Ok(_) => Verdict::Stale,
                Err(error) => Verdict::Failed(IndexError::client(Self::FAILED, error)),
            },
        }
    }
}

impl Job for TrimJob<'_> {
    const PURPOSE: Purpose = Purpose::Add;
    const FAILED: &'static str = "failed to add blocks to the index";

    fn command(&self, index: &BitmapIndex, target: &Target, number: u64) -> Command {
        let registry = &target.registry;
        let blocks = self.request_keys.iter().take(1);
        let blocks = blocks.map(|&key| index.names.key(Kind::Block, registry.epoch, key));
        let engine =
            self.engine_keys.iter().map(|&key| index.names.key(Kind::Engine, registry.epoch, key));
        let names: Vec<Name> = blocks.chain(engine).collect();
        index.fenced(&registry.scripts.trim, &names, target, number).arg(list(self.request_keys))
    }

    fn verdict(&mut self, _: &BitmapIndex, reply: &Reply) -> Verdict {
        match reply.parse::<i64>() {
            Ok(1) => Verdict::Done,
            Ok(-1) => Verdict::Late,
            Ok(_) => Verdict::Stale,
            Err(error) => Verdict::Failed(IndexError::client(Self::FAILED, error)),
        }
    }
}

impl AddJob {
    /// The error for the key at this place of the script's, counted from -1 downwards.
    fn foreign(&self, index: &BitmapIndex, key: i64) -> IndexError {
        let epoch = index.state().registry().map(|registry| registry.epoch).unwrap_or_default();
        let at = usize::try_from(-2 - key).unwrap_or_default();
        let names = self.names(index, epoch);
        IndexError::foreign_key(names.get(at).map_or(b"", |name| &name[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(numbers: impl IntoIterator<Item = u64>) -> Vec<BlockHash> {
        numbers.into_iter().map(BlockHash).collect()
    }

    #[test]
    fn a_large_event_is_cut_and_each_mapping_is_with_its_block() {
        let keys = hashes(0..600);
        let engine = hashes(1000..1600);
        let jobs = jobs(&engine, &keys);
        assert_eq!(jobs.iter().map(|job| job.blocks.len()).collect::<Vec<_>>(), [256, 256, 88]);
        for job in &jobs {
            let mapped: Vec<_> = job.mapped.iter().flat_map(|(_, keys)| keys.clone()).collect();
            assert_eq!(mapped, job.blocks);
        }
        let unmapped = super::jobs(&[], &hashes([1, 1, 2]));
        assert_eq!((unmapped[0].blocks.len(), unmapped[0].mapped.len()), (2, 0));
    }

    #[test]
    fn one_engine_key_of_many_blocks_is_mapped_in_parts_and_in_order() {
        let jobs = jobs(&hashes([7]), &hashes(0..300));
        let lengths: Vec<_> =
            jobs.iter().map(|job| (job.mapped.len(), job.mapped[0].1.len())).collect();
        assert_eq!(lengths, [(1, 256), (1, 44)]);
        let all: Vec<_> = jobs.iter().flat_map(|job| job.mapped[0].1.clone()).collect();
        assert_eq!(all, hashes(0..300));
        // Many engine keys of one block are cut as well.
        let jobs = super::jobs(&hashes(0..600), &hashes([1]));
        assert_eq!(jobs.iter().map(|job| job.mapped.len()).collect::<Vec<_>>(), [256, 256, 88]);
        assert!(jobs.iter().all(|job| job.blocks == hashes([1])));
    }
}
