//! What was decoded can be encoded, and means the same afterwards.
#![no_main]

#[path = "../../crates/respire-codec/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::round_trips(data));
