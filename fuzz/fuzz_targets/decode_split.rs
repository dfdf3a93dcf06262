//! However an input is cut, frame by frame or in batches, the outcome is the same.
#![no_main]

#[path = "../../crates/respire-codec/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::splits_do_not_matter(data));
