//! Every type can be asked of every value, and the answers agree with each other.
#![no_main]

#[path = "../../crates/respire-codec/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::extracts(data));
