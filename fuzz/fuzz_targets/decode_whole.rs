//! Whatever is decoded can be looked at, copied, compared and printed, and agrees with itself.
#![no_main]

#[path = "../../crates/respire-codec/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::decodes_whole(data));
