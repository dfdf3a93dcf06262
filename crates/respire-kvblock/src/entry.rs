//! Who holds a block, and how llm-d writes that on the wire.

use std::fmt;

mod json;
mod text;

pub(crate) use json::fold;

/// One holder of a block: a pod, the memory tier that the block lies in, and in what capacity.
///
/// All four members together are the identity: the same pod with the same block in two tiers is two entries, and
/// evicting one leaves the other.
///
/// # On the wire
///
/// llm-d writes an entry as the field of a hash, in the form that Go's `encoding/json` gives it
/// ([`to_field`](Self::to_field)), and up to v0.8.1 as `pod@tier[speculative]`. [`from_field`](Self::from_field) reads
/// both as leniently as llm-d does.
///
/// Strings are UTF-8 here. A field may hold other bytes: like Go, each byte that is not part of a character is read as
/// U+FFFD. Two pods whose names differ only in such bytes are therefore one identity, and removing it removes both.
///
/// ```
/// use respire_kvblock::PodEntry;
///
/// let entry = PodEntry::new("10.0.0.1:8000", "gpu");
/// let field = entry.to_field();
/// assert_eq!(
///     field,
///     br#"{"PodIdentifier":"10.0.0.1:8000","DeviceTier":"gpu","Speculative":false,"HasGroup":false,"GroupIdx":0}"#
/// );
/// assert_eq!(PodEntry::from_field(&field), Some(entry.clone()));
/// assert_eq!(PodEntry::from_field(b"10.0.0.1:8000@gpu"), Some(entry));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodEntry {
    /// The pod, by convention `<ip>:<port>`.
    pub pod_identifier: String,
    /// The memory tier, such as `gpu` or `cpu`.
    pub device_tier: String,
    /// Whether the block is only expected there: the request that will compute it has been sent.
    pub speculative: bool,
    /// The KV-cache group of a model with several kinds of attention; `None` for a model with one.
    pub group: Option<i64>,
}

impl PodEntry {
    /// A confirmed entry without a group.
    pub fn new(pod_identifier: impl Into<String>, device_tier: impl Into<String>) -> Self {
        Self {
            pod_identifier: pod_identifier.into(),
            device_tier: device_tier.into(),
            speculative: false,
            group: None,
        }
    }

    /// The same entry, marked as only expected.
    #[must_use]
    pub fn with_speculative(mut self) -> Self {
        self.speculative = true;
        self
    }

    /// The same entry in a KV-cache group.
    #[must_use]
    pub fn with_group(mut self, group: i64) -> Self {
        self.group = Some(group);
        self
    }

    /// The hash field that llm-d writes for this entry, byte for byte as Go's `json.Marshal` encodes it.
    pub fn to_field(&self) -> Vec<u8> {
        json::encode(self)
    }

    /// The hash field that llm-d wrote up to v0.8 for this entry: `pod@tier`, or `pod@tier[speculative]`. `None` where that
    /// would be read as another entry: with a group, and where a name holds one of the marks.
    pub fn to_text_field(&self) -> Option<Vec<u8>> {
        text::encode(self)
    }

    /// Reads a hash field. `None` for one that is not an entry; llm-d skips such a field, and so does every lookup.
    ///
    /// JSON is read as Go's `json.Unmarshal` reads it: names in any case, unknown members ignored, the last of several
    /// wins, a missing one is zero, and `null` or `{}` is the entry of the empty pod. What does not start with a brace
    /// is read in the older form, `pod@tier[speculative]`.
    pub fn from_field(field: &[u8]) -> Option<Self> {
        match field.iter().find(|byte| !json::is_blank(**byte)) {
            Some(b'{') => json::decode(field),
            _ => json::decode_null(field).or_else(|| text::decode(field)),
        }
    }

    /// Every spelling of this entry that a known version writes, the current one first.
    pub(crate) fn spellings(&self) -> impl Iterator<Item = Vec<u8>> {
        std::iter::once(self.to_field()).chain(text::encode(self))
    }
}

/// What llm-d prints in its logs. It is not a wire format: a pod name may hold any of its signs.
impl fmt::Display for PodEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pod_identifier, self.device_tier)?;
        if self.speculative {
            f.write_str("[speculative]")?;
        }
        match self.group {
            Some(group) => write!(f, "[group={group}]"),
            None => Ok(()),
        }
    }
}

/// Text that may hold bytes which are not UTF-8, each of them replaced by U+FFFD, as Go replaces them.
pub(crate) fn text_from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    push_bytes(&mut text, bytes);
    text
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        // Go replaces every single byte, where `String::from_utf8_lossy` would replace a truncated character as one.
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

#[cfg(test)]
mod tests;
