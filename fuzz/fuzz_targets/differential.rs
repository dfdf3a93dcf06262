//! The decoder sees the frames, and the errors at the places, that a naive one sees.
#![no_main]

#[path = "../../crates/respire-codec/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::agrees_with_the_oracle(data));
