//! Those who are compared.

use std::collections::HashMap;
use std::fmt;

use anyhow::Result;
use async_trait::async_trait;
use clap::ValueEnum;
use respire_kvblock::{
    BitmapIndex, BlockHash, Index, KeyType, LongestPrefixScorer, PodEntry, PodPrefix, PodSet,
    ServerIndex,
};

use super::job::{Job, Workload};
use super::server::{self, Server, database};

pub mod port;

/// A side, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    /// What llm-d sends, by redis-rs.
    Port,
    /// respire in llm-d's layout.
    LlmD,
    /// respire in the bitmap layout.
    Bitmap,
    /// The same, scored without a list of holders.
    BitmapPrefixes,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => "llm-d's commands",
            Self::LlmD => "respire, llm-d layout",
            Self::Bitmap => "respire, bitmap",
            Self::BitmapPrefixes => "respire, bitmap, prefixes",
        })
    }
}

impl Side {
    /// Whether it does this job in a way of its own.
    pub fn takes_part(self, job: Job) -> bool {
        self != Self::BitmapPrefixes || matches!(job, Job::Lookup { .. })
    }

    /// Connects, for a lookup.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub async fn connect(self, workload: Workload, server: &Server) -> Result<Box<dyn Asked>> {
        let far = !workload.round_trip.is_zero();
        let shared = match workload.job {
            Job::Lookup { fleet, .. } => Some(fleet),
            _ => None,
        };
        let database = match (self, shared) {
            (_, None) => server::scratch(self as usize, workload.job),
            (Self::Port | Self::LlmD, Some(_)) => database::LLM_D,
            (Self::Bitmap | Self::BitmapPrefixes, Some(_)) => database::BITMAP,
        };
        let url = server.url(database, far);
        let prefix = shared.map_or_else(|| "kvb:".to_owned(), server::prefix);
        let scorer = LongestPrefixScorer::default();
        Ok(match self {
            Self::Port => Box::new(port::Port::connect(&url).await?),
            Self::LlmD => {
                let index = ServerIndex::new(server::patient(&url).await?);
                Box::new(Ours { index, scorer })
            }
            Self::Bitmap => {
                let index = server::bitmap(server::patient(&url).await?, &prefix);
                Box::new(Ours { index, scorer })
            }
            Self::BitmapPrefixes => {
                let index = server::bitmap(server::patient(&url).await?, &prefix);
                Box::new(Prefixes { index, scorer })
            }
        })
    }
}

/// What a router gets to know: each pod that holds the first block, and its score.
#[derive(Debug)]
pub enum Scores {
    /// By name.
    Map(HashMap<String, f64>),
    /// In a list.
    List(Vec<PodPrefix>),
}

impl Scores {
    /// In the order of the names.
    pub fn sorted(self) -> Vec<(String, f64)> {
        let mut scores: Vec<_> = match self {
            Self::Map(scores) => scores.into_iter().collect(),
            Self::List(pods) => {
                pods.into_iter().map(|pod| (pod.pod.to_string(), pod.score)).collect()
            }
        };
        scores.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        scores
    }
}

/// A side that is connected.
#[async_trait]
pub trait Asked: Send {
    /// Asks for a prompt and scores the answer.
    async fn scores(&mut self, keys: &[BlockHash]) -> Result<Scores>;

    /// Adds the blocks of an event, an engine key for each request key.
    async fn add(
        &mut self,
        engine: &[BlockHash],
        keys: &[BlockHash],
        entry: &PodEntry,
    ) -> Result<()>;

    /// Evicts the blocks of an event, by their engine keys.
    async fn evict(&mut self, engine: &[BlockHash], entry: &PodEntry) -> Result<()>;

    /// Removes all that a pod holds.
    async fn clear(&mut self, pod: &str) -> Result<()>;
}

struct Ours<I> {
    index: I,
    scorer: LongestPrefixScorer,
}

#[async_trait]
impl<I: Index> Asked for Ours<I> {
    async fn scores(&mut self, keys: &[BlockHash]) -> Result<Scores> {
        let found = self.index.lookup(keys, &PodSet::all()).await?;
        anyhow::ensure!(found.is_complete(), "the lookup ended early");
        Ok(Scores::Map(self.scorer.score(keys, &found)))
    }

    async fn add(
        &mut self,
        engine: &[BlockHash],
        keys: &[BlockHash],
        entry: &PodEntry,
    ) -> Result<()> {
        Ok(self.index.add(Some(engine), keys, std::slice::from_ref(entry)).await?)
    }

    async fn evict(&mut self, engine: &[BlockHash], entry: &PodEntry) -> Result<()> {
        Ok(self.index.evict(engine, KeyType::Engine, std::slice::from_ref(entry)).await?)
    }

    async fn clear(&mut self, pod: &str) -> Result<()> {
        Ok(self.index.clear(pod).await?)
    }
}

struct Prefixes {
    index: BitmapIndex,
    scorer: LongestPrefixScorer,
}

#[async_trait]
impl Asked for Prefixes {
    async fn scores(&mut self, keys: &[BlockHash]) -> Result<Scores> {
        Ok(Scores::List(self.index.prefixes(keys, &PodSet::all(), &self.scorer).await?))
    }

    async fn add(&mut self, _: &[BlockHash], _: &[BlockHash], _: &PodEntry) -> Result<()> {
        anyhow::bail!("the same as without prefixes")
    }

    async fn evict(&mut self, _: &[BlockHash], _: &PodEntry) -> Result<()> {
        anyhow::bail!("the same as without prefixes")
    }

    async fn clear(&mut self, _: &str) -> Result<()> {
        anyhow::bail!("the same as without prefixes")
    }
}
