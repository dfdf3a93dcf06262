//! What servers send unasked.

mod pushes;
mod queue;

pub use pushes::{Push, PushEvent, Pushes};

pub(crate) use pushes::PushHub;
pub(crate) use queue::QueueMax;
