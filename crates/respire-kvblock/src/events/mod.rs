//! What engines announce of the blocks that they store and drop, and how an index learns of it.

mod batch;
mod error;
mod msgpack;
mod topic;

pub use batch::{
    BlockRemoved, BlockStored, Engine, EventBatch, Events, ExtraKey, KvEvent, UnknownEngine,
};
pub use error::DecodeError;
pub use topic::{EventMessage, FrameError};
