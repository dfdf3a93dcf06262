//! The index's comparison: fleets, jobs, sides, bars and the record.

pub mod alternate;
pub mod bars;
pub mod fleet;
pub mod hashing;
pub mod job;
pub mod memory;
pub mod record;
pub mod server;
pub mod sides;
