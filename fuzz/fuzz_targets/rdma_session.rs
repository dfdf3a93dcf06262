//! Whatever a peer announces, a card says has completed, and a driver asks for: a session of Valkey over RDMA stays
//! within the memory that it was given.
#![no_main]
#![allow(dead_code, unused_imports, reason = "what the session has beside what is fuzzed is for its driver")]

#[path = "../../crates/respire-rdma/src/protocol/mod.rs"]
mod protocol;

libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::hostile::nothing_does_harm(data));
