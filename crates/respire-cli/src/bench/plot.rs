//! A histogram as bars of text.

use std::fmt;

use hdrhistogram::Histogram;

use super::report::{Bin, grouped, time};

/// Steps of the intervals in a decade, from fine to coarse: each a series of preferred numbers, so
/// that their ends are easy to read.
pub(crate) const FINE: &[u64] = &[100, 125, 160, 200, 250, 315, 400, 500, 630, 800];
const MIDDLE: &[u64] = &[100, 160, 250, 400, 630];
const COARSE: &[u64] = &[100, 200, 500];

/// Lines of a plot, at the most, if the intervals can be made coarse enough.
const LINES_MAX: usize = 24;

/// The length of the longest bar, in characters.
const BAR: usize = 40;

/// The times, in nanoseconds, counted in intervals with ends of this series. Those without any are
/// left out.
pub(crate) fn bins(times: &Histogram<u64>, series: &[u64]) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    let mut ends = Ends { series, decade: 1, step: 0 };
    let (mut from, mut to) = (0, ends.next());
    for recorded in times.iter_recorded() {
        let nanos = recorded.value_iterated_to();
        while nanos >= to {
            (from, to) = (to, ends.next());
        }
        let (from_us, to_us) = (from as f64 / 1000.0, to as f64 / 1000.0);
        let count = recorded.count_since_last_iteration();
        match bins.last_mut().filter(|last| last.from_us == from_us) {
            Some(last) => last.count += count,
            None => bins.push(Bin { from_us, to_us, count }),
        }
    }
    bins
}

/// The ends of the intervals in nanoseconds, from 10 on; the hour of the longest time is far below
/// where they would end.
struct Ends<'a> {
    series: &'a [u64],
    decade: u64,
    step: usize,
}

impl Ends<'_> {
    fn next(&mut self) -> u64 {
        let end = self.series[self.step] * self.decade / 10;
        self.step += 1;
        if self.step == self.series.len() {
            self.step = 0;
            self.decade *= 10;
        }
        end
    }
}

/// Writes a line for each interval between the first and the last one, with a bar that is as long
/// as its count is large.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, bins: &[Bin]) -> fmt::Result {
    let lines = [FINE, MIDDLE, COARSE]
        .into_iter()
        .map(|series| lines(bins, series))
        .find(|lines| lines.len() <= LINES_MAX)
        .unwrap_or_else(|| lines(bins, COARSE));
    let total: u64 = lines.iter().map(|line| line.count).sum();
    let largest = lines.iter().map(|line| line.count).max().unwrap_or_default();
    let mut below = 0;
    for Bin { from_us, to_us, count } in &lines {
        below += count;
        let share = 100.0 * below as f64 / total as f64;
        writeln!(
            f,
            "{:>9} – {:>9}  {:<BAR$} {:>11}  {share:>7.3} %",
            time(Some(*from_us)),
            time(Some(*to_us)),
            bar(*count, largest),
            grouped(*count)
        )?;
    }
    Ok(())
}

/// The intervals of a series that `bins`, which are finer, fall into, with those between them.
fn lines(bins: &[Bin], series: &[u64]) -> Vec<Bin> {
    let mut lines: Vec<Bin> = Vec::new();
    let mut rest = bins.iter().peekable();
    let mut ends = Ends { series, decade: 1, step: 0 };
    let (mut from, mut to) = (0, ends.next());
    while let Some(bin) = rest.peek() {
        let (from_us, to_us) = (from as f64 / 1000.0, to as f64 / 1000.0);
        if bin.from_us < to_us {
            match lines.last_mut().filter(|line| line.from_us == from_us) {
                Some(line) => line.count += bin.count,
                None => lines.push(Bin { from_us, to_us, count: bin.count }),
            }
            rest.next();
        } else {
            if !lines.is_empty() && lines.last().is_some_and(|line| line.from_us != from_us) {
                lines.push(Bin { from_us, to_us, count: 0 });
            }
            (from, to) = (to, ends.next());
        }
    }
    lines
}

/// A bar whose length is to [`BAR`] as the count is to the largest, to an eighth of a character.
/// What is there at all can be seen.
fn bar(count: u64, largest: u64) -> String {
    if count == 0 {
        return String::new();
    }
    let eighths = (count as f64 / largest as f64 * 8.0 * BAR as f64).round() as usize;
    let eighths = eighths.max(1);
    "█".repeat(eighths / 8) + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plot<'a>(&'a [Bin]);

    impl fmt::Display for Plot<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write(f, self.0)
        }
    }

    fn histogram(times: &[(u64, u64)]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
        for (nanos, count) in times {
            histogram.record_n(*nanos, *count).unwrap();
        }
        histogram
    }

    #[test]
    fn every_time_is_in_the_interval_that_holds_it() {
        let times = histogram(&[(1, 1), (9, 1), (10, 1), (100_000, 5), (124_800, 2), (125_100, 1)]);
        let bins = bins(&times, FINE);
        let shown: Vec<_> = bins.iter().map(|bin| (bin.from_us, bin.to_us, bin.count)).collect();
        let expected = [(0.0, 0.01, 2), (0.01, 0.012, 1), (100.0, 125.0, 7), (125.0, 160.0, 1)];
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_longest_time_has_an_interval() {
        let times = histogram(&[(3_600_000_000_000, 1)]);
        let bins = bins(&times, FINE);
        assert_eq!(bins.len(), 1);
        assert!(bins[0].from_us <= 3.6e9 && bins[0].to_us > 3.6e9);
    }

    #[test]
    fn bars_are_as_long_as_their_counts() {
        assert_eq!(bar(0, 10), "");
        assert_eq!(bar(10, 10), "█".repeat(BAR));
        assert_eq!(bar(5, 10), "█".repeat(BAR / 2));
        assert_eq!(bar(1, 1_000_000), "▏");
    }

    #[test]
    fn a_plot_has_no_gaps_and_ends_at_all_of_it() {
        let times = histogram(&[(50_000, 75), (110_000, 25)]);
        let text = Plot(&bins(&times, FINE)).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].contains("50.0 µs –   63.0 µs") && lines[0].contains("75.000 %"));
        assert!(!lines[1].contains('█') && lines[1].ends_with("0   75.000 %"), "{text}");
        assert!(lines[3].contains("100.0 µs –  125.0 µs") && lines[3].ends_with("100.000 %"));
    }

    #[test]
    fn a_plot_of_a_wide_range_is_coarser_and_counts_the_same() {
        let times: Vec<_> = (0..8).map(|n| (10_000 * 10_u64.pow(n), 3)).collect();
        let text = Plot(&bins(&histogram(&times), FINE)).to_string();
        assert!(text.lines().count() <= LINES_MAX, "{text}");
        assert!(text.trim_end().ends_with("100.000 %"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains('█')).count(), 8, "{text}");
    }

    #[test]
    fn no_times_make_no_plot() {
        assert_eq!(Plot(&bins(&histogram(&[]), FINE)).to_string(), "");
    }
}
