//! respire measured against its peers, all sides in one run on the same input.
//!
//! `src/bin/codec.rs` measures the codec's sides in turn, over and over, and says
//! which of the project's bars are met; `src/bin/client.rs` does so for the
//! client, against a server of its own, and `src/bin/index.rs` for the index. The criterion benchmarks
//! (`benches/codec.rs`) measure one side of the codec after the other, for work
//! on one of them. They get their sides from [`codec::sides`], too.

pub mod client;
pub mod clock;
pub mod codec;
pub mod environment;
pub mod index;
pub mod options;
pub mod pass;
pub mod quiet;
pub mod record;
pub mod series;
pub mod turns;
