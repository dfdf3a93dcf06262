//! What a replay has found, for people and for programs.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Serialize, Serializer};

use crate::fleet::FleetSize;
use crate::oracle::Verdict;
use crate::pod::CacheEvent;
use crate::replay::Options;
use crate::restart::RestartReport;
use crate::route::Route;
use crate::stats::{mean, nearest_rank};
use crate::trace::Request;

/// The result of a replay. As JSON it is one object with the fields as they stand here but for the
/// [`setting`](Self::setting), and with numbers that are not rounded; `Display` is a table with
/// numbers that are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Requests replayed.
    pub requests: u64,
    /// Blocks of all requests, as they are listed.
    pub blocks: u64,
    /// Blocks of the longest prefix that the chosen pod really held, over all blocks.
    pub block_hit_rate: f64,
    /// Simulated time to first token.
    pub ttft_s: TimeToFirstToken,
    /// How evenly the requests were spread.
    pub requests_per_pod: RequestsPerPod,
    /// Blocks that the pods stored and were added to the index.
    pub adds: u64,
    /// Blocks that the pods dropped and were evicted from the index.
    pub evicts: u64,
    /// Measured time of a lookup.
    pub lookup_us: LookupTime,
    /// What the index ran on.
    pub store: String,
    /// How pods were chosen.
    #[serde(serialize_with = "route_name")]
    pub route: Route,
    /// The oracle: what the index claimed and no pod held, in blocks.
    pub false_hits: u64,
    /// The oracle: what pods held and the index did not know, in blocks.
    pub missed_blocks: u64,
    /// What became of the server where one was restarted; left out where none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartReport>,
    /// What was simulated. It stands in the table alone: who reads the JSON has given it.
    #[serde(skip)]
    pub setting: Setting,
}

/// What a replay has simulated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// How many pods of which capacity.
    pub fleet: FleetSize,
    /// By what pods were chosen and how fast they were.
    pub options: Options,
}

/// Simulated time to first token, in seconds. Percentiles are nearest-rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimeToFirstToken {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
}

/// The fewest and the most requests that a pod was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RequestsPerPod {
    /// The fewest.
    pub min: u64,
    /// The most.
    pub max: u64,
}

/// Measured time of a lookup, in microseconds. Percentiles are nearest-rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LookupTime {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
}

/// What is counted and measured while a replay runs.
///
/// Every time is kept, 24 bytes a request, so that percentiles are exact.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) blocks: u64,
    pub(crate) hit_blocks: u64,
    pub(crate) adds: u64,
    pub(crate) evicts: u64,
    pub(crate) ttft_s: Vec<f64>,
    pub(crate) lookups: Vec<Duration>,
    pub(crate) requests_per_pod: Vec<u64>,
    pub(crate) verdict: Verdict,
    pub(crate) restart: Option<RestartReport>,
}

impl Tally {
    /// Requests replayed so far.
    pub(crate) fn requests(&self) -> u64 {
        self.ttft_s.len() as u64
    }

    /// Counts a request that was sent to `pod`, which held its first `prefix_blocks` blocks.
    pub(crate) fn count(
        &mut self,
        request: &Request,
        pod: usize,
        prefix_blocks: usize,
        ttft_s: f64,
        event: &CacheEvent,
    ) {
        self.blocks += request.hash_ids.len() as u64;
        self.hit_blocks += prefix_blocks as u64;
        self.adds += event.stored.len() as u64;
        self.evicts += event.dropped.len() as u64;
        self.ttft_s.push(ttft_s);
        self.requests_per_pod[pod] += 1;
    }

