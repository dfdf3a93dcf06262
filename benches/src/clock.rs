//! CPU time of the calling thread, which other processes do not disturb as they
//! disturb the time on the wall.

use std::sync::LazyLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that this thread has used.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// CPU time since `start`, without what it costs to ask for it.
///
/// Reading this clock is a system call. What is timed can be as short as a
/// microsecond, so the call would show.
pub fn since(start: Duration) -> Duration {
    now().saturating_sub(start).saturating_sub(*COST)
}

static COST: LazyLock<Duration> = LazyLock::new(|| {
    let mut costs: Vec<Duration> = (0..1001)
        .map(|_| {
            let start = now();
            now().saturating_sub(start)
        })
        .collect();
    costs.sort_unstable();
    costs.get(costs.len() / 2).copied().unwrap_or_default()
});
