//! What is counted while events are applied.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What an [`EventPool`](super::EventPool) has met since it was started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct EventStats {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl EventStats {
            /// Each of them with its name and what it is, in a fixed order.
            pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),*).trim_ascii(), self.$name),)*].into_iter()
            }
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> EventStats {
                EventStats { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Messages that a worker has taken up.
    messages,
    /// Events that were read, whatever became of them.
    events,
    /// Engine blocks that were added to the index, in whatever tier.
    blocks_stored,
    /// Engine blocks that were evicted from the index.
    blocks_removed,
    /// Pods that were cleared.
    clears,
    /// Messages that are no batch of events or end too soon, and messages whose frames are none.
    unreadable_messages,
    /// Events of a known kind that could not be read.
    unreadable_events,
    /// Events of a kind that is not known.
    unknown_events,
    /// Events that were dropped because the index does not know the block before theirs.
    unknown_parents,
    /// Events that were dropped because they begin in the middle of one of the index's blocks.
    misaligned,
    /// Events that were dropped because their tokens do not fill the index's block size once.
    too_short,
    /// Events that were dropped because they have not as many tokens, or extra keys, as their blocks need.
    uneven,
    /// Events that were dropped because what their blocks have besides tokens would take too long to hash: 16 MiB, counted as
    /// often as it is hashed.
    excessive,
    /// Blocks that came to another tier, and that the index does not know.
    unknown_moves,
    /// Stored events that were passed over because their group is not of full attention.
    stores_skipped,
    /// Removed events that were passed over because their group's stored events are.
    removals_skipped,
    /// Removals of a block that is still stored by another announcement.
    removals_suppressed,
    /// Removals of blocks that went on to the index.
    removals_forwarded,
    /// How often sequence numbers went ahead.
    gaps,
    /// How often sequence numbers went back.
    restarts,
    /// Calls to the index that were repeated.
    retries,
    /// Calls to the index that were given up.
    failures,
    /// Calls that the index refused and would refuse again.
    refusals,
    /// Messages that were dropped because a queue was full.
    overruns,
    /// Requests to announce blocks again that were dropped because too many pods were waiting.
    resyncs_lost,
    /// Connections to a publisher that were made anew.
    reconnections,
    /// Messages that were fetched from a publisher's replay.
    replayed,
    /// Replays that failed or did not have all that was missing.
    replay_failures,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(super) fn count(&self) {
        self.add(1);
    }
}
