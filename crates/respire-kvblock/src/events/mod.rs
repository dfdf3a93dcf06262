//! What engines announce of the blocks that they store and drop, and how an index learns of it.
//!
//! An inference engine publishes a message for each of its steps: a topic that names the pod, a number, and a batch of events. An
//! [`EventPool`] takes such messages as [`EventMessage`]s and applies them to any [`Index`](crate::Index); how they come from the
//! engine to the pool is up to the caller, or to what the `zmq` feature has: a `Subscriber` connects to one engine, a `Listener`
//! has engines connect to it. An [`EventBatch`] reads a message for whoever wants just that.
//!
//! Whenever events are lost, in whatever way, the pool names the pod whose blocks it may be wrong about: see
//! [`EventPool::next_resync`]. What a server loses of an index is nothing that the pool sees: ask for it by
//! [`Index::resyncs`](crate::Index::resyncs) as well.

mod apply;
mod batch;
mod error;
mod extra_keys;
#[cfg(all(feature = "zmq", unix))]
mod guard;
#[cfg(all(feature = "zmq", unix))]
mod listener;
mod metrics;
mod msgpack;
mod pod;
mod pool;
#[cfg(all(feature = "zmq", unix))]
mod publishers;
mod resyncs;
mod stats;
#[cfg(test)]
mod testing;
mod topic;
#[cfg(all(feature = "zmq", unix))]
mod zmq;

pub use batch::{BlockRemoved, BlockStored, Engine, EventBatch, Events, KvEvent, UnknownEngine};
pub use error::DecodeError;
pub use extra_keys::{BlockKeys, ExtraKey, ExtraKeys};
#[cfg(all(feature = "zmq", unix))]
pub use listener::{Listener, ListenerConfig};
pub use pool::{EventPool, PoolConfig, Retry, SubmitError};
pub use stats::EventStats;
pub use topic::{EventMessage, FrameError};
#[cfg(all(feature = "zmq", unix))]
pub use zmq::{Overflow, Replay, Subscriber, SubscriberConfig};
