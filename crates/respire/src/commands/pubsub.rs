//! Publishing, and who listens.

use super::{Executor, FromReply};
use crate::command::{Command, ToArg};

/// Commands on [pub/sub](https://valkey.io/commands/#pubsub). Subscribing is not among them: messages come unasked, and go
/// elsewhere.
pub trait PubSubCommands: Executor {
    /// `PUBLISH`: sends a message to who listens on a channel. How many clients that were. O(clients + patterns)
    fn publish(self, channel: impl ToArg, message: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("PUBLISH").arg(channel).arg(message).typed())
    }

    /// `SPUBLISH`: sends a message to who listens on a sharded channel. How many clients that were. Since 7.0. O(clients)
    fn spublish(self, channel: impl ToArg, message: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("SPUBLISH").arg(channel).arg(message).typed())
    }

    /// `PUBSUB CHANNELS`: the channels with subscribers, that match a pattern if there is one. O(channels)
    fn pubsub_channels<T: FromReply>(self, pattern: Option<&str>) -> Self::Answer<Vec<T>> {
        self.run(Command::new("PUBSUB").arg("CHANNELS").optional(pattern).typed())
    }

    /// `PUBSUB NUMPAT`: the number of patterns that clients listen on.
    fn pubsub_numpat(self) -> Self::Answer<u64> {
        self.run(Command::new("PUBSUB").arg("NUMPAT").typed())
    }

    /// `PUBSUB NUMSUB`: the number of subscribers of each channel, in their order. O(channels asked for)
    fn pubsub_numsub<T: FromReply>(
        self,
        channels: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<(T, u64)>> {
        self.run(Command::new("PUBSUB").arg("NUMSUB").args(channels).typed())
    }

    /// `PUBSUB SHARDCHANNELS`: the sharded channels with subscribers, that match a pattern if there is one. Since 7.0.
    /// O(channels)
    fn pubsub_shardchannels<T: FromReply>(self, pattern: Option<&str>) -> Self::Answer<Vec<T>> {
        self.run(Command::new("PUBSUB").arg("SHARDCHANNELS").optional(pattern).typed())
    }

    /// `PUBSUB SHARDNUMSUB`: the number of subscribers of each sharded channel, in their order. Since 7.0. O(channels asked for)
    fn pubsub_shardnumsub<T: FromReply>(
        self,
        channels: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<(T, u64)>> {
        self.run(Command::new("PUBSUB").arg("SHARDNUMSUB").args(channels).typed())
    }
}

impl<E: Executor> PubSubCommands for E {}
