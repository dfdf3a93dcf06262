//! Random histories that can be had again.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

/// The seed where the environment names none, so that a plain run is the same everywhere.
const DEFAULT_SEED: u64 = 0x7265_7370_6972_6531;

/// One random history. If its test fails, it says how to have the same one again.
pub(super) struct History {
    seed: u64,
    rng: Xoshiro256PlusPlus,
}

impl History {
    /// Runs `history` with one seed after the other, until they have used up `default` steps, or as many as
    /// `RESPIRE_TEST_STEPS` says. It returns how many steps it took, and so does this one in all. The first seed is
    /// `RESPIRE_TEST_SEED`, where set.
    pub(super) fn run_many(default: u64, mut history: impl FnMut(&mut Self) -> u64) -> u64 {
        let steps = from_environment("RESPIRE_TEST_STEPS").unwrap_or(default);
        let mut seed = from_environment("RESPIRE_TEST_SEED").unwrap_or(DEFAULT_SEED);
        let (mut taken, mut histories) = (0, 0_u64);
        while taken < steps {
            let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            taken += history(&mut Self { seed, rng }).max(1);
            seed = seed.wrapping_add(1);
            histories += 1;
        }
        println!("{histories} histories, {taken} steps");
        taken
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    /// Yes, once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// From 1 to `max`, small numbers as likely as large ones.
    pub(super) fn size(&mut self, max: usize) -> usize {
        let bits = self.below(usize::BITS as usize - max.leading_zeros() as usize) + 1;
        (self.below(1 << bits) + 1).min(max)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.seed;
            eprintln!("to have this history again: RESPIRE_TEST_SEED={seed} RESPIRE_TEST_STEPS=1");
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}
