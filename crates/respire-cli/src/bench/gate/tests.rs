use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::bench::schedule::{Arrivals, Part};

const ALL: Part = Part { index: 0, of: 1 };

/// How long the simulated server takes for a request.
const SERVICE: Duration = Duration::from_micros(100);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn gate(arrivals: Arrivals, callers: usize, end: Duration) -> Gate {
    Gate::new(Schedule::new(arrivals, ALL, end, 0), callers, Duration::ZERO, end)
}

/// Runs a gate against a server with a clock of its own: it answers one request after the other,
/// each in [`SERVICE`], and does nothing from `stall.0` to `stall.1`.
fn simulate(mut gate: Gate, stall: (Duration, Duration)) -> Tally {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Dispatch,
        Caller(usize),
        Answer(usize),
    }
    let mut events: BinaryHeap<Reverse<(Duration, Event)>> = BinaryHeap::new();
    let mut server_free_at = Duration::ZERO;
    let mut now = Duration::ZERO;
    events.extend((0..gate.callers.len()).map(|n| Reverse((now, Event::Caller(n)))));
    events.push(Reverse((now, Event::Dispatch)));
    while let Some(Reverse((at, event))) = events.pop() {
        now = at;
        match event {
            Event::Dispatch => {
                let mut woken = Vec::new();
                if let Some(next) = gate.dispatch(now, &mut woken) {
                    events.push(Reverse((next, Event::Dispatch)));
                }
                events.extend(woken.into_iter().map(|n| Reverse((now, Event::Caller(n)))));
            }
            Event::Answer(n) => {
                gate.finish(n, now, Outcome::Answered { nulls: 0 });
                events.push(Reverse((now, Event::Caller(n))));
            }
            Event::Caller(n) => match gate.next(n, now) {
                Step::Start(_) => {
                    let mut begins = server_free_at.max(now);
                    if begins + SERVICE > stall.0 && begins < stall.1 {
                        begins = stall.1;
                    }
                    server_free_at = begins + SERVICE;
                    events.push(Reverse((server_free_at, Event::Answer(n))));
                }
                Step::Wait { rouse: true } => events.push(Reverse((now, Event::Dispatch))),
                Step::Wait { rouse: false } | Step::Over => {}
            },
        }
    }
    gate.into_tally(now)
}

/// How many recorded times are longer than this.
fn longer_than(times: &crate::bench::tally::Times, bound: Duration) -> u64 {
    let histogram = times.histogram();
    histogram.len() - histogram.count_between(0, bound.as_nanos() as u64)
}

#[test]
fn without_a_stall_every_request_takes_what_the_server_takes() {
    let tally = simulate(gate(Arrivals::Constant(1000.0), 4, ms(2000)), (ms(9000), ms(9000)));
    assert_eq!((tally.scheduled, tally.started, tally.answered), (2000, 2000, 2000));
    assert_eq!((tally.late, tally.waited_for_caller), (0, 0));
    assert_eq!(longer_than(&tally.latency, SERVICE * 101 / 100), 0);
}

#[test]
fn a_stall_is_charged_to_every_request_that_arrived_in_it() {
    // Of 1,000 requests a second, those of a stall of one second take from a second to nothing: 900
    // of them more than a tenth. However many of them could be under way is no matter.
    for callers in [1, 16, 5000] {
        let stalled = gate(Arrivals::Constant(1000.0), callers, ms(4000));
        let tally = simulate(stalled, (ms(1000), ms(2000)));
        assert_eq!((tally.scheduled, tally.answered), (4000, 4000), "{callers} callers");
        let slow = longer_than(&tally.latency, ms(100));
        // What has piled up takes another tenth of a second to be worked off.
        assert!((900..=1011).contains(&slow), "{callers} callers: {slow}");
        let longest = Duration::from_nanos(tally.latency.histogram().max());
        assert!((ms(1000)..ms(1010)).contains(&longest), "{callers} callers: {longest:?}");
    }
}

