//! Which pod a request is sent to, and how long each is busy.

use std::cmp::Ordering;

use crate::trace::{BLOCK_TOKENS, Request};

/// By what a request's pod is chosen. Every route ends in the same simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Route {
    /// The shortest estimated time to first token, with the prefixes that the index knows
    #[default]
    Index,
    /// The shortest queue
    Load,
    /// One pod after the other
    RoundRobin,
}

impl Route {
    /// The name by which it is chosen and reported.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Load => "load",
            Self::RoundRobin => "round-robin",
        }
    }
}

/// How long the pods are busy, and which is next. Times are in seconds of the trace.
#[derive(Debug)]
pub struct Router {
    route: Route,
    /// Tokens a second.
    prefill_rate: f64,
    /// When each pod has worked off what it was sent.
    free_at: Vec<f64>,
    /// The pod that round-robin takes next.
    next: usize,
}

impl Router {
    /// A router over `pods` idle pods, numbered from 0, at least one. Each works off
    /// `prefill_rate` tokens a second, which is finite and positive.
    ///
    /// # Panics
    ///
    /// When there is no pod.
    #[must_use]
    pub fn new(route: Route, pods: usize, prefill_rate: f64) -> Self {
        assert!(pods > 0, "a router needs a pod to send requests to");
        Self { route, prefill_rate, free_at: vec![0.0; pods], next: 0 }
    }

    /// Chooses a pod for a request, of whose blocks the index says that pod `i` holds the first
    /// `prefix_blocks[i]`.
    pub fn choose(&mut self, request: &Request, prefix_blocks: &[usize]) -> usize {
        match self.route {
            Route::Index => self.lowest(|pod| {
                let estimate =
                    self.wait(pod, request) + self.prefill_seconds(request, prefix_blocks[pod]);
                (estimate, self.free_at[pod])
            }),
            Route::Load => self.lowest(|pod| (self.wait(pod, request), 0.0)),
            Route::RoundRobin => {
                let pod = self.next;
                self.next = (pod + 1) % self.free_at.len();
                pod
            }
        }
    }

    /// Queues the request on `pod`, which really holds its first `prefix_blocks` blocks, and
    /// returns its time to first token in seconds.
    pub fn assign(&mut self, pod: usize, request: &Request, prefix_blocks: usize) -> f64 {
        let wait = self.wait(pod, request);
        let prefill = self.prefill_seconds(request, prefix_blocks);
        self.free_at[pod] = self.free_at[pod].max(arrival(request)) + prefill;
        wait + prefill
    }

    /// The pod with the lowest rank; of equals the one with the lowest number.
    fn lowest(&self, rank: impl Fn(usize) -> (f64, f64)) -> usize {
        let compare = |a: &usize, b: &usize| {
            let (a, b) = (rank(*a), rank(*b));
            a.partial_cmp(&b).unwrap_or(Ordering::Equal)
        };
        // `min_by` returns the first of several equal minima. There is at least one pod.
        (0..self.free_at.len()).min_by(compare).unwrap_or(0)
    }

    fn wait(&self, pod: usize, request: &Request) -> f64 {
        (self.free_at[pod] - arrival(request)).max(0.0)
    }

    fn prefill_seconds(&self, request: &Request, prefix_blocks: usize) -> f64 {
        let cached = BLOCK_TOKENS.saturating_mul(prefix_blocks as u64);
        request.input_length.saturating_sub(cached) as f64 / self.prefill_rate
    }
}

fn arrival(request: &Request) -> f64 {
    request.timestamp_ms / 1000.0
}

#[cfg(test)]
mod tests;
