//! The client's comparison: workloads, sides, turns, bars and the record.

pub mod alternate;
pub mod bars;
pub mod data;
pub mod floor;
pub mod record;
pub mod server;
pub mod sides;
pub mod turn;
pub mod workload;
