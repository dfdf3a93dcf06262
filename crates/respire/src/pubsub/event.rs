//! What a subscription tells its reader.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;

use super::{
    name::ChannelKind,
    queue::{Mark, Next, Queue},
};
use crate::error::Error;

/// A published message.
///
/// Its strings keep nothing else alive: the payload is a copy of its own, shared by all subscriptions that it goes to.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub(super) kind: ChannelKind,
    pub(super) channel: Bytes,
    pub(super) pattern: Option<Bytes>,
    pub(super) payload: Bytes,
}

impl Message {
    /// How the channel was subscribed to.
    pub fn kind(&self) -> ChannelKind {
        self.kind
    }

    /// The channel that the message was published to.
    pub fn channel(&self) -> &Bytes {
        &self.channel
    }

    /// The pattern that matched the channel, where the subscription was to one.
    pub fn pattern(&self) -> Option<&Bytes> {
        self.pattern.as_ref()
    }

    /// What was published.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// What was published, without a copy.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    pub(super) fn bytes_len(&self) -> usize {
        self.channel.len() + self.pattern.as_ref().map_or(0, Bytes::len) + self.payload.len()
    }
}

/// Shows the names, and of the payload the size only.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Message");
        shown.field("channel", &self.channel);
        if let Some(pattern) = &self.pattern {
            shown.field("pattern", pattern);
        }
        shown.field("payload_bytes", &self.payload.len()).finish()
    }
}

/// What a [`Subscription`](super::Subscription) yields, in the order in which it happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(Message),
    /// So many messages were dropped here, because the reader did not keep up.
    Lagged {
        /// How many.
        dropped: u64,
    },
    /// The connection was lost, or the server took a channel away. From here to [`Resumed`](Self::Resumed), messages may
    /// be missing, and nobody can say how many.
    Interrupted,
    /// All channels are subscribed to again, but for those that were [`Refused`](Self::Refused) since.
    Resumed,
    /// After an interruption, the server refused a channel. It is not part of the subscription any more.
    Refused {
        /// What kind of name it is.
        kind: ChannelKind,
        /// The channel or the pattern.
        channel: Bytes,
        /// The server's error.
        error: Error,
    },
}

/// What must be told whatever is dropped.
#[derive(Debug)]
pub(super) enum Note {
    Interrupted,
    Resumed,
    Refused { kind: ChannelKind, channel: Bytes, error: Error },
}

impl Mark for Note {
    /// However often a subscription was interrupted where everything was dropped, once is all that matters.
    fn merge_into(self, marks: &mut VecDeque<Self>) {
        let last = marks.iter().rposition(|mark| !matches!(mark, Self::Refused { .. }));
        match (&self, last.map(|at| (at, &marks[at]))) {
            (Self::Interrupted, Some((_, Self::Interrupted)))
            | (Self::Resumed, Some((_, Self::Resumed))) => {}
            // Interrupted again: as if it had never been resumed.
            (Self::Interrupted, Some((at, Self::Resumed))) => {
                marks.remove(at);
            }
            _ => marks.push_back(self),
        }
    }
}

pub(super) type EventQueue = Queue<Message, Note>;

impl From<Next<Message, Note>> for Event {
    fn from(next: Next<Message, Note>) -> Self {
        match next {
            Next::Item(message) => Self::Message(message),
            Next::Dropped(dropped) => Self::Lagged { dropped },
            Next::Mark(Note::Interrupted) => Self::Interrupted,
            Next::Mark(Note::Resumed) => Self::Resumed,
            Next::Mark(Note::Refused { kind, channel, error }) => {
                Self::Refused { kind, channel, error }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(notes: &str) -> String {
        let mut marks = VecDeque::new();
        for note in notes.chars() {
            let note = match note {
                'i' => Note::Interrupted,
                'r' => Note::Resumed,
                _ => Note::Refused {
                    kind: ChannelKind::Channel,
                    channel: Bytes::new(),
                    error: Error::closed_by_us(),
                },
            };
            note.merge_into(&mut marks);
        }
        let letter = |mark: &Note| match mark {
            Note::Interrupted => 'i',
            Note::Resumed => 'r',
            Note::Refused { .. } => 'x',
        };
        marks.iter().map(letter).collect()
    }

    #[test]
    fn interruptions_among_what_was_dropped_are_told_once() {
        assert_eq!(merged("ir"), "ir");
        assert_eq!(merged("iririr"), "ir");
        assert_eq!(merged("iri"), "i");
        assert_eq!(merged("iii"), "i");
        // The reader knows already of the interruption that this ends.
        assert_eq!(merged("r"), "r");
        assert_eq!(merged("ri"), "");
        assert_eq!(merged("rir"), "r");
        // What was refused is told each time.
        assert_eq!(merged("ixrixr"), "ixxr");
    }
}
