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

/// What this process has in memory, for records; where the system tells.
#[must_use]
pub fn memory() -> String {
    match (status("VmRSS:"), status("VmHWM:")) {
        (Some(now), Some(most)) => {
            format!("resident {} MiB, at the most {}", now >> 20, most >> 20)
        }
        _ => "resident: unknown".to_owned(),
    }
}

/// The most that this process had in memory, in bytes; where the system tells.
#[must_use]
pub fn memory_max() -> Option<usize> {
    status("VmHWM:")
}

/// A line of what Linux says of this process, in bytes.
fn status(name: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}
