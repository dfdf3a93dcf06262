//! From the tokens of a prompt to a score for each pod.

use std::{collections::HashMap, fmt, sync::Arc};

use tracing::{Instrument, field::Empty};

use crate::{
    BlockExtra, BlockHash, ExtraCountError, Index, IndexError, LongestPrefixScorer, Lookup, PodSet,
    TokenProcessor,
};

/// An index with what computes its keys and what scores its answers: all that a router asks, as one
/// [configuration](crate::IndexerConfig) describes it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use respire_kvblock::{BlockHash, IndexerConfig, PodEntry, PodSet};
///
/// let config: IndexerConfig = r#"{ "tokenProcessorConfig": { "blockSizeTokens": 4 } }"#.parse()?;
/// let indexer = config.open().await?;
///
/// // A pod has stored the first two blocks of this prompt.
/// let prompt: Vec<u32> = (1..=17).collect();
/// let keys = indexer.processor().block_keys(BlockHash::EMPTY, &prompt, "model");
/// indexer.index().add(None, &keys[..2], &[PodEntry::new("10.0.0.1:8000", "gpu")]).await?;
///
/// let scores = indexer.score_tokens(&prompt, "model", &PodSet::all()).await?;
/// assert_eq!(scores["10.0.0.1:8000"], 2.0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Indexer {
    index: Arc<dyn Index>,
    processor: TokenProcessor,
    scorer: LongestPrefixScorer,
}

impl Indexer {
    /// An indexer of these parts.
    pub fn new(
        index: Arc<dyn Index>,
        processor: TokenProcessor,
        scorer: LongestPrefixScorer,
    ) -> Self {
        Self { index, processor, scorer }
    }

    /// The index.
    pub fn index(&self) -> &Arc<dyn Index> {
        &self.index
    }

    /// What computes the keys.
    pub fn processor(&self) -> &TokenProcessor {
        &self.processor
    }

    /// What scores the answers.
    pub fn scorer(&self) -> &LongestPrefixScorer {
        &self.scorer
    }

    /// The score of every pod in `pods` that holds the first block of a text prompt; nothing for a prompt that fills no
    /// block. Of a prompt to an adapter (LoRA), `model` is the adapter's name.
    ///
    /// # Errors
    ///
    /// When the index cannot be asked.
    pub async fn score_tokens(
        &self,
        tokens: &[u32],
        model: &str,
        pods: &PodSet,
    ) -> Result<HashMap<String, f64>, IndexError> {
        let keys = self.processor.block_keys(BlockHash::EMPTY, tokens, model);
        self.score(&keys, tokens.len(), model, pods).await
    }

    /// As [`score_tokens`](Self::score_tokens), for a prompt with images or a cache salt.
    ///
    /// # Errors
    ///
    /// The outer one when there is not one `extra` for each full block; the inner one when the index cannot be asked.
    pub async fn score_tokens_with_extra(
        &self,
        tokens: &[u32],
        model: &str,
        extra: &[BlockExtra],
        pods: &PodSet,
    ) -> Result<Result<HashMap<String, f64>, IndexError>, ExtraCountError> {
        let processor = &self.processor;
        let keys = processor.block_keys_with_extra(BlockHash::EMPTY, tokens, model, extra)?;
        Ok(self.score(&keys, tokens.len(), model, pods).await)
    }

    async fn score(
        &self,
        keys: &[BlockHash],
        tokens: usize,
        model: &str,
        pods: &PodSet,
    ) -> Result<HashMap<String, f64>, IndexError> {
        let span = tracing::info_span!(
            "score_tokens",
            otel.kind = "internal",
            otel.status_code = Empty,
            otel.status_description = Empty,
            gen_ai.request.model = model,
            llm_d.kv_cache.pod_count = pods.len(),
            llm_d.kv_cache.token_count = tokens,
            llm_d.kv_cache.block_keys.count = keys.len(),
            llm_d.kv_cache.block_hit_ratio = Empty,
            llm_d.kv_cache.blocks_found = Empty,
        );
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let outcome = self.index.lookup(keys, pods).instrument(span.clone()).await;
        let found = outcome.inspect_err(|error| {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", tracing::field::display(error));
        })?;
        span.record("llm_d.kv_cache.blocks_found", found.len());
        span.record("llm_d.kv_cache.block_hit_ratio", found.len() as f64 / keys.len() as f64);
        Ok(span.in_scope(|| self.compute_scores(keys, &found)))
    }

    fn compute_scores(&self, keys: &[BlockHash], found: &Lookup) -> HashMap<String, f64> {
        let span = tracing::info_span!(
            "compute_scores",
            otel.kind = "internal",
            llm_d.kv_cache.scorer.algorithm = "LongestPrefix",
            llm_d.kv_cache.scorer.key_count = keys.len(),
            llm_d.kv_cache.scorer.pods_scored = Empty,
            llm_d.kv_cache.score.max = Empty,
            llm_d.kv_cache.score.avg = Empty,
        );
        let scores = span.in_scope(|| self.scorer.score(keys, found));
        span.record("llm_d.kv_cache.scorer.pods_scored", scores.len());
        if !span.is_disabled() && !scores.is_empty() {
            let max = scores.values().copied().fold(f64::MIN, f64::max);
            span.record("llm_d.kv_cache.score.max", max);
            let sum: f64 = scores.values().sum();
            span.record("llm_d.kv_cache.score.avg", sum / scores.len() as f64);
        }
        scores
    }
}

