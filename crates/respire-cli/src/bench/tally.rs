//! What is counted and measured while a run goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use respire::Stats;

/// The longest time that is told apart from longer ones, in nanoseconds: an hour.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// Decimal digits that a recorded time keeps.
const DIGITS: u8 = 3;

/// A request that starts later than this after its arrival counts as late. A millisecond is far more
/// than a caller takes to begin, and as much as a router has for a lookup.
pub(crate) const LATE: Duration = Duration::from_millis(1);

/// How many kinds of errors are told apart. Their names come from the server, which may have many.
const ERROR_KINDS_MAX: usize = 32;

/// Times from one nanosecond to an hour, exact to a thousandth, in memory that is fixed.
#[derive(Debug, Clone)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, NANOS_MAX, DIGITS);
        Self(histogram.expect("the bounds are those of the crate's documentation"))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos.max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every command of it was answered, this many of them with null.
    Answered { nulls: u64 },
    /// Its answer was not waited for any longer, for this reason: the time that it took is a lower
    /// bound.
    Unanswered(&'static str),
    /// Another error, by kind.
    Failed(String),
}

/// The requests of a run whose arrival lies in the time that is measured.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Ended, with those of the warm-up.
    pub(crate) ended: u64,
    /// Arrived.
    pub(crate) scheduled: u64,
    /// Handed to the client.
    pub(crate) started: u64,
    pub(crate) answered: u64,
    /// Replies that were null.
    pub(crate) nulls: u64,
    /// Started later than [`LATE`] after their arrival.
    pub(crate) late: u64,
    /// Arrived while every caller was busy, so that they had to wait for one.
    pub(crate) waited_for_caller: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// From a request's arrival to its answer.
    pub(crate) latency: Times,
    /// From a request's start to its answer.
    pub(crate) service: Times,
    /// From a request's arrival to its start.
    pub(crate) start_delay: Times,
    /// When the last answer came, from the start of the run.
    pub(crate) last_answer: Duration,
    /// What the clients counted, where they were asked.
    pub(crate) client: Option<Stats>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            ended: 0,
            scheduled: 0,
            started: 0,
            answered: 0,
            nulls: 0,
            late: 0,
            waited_for_caller: 0,
            errors: BTreeMap::new(),
            latency: Times::new(),
            service: Times::new(),
            start_delay: Times::new(),
            last_answer: Duration::ZERO,
            client: None,
        }
    }

    /// Adds what a client counted from `before` to `after`.
    pub(crate) fn add_client(&mut self, before: &Stats, after: &Stats) {
        let stats = after.since(before);
        match &mut self.client {
            Some(sum) => sum.add(&stats),
            None => self.client = Some(stats),
        }
    }

    /// A request that arrived at `at` was started at `started` and ended at `ended`.
    pub(crate) fn finish(
        &mut self,
        at: Duration,
        started: Duration,
        ended: Duration,
        outcome: Outcome,
    ) {
        self.scheduled += 1;
        self.started += 1;
        let delay = started.saturating_sub(at);
        self.late += u64::from(delay > LATE);
        self.start_delay.record(delay);
        match outcome {
            Outcome::Answered { nulls } => {
                self.answered += 1;
                self.nulls += nulls;
                self.last_answer = self.last_answer.max(ended);
            }
            Outcome::Unanswered(kind) => self.count_error(kind.to_owned()),
            // Its time says nothing: a connection that is refused is refused quickly.
            Outcome::Failed(kind) => return self.count_error(kind),
        }
        self.latency.record(ended.saturating_sub(at));
        self.service.record(ended.saturating_sub(started));
    }

    /// A request that arrived at `at` had not been started by `given_up`, and never will be. It
    /// counts with the time that it waited, which is a lower bound: to leave it out would make the
    /// figures of an overloaded server look better the more it is overloaded.
    pub(crate) fn never_started(&mut self, at: Duration, given_up: Duration) {
        self.scheduled += 1;
        self.latency.record(given_up.saturating_sub(at));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.ended += other.ended;
        self.scheduled += other.scheduled;
        self.started += other.started;
        self.answered += other.answered;
        self.nulls += other.nulls;
        self.late += other.late;
        self.waited_for_caller += other.waited_for_caller;
        for (kind, count) in &other.errors {
            self.count_errors(kind.clone(), *count);
        }
        self.latency.add(&other.latency);
        self.service.add(&other.service);
        self.start_delay.add(&other.start_delay);
        self.last_answer = self.last_answer.max(other.last_answer);
        if let Some(stats) = &other.client {
            self.add_client(&Stats::default(), stats);
        }
    }

    fn count_error(&mut self, kind: String) {
        self.count_errors(kind, 1);
    }

    fn count_errors(&mut self, kind: String, count: u64) {
        let known = self.errors.contains_key(&kind) || self.errors.len() < ERROR_KINDS_MAX;
        let kind = if known { kind } else { "other".to_owned() };
        *self.errors.entry(kind).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn latency_counts_from_the_arrival_and_service_from_the_start() {
        let mut tally = Tally::new();
        tally.finish(ms(10), ms(14), ms(20), Outcome::Answered { nulls: 0 });
        assert_eq!(tally.latency.histogram().max() / 1_000_000, 10);
        assert_eq!(tally.service.histogram().max() / 1_000_000, 6);
        assert_eq!(tally.start_delay.histogram().max() / 1_000_000, 4);
        assert_eq!((tally.late, tally.last_answer), (1, ms(20)));
    }

    #[test]
    fn times_that_are_lower_bounds_count_and_quick_failures_do_not() {
        let mut tally = Tally::new();
        tally.finish(ms(0), ms(0), ms(1), Outcome::Failed("closed".to_owned()));
        assert_eq!(tally.latency.histogram().len(), 0);
        tally.finish(ms(0), ms(0), ms(5000), Outcome::Unanswered("timeout"));
        tally.never_started(ms(1000), ms(3000));
        assert_eq!(tally.latency.histogram().len(), 2);
        assert_eq!(tally.service.histogram().len(), 1);
        assert_eq!((tally.scheduled, tally.started, tally.answered), (3, 2, 0));
        assert_eq!(tally.errors["closed"], 1);
        assert_eq!(tally.errors["timeout"], 1);
    }

    #[test]
    fn a_server_that_invents_error_codes_fills_no_memory() {
        let mut tally = Tally::new();
        for n in 0..1000 {
            tally.finish(ms(0), ms(0), ms(1), Outcome::Failed(format!("server: E{n}")));
        }
        assert!(tally.errors.len() <= ERROR_KINDS_MAX + 1);
        assert_eq!(tally.errors.values().sum::<u64>(), 1000);
    }

    #[test]
    fn sums_have_all_of_both() {
        let (mut a, mut b) = (Tally::new(), Tally::new());
        a.finish(ms(0), ms(0), ms(1), Outcome::Answered { nulls: 1 });
        b.finish(ms(0), ms(0), ms(2), Outcome::Failed("closed".to_owned()));
        b.finish(ms(0), ms(2), ms(9), Outcome::Answered { nulls: 0 });
        a.add(&b);
        assert_eq!((a.scheduled, a.started, a.answered, a.nulls, a.late), (3, 3, 2, 1, 1));
        assert_eq!(a.latency.histogram().len(), 2);
        assert_eq!((a.errors["closed"], a.last_answer), (1, ms(9)));
    }
}
