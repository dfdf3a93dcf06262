//! What the suites share: real servers, a scripted peer, an allocation counter.
pub mod index_suite;
pub mod peer;
