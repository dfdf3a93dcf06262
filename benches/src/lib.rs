//! respire measured against its peers, all sides in one run on the same input.
//!
//! The harness (`src/bin/codec.rs`) measures the sides in turn, over and over,
//! and says which of the project's bars are met. The criterion benchmarks
//! (`benches/codec.rs`) measure one side after the other, for work on one of
//! them. Both get their sides from [`codec::sides`].

pub mod clock;
pub mod codec;
pub mod environment;
pub mod pass;
pub mod series;
