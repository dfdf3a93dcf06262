//! Scores straight from the bits.

use std::sync::Arc;

use super::{columns::Columns, lookup::Sink, registry::Registry};
use crate::{BlockHash, LongestPrefixScorer};

/// How much of a prompt a pod holds; see [`BitmapIndex::prefixes`](super::BitmapIndex::prefixes).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PodPrefix {
    /// The pod.
    pub pod: Arc<str>,
    /// How many blocks it holds without a gap, counted from the first; at least 1.
    pub blocks: usize,
    /// Its score, as [`LongestPrefixScorer::score`] has it.
    pub score: f64,
}

/// The prefixes of all pods in the making.
#[derive(Debug)]
pub(super) struct Prefixes<'a> {
    scorer: &'a LongestPrefixScorer,
    registry: Option<Arc<Registry>>,
    position: usize,
    /// What a block weighs, for each entry of the registry's table.
    weights: Vec<f64>,
    pods: Vec<Pod>,
    /// The pods that hold every block so far.
    alive: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pod {
    /// One more than the last position that it was met at.
    met: usize,
    /// The weight of its best tier there.
    best: f64,
    blocks: usize,
    score: f64,
}

impl<'a> Prefixes<'a> {
    pub(super) fn new(scorer: &'a LongestPrefixScorer) -> Self {
        Self {
            scorer,
            registry: None,
            position: 0,
            weights: Vec::new(),
            pods: Vec::new(),
            alive: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Vec<PodPrefix> {
        let Some(registry) = self.registry else { return Vec::new() };
        let pods = registry.pods.iter().zip(&self.pods).filter(|(_, pod)| pod.blocks > 0);
        pods.map(|(name, pod)| PodPrefix {
            pod: Arc::clone(name),
            blocks: pod.blocks,
            score: pod.score,
        })
        .collect()
    }
}

impl Sink for Prefixes<'_> {
    fn begin(&mut self, registry: &Arc<Registry>) {
        let weight = |tier: &str| self.scorer.weight(tier).max(0.0);
        self.weights = registry.table.iter().map(|entry| weight(&entry.device_tier)).collect();
        self.pods.clear();
        self.pods.resize(registry.pods.len(), Pod::default());
        self.alive.clear();
        self.position = 0;
        self.registry = Some(Arc::clone(registry));
    }

    fn push(&mut self, _: BlockHash, holders: &Columns) -> bool {
        let Some(registry) = &self.registry else { return false };
        let mark = self.position + 1;
        for column in holders.iter() {
            let place = registry.place(column);
            let number = registry.pod_of[place];
            let pod = &mut self.pods[number as usize];
            if pod.met != mark {
                if self.position == 0 {
                    self.alive.push(number);
                }
                (pod.met, pod.best) = (mark, 0.0);
            }
            pod.best = pod.best.max(self.weights[place]);
        }
        self.position = mark;
        let pods = &mut self.pods;
        self.alive.retain(|&number| {
            let pod = &mut pods[number as usize];
            let holds = pod.met == mark;
            if holds {
                pod.blocks += 1;
                pod.score += pod.best;
            }
            holds
        });
        !self.alive.is_empty()
    }

    fn repeat(&mut self, _: BlockHash) {
        self.position += 1;
        for &number in &self.alive {
            let pod = &mut self.pods[number as usize];
            pod.blocks += 1;
            pod.score += pod.best;
        }
    }
}
