//! What can be subscribed to.

use bytes::Bytes;

/// The three kinds of names that a server keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelKind {
    /// An ordinary channel: `SUBSCRIBE`, `PUBLISH`.
    Channel,
    /// A glob-style pattern of ordinary channels' names: `PSUBSCRIBE`.
    Pattern,
    /// A sharded channel, which in a cluster belongs to a slot: `SSUBSCRIBE`, `SPUBLISH`. Servers before 7.0 do not know
    /// it.
    Shard,
}

impl ChannelKind {
    pub(super) const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    /// Its place in a list of one thing a kind.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn subscribe(self) -> &'static str {
        match self {
            Self::Channel => "SUBSCRIBE",
            Self::Pattern => "PSUBSCRIBE",
            Self::Shard => "SSUBSCRIBE",
        }
    }

    pub(super) fn unsubscribe(self) -> &'static str {
        match self {
            Self::Channel => "UNSUBSCRIBE",
            Self::Pattern => "PUNSUBSCRIBE",
            Self::Shard => "SUNSUBSCRIBE",
        }
    }
}

/// The name of a channel, or a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) kind: ChannelKind,
    pub(super) text: Bytes,
}

/// What the server says in the first word of a message or a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Message(ChannelKind),
    Subscribed(ChannelKind),
    Unsubscribed(ChannelKind),
    /// The answer to `PING` in RESP2.
    Pong,
}

impl Word {
    pub(super) fn read(word: &[u8]) -> Option<Self> {
        use ChannelKind::{Channel, Pattern, Shard};
        Some(match word {
            b"message" => Self::Message(Channel),
            b"pmessage" => Self::Message(Pattern),
            b"smessage" => Self::Message(Shard),
            b"subscribe" => Self::Subscribed(Channel),
            b"psubscribe" => Self::Subscribed(Pattern),
            b"ssubscribe" => Self::Subscribed(Shard),
            b"unsubscribe" => Self::Unsubscribed(Channel),
            b"punsubscribe" => Self::Unsubscribed(Pattern),
            b"sunsubscribe" => Self::Unsubscribed(Shard),
            b"pong" => Self::Pong,
            _ => return None,
        })
    }
}
