//! The KV-block index: which pods hold the longest cached prefix of a prompt. In the making.

mod block;
mod entry;
mod lookup;
mod mapping;
mod score;

pub use block::{BlockHash, ParseBlockHashError};
pub use entry::PodEntry;
pub use lookup::{Entries, Lookup};
pub use score::LongestPrefixScorer;
