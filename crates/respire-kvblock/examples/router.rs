//! A router in a hundred lines: requests go to the pod that holds most of their prompt, unless it is too busy.
//!
//! Pods are simulated: each keeps what it has computed, and tells the index. Give a configuration of llm-d's as a file to
//! keep the index on a server; without one it is in memory.
//!
//! ```sh
//! cargo run -p respire-kvblock --example router -- [configuration.json]
//! ```

use std::{collections::HashMap, error::Error, fs};

use respire_kvblock::{BlockHash, Indexer, IndexerConfig, PodEntry, PodSet};

const MODEL: &str = "model";

/// What a request that waits is worth, in blocks that have to be computed.
const BLOCKS_A_REQUEST: f64 = 8.0;

/// Who serves, and how many requests each has.
struct Router {
    indexer: Indexer,
    load: HashMap<String, usize>,
}

impl Router {
    fn new(indexer: Indexer, pods: impl IntoIterator<Item = String>) -> Self {
        Self { indexer, load: pods.into_iter().map(|pod| (pod, 0)).collect() }
    }

    /// The pod for a prompt, and how many of its blocks that pod holds already, each with the weight of its tier.
    async fn route(&mut self, prompt: &[u32]) -> Result<(String, f64), Box<dyn Error>> {
        // A router that cannot ask goes by load alone: the index is advice.
        let scores = self.indexer.score_tokens(prompt, MODEL, &PodSet::all()).await;
        let scores = scores.unwrap_or_else(|error| {
            eprintln!("without the index: {error}");
            HashMap::new()
        });
        let score = |pod: &str| scores.get(pod).copied().unwrap_or(0.0);
        let worth = |pod: &str, load: usize| score(pod) - BLOCKS_A_REQUEST * load as f64;
        let best = self.load.iter().max_by(|(a, in_a), (b, in_b)| {
            // Of equal ones the first by name, so that the same requests go the same ways.
            worth(a, **in_a).total_cmp(&worth(b, **in_b)).then_with(|| b.cmp(a))
        });
        let pod = best.ok_or("there are no pods")?.0.clone();
        *self.load.entry(pod.clone()).or_default() += 1;
        let score = score(&pod);
        Ok((pod, score))
    }

    /// The pod has answered, and holds the whole prompt now. Its engine would say so by events.
    async fn served(&mut self, pod: &str, prompt: &[u32]) -> Result<(), Box<dyn Error>> {
        if let Some(load) = self.load.get_mut(pod) {
            *load -= 1;
        }
        let keys = self.indexer.processor().block_keys(BlockHash::EMPTY, prompt, MODEL);
        if !keys.is_empty() {
            let index = self.indexer.index();
            index.add(Some(&keys), &keys, &[PodEntry::new(pod, "gpu")]).await?;
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config: IndexerConfig = match std::env::args().nth(1) {
        Some(path) => fs::read_to_string(path)?.parse()?,
        None => IndexerConfig::default(),
    };
    let pods = (1..=3).map(|pod| format!("10.0.0.{pod}:8000"));
    let mut router = Router::new(config.open().await?, pods);
    println!("the index is {}", router.indexer.index().describe());

    // Four conversations of five turns. Each turn has all that was said before it and a hundred tokens more.
    let (mut blocks, mut hits) = (0, 0.0);
    for turn in 1..=5 {
        let mut running = Vec::new();
        for conversation in 0..4_u32 {
            let prompt: Vec<u32> =
                (0..turn * 100).map(|token| conversation * 1_000_000 + token).collect();
            let (pod, score) = router.route(&prompt).await?;
            println!("turn {turn} of conversation {conversation}: {pod}, {score} blocks held");
            blocks += router.indexer.processor().block_count(prompt.len());
            hits += score;
            running.push((pod, prompt));
        }
        for (pod, prompt) in running {
            router.served(&pod, &prompt).await?;
        }
    }
    println!("{hits} of {blocks} blocks were held");
    for pod in router.load.keys() {
        router.indexer.index().clear(pod).await?;
    }
    Ok(())
}
