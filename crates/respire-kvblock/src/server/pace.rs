//! How many keys a lookup asks for before it knows whether they are of use.
//!
//! Two costs pull. A walk in steps waits a round trip a step; asking for everything at once has a server work on thousands
//! of keys behind the first miss, and a caller wait for it. So a lookup starts with about as many keys as a server answers
//! in the time of one round trip: if the first key is a miss, that costs no more than the waiting did, and if all are hits,
//! not asking for them would have cost a round trip. From there the number under way grows with every chunk that comes back
//! full of hits, as in TCP's slow start.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use respire::Reply;

/// The keys that are asked for first while nothing has been measured.
const WINDOW_UNMEASURED: usize = 64;

/// The fewest keys that are asked for first: most prompts share that much, a system prompt of 256 tokens.
const WINDOW_MIN: usize = 16;

/// The most keys that are asked for first. It takes about a millisecond to be told of so many that they are absent.
const WINDOW_FIRST_MAX: usize = 2048;

/// The most keys under way: with ten holders four megabytes of replies.
const WINDOW_MAX: usize = 4096;

/// The most keys of a chunk: with ten holders a megabyte of replies, which other requests on the connection wait for.
const CHUNK_MAX: usize = 1024;

/// The fewest keys that are worth a request of their own.
const CHUNK_MIN: usize = 32;

/// What of a round trip is no network but the two programs: without a network, asking ahead hides nothing.
const WITHOUT_NETWORK: Duration = Duration::from_micros(20);

/// For how much of a round trip one more key is asked for: what a server and the two programs need for a key with few
/// holders. An absent one takes half of it.
const TIME_PER_KEY: Duration = Duration::from_micros(1);

/// What a server and the way back need at least for a key, and for a byte of its reply; it is no part of a round trip.
const WORK_PER_KEY_NS: u64 = 200;
const WORK_PER_BYTE_NS: u64 = 1;

/// How long a round trip takes, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// What was assumed, instead of measuring.
    assumed: Option<Duration>,
    /// In nanoseconds; 0 while nothing has been measured.
    measured: AtomicU64,
}

impl Pace {
    pub(super) fn new(assumed: Option<Duration>) -> Self {
        Self { assumed, measured: AtomicU64::new(0) }
    }

    /// Takes note of how long the first chunk of a lookup took.
    ///
    /// A faster one is believed at once, a slower one by a thirty-second part: a round trip does not become longer by a
    /// server that is busy, and to ask a busy server for more would make it busier.
    pub(super) fn note(&self, elapsed: Duration, replies: &[Reply]) {
        let bytes: usize = replies.iter().map(|reply| reply.frame().bytes().len()).sum();
        self.note_work(elapsed, replies.len(), bytes);
    }

    fn note_work(&self, elapsed: Duration, keys: usize, bytes: usize) {
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let work = keys as u64 * WORK_PER_KEY_NS + bytes as u64 * WORK_PER_BYTE_NS;
        let sample = elapsed.saturating_sub(work).max(1);
        // Two lookups that end at once may lose one of the two samples, which another one replaces.
        let measured = match self.measured.load(Ordering::Relaxed) {
            0 => sample,
            before if sample < before => sample,
            before => before + (sample - before) / 32,
        };
        self.measured.store(measured, Ordering::Relaxed);
    }

    /// What a lookup that begins now may have under way.
    pub(super) fn window(&self) -> Window {
        let measured = self.measured.load(Ordering::Relaxed);
        let round_trip = match self.assumed {
            None if measured == 0 => return Window::new(WINDOW_UNMEASURED),
            None => Duration::from_nanos(measured),
            Some(assumed) => assumed,
        };
        let hidden = round_trip.saturating_sub(WITHOUT_NETWORK);
        let keys = hidden.as_nanos() / TIME_PER_KEY.as_nanos();
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        Window::new(keys.clamp(WINDOW_MIN, WINDOW_FIRST_MAX))
    }
}

/// How much one lookup has and may have under way.
#[derive(Debug)]
pub(super) struct Window {
    /// How many keys may be under way.
    size: usize,
    under_way: usize,
    /// How many chunks have been answered.
    answered: usize,
}

impl Window {
    fn new(size: usize) -> Self {
        Self { size, under_way: 0, answered: 0 }
    }

    /// Whether no chunk has been answered yet.
    pub(super) fn is_first(&self) -> bool {
        self.answered == 0
    }