impl fmt::Debug for Indexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexer")
            .field("index", &self.index)
            .field("processor", &self.processor)
            .field("scorer", &self.scorer)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IndexerConfig, PodEntry};

    const PROMPT: [u32; 6] = [1, 2, 3, 4, 5, 6];

    /// One block of a prompt: the pods that hold it, each with its tier.
    type Holders<'a> = &'a [(&'a str, &'a str)];

    type Scores = Vec<(String, f64)>;

    async fn indexer() -> Indexer {
        let text = r#"{"tokenProcessorConfig":{"blockSizeTokens":2}}"#;
        text.parse::<IndexerConfig>().unwrap().open().await.unwrap()
    }

    /// The scores of a prompt of three blocks, sorted, where so many of them are held as given.
    async fn scores(held: &[Holders<'_>], tokens: &[u32], pods: &[&str]) -> Scores {
        let indexer = indexer().await;
        let keys = indexer.processor().block_keys(BlockHash::EMPTY, &PROMPT, "model");
        for (key, holders) in keys.iter().zip(held) {
            let entries: Vec<PodEntry> =
                holders.iter().map(|&(pod, tier)| PodEntry::new(pod, tier)).collect();
            if !entries.is_empty() {
                indexer.index().add(Some(&[*key]), &[*key], &entries).await.unwrap();
            }
        }
        let pods: PodSet = pods.iter().copied().collect();
        let scores = indexer.score_tokens(tokens, "model", &pods).await.unwrap();
        assert_eq!(indexer.score_tokens(tokens, "model", &pods).await.unwrap(), scores);
        let mut scores: Vec<_> = scores.into_iter().collect();
        scores.sort_by(|(a, _), (b, _)| a.cmp(b));
        scores
    }

    fn expected<const N: usize>(scores: [(&str, f64); N]) -> Scores {
        scores.map(|(pod, score)| (pod.to_owned(), score)).into()
    }

    const A: (&str, &str) = ("pod-a", "gpu");
    const B: (&str, &str) = ("pod-b", "gpu");

    #[tokio::test]
    async fn a_prompt_without_a_full_block_has_no_scores() {
        assert!(scores(&[&[A]], &[], &[]).await.is_empty());
        assert!(scores(&[&[A]], &[1], &[]).await.is_empty());
    }

    #[tokio::test]
    async fn llm_ds_scenarios_have_its_scores() {
        let cases: [(&[Holders<'_>], &[&str], Scores); 8] = [
            (&[], &[], expected([])),
            (&[&[A], &[A], &[A]], &[], expected([("pod-a", 3.0)])),
            (&[&[A, B], &[A, B], &[A]], &[], expected([("pod-a", 3.0), ("pod-b", 2.0)])),
            (&[&[A], &[("pod-a", "cpu")]], &[], expected([("pod-a", 1.8)])),
            (&[&[A, B], &[A, B]], &["pod-a"], expected([("pod-a", 2.0)])),
            (&[&[A, B], &[A], &[A, B]], &[], expected([("pod-a", 3.0), ("pod-b", 1.0)])),
            (&[&[A, B]], &[], expected([("pod-a", 1.0), ("pod-b", 1.0)])),
            (&[&[A], &[A]], &[], expected([("pod-a", 2.0)])),
        ];
        for (held, pods, expected) in cases {
            assert_eq!(scores(held, &PROMPT, pods).await, expected, "{held:?} {pods:?}");
        }
    }

    #[tokio::test]
    async fn another_model_or_salt_shares_no_block() {
        let indexer = indexer().await;
        let mut salted = Vec::new();
        BlockExtra::add_cache_salt(&mut salted, "salt", 3);
        let keys =
            indexer.processor().block_keys_with_extra(BlockHash::EMPTY, &PROMPT, "model", &salted);
        let entry = [PodEntry::new("a", "gpu")];
        indexer.index().add(None, &keys.unwrap(), &entry).await.unwrap();
        let all = PodSet::all();
        let with_extra = async |model: &str, extra: &[BlockExtra]| {
            let scores = indexer.score_tokens_with_extra(&PROMPT, model, extra, &all).await;
            scores.unwrap().unwrap().get("a").copied()
        };
        assert_eq!(with_extra("model", &salted).await, Some(3.0));
        assert_eq!(with_extra("other", &salted).await, None);
        assert_eq!(with_extra("model", &[]).await, None);
        assert!(indexer.score_tokens(&PROMPT, "model", &all).await.unwrap().is_empty());
        let error = indexer.score_tokens_with_extra(&PROMPT, "model", &salted[..1], &all).await;
        assert!(error.is_err());
    }
}
