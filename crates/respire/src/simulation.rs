//! What the simulations of this crate share: random histories that can be had again.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

pub(crate) mod threads;

/// The seed where the environment names none, so that a plain run is the same everywhere.
const DEFAULT_SEED: u64 = 0x7265_7370_6972_6531;

/// One random history. If its test fails, it says how to have the same one again.
pub(crate) struct History {
    /// To be told, where it is a history of its own.
    seed: Option<u64>,
    rng: Xoshiro256PlusPlus,
}

impl History {
    /// Runs `history` with one seed after the other, until they have used up `default` steps, or as many as
    /// `RESPIRE_TEST_STEPS` says. It returns how many steps it took. The first seed is `RESPIRE_TEST_SEED`, where set.
    pub(crate) fn run_many(default: u64, mut history: impl FnMut(&mut Self) -> u64) {
        let steps = from_environment("RESPIRE_TEST_STEPS").unwrap_or(default);
        let mut seed = from_environment("RESPIRE_TEST_SEED").unwrap_or(DEFAULT_SEED);
        let (mut taken, mut histories) = (0, 0_u64);
        while taken < steps {
            taken += history(&mut Self::new(seed)).max(1);
            seed = seed.wrapping_add(1);
            histories += 1;
        }
        println!("{histories} histories, {taken} steps");
    }

    fn new(seed: u64) -> Self {
        Self { seed: Some(seed), rng: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// The part of one thread in a history, which follows from a seed that the history has drawn.
    pub(crate) fn part(seed: u64) -> Self {
        Self { seed: None, rng: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    /// Yes, once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

impl Drop for History {
    fn drop(&mut self) {
        let Some(seed) = self.seed.filter(|_| std::thread::panicking()) else { return };
        eprintln!("to have this history again: RESPIRE_TEST_SEED={seed} RESPIRE_TEST_STEPS=1");
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
