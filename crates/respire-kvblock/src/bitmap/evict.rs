//! Evict: columns out of blocks, and mappings that lead to nobody, in one script a few hundred blocks.

use hashbrown::HashSet;
use respire::{Command, Pipeline, Reply};

use super::{
    BitmapIndex, Kind,
    attest::ATTEMPTS,
    is_error,
    keys::Name,
    mappings::RequestKeys,
    write::{BLOCKS_PER_SCRIPT, ENTRIES_PER_WRITE, Job, Purpose, Target, Verdict},
};
use crate::{BlockHash, IndexError, PodEntry};

/// How many retired columns an eviction looks through at most to find that nobody is left. With more, mappings of blocks that only
/// those hold are left to a sweep.
const RETIRED_MAX: usize = 64;

/// How many engine keys are asked for at once.
const KEYS_PER_QUESTION: usize = 1024;

/// The blocks of one script, and engine keys with the blocks that they are believed to map to.
#[derive(Debug, Default)]
pub(super) struct EvictJob {
    blocks: Vec<BlockHash>,
    groups: Vec<(BlockHash, RequestKeys)>,
    /// What became of the groups.
    answers: Vec<Mapped>,
}

/// What an eviction has found an engine key to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapped {
    ToOthers,
    Stays,
    Gone,
}

impl BitmapIndex {
    pub(super) async fn evict_blocks(
        &self,
        keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        let keys = distinct(keys);
        for entries in entries.chunks(ENTRIES_PER_WRITE) {
            let jobs = keys.chunks(BLOCKS_PER_SCRIPT);
            let jobs =
                jobs.map(|blocks| EvictJob { blocks: blocks.to_vec(), ..EvictJob::default() });
            self.write(entries, jobs.collect()).await?;
        }
        Ok(())
    }

    /// An engine key of which the client remembers something else than the server knows is asked for and done again.
    pub(super) async fn evict_mapped(
        &self,
        engine_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        for entries in entries.chunks(ENTRIES_PER_WRITE) {
            let mut open = distinct(engine_keys);
            for _ in 0..ATTEMPTS {
                let groups = self.request_keys(&open).await?;
                open = self.evict_groups(groups, entries).await?;
                if open.is_empty() {
                    break;
                }
            }
            if !open.is_empty() {
                return Err(IndexError::contended());
            }
        }
        Ok(())
    }

    /// Takes entries out of the blocks of engine keys. The engine keys that map to something else.
    pub(super) async fn evict_groups(
        &self,
        groups: Vec<(BlockHash, RequestKeys)>,
        entries: &[PodEntry],
    ) -> Result<Vec<BlockHash>, IndexError> {
        let mut jobs: Vec<EvictJob> = Vec::new();
        let mut blocks = 0;
        for group in groups {
            blocks += group.1.len();
            match jobs.last_mut() {
                Some(job) if blocks <= BLOCKS_PER_SCRIPT => job.groups.push(group),
                _ => {
                    blocks = group.1.len();
                    jobs.push(EvictJob { groups: vec![group], ..EvictJob::default() });
                }
            }
        }
        let done = self.write(entries, jobs).await?;
        let mut open = Vec::new();
        let mut mappings = self.mappings();
        for ((engine_key, _), answer) in
            done.iter().flat_map(|job| job.groups.iter().zip(&job.answers))
        {
            match answer {
                Mapped::Stays => {}
                Mapped::Gone => mappings.forget(*engine_key),
                Mapped::ToOthers => {
                    mappings.forget(*engine_key);
                    open.push(*engine_key);
                }
            }
        }
        Ok(open)
    }

    /// The request keys of engine keys, as they are remembered or else as the server has them; those that are not mapped are left
    /// out.
    async fn request_keys(
        &self,
        engine_keys: &[BlockHash],
    ) -> Result<Vec<(BlockHash, RequestKeys)>, IndexError> {
        let epoch = self.registry().await?.epoch;
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        {
            let mut mappings = self.mappings();
            for &engine_key in engine_keys {
                match mappings.recall(epoch, engine_key) {
                    Some(keys) => known.push((engine_key, keys)),
                    None => unknown.push(engine_key),
                }
            }
        }
        if !unknown.is_empty() {
            let found = self.resolve(&unknown).await?;
            let mut mappings = self.mappings();
            for (engine_key, keys) in &found {
                mappings.remember(epoch, *engine_key, keys.clone());
            }
            known.extend(found);
        }
        Ok(known)
    }