    /// Sums up; `None` when there was no request.
    pub(crate) fn report(mut self, store: &str, setting: Setting) -> Option<Report> {
        self.ttft_s.sort_unstable_by(f64::total_cmp);
        self.lookups.sort_unstable();
        let lookup_us =
            |p| nearest_rank(&self.lookups, p).map(|time| time.as_nanos() as f64 / 1000.0);
        Some(Report {
            requests: self.lookups.len() as u64,
            blocks: self.blocks,
            block_hit_rate: self.hit_blocks as f64 / self.blocks as f64,
            ttft_s: TimeToFirstToken {
                mean: mean(&self.ttft_s)?,
                p50: nearest_rank(&self.ttft_s, 0.5)?,
                p90: nearest_rank(&self.ttft_s, 0.9)?,
            },
            requests_per_pod: RequestsPerPod {
                min: self.requests_per_pod.iter().copied().min()?,
                max: self.requests_per_pod.iter().copied().max()?,
            },
            adds: self.adds,
            evicts: self.evicts,
            lookup_us: LookupTime {
                p50: lookup_us(0.5)?,
                p99: lookup_us(0.99)?,
                p999: lookup_us(0.999)?,
            },
            store: store.to_owned(),
            route: setting.options.route,
            false_hits: self.verdict.false_hits,
            missed_blocks: self.verdict.missed_blocks,
            restart: self.restart,
            setting,
        })
    }
}

impl Report {
    /// Whether the index was right throughout.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.false_hits == 0 && self.missed_blocks == 0
    }

    /// One JSON object on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report is text and numbers under fixed names")
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let ttft = &self.ttft_s;
        let lookup = &self.lookup_us;
        let RequestsPerPod { min, max } = self.requests_per_pod;
        let Setting { fleet, options } = &self.setting;
        let writers = match options.writers {
            None => "none: every lookup checked".to_owned(),
            Some(n) => format!("{n}: checked at the end"),
        };
        let mut rows = vec![
            ("store", self.store.clone()),
            ("route", self.route.name().to_owned()),
            ("pods", fleet.pods.to_string()),
            ("capacity of a pod", format!("{} blocks", fleet.capacity)),
            ("prefill rate of a pod", format!("{} tokens/s", options.prefill_rate)),
            ("writers", writers),
            ("requests", self.requests.to_string()),
            ("requests per pod", format!("{min} to {max}")),
            ("blocks", self.blocks.to_string()),
            ("block hit rate (simulated)", format!("{:.2} %", 100.0 * self.block_hit_rate)),
            ("time to first token, mean (simulated)", format!("{:.3} s", ttft.mean)),
            ("time to first token, p50", format!("{:.3} s", ttft.p50)),
            ("time to first token, p90", format!("{:.3} s", ttft.p90)),
            ("blocks added", self.adds.to_string()),
            ("blocks evicted", self.evicts.to_string()),
            ("lookup, p50 (measured)", format!("{:.1} µs", lookup.p50)),
            ("lookup, p99 / p99.9", format!("{:.1} / {:.1} µs", lookup.p99, lookup.p999)),
            ("false hits", self.false_hits.to_string()),
            ("missed blocks", self.missed_blocks.to_string()),
        ];
        if let Some(restart) = &self.restart {
            rows.extend(restart_rows(restart));
        }
        rows
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.add_rows(self.rows().into_iter().map(|(name, value)| [name.to_owned(), value]));
        if let Some(values) = table.column_mut(1) {
            values.set_cell_alignment(CellAlignment::Right);
        }
        table.fmt(f)
    }
}

fn restart_rows(restart: &RestartReport) -> [(&'static str, String); 6] {
    let RestartReport { server, after_requests, .. } = restart;
    [
        (
            "server killed and restarted",
            format!("{}, after {after_requests} requests", server.name()),
        ),
        ("server down (measured)", format!("{:.0} ms", restart.down_ms)),
        ("calls made again", restart.repeated_calls.to_string()),
        ("pods named by the index", restart.resyncs.to_string()),
        ("blocks announced again", restart.announced_again.to_string()),
        ("missed before they were", restart.missed_before_resync.to_string()),
    ]
}

// Serde hands every field over by reference.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn route_name<S: Serializer>(route: &Route, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(route.name())
}

#[cfg(test)]
mod tests;
