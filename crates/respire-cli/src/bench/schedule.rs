//! When each request is to start: arithmetic on the time since the start of a run, without a clock.

use std::time::Duration;

use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::ChaCha8Rng;
use rand_distr::Exp1;

/// How requests arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// At equal distances, this many a second.
    Constant(f64),
    /// As independent users send them: this many a second on average, at exponentially distributed
    /// distances.
    Poisson(f64),
    /// Whenever a caller is free: a closed loop, in which a slow answer delays the next request.
    Closed,
}

/// A request that is to start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arrival {
    /// Its number among those of all threads. Decides what is sent.
    pub(crate) number: u64,
    /// When it is to start, from the start of the run.
    pub(crate) at: Duration,
}

/// One of several threads that share the arrivals of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) index: u64,
    pub(crate) of: u64,
}

/// The arrivals of one thread, in order, each of them once.
///
/// An arrival that is due stays due until it is taken: nothing that happens to the requests before
/// it changes when it was to start.
#[derive(Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    part: Part,
    /// How many were taken.
    taken: u64,
    /// The next one; meaningless in a closed loop.
    next_at: Duration,
    /// Nothing arrives at this instant or later.
    end: Duration,
    rng: ChaCha8Rng,
}

impl Schedule {
    pub(crate) fn new(arrivals: Arrivals, part: Part, end: Duration, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(part.index);
        let mut schedule = Self { arrivals, part, taken: 0, next_at: Duration::ZERO, end, rng };
        schedule.advance();
        schedule
    }

    /// When the next request arrives; `None` when there is none any more. In a closed loop, at
    /// once.
    pub(crate) fn next_at(&self, now: Duration) -> Option<Duration> {
        let at = if self.arrivals == Arrivals::Closed { now } else { self.next_at };
        (at < self.end).then_some(at)
    }

    /// The next request, if it has arrived.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<Arrival> {
        let at = self.next_at(now).filter(|at| *at <= now)?;
        let number = self.part.index + self.taken * self.part.of;
        self.taken += 1;
        self.advance();
        Some(Arrival { number, at })
    }

    /// Lets nothing arrive at this instant or later.
    pub(crate) fn end_at(&mut self, end: Duration) {
        self.end = self.end.min(end);
    }

    fn advance(&mut self) {
        match self.arrivals {
            // From the number and not from the last instant, so that no rounding adds up.
            Arrivals::Constant(rate) => {
                let number = self.part.index + self.taken * self.part.of;
                self.next_at = seconds(number as f64 / rate);
            }
            // A part of a Poisson process is one as well, at its part of the rate.
            Arrivals::Poisson(rate) => {
                let gap: f64 = Exp1.sample(&mut self.rng);
                let gap = seconds(gap * self.part.of as f64 / rate);
                self.next_at = self.next_at.saturating_add(gap);
            }
            Arrivals::Closed => {}
        }
    }
}

/// Like `Duration::from_secs_f64`, but what is too long to be one is the longest.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Part = Part { index: 0, of: 1 };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn all(mut schedule: Schedule) -> Vec<Arrival> {
        std::iter::from_fn(|| schedule.take_due(Duration::MAX)).collect()
    }

    #[test]
    fn a_constant_rate_is_exact_however_long_it_lasts() {
        let arrivals = all(Schedule::new(Arrivals::Constant(3.0), ALL, ms(1_000_000), 0));
        assert_eq!(arrivals.len(), 3000);
        assert_eq!(arrivals[2999].at, Duration::from_secs_f64(2999.0 / 3.0));
        assert_eq!(arrivals[3].at, ms(1000));
    }

    #[test]
    fn parts_make_up_the_whole() {
        let whole = all(Schedule::new(Arrivals::Constant(100.0), ALL, ms(1000), 0));
        let parts = (0..3).map(|index| Part { index, of: 3 });
        let mut together: Vec<_> = parts
            .flat_map(|part| all(Schedule::new(Arrivals::Constant(100.0), part, ms(1000), 0)))
            .collect();
        together.sort_by_key(|arrival| arrival.number);
        assert_eq!(together, whole);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_their_gaps_the_spread_of_an_exponential() {
        for of in [1, 4] {
            let part = Part { index: of - 1, of };
            let end = Duration::from_secs(1000);
            let arrivals = all(Schedule::new(Arrivals::Poisson(100.0), part, end, 7));
            let expected = 100_000.0 / of as f64;
            // Five standard deviations of a Poisson count.
            assert!((arrivals.len() as f64 - expected).abs() < 5.0 * expected.sqrt());
            let gaps: Vec<f64> =
                arrivals.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance =
                gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            let spread = variance.sqrt() / mean;
            assert!((0.95..1.05).contains(&spread), "{spread}");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_arrivals() {
        let arrivals =
            |seed| all(Schedule::new(Arrivals::Poisson(50.0), ALL, Duration::from_secs(10), seed));
        assert_eq!(arrivals(1), arrivals(1));
        assert_ne!(arrivals(1), arrivals(2));
    }

    #[test]
    fn what_is_due_stays_due() {
        let mut schedule = Schedule::new(Arrivals::Constant(1000.0), ALL, ms(10), 0);
        assert_eq!(schedule.take_due(ms(0)), Some(Arrival { number: 0, at: ms(0) }));
        assert_eq!(schedule.take_due(ms(0)), None);
        assert_eq!(schedule.next_at(ms(0)), Some(ms(1)));
        assert_eq!(schedule.take_due(ms(5)), Some(Arrival { number: 1, at: ms(1) }));
        assert_eq!(schedule.next_at(ms(5)), Some(ms(2)));
    }

    #[test]
    fn an_early_end_takes_away_only_what_is_later() {
        let mut schedule = Schedule::new(Arrivals::Constant(1000.0), ALL, ms(10), 0);
        schedule.end_at(ms(3));
        assert_eq!(all(schedule).len(), 3);
    }

    #[test]
    fn a_closed_loop_is_always_due_until_its_end() {
        let mut schedule = Schedule::new(Arrivals::Closed, ALL, ms(10), 0);
        assert_eq!(schedule.take_due(ms(4)), Some(Arrival { number: 0, at: ms(4) }));
        assert_eq!(schedule.take_due(ms(4)), Some(Arrival { number: 1, at: ms(4) }));
        assert_eq!(schedule.take_due(ms(10)), None);
        assert_eq!(schedule.next_at(ms(10)), None);
    }

    #[test]
    fn a_rate_so_small_that_nothing_follows_has_one_arrival() {
        for arrivals in [Arrivals::Constant(1e-300), Arrivals::Constant(0.01)] {
            assert_eq!(all(Schedule::new(arrivals, ALL, ms(1000), 0)).len(), 1);
        }
    }
}
