//! A machine that gives each way a speed of its own, and what is made of it.

use std::time::{Duration, Instant};

use super::{BLOCK_REQUESTS, BLOCKS_BETWEEN, ONE_THREAD, PAUSE, Pace, THREADS, TRIAL_PAIRS, Way};

const TASKS: usize = 64;

/// Follows so many waves, and returns how. How long one takes is said by its way and its number.
fn follow(pace: &mut Pace, waves: usize, takes: impl Fn(Way, usize) -> Duration) -> Vec<Way> {
    let mut now = Instant::now();
    (0..waves)
        .map(|wave| {
            let way = pace.way();
            now += takes(way, wave);
            pace.wave(TASKS, now);
            way
        })
        .collect()
}

/// Waves of a trial and of what follows it, and some more: how many a cycle has is not said to the waves.
fn cycle() -> usize {
    (2 * TRIAL_PAIRS + BLOCKS_BETWEEN) * (BLOCK_REQUESTS / TASKS + 4)
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn the_faster_way_is_followed_whichever_it_is() {
    for ways in [ONE_THREAD, THREADS] {
        for best in ways {
            let mut pace = Pace::new(ways);
            let takes = |way, _| if way == *best { micros(90) } else { micros(100) };
            follow(&mut pace, ways.len() * cycle(), takes);
            let followed = follow(&mut pace, cycle(), takes);
            let by_best = followed.iter().filter(|&way| way == best).count();
            assert!(
                by_best * 100 > followed.len() * 90,
                "{best:?}: {by_best} of {}",
                followed.len()
            );
        }
    }
}

#[test]
fn what_is_hardly_faster_changes_nothing() {
    let mut pace = Pace::new(ONE_THREAD);
    let takes = |way, _| if way == ONE_THREAD[1] { micros(99) } else { micros(100) };
    follow(&mut pace, 3 * cycle(), takes);
    let followed = follow(&mut pace, cycle(), takes);
    let by_first = followed.iter().filter(|&&way| way == ONE_THREAD[0]).count();
    assert!(by_first * 100 > followed.len() * 90, "{by_first} of {}", followed.len());
}

/// A server that saves its data, a neighbour: they make the way slow that is followed just then.
#[test]
fn a_pause_in_one_block_decides_nothing() {
    let mut pace = Pace::new(ONE_THREAD);
    let slow = |_, wave| if (3..9).contains(&wave) { PAUSE - micros(1) } else { micros(100) };
    follow(&mut pace, 2 * cycle(), slow);
    assert_eq!(pace.present, 0);
}

#[test]
fn when_the_machine_changes_the_way_changes() {
    let mut pace = Pace::new(ONE_THREAD);
    let one = |way, _| if way == ONE_THREAD[1] { micros(60) } else { micros(100) };
    let two = |way, _| if way == ONE_THREAD[1] { micros(100) } else { micros(60) };
    follow(&mut pace, 2 * cycle(), one);
    assert_eq!(pace.present, 1);
    follow(&mut pace, 2 * cycle(), two);
    assert_eq!(pace.present, 0);
}

#[test]
fn small_waves_and_pauses_are_not_measured() {
    let mut pace = Pace::new(ONE_THREAD);
    let mut now = Instant::now();
    for _ in 0..10 * cycle() {
        now += micros(10);
        pace.wave(15, now);
        now += PAUSE;
        pace.wave(TASKS, now);
        assert_eq!(pace.blocks, 0, "nothing is known of how long one of them took");
    }
}

#[test]
fn small_waves_are_neither_halved_nor_woken_late() {
    let pace = Pace::new(THREADS);
    assert!(pace.halves(32) && pace.wakes_late(32));
    assert!(!pace.halves(31) && !pace.wakes_late(31));
}

#[test]
fn what_is_only_tried_is_not_followed_through_bursts() {
    let mut pace = Pace::new(ONE_THREAD);
    let mut now = Instant::now();
    while pace.way() == ONE_THREAD[0] {
        now += micros(100);
        pace.wave(TASKS, now);
    }
    for _ in 0..100 {
        now += PAUSE;
        pace.wave(TASKS, now);
        assert_eq!(pace.way(), ONE_THREAD[0]);
    }
}
