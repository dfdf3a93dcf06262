//! What random tests take from the environment. CONTRIBUTING.md says how to use it.

use std::time::Duration;

/// The seed where the environment names none, so that a plain run makes the same choices everywhere.
const DEFAULT_SEED: u64 = 0x7265_7370_6972_6531;

/// The seed to begin with: `RESPIRE_TEST_SEED`, or a fixed one. Says it, so that a test that fails can be run again.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn seed() -> u64 {
    let seed = number("RESPIRE_TEST_SEED").unwrap_or(DEFAULT_SEED);
    println!("RESPIRE_TEST_SEED={seed}");
    seed
}

/// How long a test goes on that can go on for as long as one likes: `RESPIRE_TEST_SECONDS`, or `default`.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn duration(default: Duration) -> Duration {
    number("RESPIRE_TEST_SECONDS").map_or(default, Duration::from_secs)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// What this process has in memory, in MiB, for records; where the system tells.
#[must_use]
pub fn memory() -> String {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = |name: &str| {
            status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        Some(format!("resident {}, at the most {}", line("VmRSS:")?, line("VmHWM:")?))
    };
    resident().unwrap_or_else(|| "resident: unknown".to_owned())
}
