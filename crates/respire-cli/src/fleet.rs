//! The simulated pods together, and what they are called in the index.

use std::collections::HashMap;

use respire_kvblock::{Lookup, PodEntry};

use crate::keys::Keys;
use crate::pod::{Capacity, Pod};

/// What an index has to be large enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetSize {
    /// How many pods.
    pub pods: usize,
    /// How many blocks each can hold.
    pub capacity: Capacity,
}

/// Pods, numbered from 0.
#[derive(Debug)]
pub(crate) struct Fleet {
    pods: Vec<Pod>,
    entries: Vec<PodEntry>,
    numbers: HashMap<PodEntry, usize>,
}

impl Fleet {
    /// `pods` empty pods.
    pub(crate) fn new(pods: usize, capacity: Capacity, keys: &Keys) -> Self {
        let entries: Vec<_> = (0..pods).map(|pod| keys.pod_entry(pod)).collect();
        let numbers = entries.iter().cloned().zip(0..).collect();
        let pods = (0..pods).map(|_| Pod::new(capacity)).collect();
        Self { pods, entries, numbers }
    }

    pub(crate) fn pods(&self) -> &[Pod] {
        &self.pods
    }

    pub(crate) fn pod_mut(&mut self, pod: usize) -> &mut Pod {
        &mut self.pods[pod]
    }

    /// What a pod is called in the index.
    pub(crate) fn entry(&self, pod: usize) -> &PodEntry {
        &self.entries[pod]
    }

    /// The number of the pod with this entry; `None` when it is not one of ours.
    pub(crate) fn number(&self, entry: &PodEntry) -> Option<usize> {
        self.numbers.get(entry).copied()
    }

    /// The number of the pod of this name; `None` when it is not one of ours.
    pub(crate) fn named(&self, pod_identifier: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.pod_identifier == pod_identifier)
    }

    /// For each pod, how many of the first blocks it holds by what the index says.
    pub(crate) fn claimed_prefixes(&self, lookup: &Lookup) -> Vec<usize> {
        let lengths = lookup.prefix_lengths();
        let claimed = |entry: &PodEntry| lengths.get(entry.pod_identifier.as_str()).copied();
        self.entries.iter().map(|entry| claimed(entry).unwrap_or(0)).collect()
    }

    /// For each pod, how many of the first blocks it really holds.
    pub(crate) fn real_prefixes(&self, blocks: &[u64]) -> Vec<usize> {
        self.pods.iter().map(|pod| pod.prefix_blocks(blocks)).collect()
    }
}