#[test]
fn from_its_start_a_stalled_request_looks_as_a_closed_loop_sees_it() {
    let stall = (ms(1000), ms(2000));
    let open = simulate(gate(Arrivals::Constant(1000.0), 1, ms(4000)), stall);
    assert_eq!(longer_than(&open.service, ms(100)), 1, "one caller waits for one answer");
    assert!(longer_than(&open.start_delay, ms(100)) >= 890, "the others wait for the caller");
    assert!(open.late > 1000 && open.waited_for_caller > 1000);

    let closed = simulate(gate(Arrivals::Closed, 1, ms(4000)), stall);
    assert_eq!(longer_than(&closed.latency, ms(100)), 1);
    let p99 = closed.latency.histogram().value_at_quantile(0.99);
    assert!(p99 < 1_000_000, "a closed loop's percentiles hide the stall: {p99} ns");
    let p99 = open.latency.histogram().value_at_quantile(0.99);
    assert!(p99 > 900_000_000, "an open loop's do not: {p99} ns");
}

#[test]
fn more_than_the_server_can_do_is_shown_and_not_left_out() {
    // Twice what the server can do for two seconds: half of it is answered in that time, a bit more
    // in the grace, and the rest counts with its wait.
    let rate = 2.0 / SERVICE.as_secs_f64();
    let tally = simulate(gate(Arrivals::Constant(rate), 8, ms(2000)), (ms(9000), ms(9000)));
    assert_eq!(tally.scheduled, 40_000);
    assert!((29_900..=30_100).contains(&tally.answered), "{}", tally.answered);
    assert_eq!(tally.started, tally.answered);
    assert_eq!(tally.latency.histogram().len(), tally.scheduled);
    assert!(tally.latency.histogram().max() > 1_400_000_000);
}

#[test]
fn the_warm_up_is_not_counted_by_the_time_of_arrival() {
    let schedule = Schedule::new(Arrivals::Constant(1000.0), ALL, ms(2000), 0);
    let tally = simulate(Gate::new(schedule, 1, ms(500), ms(2000)), (ms(400), ms(600)));
    assert_eq!(tally.scheduled, 1500);
    // Requests that arrived in the second half of the stall count, with their waits: half of it, and
    // then for those before them.
    assert!(longer_than(&tally.latency, ms(50)) >= 50);
    assert_eq!(longer_than(&tally.latency, ms(111)), 0);
}

#[test]
fn stopping_counts_what_had_arrived_by_then() {
    let mut gate = gate(Arrivals::Constant(1000.0), 1, ms(2000));
    let Step::Start(first) = gate.next(0, ms(0)) else { panic!("it is due") };
    assert_eq!((first.number, first.at), (0, ms(0)));
    gate.stop(ms(10));
    assert_eq!(gate.dispatch(ms(10), &mut Vec::new()), None);
    gate.finish(0, ms(11), Outcome::Answered { nulls: 0 });
    assert_eq!(gate.next(0, ms(11)), Step::Over);
    let tally = gate.into_tally(ms(12));
    assert_eq!((tally.scheduled, tally.started, tally.answered), (10, 1, 1));
}

#[test]
fn a_request_that_never_ends_is_counted_as_unanswered() {
    let mut gate = gate(Arrivals::Constant(1000.0), 2, ms(2));
    assert!(matches!(gate.next(0, ms(0)), Step::Start(_)));
    assert!(matches!(gate.next(1, ms(1)), Step::Start(_)));
    gate.finish(1, ms(2), Outcome::Answered { nulls: 0 });
    let tally = gate.into_tally(ms(7000));
    assert_eq!((tally.scheduled, tally.answered, tally.errors["unanswered"]), (2, 1, 1));
    assert!(tally.latency.histogram().max() >= 6_990_000_000);
}

#[test]
fn a_caller_that_goes_idle_while_others_were_missing_has_the_next_arrival_set_anew() {
    let mut gate = gate(Arrivals::Constant(1000.0), 1, ms(10));
    let mut woken = Vec::new();
    assert!(matches!(gate.next(0, ms(0)), Step::Start(_)));
    assert_eq!(gate.dispatch(ms(1), &mut woken), Some(ms(10) + GRACE), "nobody can take it");
    gate.finish(0, ms(1), Outcome::Answered { nulls: 0 });
    assert!(matches!(gate.next(0, ms(1)), Step::Start(_)));
    gate.finish(0, ms(1), Outcome::Answered { nulls: 0 });
    assert_eq!(gate.next(0, ms(1)), Step::Wait { rouse: true });
    assert_eq!(gate.next(0, ms(1)), Step::Wait { rouse: false }, "woken for nothing");
    assert_eq!(gate.dispatch(ms(1), &mut woken), Some(ms(2)));
    assert!(woken.is_empty());
    assert_eq!(gate.dispatch(ms(2), &mut woken), Some(ms(3)));
    assert_eq!(woken, [0]);
}
