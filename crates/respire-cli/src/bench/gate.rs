//! Which caller starts which request, and when. No clock and no task: time is an argument.
//!
//! Callers are what bounds the requests under way. A request that arrives while all of them are
//! busy needs no place in a queue: the schedule still has it, and the first caller that is free
//! takes it, with the instant at which it was to start.

use std::time::Duration;

use super::schedule::{Arrival, Schedule};
use super::tally::{Outcome, Tally};

/// How long after the schedule's end requests that arrived before it are still started.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// What a caller that is free does next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    Start(Arrival),
    /// It waits to be woken. With `rouse`, [`Gate::dispatch`] is to be called anew.
    Wait {
        rouse: bool,
    },
    /// There is nothing left to do.
    Over,
}

#[derive(Debug)]
pub(crate) struct Gate {
    schedule: Schedule,
    warm_up: Duration,
    give_up: Duration,
    callers: Vec<Caller>,
    /// The callers that wait, the one that began to last at the end: it is taken first, as what it
    /// needs is still in the CPU's caches.
    waiting: Vec<usize>,
    /// Requests are due and all callers busy.
    blocked: bool,
    over: bool,
    tally: Tally,
}

#[derive(Debug, Clone, Copy)]
enum Caller {
    Free,
    /// Is among those that wait.
    Waiting,
    /// Is to start this as soon as it runs.
    Given(Arrival),
    Busy {
        arrival: Arrival,
        started: Duration,
    },
}

impl Gate {
    /// For the arrivals of a schedule that ends at `end`; those of its first `warm_up` are not
    /// counted.
    pub(crate) fn new(
        schedule: Schedule,
        callers: usize,
        warm_up: Duration,
        end: Duration,
    ) -> Self {
        Self {
            schedule,
            warm_up,
            give_up: end + GRACE,
            callers: vec![Caller::Free; callers],
            waiting: Vec::with_capacity(callers),
            blocked: false,
            over: false,
            tally: Tally::new(),
        }
    }

    /// What a caller that is free does next.
    pub(crate) fn next(&mut self, caller: usize, now: Duration) -> Step {
        let arrival = match self.callers[caller] {
            Caller::Given(arrival) => arrival,
            // Woken without a reason of ours.
            Caller::Waiting => return Step::Wait { rouse: false },
            Caller::Free if self.over => return Step::Over,
            Caller::Free => match self.schedule.take_due(now) {
                Some(arrival) => {
                    let waited = self.waiting.is_empty() && arrival.at < now;
                    self.tally.waited_for_caller += u64::from(waited && self.counts(arrival));
                    arrival
                }
                None => {
                    self.callers[caller] = Caller::Waiting;
                    self.waiting.push(caller);
                    return Step::Wait { rouse: std::mem::take(&mut self.blocked) };
                }
            },
            Caller::Busy { .. } => unreachable!("a caller asks when its request has ended"),
        };
        self.callers[caller] = Caller::Busy { arrival, started: now };
        Step::Start(arrival)
    }

    /// Hands what is due to callers that wait, and adds to `woken` those to wake. Returns when to
    /// call again; `None` once there is nothing more to hand out.
    pub(crate) fn dispatch(&mut self, now: Duration, woken: &mut Vec<usize>) -> Option<Duration> {
        while !self.over && !self.waiting.is_empty() {
            let Some(arrival) = self.schedule.take_due(now) else { break };
            let caller = self.waiting.pop().expect("one waits");
            self.callers[caller] = Caller::Given(arrival);
            woken.push(caller);
        }
        self.blocked = false;
        match self.schedule.next_at(now) {
            _ if self.over => {}
            Some(at) if at > now => return Some(at),
            Some(_) if now < self.give_up => {
                self.blocked = true;
                return Some(self.give_up);
            }
            Some(_) | None => self.give_up(now),
        }
        for caller in self.waiting.drain(..) {
            self.callers[caller] = Caller::Free;
            woken.push(caller);
        }
        None
    }

    /// A caller's request has ended.
    pub(crate) fn finish(&mut self, caller: usize, now: Duration, outcome: Outcome) {
        let was = std::mem::replace(&mut self.callers[caller], Caller::Free);
        let Caller::Busy { arrival, started } = was else {
            unreachable!("a request ends after it started")
        };
        self.tally.ended += 1;
        if self.counts(arrival) {
            self.tally.finish(arrival.at, started, now, outcome);
        }
    }

    /// Lets nothing more arrive, and starts nothing more. [`dispatch`](Self::dispatch) is to be
    /// called.
    pub(crate) fn stop(&mut self, now: Duration) {
        self.schedule.end_at(now);
        self.give_up(now);
    }

    /// What was measured. Requests whose end nobody waited for count as unanswered.
    pub(crate) fn into_tally(mut self, now: Duration) -> Tally {
        for caller in self.callers {
            let (at, started) = match caller {
                Caller::Free | Caller::Waiting => continue,
                Caller::Given(arrival) => (arrival.at, now),
                Caller::Busy { arrival, started } => (arrival.at, started),
            };
            if at >= self.warm_up {
                self.tally.finish(at, started, now, Outcome::Unanswered("unanswered"));
            }
        }
        self.tally
    }

    fn give_up(&mut self, now: Duration) {
        self.over = true;
        while let Some(arrival) = self.schedule.take_due(Duration::MAX) {
            if self.counts(arrival) {
                self.tally.never_started(arrival.at, now);
            }
        }
    }

    fn counts(&self, arrival: Arrival) -> bool {
        arrival.at >= self.warm_up
    }
}

#[cfg(test)]
mod tests;
