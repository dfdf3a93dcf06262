//! Which way of dealing with waves of tasks is the fastest here, found out by trying.
//!
//! Whether it pays to send half a wave, or to wake the tasks of one together, hangs on what no program can ask the system for:
//! how long a processor that was halted takes to go on, and whether others keep it awake. So now and then another way is
//! followed for a few waves, in turns with the present one, and replaces it if more requests came to their end in the
//! same time.

use std::time::{Duration, Instant};

/// A way of dealing with waves that are large enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Way {
    /// The first half of a wave is sent before the second is there.
    pub(super) halved: bool,
    /// The tasks of a wave are woken together, when the driver's thread has nothing else to run.
    pub(super) late: bool,
}

/// For waves that one thread runs. The first is followed until another proves better.
pub(super) const ONE_THREAD: &[Way] =
    &[Way { halved: true, late: false }, Way { halved: false, late: false }];

/// For waves that several threads may run.
pub(super) const THREADS: &[Way] = &[
    Way { halved: true, late: true },
    Way { halved: false, late: true },
    Way { halved: true, late: false },
    Way { halved: false, late: false },
];

/// From so many tasks on, there is something to choose. Below, one more write costs more than it can gain.
const LARGE_WAVE_MIN: usize = 32;

/// A block, in which one way is followed, ends after so many requests and so many waves.
const BLOCK_REQUESTS: usize = 2048;
const BLOCK_WAVES: usize = 8;

/// At its start, so many waves are still those of the block before.
const UNCOUNTED_WAVES: usize = 2;

/// A trial has so many blocks of the present way and as many of the other, in turns.
const TRIAL_PAIRS: usize = 4;

/// Between two trials, so many blocks follow the present way: what a trial costs is spread over them.
const BLOCKS_BETWEEN: usize = 256;

/// By how much the other way must have been the faster one over all, in hundredths. It must have been so in each pair besides, so
/// that a pause of the server's in one block decides nothing.
const GAIN_MIN: u64 = 8;

/// Waves further apart do not follow from each other.
const PAUSE: Duration = Duration::from_millis(20);

/// How many requests ended in what time.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    requests: u64,
    nanoseconds: u64,
}

impl Rate {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.nanoseconds += other.nanoseconds;
    }

    /// Whether it is more than the other by so many hundredths.
    fn exceeds(self, other: Self, hundredths: u64) -> bool {
        let own = u128::from(self.requests) * u128::from(other.nanoseconds) * 100;
        own > u128::from(other.requests)
            * u128::from(self.nanoseconds)
            * u128::from(100 + hundredths)
    }
}

/// What is known of the ways, and which one is followed.
#[derive(Debug)]
pub(super) struct Pace {
    ways: &'static [Way],
    large_min: usize,
    block_requests: usize,
    /// The best of `ways` as far as is known.
    present: usize,
    /// The one that is tried, or will be next.
    other: usize,
    /// Blocks since the last trial began.
    blocks: usize,
    last_wave: Option<Instant>,
    /// Of the block that is under way.
    waves: usize,
    rate: Rate,
    /// Of the trial that is under way.
    present_rate: Rate,
    other_rate: Rate,
    before: Rate,
    wins: usize,
}

impl Pace {
    pub(super) fn new(ways: &'static [Way]) -> Self {
        Self::with_sizes(ways, LARGE_WAVE_MIN, BLOCK_REQUESTS)
    }

    /// Where waves are large from so many tasks on, and blocks end after so many requests.
    pub(super) fn with_sizes(
        ways: &'static [Way],
        large_min: usize,
        block_requests: usize,
    ) -> Self {
        Self {
            ways,
            large_min,
            block_requests,
            present: 0,
            other: 1,
            blocks: 0,
            last_wave: None,
            waves: 0,
            rate: Rate::default(),
            present_rate: Rate::default(),
            other_rate: Rate::default(),
            before: Rate::default(),
            wins: 0,
        }
    }

    /// Begins anew, with other ways.
    pub(super) fn choose_from(&mut self, ways: &'static [Way]) {
        *self = Self::with_sizes(ways, self.large_min, self.block_requests);
    }

    /// Whether the first half of a wave of so many tasks is sent before the second is there.
    pub(super) fn halves(&self, tasks: usize) -> bool {
        tasks >= self.large_min && self.way().halved
    }

    /// Whether so many tasks are woken together.
    pub(super) fn wakes_late(&self, tasks: usize) -> bool {
        tasks >= self.large_min && self.way().late
    }

    /// The way that is followed now.
    fn way(&self) -> Way {
        let is_tried = self.blocks < 2 * TRIAL_PAIRS && self.blocks % 2 == 1;
        self.ways[if is_tried { self.other } else { self.present }]
    }

    /// The replies of so many tasks came together.
    pub(super) fn wave(&mut self, tasks: usize, now: Instant) {
        let last = self.last_wave.replace(now);
        let took = last.map(|last| now.saturating_duration_since(last)).filter(|&t| t < PAUSE);
        if took.is_none() && last.is_some() {
            // A load that comes in bursts measures nothing, and what is only tried is not to be followed for as long.
            self.give_up_trial();
        }
        // A large one comes back in halves, if it is sent so.
        if tasks < self.large_min / 2 {
            // What comes next cannot be measured from here.
            self.last_wave = None;
            return;
        }
        self.waves += 1;
        if let Some(took) = took.filter(|_| self.waves > UNCOUNTED_WAVES) {
            self.rate.requests += tasks as u64;
            self.rate.nanoseconds += took.as_nanos() as u64;
        }
        let ends = self.waves >= UNCOUNTED_WAVES + BLOCK_WAVES
            && self.rate.requests >= self.block_requests as u64;
        if ends {
            self.end_block();
        }
    }

    /// The trial that is under way, if any, begins anew.
    fn give_up_trial(&mut self) {
        if self.blocks < 2 * TRIAL_PAIRS {
            self.blocks = 0;
            self.waves = 0;
            self.wins = 0;
            self.rate = Rate::default();
            self.present_rate = Rate::default();
            self.other_rate = Rate::default();
        }
    }

    fn end_block(&mut self) {
        let rate = std::mem::take(&mut self.rate);
        self.waves = 0;
        if self.blocks < 2 * TRIAL_PAIRS {
            if self.blocks.is_multiple_of(2) {
                self.before = rate;
                self.present_rate.add(rate);
            } else {
                self.wins += usize::from(rate.exceeds(self.before, 0));
                self.other_rate.add(rate);
            }
        }
        self.blocks += 1;
        if self.blocks == 2 * TRIAL_PAIRS {
            self.decide();
        } else if self.blocks == 2 * TRIAL_PAIRS + BLOCKS_BETWEEN {
            self.blocks = 0;
        }
    }

    /// A trial is over.
    fn decide(&mut self) {
        let (present, other) =
            (std::mem::take(&mut self.present_rate), std::mem::take(&mut self.other_rate));
        let wins = std::mem::take(&mut self.wins);
        let next = |way: usize| (way + 1) % self.ways.len();
        let tried = self.other;
        if wins == TRIAL_PAIRS && other.exceeds(present, GAIN_MIN) {
            self.present = tried;
        }
        self.other = next(tried);
        if self.other == self.present {
            self.other = next(self.other);
        }
    }
}

#[cfg(test)]
mod tests;
