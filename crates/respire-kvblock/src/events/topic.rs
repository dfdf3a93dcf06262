//! What surrounds the events on the way: a topic, a sequence number, the payload.

use std::sync::Arc;

use bytes::Bytes;

/// The most bytes of a topic. A pod's name and a model's are some hundred.
const TOPIC_BYTES_MAX: usize = 4096;

/// One message of an engine, not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventMessage {
    /// The pod that it is about, as its entries in the index are to name it.
    pub pod_identifier: Arc<str>,
    /// The model that the pod serves. Empty if nothing says so.
    pub model: Arc<str>,
    /// Which of the pod's publishers sent it: sequence numbers are compared among the messages of one. 0 if there is only one.
    pub publisher: u32,
    /// Its number among the publisher's messages. `None` if they are not numbered, and nothing can be said of gaps.
    pub sequence: Option<u64>,
    /// A batch of events, in MessagePack.
    pub payload: Bytes,
}

impl EventMessage {
    /// From the three frames that engines publish: a topic, a sequence number of eight bytes, most significant first, and
    /// the events.
    ///
    /// A topic `kv@<pod>@<model>` names both. Any other is the pod's name, and the model's is empty.
    ///
    /// ```
    /// use respire_kvblock::events::EventMessage;
    ///
    /// let frames: [&[u8]; 3] = [b"kv@10.0.0.1:8000@some/model", &7u64.to_be_bytes(), b"\x92\x00\x90"];
    /// let message = EventMessage::from_frames(&frames.map(bytes::Bytes::copy_from_slice))?;
    /// assert_eq!((&*message.pod_identifier, &*message.model), ("10.0.0.1:8000", "some/model"));
    /// assert_eq!(message.sequence, Some(7));
    /// # Ok::<(), respire_kvblock::events::FrameError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When there are not three frames, the number has fewer than eight bytes, or the topic more than 4,096.
    pub fn from_frames(frames: &[Bytes]) -> Result<Self, FrameError> {
        let [topic, sequence, payload] = frames else {
            return Err(FrameError::Count(frames.len()));
        };
        if topic.len() > TOPIC_BYTES_MAX {
            return Err(FrameError::Topic(topic.len()));
        }
        let (number, _) =
            sequence.split_first_chunk().ok_or(FrameError::Sequence(sequence.len()))?;
        let topic = crate::entry::text_from_bytes(topic);
        let (pod, model) = split(&topic);
        Ok(Self {
            pod_identifier: pod.into(),
            model: model.into(),
            publisher: 0,
            sequence: Some(u64::from_be_bytes(*number)),
            payload: payload.clone(),
        })
    }
}

fn split(topic: &str) -> (&str, &str) {
    let mut parts = topic.split('@');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(pod), Some(model), None) => (pod, model),
        _ => (topic, ""),
    }
}

/// Why frames are no message of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// There are not three of them, but so many.
    #[error("{0} frames, where a topic, a number and events are expected")]
    Count(usize),
    /// The number has so few bytes.
    #[error("a sequence number of {0} bytes, where eight are expected")]
    Sequence(usize),
    /// The topic has so many bytes.
    #[error("a topic of {0} bytes")]
    Topic(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &[u8], sequence: &[u8]) -> Result<EventMessage, FrameError> {
        EventMessage::from_frames(&[topic, sequence, b"x"].map(Bytes::copy_from_slice))
    }

    #[test]
    fn a_topic_of_three_parts_names_pod_and_model_and_any_other_is_the_pod() {
        for (topic, pod, model) in [
            ("kv@10.0.0.1:8000@m", "10.0.0.1:8000", "m"),
            ("kv@@", "", ""),
            ("kv@pod", "kv@pod", ""),
            ("kv@pod@m@x", "kv@pod@m@x", ""),
            ("", "", ""),
            ("pod", "pod", ""),
        ] {
            let message = message(topic.as_bytes(), &[0; 8]).unwrap();
            assert_eq!((&*message.pod_identifier, &*message.model), (pod, model), "{topic:?}");
        }
    }

    #[test]
    fn a_sequence_number_is_the_first_eight_bytes_and_no_fewer() {
        let sequence = |bytes: &[u8]| message(b"kv@a@b", bytes).map(|message| message.sequence);
        assert_eq!(sequence(&[0, 0, 0, 0, 0, 0, 1, 2]), Ok(Some(258)));
        assert_eq!(sequence(&[255; 9]), Ok(Some(u64::MAX)));
        assert_eq!(sequence(&[0; 7]), Err(FrameError::Sequence(7)));
    }

    #[test]
    fn frames_that_are_no_message_are_refused() {
        let frames = |n| EventMessage::from_frames(&vec![Bytes::from_static(b"12345678"); n]);
        assert!(frames(3).is_ok());
        for n in [0, 1, 2, 4] {
            assert_eq!(frames(n), Err(FrameError::Count(n)));
        }
        assert_eq!(message(&[b'x'; 4097], &[0; 8]), Err(FrameError::Topic(4097)));
    }
}
