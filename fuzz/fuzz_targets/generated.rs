//! Input that is nearly always RESP holds all of the properties.
#![no_main]

#[path = "../../crates/respire-codec/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::generated_streams_hold(data));
