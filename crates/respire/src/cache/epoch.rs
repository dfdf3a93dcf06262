//! For how long the announcements of one connection can be relied on.

use std::time::{Duration, Instant};

use super::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::session::push::ConnectionId;

/// One connection as the cache sees it. What was read over it is valid as long as it lives and the server has not had
/// everything forgotten.
#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) id: ConnectionId,
    /// Instants are kept as nanoseconds since this one.
    start: Instant,
    ended: AtomicBool,
    /// How often everything was to be forgotten.
    generation: AtomicU64,
    /// A request that was submitted then has been answered. Every change that the server had announced before it took that
    /// request has arrived. Zero: none has.
    confirmed: AtomicU64,
}

impl Epoch {
    pub(super) fn new(id: ConnectionId, now: Instant) -> Self {
        Self {
            id,
            // Before anything that will be confirmed, which is then never zero.
            start: now.checked_sub(Duration::from_nanos(1)).unwrap_or(now),
            ended: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
        }
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Everything that was read so far is to be forgotten.
    pub(super) fn forget_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Whether what was read in this generation is still to be believed, but for its age.
    pub(super) fn holds(&self, generation: u64) -> bool {
        !self.has_ended() && self.generation() == generation
    }

    /// A request that was submitted at this instant has been answered.
    pub(super) fn confirm(&self, submitted: Instant) {
        let since = submitted.saturating_duration_since(self.start).as_nanos();
        self.confirmed.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Whether it is known that every change which was announced longer than this ago has arrived.
    pub(super) fn is_fresh(&self, now: Instant, staleness_max: Duration) -> bool {
        let confirmed = self.confirmed.load(Ordering::SeqCst);
        let since = now.saturating_duration_since(self.start).as_nanos();
        confirmed > 0 && since.saturating_sub(confirmed.into()) <= staleness_max.as_nanos()
    }
}
