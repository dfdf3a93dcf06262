//! The form of an entry before v0.9: `pod@tier` and `pod@tier[speculative]`.

use super::{PodEntry, text_from_bytes};

/// Reads the older form: the pod up to the first `@`, the tier up to the first `[`, and what follows are marks.
///
/// The rule is that of the versions which wrote it, none of which had groups. It mangles a pod name that holds an `@`, there as here.
pub(super) fn decode(field: &[u8]) -> Option<PodEntry> {
    let at = field.iter().position(|&byte| byte == b'@')?;
    let (pod, rest) = (&field[..at], &field[at + 1..]);
    let bracket = rest.iter().position(|&byte| byte == b'[').unwrap_or(rest.len());
    let (tier, marks) = (&rest[..bracket], text_from_bytes(&rest[bracket..]));
    Some(PodEntry {
        pod_identifier: text_from_bytes(pod),
        device_tier: text_from_bytes(tier),
        speculative: marks.contains("speculative"),
        group: None,
    })
}

/// The older form, where it says the same as the entry: there is none for a group, nor for a name that would be mangled.
pub(super) fn encode(entry: &PodEntry) -> Option<Vec<u8>> {
    if entry.group.is_some() {
        return None;
    }
    let field = entry.to_string().into_bytes();
    // A pod whose name starts with a brace would be taken for JSON.
    (PodEntry::from_field(&field).as_ref() == Some(entry)).then_some(field)
}
