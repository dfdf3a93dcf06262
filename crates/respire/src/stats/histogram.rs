//! Counts of durations in intervals of fixed relative width.

use std::{ops::Range, time::Duration};

/// Each power of two is divided into so many intervals, as a power of two itself: an interval is at most a 32nd of the
/// times in it wide, which is 0.6 µs at 20 µs.
const STEPS_LOG2: u32 = 5;
const STEPS: usize = 1 << STEPS_LOG2;

/// Times are below two to this many nanoseconds, which is 137 s. Longer ones count as the longest.
const NANOS_LOG2_MAX: u32 = 37;

/// The first two runs of intervals are one nanosecond wide; each later one doubles the width.
const INTERVALS: usize = (NANOS_LOG2_MAX - STEPS_LOG2) as usize * STEPS + STEPS;

/// How often a phase took how long: counts of durations from one nanosecond to two minutes, in intervals that are at most
/// 3.2 % of the durations in them wide.
///
/// Fixed in size (about 8 KiB), whatever is recorded.
#[derive(Clone, PartialEq, Eq)]
pub struct Latencies {
    counts: Box<[u64]>,
    total: u64,
    nanos: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; INTERVALS].into_boxed_slice(), total: 0, nanos: 0 }
    }
}

impl Latencies {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The mean, exact to a nanosecond. `None` without durations.
    pub fn mean(&self) -> Option<Duration> {
        self.nanos.checked_div(self.total).map(Duration::from_nanos)
    }

    /// The duration that this part of all, from 0 to 1, did not exceed: the middle of the interval that it lies in, so
    /// within 1.6 % of it. 0.5 is the median, 1 the longest. `None` without durations.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        // The cast takes what is below 0, and what is no number, for 0.
        let rank = ((part * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut below = 0;
        let found = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        let interval = interval(found);
        Some(Duration::from_nanos((interval.start + interval.end - 1) / 2))
    }

    /// The intervals that hold any, in order, with how many.
    pub fn intervals(&self) -> impl Iterator<Item = (Range<Duration>, u64)> {
        let held = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        held.map(|(index, count)| {
            let Range { start, end } = interval(index);
            (Duration::from_nanos(start)..Duration::from_nanos(end), *count)
        })
    }

    pub(super) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let nanos = nanos.min((1 << NANOS_LOG2_MAX) - 1);
        self.counts[index(nanos)] += 1;
        self.total += 1;
        self.nanos = self.nanos.saturating_add(nanos);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    /// What was recorded after `earlier`, an older state of the same.
    pub(super) fn subtract(&mut self, earlier: &Self) {
        for (count, less) in self.counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*less);
        }
        self.total = self.counts.iter().sum();
        self.nanos = self.nanos.saturating_sub(earlier.nanos);
    }
}

impl std::fmt::Debug for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latencies")
            .field("count", &self.total)
            .field("mean", &self.mean())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.quantile(1.0))
            .finish()
    }
}

/// The interval of a time. Below 64 ns each has its own; above, the leading six bits decide.
fn index(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(STEPS_LOG2 + 1);
    shift as usize * STEPS + (nanos >> shift) as usize
}

/// The times of an interval, in nanoseconds.
fn interval(index: usize) -> Range<u64> {
    let shift = (index / STEPS).saturating_sub(1);
    let step = (index - shift * STEPS) as u64;
    step << shift..(step + 1) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    #[test]
    fn the_intervals_have_no_gaps_and_every_time_is_in_its_own() {
        let mut end = 0;
        for n in 0..INTERVALS {
            let times = interval(n);
            assert_eq!(times.start, end);
            end = times.end;
            for time in [times.start, times.end - 1] {
                assert_eq!(index(time), n);
            }
            assert!((times.end - times.start) * 32 <= times.start.max(32));
        }
        assert_eq!(end, 1 << NANOS_LOG2_MAX);
    }

    #[test]
    fn quantiles_are_within_their_interval() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|n| latencies.record(nanos(n * 1000)));
        for (part, expected) in
            [(0.5, 500_000), (0.99, 990_000), (0.999, 999_000), (1.0, 1_000_000)]
        {
            let found = latencies.quantile(part).unwrap().as_nanos() as f64;
            let off = found / f64::from(expected) - 1.0;
            assert!(off.abs() <= 0.016, "{part}: {found} for {expected}");
        }
        assert_eq!(latencies.quantile(0.0), latencies.quantile(0.001));
        assert_eq!(latencies.mean(), Some(nanos(500_500)));
        assert_eq!(latencies.count(), 1000);
    }

    #[test]
    fn without_durations_there_are_no_figures() {
        let empty = Latencies::default();
        assert!(empty.is_empty());
        assert_eq!((empty.mean(), empty.quantile(0.5), empty.intervals().count()), (None, None, 0));
    }

    #[test]
    fn times_out_of_range_count_as_the_longest() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::MAX);
        latencies.record(Duration::ZERO);
        let held: Vec<_> = latencies.intervals().collect();
        assert_eq!(held.len(), 2);
        assert_eq!(held[0], (nanos(0)..nanos(1), 1));
        assert_eq!(held[1].0.end, nanos(1 << NANOS_LOG2_MAX));
    }

    #[test]
    fn what_was_recorded_since_is_the_difference() {
        let mut latencies = Latencies::default();
        latencies.record(nanos(10));
        let earlier = latencies.clone();
        latencies.record(nanos(20));
        latencies.record(nanos(30));
        let mut since = latencies.clone();
        since.subtract(&earlier);
        assert_eq!((since.count(), since.mean()), (2, Some(nanos(25))));
        let mut sum = earlier;
        sum.add(&since);
        assert_eq!(sum, latencies);
    }
}
