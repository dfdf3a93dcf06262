//! What the subscriptions of a client have done.

/// What a client's subscriptions have done so far, and what there is of them; part of [`Stats`](crate::Stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Subscriptions that there are.
    pub subscriptions: u64,
    /// Channels and patterns that are subscribed to, or are to be.
    pub channels: u64,
    /// Messages that the server sent.
    pub messages: u64,
    /// Messages for subscriptions: one that goes to two of them counts twice.
    pub delivered: u64,
    /// Those of them that were dropped because their reader did not keep up.
    pub dropped: u64,
    /// How often a subscription was told that messages may be missing, since the connection was lost.
    pub interruptions: u64,
    /// Attempts to connect.
    pub dials: u64,
    /// Those that came to a connection.
    pub connections: u64,
}

impl SubscriptionStats {
    /// The numbers that only grow.
    pub(crate) fn counters(&mut self) -> [&mut u64; 6] {
        [
            &mut self.messages,
            &mut self.delivered,
            &mut self.dropped,
            &mut self.interruptions,
            &mut self.dials,
            &mut self.connections,
        ]
    }

    /// Adds what there is at another client.
    pub(crate) fn add_present(&mut self, other: &Self) {
        self.subscriptions += other.subscriptions;
        self.channels += other.channels;
    }
}
