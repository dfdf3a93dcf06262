//! Whether the machine had anything else to do.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// What others may use of the processors before a record has to say so.
pub const OTHERS_MAX: f64 = 0.02;

/// CPU time until now, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Everybody's, idle time included.
    all: f64,
    /// What nobody used.
    idle: f64,
    /// What the hypervisor gave to other machines.
    stolen: f64,
    /// This process'.
    ours: f64,
    /// The server's.
    server: f64,
}

/// Where the CPU time of a run went, in shares of all processors.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// This process and the server.
    pub run: f64,
    /// All other processes, and interrupts.
    pub others: f64,
    /// Other machines on the same host.
    pub stolen: f64,
}

impl Usage {
    /// As it is now; `None` where the kernel does not say.
    pub fn now(server: Option<u32>) -> Option<Self> {
        let ticks = clock_ticks_per_second() as f64;
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let times: Vec<f64> =
            stat.lines().next()?.split_whitespace().skip(1).map(seconds(ticks)).collect();
        // user nice system idle iowait irq softirq steal; what follows is part of the first two.
        let idle = times.get(3)? + times.get(4)?;
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let ours = Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).ok()?);
        let server = fs::read_to_string(format!("/proc/{}/stat", server?)).ok()?;
        // The name in brackets may contain anything; user and system time are the twelfth and
        // thirteenth field after it.
        let fields = server.rsplit_once(')')?.1.split_whitespace();
        let server = fields.skip(11).take(2).map(seconds(ticks)).sum();
        Some(Self {
            all: times.iter().take(8).sum(),
            idle,
            stolen: *times.get(7)?,
            ours: ours.as_secs_f64(),
            server,
        })
    }

    /// Where the time since `start` went.
    pub fn since(&self, start: &Self) -> Shares {
        let all = self.all - start.all;
        let run = self.ours - start.ours + self.server - start.server;
        let stolen = self.stolen - start.stolen;
        let idle = self.idle - start.idle;
        // The clocks tick differently, so that a little less than nothing can be left.
        let others = (all - idle - stolen - run).max(0.0);
        Shares { run: run / all, others: others / all, stolen: stolen / all }
    }
}

impl Shares {
    /// Whether the figures can be believed.
    pub fn is_quiet(&self) -> bool {
        self.others + self.stolen <= OTHERS_MAX
    }
}

fn seconds(ticks: f64) -> impl Fn(&str) -> f64 {
    move |field| field.parse().unwrap_or(0.0) / ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_ours_nor_idle_is_others() {
        let usage = |all, idle, stolen, ours, server| Usage { all, idle, stolen, ours, server };
        let start = usage(100.0, 50.0, 1.0, 3.0, 4.0);
        let shares = usage(200.0, 80.0, 6.0, 33.0, 24.0).since(&start);
        assert_eq!((shares.run, shares.others, shares.stolen), (0.5, 0.15, 0.05));
        assert!(!shares.is_quiet());
    }

    #[test]
    fn this_process_is_seen_at_work() {
        let own = Some(std::process::id());
        let start = Usage::now(own).unwrap();
        let mut sum = 0_u64;
        while Usage::now(own).unwrap().ours < start.ours + 0.05 {
            sum = std::hint::black_box(sum + 1);
        }
        let now = Usage::now(own).unwrap();
        assert!(now.all > start.all && now.server >= start.server);
    }
}
