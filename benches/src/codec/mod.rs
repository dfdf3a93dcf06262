//! The codec's benchmarks: framing, reading and writing RESP.

pub mod alternate;
pub mod bars;
pub mod buffers;
pub mod capture;
pub mod record;
pub mod sides;
pub mod workload;