    /// Asks the server what engine keys map to, and remembers nothing of it.
    pub(super) async fn resolve(
        &self,
        engine_keys: &[BlockHash],
    ) -> Result<Vec<(BlockHash, RequestKeys)>, IndexError> {
        for _ in 0..ATTEMPTS {
            let registry = self.registry().await?;
            let mut pipeline = Pipeline::new();
            for keys in engine_keys.chunks(KEYS_PER_QUESTION) {
                let mut question = Command::new("MGET");
                for &key in keys {
                    question = question.arg(&self.names.key(Kind::Engine, registry.epoch, key)[..]);
                }
                pipeline.push(question);
            }
            pipeline.push(self.nonce_call(&registry, false));
            let replies = self.client.pipeline(pipeline).await.map_err(failed)?;
            let Some((nonce, lists)) = replies.split_last() else { continue };
            if is_error(nonce, "NOSCRIPT") {
                self.state().scripts_unknown(registry.generation);
                continue;
            }
            if nonce.parse::<Option<Vec<u8>>>().map_err(failed)?.as_deref()
                != Some(registry.nonce.as_bytes())
            {
                self.refresh(&registry).await?;
                continue;
            }
            let mut found = Vec::new();
            for (keys, lists) in engine_keys.chunks(KEYS_PER_QUESTION).zip(lists) {
                let lists: Vec<Option<Vec<u8>>> = lists.parse().map_err(failed)?;
                let lists = keys.iter().zip(lists);
                found.extend(lists.filter_map(|(&key, list)| Some((key, read_list(&list?)?))));
            }
            return Ok(found);
        }
        Err(IndexError::contended())
    }

    pub(super) async fn last_request_key(
        &self,
        engine_key: BlockHash,
    ) -> Result<BlockHash, IndexError> {
        let found = self.resolve(&[engine_key]).await?;
        let last = found.first().and_then(|(_, keys)| keys.last().copied());
        last.ok_or_else(|| IndexError::engine_key_not_found(engine_key))
    }
}

/// The request keys of an engine key's value, if it is one.
fn read_list(value: &[u8]) -> Option<RequestKeys> {
    let (hashes, []) = value.as_chunks() else { return None };
    (!hashes.is_empty())
        .then(|| hashes.iter().map(|&hash| BlockHash(u64::from_be_bytes(hash))).collect())
}

fn distinct(keys: &[BlockHash]) -> Vec<BlockHash> {
    let mut met = HashSet::with_capacity(keys.len());
    keys.iter().copied().filter(|&key| met.insert(key)).collect()
}

fn failed(error: respire::Error) -> IndexError {
    IndexError::client("failed to ask for the request keys of engine keys", error)
}

impl Job for EvictJob {
    const PURPOSE: Purpose = Purpose::Evict;
    const FAILED: &'static str = "failed to evict blocks from the index";

    fn command(&self, index: &BitmapIndex, target: &Target, number: u64) -> Command {
        let registry = &target.registry;
        let name = |kind, key| index.names.key(kind, registry.epoch, key);
        let mut names: Vec<Name> = self.blocks.iter().map(|&key| name(Kind::Block, key)).collect();
        for (engine_key, blocks) in &self.groups {
            names.push(name(Kind::Engine, *engine_key));
            names.extend(blocks.iter().map(|&key| name(Kind::Block, key)));
        }
        let retired: Vec<u8> = if registry.retired.len() <= RETIRED_MAX {
            registry.retired.iter().flat_map(|(column, _)| column.to_be_bytes()).collect()
        } else {
            Vec::new()
        };
        index
            .fenced(&registry.scripts.evict, &names, target, number)
            .arg(&target.columns[..])
            .arg(retired)
            .arg(registry.nonce.as_bytes())
            .arg(target.rests_on_nonce)
            .arg(self.blocks.len())
            .args(self.groups.iter().map(|(_, blocks)| blocks.len()))
    }

    fn verdict(&mut self, _: &BitmapIndex, reply: &Reply) -> Verdict {
        let answers: Vec<i64> = match reply.parse() {
            Ok(answers) => answers,
            Err(error) => return Verdict::Failed(IndexError::client(Self::FAILED, error)),
        };
        match answers.split_first() {
            Some((1, answers)) => {
                self.answers = answers
                    .iter()
                    .map(|answer| match answer {
                        0 => Mapped::ToOthers,
                        1 => Mapped::Stays,
                        _ => Mapped::Gone,
                    })
                    .collect();
                Verdict::Done
            }
            Some((-1, _)) => Verdict::Late,
            _ => Verdict::Stale,
        }
    }
}
