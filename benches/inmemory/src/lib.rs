//! respire's index in memory beside the indexes that a router written in Rust would take instead, all in one run on the
//! same replay.
//!
//! [`replay`] simulates a fleet once and notes what a router would ask and tell; [`measure`] lets each index go through it.

#[path = "../../src/environment.rs"]
pub mod environment;
pub mod measure;
pub mod replay;
mod sides;
