//! What one session counts, and the times of the requests that it samples. No clock: instants are arguments.

use std::{collections::VecDeque, num::NonZeroU32, sync::Arc, time::Instant};

use slab::Slab;

use super::{Stats, Totals};

/// Names a request that is sampled, from [`Recorder::submitted`] to [`Recorder::finished`] or [`Recorder::dropped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SampleId(u32);

/// Counts what happens in a session, and takes the times of one request in so many.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// What has happened; what is under way is the session's to say.
    pub(crate) stats: Stats,
    /// Where the numbers go when the session does.
    totals: Option<Arc<Totals>>,
    /// One request in so many is sampled on average; `None`: none is.
    every: Option<NonZeroU32>,
    /// Requests until the next one that is.
    until_next: u32,
    rng: u32,
    samples: Slab<Sample>,
    /// The sampled requests whose bytes the transport has not taken yet, with the stream's position after their last
    /// byte; in the order of the stream.
    unsent: VecDeque<(u64, SampleId)>,
}

#[derive(Debug)]
struct Sample {
    submitted: Instant,
    /// When the transport had taken its bytes; before that, when it was submitted.
    sent: Instant,
    received: Instant,
    /// It is among the unsent. The request may be gone before it is sent.
    unsent: bool,
    gone: bool,
}

impl Recorder {
    /// Counts, and samples nothing.
    pub(crate) fn new() -> Self {
        Self {
            stats: Stats::default(),
            totals: None,
            every: None,
            until_next: 0,
            rng: 0x9e37_79b9,
            samples: Slab::new(),
            unsent: VecDeque::new(),
        }
    }

    /// Samples one request in `every` on average.
    pub(crate) fn sample(&mut self, every: Option<NonZeroU32>) {
        self.every = every;
    }

    /// Leaves the numbers to these when it goes.
    pub(crate) fn bequeath(&mut self, totals: Arc<Totals>) {
        self.totals = Some(totals);
    }

    /// A request was taken. Names it if it is sampled.
    pub(crate) fn submitted(&mut self, now: Instant) -> Option<SampleId> {
        self.stats.requests += 1;
        let every = self.every?;
        if let Some(left) = self.until_next.checked_sub(1) {
            self.until_next = left;
            return None;
        }
        self.until_next = self.gap(every);
        let sample =
            Sample { submitted: now, sent: now, received: now, unsent: false, gone: false };
        // There are no more samples than requests, and their bytes would not fit into memory.
        Some(SampleId(self.samples.insert(sample) as u32))
    }

    /// The bytes of a sampled request are in the stream, before the position `end`.
    pub(crate) fn entered(&mut self, id: SampleId, end: u64) {
        self.samples[id.0 as usize].unsent = true;
        self.unsent.push_back((end, id));
    }

