//! What a router asks of its index and tells it, request by request.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use respire_cli::keys::Keys;
use respire_cli::pod::{Capacity, Pod};
use respire_cli::route::{Route, Router};
use respire_cli::source::Source;

/// The workload that is generated when there is no trace.
const SEED: u64 = 1;

/// Tokens that a pod computes in a second, as in `respire replay`.
const PREFILL_RATE: f64 = 8000.0;

/// What is replayed.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The trace [default: a generated workload]
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Only the first N requests
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// How many pods there are
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub pods: u16,
    /// How many of the trace's blocks a pod can hold
    #[arg(long, value_name = "BLOCKS", default_value = "20000")]
    pub capacity: NonZeroUsize,
    /// Take each block of the trace for N blocks: with 32, those of 512 tokens for blocks of 16
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub split: u64,
}

impl Options {
    /// The arguments again, for a second program.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--pods={}", self.pods),
            format!("--capacity={}", self.capacity),
            format!("--split={}", self.split),
        ];
        arguments.extend(self.trace.iter().map(|path| format!("--trace={}", path.display())));
        arguments.extend(self.limit.map(|limit| format!("--limit={limit}")));
        arguments
    }
}

/// One request, and what its pod makes of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The prompt's blocks, in order.
    pub blocks: Vec<u64>,
    /// For each pod, how many of the first of them it holds.
    pub held: Vec<usize>,
    /// The pod that the request is sent to.
    pub pod: usize,
    /// The blocks that the pod lacked and has stored, in order.
    pub stored: Vec<u64>,
    /// The block before the first of those.
    pub parent: Option<u64>,
    /// The blocks that it has dropped then.
    pub dropped: Vec<u64>,
}

/// All requests, and what is held in the end.
#[derive(Clone, Debug)]
pub struct Steps {
    /// How many pods there are.
    pub pods: usize,
    /// The names of blocks.
    pub keys: Keys,
    /// The requests.
    pub steps: Vec<Step>,
    /// Blocks that pods hold in the end, each as often as it is held.
    pub entries: usize,
    /// Those blocks, each once.
    pub distinct: usize,
}

impl Steps {
    /// Blocks of all prompts.
    pub fn blocks(&self) -> usize {
        self.steps.iter().map(|step| step.blocks.len()).sum()
    }

    /// Requests that change what a pod holds.
    pub fn events(&self) -> usize {
        self.steps.iter().filter(|step| !step.stored.is_empty()).count()
    }

    /// Blocks stored and dropped.
    pub fn changes(&self) -> usize {
        self.steps.iter().map(|step| step.stored.len() + step.dropped.len()).sum()
    }
}

/// Simulates the fleet, with an index that is always right.
///
/// # Errors
///
/// When the trace cannot be read, is empty, or a request holds a block twice or more blocks than a pod.
pub fn simulate(options: &Options) -> Result<Steps> {
    let source = options.trace.clone().map_or(Source::Generator(SEED), Source::File);
    let (requests, _) = source.open(options.limit).with_context(|| source.to_string())?;
    let pods = usize::from(options.pods);
    let split = usize::try_from(options.split)?;
    let capacity = options.capacity.saturating_mul(NonZeroUsize::new(split).context("no blocks")?);
    let mut fleet: Vec<Pod> = (0..pods).map(|_| Pod::new(Capacity::Blocks(capacity))).collect();
    let mut router = Router::new(Route::Index, pods, PREFILL_RATE);
    let mut steps = Vec::new();
    for request in requests {
        let request = request.with_context(|| source.to_string())?;
        let parts = |id: &u64| {
            let first = id.checked_mul(options.split).context("a block id is too large")?;
            anyhow::Ok(first..first + options.split)
        };
        let parts: Vec<_> = request.hash_ids.iter().map(parts).collect::<Result<_>>()?;
        let blocks: Vec<u64> = parts.into_iter().flatten().collect();
        ensure!(blocks.len() <= capacity.get(), "a request has more blocks than a pod");
        let held: Vec<usize> = fleet.iter().map(|pod| pod.prefix_blocks(&blocks)).collect();
        // The router reckons in the trace's own blocks.
        let prefixes: Vec<usize> = held.iter().map(|held| held / split).collect();
        let pod = router.choose(&request, &prefixes);
        router.assign(pod, &request, prefixes[pod]);
        let event = fleet[pod].store(&blocks);
        // The other indexes hang what is stored on the block before it, and know no gaps.
        ensure!(
            blocks[held[pod]..] == event.stored,
            "a pod holds the end of a prompt without its start"
        );
        let parent = held[pod].checked_sub(1).map(|at| blocks[at]);
        let (stored, dropped) = (event.stored, event.dropped);
        steps.push(Step { blocks, held, pod, stored, parent, dropped });
    }
    ensure!(!steps.is_empty(), "{source} holds no request");
    let mut all: Vec<u64> = fleet.iter().flat_map(Pod::blocks).collect();
    let entries = all.len();
    all.sort_unstable();
    all.dedup();
    Ok(Steps { pods, keys: Keys::new(SEED), steps, entries, distinct: all.len() })
}