    /// How many keys to ask for next; `None` while enough is under way.
    pub(super) fn next_chunk(&self) -> Option<usize> {
        // The first keys of a short way are one request. After them, at least two are under way, so that the next is
        // there when one has been taken in; more where there are enough keys for each to be worth its request.
        let parts = match self.size {
            size if self.is_first() && size <= 4 * CHUNK_MIN => 1,
            ..1024 => 2,
            _ => 4,
        };
        let chunk = (self.size / parts).clamp(CHUNK_MIN.min(self.size), CHUNK_MAX);
        (self.under_way + chunk <= self.size).then_some(chunk)
    }

    pub(super) fn sent(&mut self, keys: usize) {
        self.under_way += keys;
    }

    /// A chunk has come back. If it is not the last one, it was all hits.
    pub(super) fn answered(&mut self, keys: usize) {
        // Fourfold after the first keys, which were few; then as many again for each that came back.
        let more = if self.is_first() { 3 * self.size } else { keys };
        self.size = (self.size + more).min(WINDOW_MAX);
        self.under_way -= keys;
        self.answered += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chunks of a walk over so many hits, of which all that may be are under way, in the order of their sending.
    fn walk(pace: &Pace, keys: usize) -> Vec<Vec<usize>> {
        let mut window = pace.window();
        let mut under_way = std::collections::VecDeque::new();
        let mut left = keys;
        let mut bursts = Vec::new();
        loop {
            let mut burst = Vec::new();
            while left > 0
                && let Some(size) = window.next_chunk()
            {
                let size = size.min(left);
                left -= size;
                window.sent(size);
                under_way.push_back(size);
                burst.push(size);
            }
            bursts.push(burst);
            assert!(window.under_way <= WINDOW_MAX);
            let Some(size) = under_way.pop_front() else { break };
            window.answered(size);
        }
        assert_eq!(bursts.iter().flatten().sum::<usize>(), keys);
        assert!(bursts.iter().flatten().all(|&chunk| (1..=CHUNK_MAX).contains(&chunk)));
        bursts
    }

    fn assuming(micros: u64) -> Pace {
        Pace::new(Some(Duration::from_micros(micros)))
    }

    #[test]
    fn without_a_network_little_is_asked_for_first() {
        for micros in [0, 1, 20, 36] {
            assert_eq!(walk(&assuming(micros), 8000)[0], [16]);
        }
        assert_eq!(walk(&assuming(60), 8000)[0], [40]);
        assert_eq!(walk(&assuming(60), 7)[0], [7]);
    }

    #[test]
    fn over_a_network_a_prompt_of_common_length_is_asked_for_at_once() {
        let bursts = walk(&assuming(1000), 900);
        assert_eq!(bursts[0], [490, 410]);
        // A longer one takes a second round trip, and what is under way grows from there.
        let bursts = walk(&assuming(1000), 7887);
        assert_eq!(bursts[0], [490, 490]);
        assert!(bursts[1].iter().sum::<usize>() >= 1500, "{bursts:?}");
        // However long the way is, the first keys are bounded.
        assert!(walk(&assuming(10_000_000), 100_000)[0].iter().sum::<usize>() <= WINDOW_FIRST_MAX);
    }

    #[test]
    fn a_walk_that_goes_on_has_several_chunks_under_way() {
        for micros in [0, 40, 200, 1000, 50_000] {
            let bursts = walk(&assuming(micros), 20_000);
            assert!(bursts[1].len() >= 2 || bursts[0].len() >= 2, "{micros}: {bursts:?}");
            assert!(bursts.len() < 50, "{micros}: {bursts:?}");
        }
        for keys in [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1279, 1280, 1281, 7_887] {
            walk(&Pace::default(), keys);
            walk(&assuming(0), keys);
        }
    }

    #[test]
    fn a_round_trip_is_the_shortest_time_and_follows_longer_ones_slowly() {
        let pace = Pace::default();
        let round_trip = || pace.measured.load(Ordering::Relaxed) / 1000;
        let note = |micros| pace.note_work(Duration::from_micros(micros), 0, 0);
        assert_eq!(pace.window().size, WINDOW_UNMEASURED);
        note(100);
        assert_eq!(round_trip(), 100);
        note(40);
        assert_eq!(round_trip(), 40);
        note(360);
        assert_eq!(round_trip(), 50);
        for _ in 0..1000 {
            note(1000);
        }
        assert!((900..=1000).contains(&round_trip()));
        note(40);
        assert_eq!(round_trip(), 40);
    }

    #[test]
    fn the_work_on_replies_is_no_part_of_a_round_trip() {
        let pace = Pace::default();
        pace.note_work(Duration::from_micros(440), 1000, 200_000);
        assert_eq!(pace.measured.load(Ordering::Relaxed), 40_000);
        // More work than time is an estimate that was wrong, and not a round trip of nothing.
        pace.note_work(Duration::from_micros(1), 1000, 200_000);
        assert_eq!(pace.window().size, WINDOW_MIN);
    }
}