    /// Whether [`sent`](Self::sent) has a use for the time.
    pub(crate) fn times_sends(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The transport has taken the stream's bytes up to a position.
    pub(crate) fn sent(&mut self, taken: u64, now: Instant) {
        while let Some((end, id)) = self.unsent.front().copied() {
            if end > taken {
                return;
            }
            self.unsent.pop_front();
            let sample = &mut self.samples[id.0 as usize];
            sample.sent = now;
            sample.unsent = false;
            if sample.gone {
                self.samples.remove(id.0 as usize);
            }
        }
    }

    /// The transport has given bytes; none where they came with the handshake.
    pub(crate) fn received_bytes(&mut self, bytes: usize) {
        self.stats.receives += u64::from(bytes > 0);
        self.stats.bytes_received = self.stats.bytes_received.saturating_add(bytes as u64);
    }

    /// The last reply to a sampled request was received.
    pub(crate) fn received(&mut self, id: SampleId, now: Instant) {
        self.samples[id.0 as usize].received = now;
    }

    /// The task that waited for a sampled request has its replies.
    pub(crate) fn finished(&mut self, id: SampleId, now: Instant) {
        let Sample { submitted, sent, received, .. } = self.samples[id.0 as usize];
        // A reply may be received before the call that sends is known to have ended.
        let sent = sent.min(received);
        self.stats.phases.record(
            sent.saturating_duration_since(submitted),
            received.saturating_duration_since(sent),
            now.saturating_duration_since(received),
        );
        self.dropped(id);
    }

    /// A sampled request ended in another way.
    pub(crate) fn dropped(&mut self, id: SampleId) {
        let sample = &mut self.samples[id.0 as usize];
        sample.gone = true;
        if !sample.unsent {
            self.samples.remove(id.0 as usize);
        }
    }

    /// How many requests are passed over before the next sample: a random number, so that no pattern among the requests
    /// falls in step with the samples. From 0 to twice `every - 1`, which is `every - 1` on average.
    fn gap(&mut self, every: NonZeroU32) -> u32 {
        // Marsaglia's xorshift: what it decides needs no better one.
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 17;
        self.rng ^= self.rng << 5;
        let choices = 2 * u64::from(every.get()) - 1;
        ((u64::from(self.rng) * choices) >> 32) as u32
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(totals) = &self.totals {
            totals.keep(&self.stats);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn every(n: u32) -> Recorder {
        let mut recorder = Recorder::new();
        recorder.sample(NonZeroU32::new(n));
        recorder
    }

    #[test]
    fn each_phase_takes_its_time() {
        let start = Instant::now();
        let mut recorder = every(1);
        let id = recorder.submitted(start).unwrap();
        recorder.entered(id, 100);
        recorder.sent(99, start + micros(1));
        assert!(recorder.times_sends());
        recorder.sent(100, start + micros(5));
        assert!(!recorder.times_sends());
        recorder.received(id, start + micros(25));
        recorder.finished(id, start + micros(28));
        let phases = &recorder.stats.phases;
        let means = [&phases.queue, &phases.server, &phases.wake_up, &phases.total];
        let means = means.map(|phase| phase.mean().unwrap());
        assert_eq!(means, [micros(5), micros(20), micros(3), micros(28)]);
        assert!(recorder.samples.is_empty());
    }

    #[test]
    fn a_reply_may_come_before_the_end_of_sending_is_known() {
        let start = Instant::now();
        let mut recorder = every(1);
        let id = recorder.submitted(start).unwrap();
        recorder.entered(id, 10);
        recorder.received(id, start + micros(7));
        recorder.finished(id, start + micros(9));
        assert_eq!(recorder.stats.phases.total.mean(), Some(micros(9)));
        assert_eq!(recorder.samples.len(), 1, "its place among the unsent is still taken");
        let next = recorder.submitted(start).unwrap();
        assert_ne!(next, id);
        recorder.sent(10, start + micros(10));
        assert_eq!(recorder.samples.len(), 1);
        recorder.dropped(next);
        assert!(recorder.samples.is_empty());
    }

    #[test]
    fn one_in_so_many_is_sampled_and_no_pattern_is_in_step() {
        for n in [2, 16, 1000] {
            let mut recorder = every(n);
            let (mut sampled, mut even) = (0_u32, 0_u32);
            for number in 0..n * 4000 {
                if let Some(id) = recorder.submitted(Instant::now()) {
                    recorder.dropped(id);
                    sampled += 1;
                    even += u32::from(number % 2 == 0);
                }
            }
            assert!((3700..=4300).contains(&sampled), "1 in {n}: {sampled}");
            assert!((sampled * 2 / 5..=sampled * 3 / 5).contains(&even), "1 in {n}: {even} even");
        }
    }

    #[test]
    fn without_sampling_requests_are_counted_all_the_same() {
        let mut recorder = Recorder::new();
        assert_eq!(recorder.submitted(Instant::now()), None);
        assert_eq!(recorder.stats.requests, 1);
    }

    #[test]
    fn nothing_is_allocated_once_as_many_were_sampled_at_a_time() {
        let mut recorder = every(1);
        let mut end = 0;
        let mut wave = || {
            let now = Instant::now();
            for _ in 0..64 {
                end += 10;
                let id = recorder.submitted(now).expect("each is sampled");
                recorder.entered(id, end);
            }
            recorder.sent(end, now);
            (0..64).for_each(|n| {
                recorder.received(SampleId(n), now);
                recorder.finished(SampleId(n), now);
            });
        };
        wave();
        let allocated = allocation_counter::measure(|| (0..100).for_each(|_| wave()));
        assert_eq!(allocated.count_total, 0);
        assert_eq!(recorder.stats.phases.total.count(), 101 * 64);
    }

    #[test]
    fn the_numbers_outlive_the_session() {
        let totals = Arc::new(Totals::default());
        let mut recorder = every(1);
        recorder.bequeath(Arc::clone(&totals));
        recorder.submitted(Instant::now());
        assert_eq!(totals.stats().requests, 0);
        drop(recorder);
        assert_eq!(totals.stats().requests, 1);
    }
}
